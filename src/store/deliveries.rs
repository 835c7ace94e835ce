//! Deliveries of webhooks as an organisation looks back on them.

use chrono::{DateTime, Utc};
use millrace_entities::enums::DeliveryState;
use millrace_entities::{audit_entry, webhook_attempt, webhook_delivery};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, RelationDef, Select,
};
use uuid::Uuid;

use super::page::{Page, Paged};
use super::records::least_id;
use super::{Store, StoreError};

/// Which deliveries are listed; what is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this deployment.
    pub deployment: Option<Uuid>,
    /// Those of this execution.
    pub execution: Option<Uuid>,
    /// Those that stand so.
    pub state: Option<DeliveryState>,
}

/// Every query of deliveries by a tenant starts here, in scope.
fn of(organisation_id: Uuid) -> Select<webhook_delivery::Entity> {
    let own = webhook_delivery::Column::OrganisationId.eq(organisation_id);
    webhook_delivery::Entity::find().filter(own)
}

impl Store {
    /// A page of the organisation's deliveries, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn deliveries(
        &self,
        organisation_id: Uuid,
        filter: Filter,
        page: Page,
    ) -> Result<Paged<webhook_delivery::Model>, StoreError> {
        use webhook_delivery::Column;
        self.read(move |db| async move {
            let found = of(organisation_id)
                .apply_if(filter.deployment, |found, it| found.filter(Column::DeploymentId.eq(it)))
                .apply_if(filter.execution, |found, it| found.filter(Column::ExecutionId.eq(it)))
                .apply_if(filter.state, |found, it| found.filter(Column::State.eq(it)))
                .order_by_desc(Column::Id);
            page.of(found, &db).await
        })
        .await
    }

    /// The organisation's delivery of that id with its attempts, in their
    /// order.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delivery(
        &self,
        organisation_id: Uuid,
        id: Uuid,
    ) -> Result<(webhook_delivery::Model, Vec<webhook_attempt::Model>), StoreError> {
        self.read(move |db| async move {
            // One statement, so that both are of one moment.
            let attempts: RelationDef =
                webhook_delivery::Entity::belongs_to(webhook_attempt::Entity)
                    .from(webhook_delivery::Column::Id)
                    .to(webhook_attempt::Column::DeliveryId)
                    .into();
            let rows = of(organisation_id)
                .filter(webhook_delivery::Column::Id.eq(id))
                .join(JoinType::LeftJoin, attempts)
                .select_also(webhook_attempt::Entity)
                .order_by_asc(webhook_attempt::Column::Number)
                .all(&db)
                .await?;
            let (deliveries, attempts): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
            let delivery = deliveries.into_iter().next().ok_or(StoreError::NotFound)?;
            let attempts = attempts.into_iter().flatten().collect();
            Ok((delivery, attempts))
        })
        .await
    }

    /// Makes a delivery due at once, whatever came of it before, from the
    /// beginning of the schedule.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn redeliver(
        &self,
        organisation_id: Uuid,
        id: Uuid,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        use webhook_delivery::Column;
        self.change(entry, move |tx| {
            Box::pin(async move {
                // An attempt that is under way has lost its claim with this:
                // what comes of it does not end the redelivery.
                let due = webhook_delivery::Entity::update_many()
                    .col_expr(Column::State, Expr::value(DeliveryState::Pending))
                    .col_expr(Column::Tries, Expr::value(0))
                    .col_expr(Column::NextAttemptAt, Expr::value(0_i64))
                    .col_expr(Column::EndedAt, Expr::value(None::<DateTime<Utc>>))
                    .filter(Column::Id.eq(id))
                    .filter(Column::OrganisationId.eq(organisation_id))
                    .exec(tx)
                    .await?;
                if due.rows_affected == 1 { Ok(()) } else { Err(StoreError::NotFound) }
            })
        })
        .await
    }

    /// Removes deliveries that ended before `before`.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_deliveries(
        &self,
        before: DateTime<Utc>,
        limit: u64,
    ) -> Result<u64, StoreError> {
        use webhook_delivery::Column;
        self.write(move |tx| {
            Box::pin(async move {
                // An id begins with its time, which narrows down what is
                // looked at: few of the old ones were asked for again.
                let old = webhook_delivery::Entity::find()
                    .select_only()
                    .column(Column::Id)
                    .filter(Column::Id.lt(least_id(Some(before))))
                    .filter(Column::EndedAt.lt(before))
                    .order_by_asc(Column::Id)
                    .limit(limit);
                remove(tx, old.into_tuple().all(tx).await?).await
            })
        })
        .await
    }
}

/// Removes the deliveries that tell of these executions.
pub(super) async fn remove_of_executions(
    tx: &DatabaseTransaction,
    executions: &[Uuid],
) -> Result<(), StoreError> {
    use webhook_delivery::Column;
    let told = webhook_delivery::Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::ExecutionId.is_in(executions.iter().copied()));
    remove(tx, told.into_tuple().all(tx).await?).await.map(drop)
}

async fn remove(tx: &DatabaseTransaction, ids: Vec<Uuid>) -> Result<u64, StoreError> {
    let attempts = webhook_attempt::Column::DeliveryId.is_in(ids.iter().copied());
    webhook_attempt::Entity::delete_many().filter(attempts).exec(tx).await?;
    let removed = webhook_delivery::Column::Id.is_in(ids);
    Ok(webhook_delivery::Entity::delete_many().filter(removed).exec(tx).await?.rows_affected)
}

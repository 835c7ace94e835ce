//! The feed of changes: what the nodes that share a database must read anew.

use millrace_entities::enums::ChangeKind;
use millrace_entities::{api_key, audit_entry, change, change_counter, deployment};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::{Store, StoreError};

/// Changes that are kept. A node that is further behind reads everything.
const KEPT: i64 = 10_000;

/// The one row of the counter.
const COUNTER: i32 = 1;

/// Announces what an audit entry tells of, in its transaction.
///
/// The counter's row is locked from here to the commit, so ids are committed
/// in their order and without gaps: who has read up to one has missed none.
pub(super) async fn announce(
    tx: &DatabaseTransaction,
    entry: &audit_entry::Model,
) -> Result<(), StoreError> {
    let (kind, ids) = concerned(tx, entry).await?;
    announce_all(tx, kind, ids).await
}

/// Announces that nodes must read these resources anew, as [`announce`] does.
pub(super) async fn announce_all(
    tx: &DatabaseTransaction,
    kind: ChangeKind,
    ids: Vec<Uuid>,
) -> Result<(), StoreError> {
    let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(());
    }
    let value = change_counter::Column::Value;
    change_counter::Entity::update_many()
        .col_expr(value, Expr::col(value).add(count))
        .filter(change_counter::Column::Id.eq(COUNTER))
        .exec(tx)
        .await?;
    let last = last(tx).await?;
    let rows = ids
        .into_iter()
        .zip(last - count + 1..)
        .map(|(resource_id, id)| change::Model { id, kind, resource_id }.into_active_model());
    change::Entity::insert_many(rows).exec_without_returning(tx).await?;
    let overtaken = change::Column::Id.lte(last - KEPT);
    change::Entity::delete_many().filter(overtaken).exec(tx).await?;
    Ok(())
}

/// What nodes keep in memory of the resource that an entry names. The names
/// are those of [`crate::engine::audit::Subject`].
async fn concerned(
    tx: &DatabaseTransaction,
    entry: &audit_entry::Model,
) -> Result<(ChangeKind, Vec<Uuid>), StoreError> {
    let id = entry.resource_id.unwrap_or_default();
    let deployments = match entry.resource.as_str() {
        "api-deployment" => vec![id],
        "key" => {
            let found = api_key::Entity::find_by_id(id).one(tx).await?;
            found.into_iter().map(|key| key.deployment_id).collect()
        }
        "workflow" => {
            let serving = deployment::Column::WorkflowId.eq(id);
            let ids = deployment::Entity::find().select_only().column(deployment::Column::Id);
            ids.filter(serving).into_tuple().all(tx).await?
        }
        "platform-key" | "organization" => {
            return Ok((ChangeKind::Organisation, entry.organisation_id.into_iter().collect()));
        }
        "connection" => {
            return Ok((ChangeKind::Connections, entry.organisation_id.into_iter().collect()));
        }
        _ => Vec::new(),
    };
    Ok((ChangeKind::Deployment, deployments))
}

pub(super) async fn last<C: sea_orm::ConnectionTrait>(db: &C) -> Result<i64, StoreError> {
    let counter = change_counter::Entity::find_by_id(COUNTER).one(db).await?;
    Ok(counter.ok_or_else(|| StoreError::Fault("no counter of changes".into()))?.value)
}

impl Store {
    /// The id of the last change.
    ///
    /// # Errors
    /// The store's.
    pub async fn last_change(&self) -> Result<i64, StoreError> {
        self.read(|db| async move { last(&db).await }).await
    }

    /// Up to `limit` changes after the one of id `seen`, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn changes_after(
        &self,
        seen: i64,
        limit: u64,
    ) -> Result<Vec<change::Model>, StoreError> {
        self.read(move |db| async move {
            let found = change::Entity::find()
                .filter(change::Column::Id.gt(seen))
                .order_by_asc(change::Column::Id)
                .limit(limit);
            Ok(found.all(&db).await?)
        })
        .await
    }
}

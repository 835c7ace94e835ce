//! Deliveries of webhooks: those that are due are claimed, and what came of
//! each attempt is recorded.
//!
//! When something is due is told by the database's clock, so that nodes with
//! wrong clocks agree.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_entities::enums::DeliveryState;
use millrace_entities::{deployment, execution, organisation, webhook_attempt, webhook_delivery};
use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::records::{Listed, Summary};
use super::{Store, StoreError};

/// The condition of the partial index, in its words: bound as a parameter it
/// would not be recognised.
const PENDING: &str = "state = 'pending'";

/// Receivers that one look goes through.
const LOOKS: usize = 500;

/// Who is told: an organisation's connection, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Receiver {
    pub organisation_id: Uuid,
    pub connection: String,
}

impl Receiver {
    /// Who is told by a delivery.
    pub fn of(row: &webhook_delivery::Model) -> Self {
        Self { organisation_id: row.organisation_id, connection: row.connection.clone() }
    }
}

/// A claimed delivery, and what the receiver is told.
#[derive(Debug)]
pub struct Telling {
    /// The delivery as it was claimed: `attempts` is the number of this
    /// attempt, `next_attempt_at` the end of the lease.
    pub delivery: webhook_delivery::Model,
    /// The execution that ended.
    pub execution: Listed,
    /// Slug of its organisation.
    pub org_id: String,
    /// Public id of its deployment, unless that is gone.
    pub public_id: Option<String>,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// The delivery.
    pub delivery_id: Uuid,
    /// The attempt.
    pub number: i32,
    /// The end of the lease, which shows whether the claim still holds.
    pub lease: i64,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// The answer's HTTP status.
    pub http_status: Option<i32>,
    /// Why there was none.
    pub error: Option<&'static str>,
    /// The beginning of the answer's body.
    pub answer: Option<String>,
    /// What follows.
    pub then: Then,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing: the receiver took it.
    Delivered,
    /// Nothing: it is given up.
    GiveUp,
    /// Another attempt, after so many milliseconds.
    Again(i64),
}

impl Store {
    /// Receivers for whom something is due, in their order, beginning after
    /// `after`; and where to go on, if there may be more. Each costs one step
    /// in an index, however much waits for it.
    ///
    /// # Errors
    /// The store's.
    pub async fn due_receivers(
        &self,
        after: Option<Receiver>,
    ) -> Result<(Vec<Receiver>, Option<Receiver>), StoreError> {
        use webhook_delivery::Column;
        let now = self.now_ms();
        self.read(move |db| async move {
            let (mut due, mut place) = (Vec::new(), after);
            for _ in 0..LOOKS {
                let mut found = webhook_delivery::Entity::find()
                    .select_only()
                    .columns([Column::OrganisationId, Column::Connection])
                    .column_as(Expr::col(Column::NextAttemptAt).lte(now.clone()), "is_due")
                    .filter(Expr::cust(PENDING));
                if let Some(Receiver { organisation_id, connection }) = place {
                    let columns =
                        [Expr::col(Column::OrganisationId), Expr::col(Column::Connection)];
                    let values = [Expr::value(organisation_id), Expr::value(connection)];
                    found = found.filter(Expr::tuple(columns).gt(Expr::tuple(values)));
                }
                let next: Option<(Uuid, String, bool)> = found
                    .order_by_asc(Column::OrganisationId)
                    .order_by_asc(Column::Connection)
                    .order_by_asc(Column::NextAttemptAt)
                    .limit(1)
                    .into_tuple()
                    .one(&db)
                    .await?;
                let Some((organisation_id, connection, is_due)) = next else {
                    return Ok((due, None));
                };
                let receiver = Receiver { organisation_id, connection };
                due.extend(is_due.then(|| receiver.clone()));
                place = Some(receiver);
            }
            Ok((due, place))
        })
        .await
    }

    /// Claims at most `total` of what is due, for `lease_ms`: receiver by
    /// receiver, of each at most so many, longest due first. Each claim begins
    /// an attempt. Rows that another node is claiming are passed over.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim_deliveries(
        &self,
        places: Vec<(Receiver, u64)>,
        total: u64,
        lease_ms: i64,
    ) -> Result<Vec<webhook_delivery::Model>, StoreError> {
        let clock = self.now_ms();
        self.write(move |tx| {
            Box::pin(async move {
                let now = Query::select().expr_as(clock, "now").to_owned();
                let now: i64 = match tx.query_one(&now).await? {
                    Some(row) => row.try_get("", "now")?,
                    None => return Err(StoreError::Fault("the database has no clock".into())),
                };
                let mut claimed = Vec::new();
                for (receiver, most) in places {
                    let left = total.saturating_sub(claimed.len() as u64);
                    if left == 0 {
                        break;
                    }
                    claimed.extend(due(tx, receiver, now, std::cmp::min(most, left)).await?);
                }
                begin(tx, &mut claimed, now + lease_ms).await?;
                Ok(claimed)
            })
        })
        .await
    }

    /// What the receivers of claimed deliveries are told. Executions that are
    /// gone have taken their deliveries with them.
    ///
    /// # Errors
    /// The store's.
    pub async fn tellings(
        &self,
        claimed: Vec<webhook_delivery::Model>,
    ) -> Result<Vec<Telling>, StoreError> {
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        let executions: Vec<Uuid> = claimed.iter().map(|row| row.execution_id).collect();
        let organisations: Vec<Uuid> = claimed.iter().map(|row| row.organisation_id).collect();
        let deployments: Vec<Uuid> = claimed.iter().map(|row| row.deployment_id).collect();
        let read = self.read(move |db| async move {
            let summaries: Vec<Summary> = execution::Entity::find()
                .filter(execution::Column::Id.is_in(executions))
                .into_partial_model()
                .all(&db)
                .await?;
            let slugs: HashMap<Uuid, String> = organisation::Entity::find()
                .filter(organisation::Column::Id.is_in(organisations))
                .all(&db)
                .await?
                .into_iter()
                .map(|row| (row.id, row.slug))
                .collect();
            let public: HashMap<Uuid, String> = deployment::Entity::find()
                .select_only()
                .columns([deployment::Column::Id, deployment::Column::PublicId])
                .filter(deployment::Column::Id.is_in(deployments))
                .into_tuple::<(Uuid, String)>()
                .all(&db)
                .await?
                .into_iter()
                .collect();
            Ok((summaries, slugs, public))
        });
        let (summaries, slugs, public) = read.await?;
        let named = self.named(summaries).await?;
        let mut executions: HashMap<Uuid, Listed> =
            named.into_iter().map(|listed| (listed.summary.id, listed)).collect();
        let tellings = claimed.into_iter().filter_map(|delivery| {
            Some(Telling {
                execution: executions.remove(&delivery.execution_id)?,
                org_id: slugs.get(&delivery.organisation_id).cloned().unwrap_or_default(),
                public_id: public.get(&delivery.deployment_id).cloned(),
                delivery,
            })
        });
        Ok(tellings.collect())
    }

    /// Records what came of attempts. One whose claim no longer holds is
    /// recorded too, but what follows is for another to say: for who claimed
    /// it after the lease, or who asked for a redelivery meanwhile.
    ///
    /// # Errors
    /// The store's; then none is recorded.
    pub async fn record_attempts(&self, attempts: Vec<Attempted>) -> Result<(), StoreError> {
        let clock = self.now_ms();
        let at = crate::clock::now();
        self.write(move |tx| {
            Box::pin(async move {
                for attempt in attempts {
                    record(tx, attempt, clock.clone(), at).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

async fn due(
    tx: &DatabaseTransaction,
    receiver: Receiver,
    now: i64,
    most: u64,
) -> Result<Vec<webhook_delivery::Model>, StoreError> {
    use webhook_delivery::Column;
    Ok(webhook_delivery::Entity::find()
        .filter(Expr::cust(PENDING))
        .filter(Column::OrganisationId.eq(receiver.organisation_id))
        .filter(Column::Connection.eq(receiver.connection))
        .filter(Column::NextAttemptAt.lte(now))
        .order_by_asc(Column::NextAttemptAt)
        .limit(most)
        // SQLite has no row locks and drops this; its one writer needs none.
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(tx)
        .await?)
}

/// An attempt is written down before it is made, so that one whose node dies
/// under it is seen too.
async fn begin(
    tx: &DatabaseTransaction,
    claimed: &mut [webhook_delivery::Model],
    lease: i64,
) -> Result<(), StoreError> {
    use webhook_delivery::Column;
    if claimed.is_empty() {
        return Ok(());
    }
    webhook_delivery::Entity::update_many()
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
        .col_expr(Column::Tries, Expr::col(Column::Tries).add(1))
        .col_expr(Column::NextAttemptAt, Expr::value(lease))
        .filter(Column::Id.is_in(claimed.iter().map(|row| row.id)))
        .exec(tx)
        .await?;
    let started_at = crate::clock::now();
    let attempts = claimed.iter_mut().map(|row| {
        row.attempts += 1;
        row.tries += 1;
        row.next_attempt_at = lease;
        let attempt = webhook_attempt::Model {
            delivery_id: row.id,
            number: row.attempts,
            started_at,
            duration_ms: None,
            http_status: None,
            error: None,
            answer: None,
        };
        attempt.into_active_model()
    });
    webhook_attempt::Entity::insert_many(attempts.collect::<Vec<_>>())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

async fn record(
    tx: &DatabaseTransaction,
    attempt: Attempted,
    clock: Expr,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    use webhook_attempt::Column as Of;
    use webhook_delivery::Column;
    webhook_attempt::Entity::update_many()
        .col_expr(Of::DurationMs, Expr::value(attempt.duration_ms))
        .col_expr(Of::HttpStatus, Expr::value(attempt.http_status))
        .col_expr(Of::Error, Expr::value(attempt.error))
        .col_expr(Of::Answer, Expr::value(attempt.answer))
        .filter(Of::DeliveryId.eq(attempt.delivery_id))
        .filter(Of::Number.eq(attempt.number))
        .exec(tx)
        .await?;
    let update = webhook_delivery::Entity::update_many()
        .filter(Column::Id.eq(attempt.delivery_id))
        .filter(Column::NextAttemptAt.eq(attempt.lease))
        .filter(Expr::cust(PENDING));
    let end = |state: DeliveryState| {
        [(Column::State, Expr::value(state)), (Column::EndedAt, Expr::value(at))]
    };
    let changes = match attempt.then {
        Then::Delivered => end(DeliveryState::Delivered).into(),
        Then::GiveUp => end(DeliveryState::Failed).into(),
        Then::Again(pause) => vec![(Column::NextAttemptAt, clock.add(pause))],
    };
    let update =
        changes.into_iter().fold(update, |update, (column, value)| update.col_expr(column, value));
    update.exec(tx).await?;
    Ok(())
}

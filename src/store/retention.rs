//! What is removed once it is of no use, a bounded number of rows at a time,
//! each in a short transaction of its own.
//!
//! These queries belong to no tenant: they go by age, and by what nothing
//! refers to any more.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use millrace_entities::{
    deployment, deployment_revision, document_ref, execution, execution_tag, idempotency_key, node,
    step_run, usage_counter, usage_flush,
};
use sea_orm::sea_query::{
    Expr, ExprTrait, LockBehavior, LockType, Query, SelectStatement, SimpleExpr,
};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::deliveries::remove_of_executions;
use super::usage::Span;
use super::{Store, StoreError};

/// The request of an execution whose content was removed. A submission is
/// never stored like this: it always has its fields.
const NO_CONTENT: &str = "{}";

/// The conditions of the two partial indexes, in their words: bound as
/// parameters they would not be recognised.
const HAS_CONTENT: &str = "request <> '{}'";
const HAS_NO_CONTENT: &str = "request = '{}'";

/// Outcomes of steps that one transaction removes, or those of one execution.
const MAX_STEPS: i64 = 5000;

/// Executions whose content was removed.
#[derive(Debug, Default)]
pub struct Expired {
    /// How many.
    pub executions: u64,
    /// What they referred to in the document store; others may do so too.
    pub hashes: Vec<String>,
}

/// The condition that an execution's content is there.
pub(super) fn has_content() -> SimpleExpr {
    Expr::cust(HAS_CONTENT)
}

/// Whether the execution's content was removed after its time was over.
pub fn has_no_content(row: &execution::Model) -> bool {
    row.request == NO_CONTENT
}

impl Store {
    /// Removes the content of executions that expired before `now`: request,
    /// documents, outcomes of steps, result, and the references to stored
    /// bytes. The rows stay, to tell that they have expired.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_expired_content(
        &self,
        now: DateTime<Utc>,
        limit: u64,
    ) -> Result<Expired, StoreError> {
        use execution::Column;
        self.write(move |tx| {
            Box::pin(async move {
                let found: Vec<(Uuid, i32)> = execution::Entity::find()
                    .select_only()
                    .columns([Column::Id, Column::StepsTotal])
                    .filter(Column::ExpiresAt.lte(now))
                    .filter(has_content())
                    .order_by_asc(Column::ExpiresAt)
                    .limit(limit)
                    // What another node is removing is passed over.
                    .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                    .into_tuple()
                    .all(tx)
                    .await?;
                let mut steps = 0;
                let fits = |(_, of_one): &(Uuid, i32)| {
                    // However large, the first one is always among them.
                    let has_room = steps < MAX_STEPS;
                    steps += i64::from(*of_one);
                    has_room
                };
                let ids = found.into_iter().take_while(fits).map(|(id, _)| id).collect();
                remove_content(tx, ids).await
            })
        })
        .await
    }

    /// Removes what is left of executions that expired before `before`.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_tombstones(
        &self,
        before: DateTime<Utc>,
        limit: u64,
    ) -> Result<u64, StoreError> {
        use execution::Column;
        self.write(move |tx| {
            Box::pin(async move {
                let old: Vec<Uuid> = execution::Entity::find()
                    .select_only()
                    .column(Column::Id)
                    .filter(Column::ExpiresAt.lte(before))
                    .filter(Expr::cust(HAS_NO_CONTENT))
                    .order_by_asc(Column::ExpiresAt)
                    .limit(limit)
                    .into_tuple()
                    .all(tx)
                    .await?;
                let tagged = execution_tag::Column::ExecutionId.is_in(old.iter().copied());
                execution_tag::Entity::delete_many().filter(tagged).exec(tx).await?;
                remove_of_executions(tx, &old).await?;
                let removed =
                    execution::Entity::delete_many().filter(Column::Id.is_in(old)).exec(tx).await?;
                Ok(removed.rows_affected)
            })
        })
        .await
    }

    /// Those of the hashes that some execution refers to.
    ///
    /// # Errors
    /// The store's.
    pub async fn referenced(&self, hashes: Vec<String>) -> Result<HashSet<String>, StoreError> {
        self.read(move |db| async move {
            let found: Vec<String> = document_ref::Entity::find()
                .select_only()
                .column(document_ref::Column::Hash)
                .distinct()
                .filter(document_ref::Column::Hash.is_in(hashes))
                .into_tuple()
                .all(&db)
                .await?;
            Ok(found.into_iter().collect())
        })
        .await
    }

    /// Removes counters of spans of this length that began before `before`.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_usage(
        &self,
        span: Span,
        before: i64,
        limit: u64,
    ) -> Result<u64, StoreError> {
        let old = Query::select()
            .from(usage_counter::Entity)
            .and_where(usage_counter::Column::Span.eq(span.seconds()))
            .and_where(usage_counter::Column::Start.lt(before))
            .limit(limit)
            .to_owned();
        self.remove_counters(old).await
    }

    /// The first deployment after `after` that has counters, and whether it is
    /// still there.
    ///
    /// # Errors
    /// The store's.
    pub async fn next_counted(&self, after: Uuid) -> Result<Option<(Uuid, bool)>, StoreError> {
        use usage_counter::Column;
        self.read(move |db| async move {
            let next: Option<Uuid> = usage_counter::Entity::find()
                .select_only()
                .column(Column::DeploymentId)
                .filter(Column::DeploymentId.gt(after))
                .order_by_asc(Column::DeploymentId)
                .limit(1)
                .into_tuple()
                .one(&db)
                .await?;
            let Some(id) = next else { return Ok(None) };
            let lives = deployment::Entity::find_by_id(id).one(&db).await?.is_some();
            Ok(Some((id, lives)))
        })
        .await
    }

    /// Removes idempotency keys that are free again at `now`.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_idempotency_keys(
        &self,
        now: DateTime<Utc>,
        limit: u64,
    ) -> Result<u64, StoreError> {
        use idempotency_key::Column;
        self.write(move |tx| {
            Box::pin(async move {
                let free: Vec<Vec<u8>> = idempotency_key::Entity::find()
                    .select_only()
                    .column(Column::Hash)
                    .filter(Column::ExpiresAt.lte(now))
                    .order_by_asc(Column::ExpiresAt)
                    .limit(limit)
                    // What is being claimed anew is passed over: to wait for
                    // it could be to wait for each other.
                    .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                    .into_tuple()
                    .all(tx)
                    .await?;
                let removed = idempotency_key::Entity::delete_many()
                    .filter(Column::Hash.is_in(free))
                    .exec(tx)
                    .await?;
                Ok(removed.rows_affected)
            })
        })
        .await
    }

    /// Removes a deployment's counters of spans that began before `before`.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_usage_of(
        &self,
        deployment_id: Uuid,
        before: i64,
        limit: u64,
    ) -> Result<u64, StoreError> {
        let old = Query::select()
            .from(usage_counter::Entity)
            .and_where(usage_counter::Column::DeploymentId.eq(deployment_id))
            .and_where(usage_counter::Column::Start.lt(before))
            .limit(limit)
            .to_owned();
        self.remove_counters(old).await
    }

    async fn remove_counters(&self, mut of: SelectStatement) -> Result<u64, StoreError> {
        use usage_counter::Column;
        let key = [Column::DeploymentId, Column::Span, Column::Start, Column::KeyId, Column::Name];
        of.columns(key);
        self.write(move |tx| {
            Box::pin(async move {
                let key = Expr::tuple(key.map(Expr::col));
                let removed = usage_counter::Entity::delete_many()
                    .filter(key.in_subquery(of))
                    .exec(tx)
                    .await?;
                Ok(removed.rows_affected)
            })
        })
        .await
    }

    /// Forgets the flushes before `before` of nodes that are gone: nobody
    /// tries them again.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_flushes(&self, before: i64) -> Result<u64, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let living = Query::select().column(node::Column::Id).from(node::Entity).to_owned();
                let removed = usage_flush::Entity::delete_many()
                    .filter(usage_flush::Column::At.lt(before))
                    .filter(usage_flush::Column::Node.not_in_subquery(living))
                    .exec(tx)
                    .await?;
                Ok(removed.rows_affected)
            })
        })
        .await
    }

    /// Removes revisions of deployments that were deleted and have no
    /// execution left.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_revisions(&self, limit: u64) -> Result<u64, StoreError> {
        use deployment_revision::Column;
        let of_revision = || Expr::col((deployment_revision::Entity, Column::DeploymentId));
        let deployed = Query::select()
            .expr(Expr::val(1))
            .from(deployment::Entity)
            .and_where(Expr::col((deployment::Entity, deployment::Column::Id)).eq(of_revision()))
            .to_owned();
        let executed = Query::select()
            .expr(Expr::val(1))
            .from(execution::Entity)
            .and_where(
                Expr::col((execution::Entity, execution::Column::DeploymentId)).eq(of_revision()),
            )
            .to_owned();
        let orphaned = Query::select()
            .columns([Column::DeploymentId, Column::Revision])
            .from(deployment_revision::Entity)
            .and_where(Expr::exists(deployed).not())
            .and_where(Expr::exists(executed).not())
            .limit(limit)
            .to_owned();
        self.write(move |tx| {
            Box::pin(async move {
                let key =
                    Expr::tuple([Expr::col(Column::DeploymentId), Expr::col(Column::Revision)]);
                let removed = deployment_revision::Entity::delete_many()
                    .filter(key.in_subquery(orphaned))
                    .exec(tx)
                    .await?;
                Ok(removed.rows_affected)
            })
        })
        .await
    }
}

async fn remove_content(tx: &DatabaseTransaction, ids: Vec<Uuid>) -> Result<Expired, StoreError> {
    use execution::Column;
    if ids.is_empty() {
        return Ok(Expired::default());
    }
    let refers = document_ref::Column::ExecutionId.is_in(ids.iter().copied());
    let hashes = document_ref::Entity::find()
        .select_only()
        .column(document_ref::Column::Hash)
        .distinct()
        .filter(refers.clone())
        .into_tuple()
        .all(tx)
        .await?;
    document_ref::Entity::delete_many().filter(refers).exec(tx).await?;
    let steps = step_run::Column::ExecutionId.is_in(ids.iter().copied());
    step_run::Entity::delete_many().filter(steps).exec(tx).await?;
    let emptied = execution::Entity::update_many()
        .col_expr(Column::Request, Expr::value(NO_CONTENT))
        .col_expr(Column::Documents, Expr::value("[]"))
        .col_expr(Column::Result, Expr::value(None::<String>))
        .col_expr(Column::ResultHash, Expr::value(None::<String>))
        .filter(Column::Id.is_in(ids))
        .exec(tx)
        .await?;
    Ok(Expired { executions: emptied.rows_affected, hashes })
}

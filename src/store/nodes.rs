//! Nodes: heartbeats, and the taking over of work whose node is gone.
//!
//! All times here are the database's, so that nodes with wrong clocks agree.

use std::time::Duration;

use millrace_entities::enums::Status;
use millrace_entities::{execution, node};
use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType, OnConflict, Query, SimpleExpr};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DbBackend, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::executions::unfinished;
use super::{Store, StoreError};
use crate::faults::Boundary;

impl Store {
    pub(super) fn now_ms(&self) -> SimpleExpr {
        Expr::cust(match self.backend() {
            DbBackend::Postgres => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
            _ => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        })
    }

    /// Says that the node lives. True if the store knows no other one.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if the node was counted as gone meanwhile: its
    /// work may have been taken over.
    pub async fn heartbeat(&self, id: Uuid) -> Result<bool, StoreError> {
        let now = self.now_ms();
        self.write_at(vec![Boundary::HEARTBEAT], move |tx| {
            Box::pin(async move {
                let beaten = node::Entity::update_many()
                    .col_expr(node::Column::HeartbeatMs, now)
                    .filter(node::Column::Id.eq(id))
                    .exec(tx)
                    .await?;
                if beaten.rows_affected != 1 {
                    return Err(StoreError::Stale);
                }
                Ok(node::Entity::find().filter(node::Column::Id.ne(id)).one(tx).await?.is_none())
            })
        })
        .await
    }

    /// Enters a node. On SQLite no other process can have the database open
    /// for writing, so every earlier node is gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn register_node(&self, id: Uuid) -> Result<(), StoreError> {
        let alone = self.backend() == DbBackend::Sqlite;
        let row = node::ActiveModel {
            id: Set(id),
            heartbeat_ms: Set(0),
            started_at: Set(crate::clock::now()),
        };
        let now = self.now_ms();
        self.write_at(vec![Boundary::REGISTER], move |tx| {
            Box::pin(async move {
                if alone {
                    node::Entity::delete_many().exec(tx).await?;
                }
                node::Entity::insert(row)
                    .on_conflict(OnConflict::column(node::Column::Id).do_nothing().to_owned())
                    .exec_without_returning(tx)
                    .await?;
                // With the row: another node must not see it silent and
                // remove it before its first heartbeat.
                node::Entity::update_many()
                    .col_expr(node::Column::HeartbeatMs, now)
                    .filter(node::Column::Id.eq(id))
                    .exec(tx)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Removes nodes that were silent for `lease_ms`, so that their work can
    /// be claimed. They notice at their next heartbeat.
    ///
    /// # Errors
    /// The store's.
    pub async fn bury_silent_nodes(&self, lease_ms: i64) -> Result<u64, StoreError> {
        let deadline = self.now_ms().sub(lease_ms);
        self.write_at(vec![Boundary::BURY], move |tx| {
            Box::pin(async move {
                let silent = Expr::col(node::Column::HeartbeatMs).lt(deadline);
                Ok(node::Entity::delete_many().filter(silent).exec(tx).await?.rows_affected)
            })
        })
        .await
    }

    /// Takes over up to `limit` executions that no living node owns, counting
    /// the attempt. Rows that another node is claiming are passed over.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim_orphans(
        &self,
        owner: Uuid,
        limit: u64,
    ) -> Result<Vec<execution::Model>, StoreError> {
        self.write_at(vec![Boundary::CLAIM], move |tx| {
            Box::pin(async move {
                let living = Query::select().column(node::Column::Id).from(node::Entity).to_owned();
                let orphaned = Condition::any()
                    .add(execution::Column::Owner.is_null())
                    .add(execution::Column::Owner.not_in_subquery(living));
                let mut rows = execution::Entity::find()
                    .filter(unfinished())
                    .filter(orphaned)
                    .order_by_asc(execution::Column::Id)
                    .limit(limit)
                    // SQLite has no row locks and drops this; its one writer
                    // needs none.
                    .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                    .all(tx)
                    .await?;
                for row in &mut rows {
                    // Work that was handed back or had not begun did not kill
                    // its node.
                    let ran = row.owner.is_some() && row.status == Status::Executing;
                    row.recoveries += i32::from(ran);
                    row.attempt += 1;
                    row.owner = Some(owner);
                }
                let ran = execution::Column::Owner
                    .is_not_null()
                    .and(execution::Column::Status.eq(Status::Executing));
                let counted = Expr::case(ran, Expr::val(1)).finally(Expr::val(0));
                execution::Entity::update_many()
                    .col_expr(
                        execution::Column::Recoveries,
                        Expr::col(execution::Column::Recoveries)
                            .add(SimpleExpr::Case(Box::new(counted))),
                    )
                    .col_expr(
                        execution::Column::Attempt,
                        Expr::col(execution::Column::Attempt).add(1),
                    )
                    .col_expr(execution::Column::Owner, Expr::value(owner))
                    .filter(execution::Column::Id.is_in(rows.iter().map(|row| row.id)))
                    .exec(tx)
                    .await?;
                Ok(rows)
            })
        })
        .await
    }

    /// Gives up the node's unfinished executions, to be claimed by any node,
    /// and the node with them.
    ///
    /// # Errors
    /// The store's.
    pub async fn hand_back(&self, owner: Uuid) -> Result<u64, StoreError> {
        self.write_at(vec![Boundary::HAND_BACK], move |tx| {
            Box::pin(async move {
                let given = execution::Entity::update_many()
                    .col_expr(execution::Column::Owner, Expr::value(None::<Uuid>))
                    .filter(execution::Column::Owner.eq(owner))
                    .filter(unfinished())
                    .exec(tx)
                    .await?;
                node::Entity::delete_by_id(owner).exec(tx).await?;
                Ok(given.rows_affected)
            })
        })
        .await
    }

    /// The node's unfinished executions, oldest first, or only those of one
    /// deployment.
    ///
    /// # Errors
    /// The store's.
    pub async fn unfinished(
        &self,
        owner: Uuid,
        deployment_id: Option<Uuid>,
    ) -> Result<Vec<execution::Model>, StoreError> {
        self.read(move |db| async move {
            let mut found = execution::Entity::find()
                .filter(execution::Column::Owner.eq(owner))
                .filter(unfinished());
            if let Some(deployment_id) = deployment_id {
                found = found.filter(execution::Column::DeploymentId.eq(deployment_id));
            }
            Ok(found.order_by_asc(execution::Column::Id).all(&db).await?)
        })
        .await
    }

    /// Deployment and id of the node's unfinished executions that are older
    /// than `age`.
    ///
    /// # Errors
    /// The store's.
    pub async fn unfinished_before(
        &self,
        owner: Uuid,
        age: Duration,
    ) -> Result<Vec<(Uuid, Uuid)>, StoreError> {
        let created = execution::Column::CreatedAt.lt(crate::clock::now() - age);
        self.read(move |db| async move {
            Ok(execution::Entity::find()
                .select_only()
                .columns([execution::Column::DeploymentId, execution::Column::Id])
                .filter(execution::Column::Owner.eq(owner))
                .filter(unfinished())
                .filter(created)
                .into_tuple()
                .all(&db)
                .await?)
        })
        .await
    }
}

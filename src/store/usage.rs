//! Counters of what callers used, in the scope of their deployment.

use std::collections::BTreeMap;

use millrace_entities::{usage_counter, usage_flush};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter,
    QuerySelect, Select,
};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::clock;

/// Counters inserted by one statement; well within the parameters that both
/// databases allow.
const STATEMENT: usize = 4000;

/// The lengths of time for which counters are kept, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// 60
    Minute,
    /// 3600
    Hour,
    /// 86400
    Day,
}

impl Span {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Its length.
    pub const fn seconds(self) -> i32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }

    /// The first second of the span that `second` is in.
    pub fn start(self, second: i64) -> i64 {
        let length = i64::from(self.seconds());
        second.div_euclid(length) * length
    }
}

/// What was counted of a deployment, by one of its keys, in one minute.
#[derive(Debug, Clone)]
pub struct Counted {
    /// What was called.
    pub deployment_id: Uuid,
    /// By which key.
    pub key_id: Uuid,
    /// The minute's first second, since 1970.
    pub minute: i64,
    /// What was counted, and how much of it.
    pub counters: Vec<(String, i64)>,
}

/// A counter within one span, over the keys that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The span's first second, since 1970.
    pub start: i64,
    /// What was counted.
    pub name: String,
    /// How much of it.
    pub value: i64,
}

/// Every query of usage by a tenant starts here, in scope.
fn of(deployment_id: Uuid) -> Select<usage_counter::Entity> {
    usage_counter::Entity::find().filter(usage_counter::Column::DeploymentId.eq(deployment_id))
}

impl Store {
    /// Adds a batch of counts to the counters of all spans, once: a batch
    /// whose commit was in doubt is handed in again under the same number,
    /// and adds nothing if the first commit stands.
    ///
    /// # Errors
    /// The store's. After [`StoreError::Unavailable`] it may have happened.
    pub async fn add_usage(
        &self,
        node: Uuid,
        sequence: i64,
        counted: Vec<Counted>,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                if is_new(tx, node, sequence).await? {
                    add(tx, rows(counted)).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The deployment's counters in the spans that begin from `from` on and
    /// before `to`, over all keys or those of one.
    ///
    /// # Errors
    /// The store's.
    pub async fn usage(
        &self,
        deployment_id: Uuid,
        span: Span,
        from: i64,
        to: i64,
        key_id: Option<Uuid>,
    ) -> Result<Vec<UsageRow>, StoreError> {
        use usage_counter::Column;
        self.read(move |db| async move {
            let mut found = of(deployment_id)
                .filter(Column::Span.eq(span.seconds()))
                .filter(Column::Start.gte(from))
                .filter(Column::Start.lt(to));
            if let Some(key_id) = key_id {
                found = found.filter(Column::KeyId.eq(key_id));
            }
            let rows: Vec<(i64, String, i64)> = found
                .select_only()
                .columns([Column::Start, Column::Name])
                // Postgres adds whole numbers up to a decimal one.
                .column_as(Column::Value.sum().cast_as("bigint"), "sum")
                .group_by(Column::Start)
                .group_by(Column::Name)
                .into_tuple()
                .all(&db)
                .await?;
            let row = |(start, name, value)| UsageRow { start, name, value };
            Ok(rows.into_iter().map(row).collect())
        })
        .await
    }
}

/// Notes the batch's number. False if it, or a later one, is noted already:
/// one statement, so that an earlier try whose commit is still on its way
/// decides first.
async fn is_new(tx: &DatabaseTransaction, node: Uuid, sequence: i64) -> Result<bool, StoreError> {
    use usage_flush::Column;
    let row = usage_flush::ActiveModel {
        node: Set(node),
        sequence: Set(sequence),
        at: Set(clock::now().timestamp()),
    };
    let later = OnConflict::column(Column::Node)
        .update_columns([Column::Sequence, Column::At])
        .action_and_where(Expr::col((usage_flush::Entity, Column::Sequence)).lt(sequence))
        .to_owned();
    let noted =
        usage_flush::Entity::insert(row).on_conflict(later).exec_without_returning(tx).await?;
    Ok(noted > 0)
}

/// The rows of all spans that a batch adds to, each once, in the order of
/// their key: nodes that add to the same rows lock them in one order.
fn rows(counted: Vec<Counted>) -> Vec<usage_counter::Model> {
    let mut sums = BTreeMap::new();
    for cell in counted {
        for (name, count) in cell.counters {
            for span in Span::ALL {
                let start = span.start(cell.minute);
                let key = (cell.deployment_id, span.seconds(), start, cell.key_id, name.clone());
                *sums.entry(key).or_insert(0_i64) += count;
            }
        }
    }
    let row = |((deployment_id, span, start, key_id, name), value)| usage_counter::Model {
        deployment_id,
        span,
        start,
        key_id,
        name,
        value,
    };
    sums.into_iter().map(row).collect()
}

async fn add(tx: &DatabaseTransaction, rows: Vec<usage_counter::Model>) -> Result<(), StoreError> {
    use usage_counter::Column;
    let key = [Column::DeploymentId, Column::Span, Column::Start, Column::KeyId, Column::Name];
    let sum = Expr::col((usage_counter::Entity, Column::Value)).add(Expr::cust("excluded.value"));
    let additive = OnConflict::columns(key).value(Column::Value, sum).to_owned();
    for rows in rows.chunks(STATEMENT) {
        let rows = rows.iter().cloned().map(IntoActiveModel::into_active_model);
        usage_counter::Entity::insert_many(rows)
            .on_conflict(additive.clone())
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

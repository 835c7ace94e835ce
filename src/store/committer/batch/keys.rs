//! Idempotency keys that acceptances claim.

use std::collections::{BTreeMap, HashMap};

use millrace_entities::idempotency_key::{Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter};
use uuid::Uuid;

use super::chunks;
use crate::clock;
use crate::store::StoreError;
use crate::store::committer::{Acceptance, CommitError, Earlier};

/// Claims the keys of acceptances. Returns, by execution, those whose key
/// belongs to an earlier one; they are not to be inserted.
///
/// It must come first in its transaction. Whoever claims a key waits for the
/// transaction that has just claimed the same one; since all claim in one
/// order and hold no other lock yet, nobody can wait for somebody who waits
/// for them.
pub(super) async fn claim_keys(
    transaction: &DatabaseTransaction,
    accepted: &[Acceptance],
) -> Result<HashMap<Uuid, CommitError>, StoreError> {
    let keyed = || accepted.iter().filter_map(|one| one.key.as_ref());
    let mut wanted = BTreeMap::new();
    for key in keyed() {
        wanted.entry(&key.hash).or_insert(key);
    }
    let mut holders = HashMap::new();
    for chunk in chunks(wanted.into_values().cloned().collect(), 5) {
        holders.extend(holders_of(transaction, chunk).await?);
    }
    let earlier = |key: &Model| {
        let holder = holders.get(&key.hash)?;
        // An acceptance whose first commit was in doubt holds its key itself.
        let is_earlier = holder.execution_id != key.execution_id;
        is_earlier.then(|| (key.execution_id, CommitError::Repeated(holder.clone())))
    };
    Ok(keyed().filter_map(earlier).collect())
}

/// Inserts keys where there are none, or where the time of those is over, and
/// reads who holds them.
async fn holders_of(
    transaction: &DatabaseTransaction,
    keys: Vec<Model>,
) -> Result<HashMap<Vec<u8>, Earlier>, StoreError> {
    let hashes: Vec<_> = keys.iter().map(|key| key.hash.clone()).collect();
    // Whether it changes it or not, this locks a row that is there: no sweeper
    // removes it before it is read.
    let unless_held = OnConflict::column(Column::Hash)
        .update_columns([Column::Fingerprint, Column::ExecutionId, Column::ExpiresAt])
        .action_and_where(Expr::col((Entity, Column::ExpiresAt)).lte(clock::now()))
        .to_owned();
    Entity::insert_many(keys.into_iter().map(IntoActiveModel::into_active_model))
        .on_conflict(unless_held)
        .exec_without_returning(transaction)
        .await?;
    let held = Entity::find().filter(Column::Hash.is_in(hashes)).all(transaction).await?;
    let holder = |key: Model| {
        let Model { hash, fingerprint, execution_id, .. } = key;
        (hash, Earlier { execution_id, fingerprint })
    };
    Ok(held.into_iter().map(holder).collect())
}

//! What is inserted when executions are accepted, and references to stored
//! bytes.

use std::collections::HashMap;

use millrace_entities::{document_ref, execution, execution_tag};
use sea_orm::sea_query::OnConflict;
use sea_orm::{DatabaseTransaction, EntityTrait, IntoActiveModel};
use serde::Deserialize;
use uuid::Uuid;

use super::keys::claim_keys;
use super::{chunks, rerun, runs};
use crate::store::committer::{Acceptance, CommitError};
use crate::store::{StoreError, audit};

/// What came of acceptances.
pub(super) struct Accepted {
    /// Those that are not stored, and why.
    pub(super) refused: HashMap<Uuid, CommitError>,
    /// What the others refer to; to be inserted.
    pub(super) references: Vec<document_ref::Model>,
}

/// Inserts what is accepted; to come first in its transaction.
pub(super) async fn store(
    transaction: &DatabaseTransaction,
    mut accepted: Vec<Acceptance>,
) -> Result<Accepted, StoreError> {
    let mut refused = claim_keys(transaction, &accepted).await?;
    refused.extend(runs::claim(transaction, &accepted, &refused).await?);
    refused.extend(rerun::expired(transaction, &accepted).await?);
    accepted.retain(|one| !refused.contains_key(&one.row.id));
    let mut references = Vec::new();
    let (mut rows, mut tags, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for one in accepted {
        references.extend(references_of(&one.row)?);
        tags.extend(one.tags.into_iter().map(|tag| tag_of(&one.row, tag)));
        entries.extend(one.audit);
        rows.push(one.row);
    }
    references.extend(rerun::take_over(transaction, &rows).await?);
    insert_accepted(transaction, rows).await?;
    insert_tags(transaction, tags).await?;
    // They announce nothing, so the feed of changes stays unlocked.
    for entry in entries {
        audit::record(transaction, entry).await?;
    }
    Ok(Accepted { refused, references })
}

fn tag_of(row: &execution::Model, tag: String) -> execution_tag::Model {
    let organisation_id = row.organisation_id;
    execution_tag::Model { execution_id: row.id, tag, organisation_id }
}

/// Repeating an acceptance whose first commit was in doubt changes nothing.
async fn insert_accepted(
    transaction: &DatabaseTransaction,
    rows: Vec<execution::Model>,
) -> Result<(), StoreError> {
    for chunk in chunks(rows, 26) {
        let rows = chunk.into_iter().map(IntoActiveModel::into_active_model);
        execution::Entity::insert_many(rows)
            .on_conflict(OnConflict::column(execution::Column::Id).do_nothing().to_owned())
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

/// What a submission's documents are stored under.
#[derive(Deserialize)]
struct Stored {
    hash: String,
}

/// References to a submission's documents. They are committed with the row, so
/// that the sweeper never sees one without the other.
fn references_of(row: &execution::Model) -> Result<Vec<document_ref::Model>, StoreError> {
    if row.documents_total == 0 {
        return Ok(Vec::new());
    }
    let stored: Vec<Stored> = serde_json::from_str(&row.documents)
        .map_err(|error| StoreError::Fault(format!("documents of {}: {error}", row.id)))?;
    let of_row = |one: Stored| document_ref::Model { execution_id: row.id, hash: one.hash };
    Ok(stored.into_iter().map(of_row).collect())
}

pub(super) fn reference(execution_id: Uuid, hash: &Option<String>) -> Option<document_ref::Model> {
    hash.clone().map(|hash| document_ref::Model { execution_id, hash })
}

/// Documents of one content, and repeated writes, refer once.
pub(super) async fn insert_references(
    transaction: &DatabaseTransaction,
    rows: Vec<document_ref::Model>,
) -> Result<(), StoreError> {
    use document_ref::Column;
    for chunk in chunks(rows, 2) {
        let rows = chunk.into_iter().map(IntoActiveModel::into_active_model);
        let once = OnConflict::columns([Column::ExecutionId, Column::Hash]).do_nothing().to_owned();
        document_ref::Entity::insert_many(rows)
            .on_conflict(once)
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

/// Most executions have none.
async fn insert_tags(
    transaction: &DatabaseTransaction,
    rows: Vec<execution_tag::Model>,
) -> Result<(), StoreError> {
    use execution_tag::Column;
    for chunk in chunks(rows, 3) {
        let known = OnConflict::columns([Column::ExecutionId, Column::Tag]).do_nothing().to_owned();
        execution_tag::Entity::insert_many(
            chunk.into_iter().map(IntoActiveModel::into_active_model),
        )
        .on_conflict(known)
        .exec_without_returning(transaction)
        .await?;
    }
    Ok(())
}

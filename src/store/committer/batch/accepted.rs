//! What is inserted when executions are accepted, and references to stored
//! bytes.

use std::collections::{HashMap, HashSet};

use millrace_entities::{audit_entry, document_ref, execution, execution_tag};
use sea_orm::sea_query::OnConflict;
use sea_orm::{DatabaseTransaction, EntityTrait, IntoActiveModel};
use serde::Deserialize;
use uuid::Uuid;

use super::{chunks, rerun};
use crate::store::{StoreError, audit};

/// What is accepted in one batch.
#[derive(Default)]
pub(super) struct Acceptances {
    rows: Vec<execution::Model>,
    tags: Vec<execution_tag::Model>,
    /// Who asked for those that repeat others, by the new execution.
    entries: HashMap<Uuid, audit_entry::Model>,
}

/// What came of it.
pub(super) struct Accepted {
    /// Those that are not stored, because what they repeat has expired.
    pub(super) expired: HashSet<Uuid>,
    /// What the others refer to; to be inserted.
    pub(super) references: Vec<document_ref::Model>,
}

impl Acceptances {
    pub(super) fn add(
        &mut self,
        row: execution::Model,
        tags: Vec<String>,
        entry: Option<audit_entry::Model>,
    ) {
        let (execution_id, organisation_id) = (row.id, row.organisation_id);
        let tag = |tag| execution_tag::Model { execution_id, tag, organisation_id };
        self.tags.extend(tags.into_iter().map(tag));
        self.entries.extend(entry.map(|entry| (execution_id, entry)));
        self.rows.push(row);
    }

    pub(super) async fn store(
        mut self,
        transaction: &DatabaseTransaction,
    ) -> Result<Accepted, StoreError> {
        let expired = rerun::expired(transaction, &self.rows).await?;
        self.rows.retain(|row| !expired.contains(&row.id));
        self.tags.retain(|tag| !expired.contains(&tag.execution_id));
        self.entries.retain(|id, _| !expired.contains(id));
        let mut references = rerun::take_over(transaction, &self.rows).await?;
        for row in &self.rows {
            references.extend(references_of(row)?);
        }
        insert_accepted(transaction, self.rows).await?;
        insert_tags(transaction, self.tags).await?;
        // They announce nothing, so the feed of changes stays unlocked.
        for entry in self.entries.into_values() {
            audit::record(transaction, entry).await?;
        }
        Ok(Accepted { expired, references })
    }
}

/// Repeating an acceptance whose first commit was in doubt changes nothing.
async fn insert_accepted(
    transaction: &DatabaseTransaction,
    rows: Vec<execution::Model>,
) -> Result<(), StoreError> {
    for chunk in chunks(rows, 25) {
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

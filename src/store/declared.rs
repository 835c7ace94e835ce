//! What files declare, read and written whole. These are the operator's
//! queries: they see every organisation that a file names.

use std::collections::{HashMap, HashSet};

use millrace_entities::enums::ChangeKind;
use millrace_entities::{audit_entry, deployment, deployment_revision, organisation, workflow};
use sea_orm::sea_query::{LockType, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, IdenStatic, IntoActiveModel,
    Iterable, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::{CHUNK, Store, StoreError, changes};
use crate::faults::Boundary;

/// What the store has, as far as files can concern it.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Every organisation.
    pub organisations: Vec<organisation::Model>,
    /// The workflows of the named organisations, and every declared one.
    pub workflows: Vec<workflow::Model>,
    /// The deployments likewise.
    pub deployments: Vec<deployment::Model>,
}

/// Rows to be written together.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Workflows, new and changed.
    pub workflows: Vec<workflow::Model>,
    /// Deployments, new and changed.
    pub deployments: Vec<deployment::Model>,
    /// What those deployments run from now on.
    pub revisions: Vec<deployment_revision::Model>,
    /// One entry for each change.
    pub entries: Vec<audit_entry::Model>,
    /// Known workflows that this rests on, with their revisions.
    pub seen_workflows: HashMap<Uuid, i32>,
    /// Known deployments that this changes, with their revisions.
    pub seen_deployments: HashMap<Uuid, i32>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.workflows.is_empty() && self.deployments.is_empty()
    }
}

/// Fails if a file declares the row.
///
/// # Errors
/// [`StoreError::Declared`].
pub(super) fn undeclared(declared_in: Option<String>) -> Result<(), StoreError> {
    declared_in.map_or(Ok(()), |file| Err(StoreError::Declared(file)))
}

impl Store {
    /// What the store has for the organisations of these slugs, and whatever
    /// files declared before.
    ///
    /// # Errors
    /// The store's.
    pub async fn stored(&self, slugs: HashSet<String>) -> Result<Stored, StoreError> {
        self.read(move |db| async move {
            let organisations = organisation::Entity::find().all(&db).await?;
            let named: Vec<Uuid> = organisations
                .iter()
                .filter(|row| slugs.contains(&row.slug))
                .map(|row| row.id)
                .collect();
            let mut stored = Stored { organisations, ..Stored::default() };
            let wanted = Condition::any()
                .add(deployment::Column::DeclaredIn.is_not_null())
                .add(deployment::Column::OrganisationId.is_in(named.clone()));
            stored.deployments = deployment::Entity::find().filter(wanted).all(&db).await?;
            // A declared deployment may serve a workflow that the API made.
            let served: HashSet<Uuid> =
                stored.deployments.iter().map(|row| row.organisation_id).chain(named).collect();
            let wanted = Condition::any()
                .add(workflow::Column::DeclaredIn.is_not_null())
                .add(workflow::Column::OrganisationId.is_in(served));
            stored.workflows = workflow::Entity::find().filter(wanted).all(&db).await?;
            Ok(stored)
        })
        .await
    }

    /// Writes all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if what it rests on has changed since it was
    /// read, [`StoreError::Conflict`] if a name was taken since.
    pub async fn apply(&self, changes: Changes) -> Result<(), StoreError> {
        self.write_at(vec![Boundary::CHANGE], move |tx| {
            Box::pin(async move {
                // The order of the tables is that of every other transaction:
                // two that change the same rows wait, and do not deadlock.
                use {deployment::Column as D, workflow::Column as W};
                let changed = changes.deployments.iter().map(|row| row.id).collect();
                check::<workflow::Entity>(tx, changes.seen_workflows, W::Id, W::Revision).await?;
                check::<deployment::Entity>(tx, changes.seen_deployments, D::Id, D::Revision)
                    .await?;
                let fixed = [W::OrganisationId, W::Name, W::CreatedAt];
                put::<workflow::Entity>(tx, changes.workflows, W::Id, &fixed).await?;
                let fixed = [D::OrganisationId, D::ApiName, D::PublicId, D::CreatedAt];
                put::<deployment::Entity>(tx, changes.deployments, D::Id, &fixed).await?;
                insert::<deployment_revision::Entity>(tx, changes.revisions).await?;
                insert::<audit_entry::Entity>(tx, changes.entries).await?;
                changes::announce_all(tx, ChangeKind::Deployment, changed).await
            })
        })
        .await
    }
}

/// Locks rows in the order of their ids and fails if one is gone or has another
/// revision than was seen.
async fn check<E: EntityTrait>(
    tx: &DatabaseTransaction,
    seen: HashMap<Uuid, i32>,
    id: E::Column,
    revision: E::Column,
) -> Result<(), StoreError> {
    let mut ids: Vec<Uuid> = seen.keys().copied().collect();
    ids.sort_unstable();
    for ids in ids.chunks(CHUNK) {
        let rows: Vec<(Uuid, i32)> = E::find()
            .select_only()
            .columns([id, revision])
            .filter(id.is_in(ids.to_vec()))
            .order_by_asc(id)
            .lock(LockType::NoKeyUpdate)
            .into_tuple()
            .all(tx)
            .await?;
        let same = rows.iter().all(|(id, revision)| seen.get(id) == Some(revision));
        if !same || rows.len() != ids.len() {
            return Err(StoreError::Stale);
        }
    }
    Ok(())
}

/// Inserts rows, or replaces those whose id is known. The `fixed`
/// columns of a known row never change. Left out of the update, they leave its
/// keys alone, and Postgres lets others go on that only refer to it.
async fn put<E>(
    tx: &DatabaseTransaction,
    rows: Vec<E::Model>,
    id: E::Column,
    fixed: &[E::Column],
) -> Result<(), StoreError>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
{
    let kept: Vec<&str> = fixed.iter().chain([&id]).map(IdenStatic::as_str).collect();
    let rest = E::Column::iter().filter(|column| !kept.contains(&column.as_str()));
    let replace = OnConflict::column(id).update_columns(rest).to_owned();
    let mut rows = rows.into_iter().map(IntoActiveModel::into_active_model).peekable();
    while rows.peek().is_some() {
        E::insert_many(rows.by_ref().take(CHUNK))
            .on_conflict(replace.clone())
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}

async fn insert<E>(tx: &DatabaseTransaction, rows: Vec<E::Model>) -> Result<(), StoreError>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
{
    let mut rows = rows.into_iter().map(IntoActiveModel::into_active_model).peekable();
    while rows.peek().is_some() {
        E::insert_many(rows.by_ref().take(CHUNK)).exec_without_returning(tx).await?;
    }
    Ok(())
}

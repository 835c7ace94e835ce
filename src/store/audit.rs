//! The audit trail: who changed what. Entries are kept for ever.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use millrace_entities::audit_entry;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QueryTrait, Select,
};
use uuid::Uuid;

use super::page::{Page, Paged};
use super::{Store, StoreError, changes};
use crate::faults::Boundary;

/// Writes an entry in the transaction of the change it tells of: there is no
/// change without its entry, and no entry without its change. The other nodes
/// hear of the change from here too.
///
/// To be called last, as [`Store::change`] does: the transaction holds the
/// lock of the feed from here on.
pub(super) async fn record(
    tx: &DatabaseTransaction,
    entry: audit_entry::Model,
) -> Result<(), StoreError> {
    entry.clone().into_active_model().insert(tx).await?;
    changes::announce(tx, &entry).await
}

/// Which entries are wanted; what is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Kind of resource.
    pub resource: Option<String>,
    /// Which one.
    pub resource_id: Option<Uuid>,
    /// What was done.
    pub action: Option<&'static str>,
    /// By what kind of author.
    pub author_kind: Option<&'static str>,
    /// By which key.
    pub author_id: Option<Uuid>,
    /// From then on.
    pub from: Option<DateTime<Utc>>,
    /// Before then.
    pub to: Option<DateTime<Utc>>,
}

/// Every query of entries starts here, in scope.
fn of(organisation_id: Uuid) -> Select<audit_entry::Entity> {
    audit_entry::Entity::find().filter(audit_entry::Column::OrganisationId.eq(organisation_id))
}

impl Store {
    /// Makes a change of what is managed, and writes `entry` with it.
    ///
    /// # Errors
    /// What the work returns, or the store's.
    pub(super) async fn change<T, F>(
        &self,
        entry: audit_entry::Model,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a DatabaseTransaction) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.write_at(vec![Boundary::CHANGE], move |tx| {
            Box::pin(async move {
                let value = work(tx).await?;
                record(tx, entry).await?;
                Ok(value)
            })
        })
        .await
    }

    /// The organisation's entries, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn audit_entries(
        &self,
        organisation_id: Uuid,
        filter: AuditFilter,
        page: Page,
    ) -> Result<Paged<audit_entry::Model>, StoreError> {
        use audit_entry::Column;
        self.read(move |db| async move {
            let found = of(organisation_id)
                .apply_if(filter.resource, |found, it| found.filter(Column::Resource.eq(it)))
                .apply_if(filter.resource_id, |found, it| found.filter(Column::ResourceId.eq(it)))
                .apply_if(filter.action, |found, it| found.filter(Column::Action.eq(it)))
                .apply_if(filter.author_kind, |found, it| found.filter(Column::AuthorKind.eq(it)))
                .apply_if(filter.author_id, |found, it| found.filter(Column::AuthorId.eq(it)))
                .apply_if(filter.from, |found, it| found.filter(Column::CreatedAt.gte(it)))
                .apply_if(filter.to, |found, it| found.filter(Column::CreatedAt.lt(it)))
                // Ids are UUIDv7: in the order of time, and indexed.
                .order_by_desc(Column::Id);
            page.of(found, &db).await
        })
        .await
    }
}

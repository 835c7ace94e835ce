//! Lists in parts.

use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, Select};

use super::StoreError;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// From 0.
    pub index: u64,
    /// Rows in a page, at least 1.
    pub size: u64,
}

/// A part of a list, and how long the whole is.
#[derive(Debug)]
pub struct Paged<T> {
    /// Rows in the whole list.
    pub total: u64,
    /// The rows of this page.
    pub rows: Vec<T>,
}

impl Page {
    /// Reads this part of what `found` lists, and counts the whole.
    pub(super) async fn of<E, C>(
        self,
        found: Select<E>,
        db: &C,
    ) -> Result<Paged<E::Model>, StoreError>
    where
        E: EntityTrait,
        E::Model: FromQueryResult + Send + Sync,
        C: ConnectionTrait,
    {
        let pages = found.paginate(db, self.size);
        Ok(Paged { total: pages.num_items().await?, rows: pages.fetch_page(self.index).await? })
    }
}

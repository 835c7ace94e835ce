//! When keys were used last.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use millrace_entities::key_use;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};
use uuid::Uuid;

use super::{Store, StoreError};

/// Rows of one statement; each binds two values.
const BATCH: usize = 1000;

impl Store {
    /// Keeps when keys were used, unless a later use is known already: several
    /// nodes may tell of one key.
    ///
    /// # Errors
    /// The store's.
    pub async fn record_uses(&self, uses: Vec<(Uuid, DateTime<Utc>)>) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let (key, used) = (key_use::Column::KeyId, key_use::Column::LastUsedAt);
                let told = Expr::col((Alias::new("excluded"), used));
                let later = told.gt(Expr::col((key_use::Entity, used)));
                let keep_latest =
                    OnConflict::column(key).update_column(used).action_and_where(later).to_owned();
                for batch in uses.chunks(BATCH) {
                    let rows = batch.iter().map(|(key_id, last_used_at)| {
                        key_use::Model { key_id: *key_id, last_used_at: *last_used_at }
                            .into_active_model()
                    });
                    key_use::Entity::insert_many(rows)
                        .on_conflict(keep_latest.clone())
                        .exec_without_returning(tx)
                        .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// When each of these keys was used last, as far as it was kept; at most
    /// a page of keys at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn last_uses(
        &self,
        keys: Vec<Uuid>,
    ) -> Result<HashMap<Uuid, DateTime<Utc>>, StoreError> {
        self.read(move |db| async move {
            let found = key_use::Entity::find().filter(key_use::Column::KeyId.is_in(keys));
            let rows = found.all(&db).await?;
            Ok(rows.into_iter().map(|row| (row.key_id, row.last_used_at)).collect())
        })
        .await
    }
}

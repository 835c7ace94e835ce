//! What the server itself remembers.

use millrace_entities::setting;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, EntityTrait};

use super::{Store, StoreError};

impl Store {
    /// Keeps `value` under `name` unless something is kept there already;
    /// returns what is kept. Of two servers that start at once, one wins.
    ///
    /// # Errors
    /// The store's.
    pub async fn setting_or(&self, name: &str, value: String) -> Result<String, StoreError> {
        let name = name.to_owned();
        self.write(move |tx| {
            Box::pin(async move {
                let row = setting::ActiveModel { name: Set(name.clone()), value: Set(value) };
                setting::Entity::insert(row)
                    .on_conflict(OnConflict::column(setting::Column::Name).do_nothing().to_owned())
                    .exec_without_returning(tx)
                    .await?;
                let kept = setting::Entity::find_by_id(name).one(tx).await?;
                Ok(kept.ok_or(StoreError::NotFound)?.value)
            })
        })
        .await
    }
}

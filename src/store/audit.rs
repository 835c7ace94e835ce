//! The audit trail: who changed what.

use millrace_entities::audit_entry;
use sea_orm::{ActiveModelTrait, DatabaseTransaction, IntoActiveModel};

use super::StoreError;

/// Writes an entry in the transaction of the change it tells of: there is no
/// change without its entry, and no entry without its change.
pub(super) async fn record(
    tx: &DatabaseTransaction,
    entry: audit_entry::Model,
) -> Result<(), StoreError> {
    entry.into_active_model().insert(tx).await?;
    Ok(())
}

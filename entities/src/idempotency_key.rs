//! A key under which a deployment accepted a submission.

use sea_orm::entity::prelude::*;

/// A key under which a deployment accepted a submission.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_keys")]
pub struct Model {
    /// blake3 of the deployment's id and the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hash: Vec<u8>,
    /// blake3 of what was submitted.
    pub fingerprint: Vec<u8>,
    /// The execution that the submission became.
    pub execution_id: Uuid,
    /// From when on the key is free again.
    pub expires_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

//! An execution refers to bytes in the document store.

use sea_orm::entity::prelude::*;

/// An execution refers to bytes in the document store.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "document_refs")]
pub struct Model {
    /// The execution: one of its documents, an output or its result.
    #[sea_orm(primary_key, auto_increment = false)]
    pub execution_id: Uuid,
    /// Content address of the bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hash: String,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

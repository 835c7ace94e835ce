//! The closed sets of values that columns hold.

use sea_orm::entity::prelude::*;

/// Where an execution's life stands. `COMPLETED`, `ERROR` and `STOPPED` are
/// terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
pub enum Status {
    /// Accepted and waiting for its turn.
    #[sea_orm(string_value = "PENDING")]
    Pending,
    /// Its steps run.
    #[sea_orm(string_value = "EXECUTING")]
    Executing,
    /// It ended, and at least one document succeeded.
    #[sea_orm(string_value = "COMPLETED")]
    Completed,
    /// It ended without a document that succeeded.
    #[sea_orm(string_value = "ERROR")]
    Error,
    /// It was cancelled.
    #[sea_orm(string_value = "STOPPED")]
    Stopped,
}

/// What a workflow is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(8))")]
pub enum WorkflowKind {
    /// Documents into a destination.
    #[sea_orm(string_value = "ETL")]
    Etl,
    /// Documents or JSON into a result.
    #[sea_orm(string_value = "TASK")]
    Task,
}

/// What a platform key may do; each tier includes the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
pub enum Tier {
    /// Look.
    #[sea_orm(string_value = "read")]
    Read,
    /// Make and change.
    #[sea_orm(string_value = "read_write")]
    ReadWrite,
    /// Delete, and manage keys.
    #[sea_orm(string_value = "full_access")]
    FullAccess,
}

/// What a node keeps in memory and must read anew after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
pub enum ChangeKind {
    /// A deployment, its settings, its workflow or its keys.
    #[sea_orm(string_value = "deployment")]
    Deployment,
    /// The platform keys of an organisation.
    #[sea_orm(string_value = "organisation")]
    Organisation,
    /// The connections of an organisation.
    #[sea_orm(string_value = "connections")]
    Connections,
}

/// Where the delivery of a webhook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))")]
pub enum DeliveryState {
    /// It is tried, or will be.
    #[sea_orm(string_value = "pending")]
    Pending,
    /// The receiver took it.
    #[sea_orm(string_value = "delivered")]
    Delivered,
    /// It is not tried any more.
    #[sea_orm(string_value = "failed")]
    Failed,
}

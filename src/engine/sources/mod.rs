//! Sources: where an ETL deployment gets its documents by itself.
//!
//! A run is an execution like any other. Its documents are gathered when it
//! runs: listed, compared with what is known of each file, loaded into the
//! document store and committed to its row, all before the first step.

mod confined;
mod folder;
pub(super) mod gather;
pub(super) mod history;
mod listing;
mod load;
pub mod settings;

use millrace_entities::enums::WorkflowKind;

use super::settings::Settings;
use crate::connections::{Connections, Kind};

/// A place of the settings, and what would be right.
pub type Misplaced = (&'static str, &'static str);

/// What is wrong with a deployment's source, besides its form, when it is
/// written: its connection must be there.
pub fn fault(connections: &Connections, org_id: &str, settings: &Settings) -> Option<Misplaced> {
    let source = settings.source.as_ref()?;
    let found = connections.get(org_id, &source.connection);
    let is_right = found.is_some_and(|one| one.kind() == Kind::ObjectStore);
    let cure = "there is no connection of this name and of kind object_store";
    (!is_right).then_some(("source.connection", cure))
}

/// What settings only deployments of type `ETL` have, if the deployment has one
/// and is none.
pub fn misfit(settings: &Settings, kind: WorkflowKind) -> Option<Misplaced> {
    let is_misfit = settings.source.is_some() && kind != WorkflowKind::Etl;
    is_misfit.then_some(("source", "only a deployment whose workflow is of type ETL has a source"))
}

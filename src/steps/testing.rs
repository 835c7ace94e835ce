//! What the tests of steps share.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{ParamError, Services, Step, StepContext, StepScope};
use crate::connections::{Connection, Connections};
use crate::documents::DocumentStore;
use crate::outbound::{Outbound, OutboundConfig};
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::steps::meter::Meter;
use crate::usage::Subject;

/// The organisation of every test context.
pub const ORG: &str = "acme";

/// Builds a registered step.
pub fn build(uses: &str, with: Value) -> Result<Box<dyn Step>, ParamError> {
    super::build(uses, with).expect("the kind is registered")
}

/// A context without connections.
pub fn context(input: Value, data: Value) -> StepContext {
    context_with(input, data, [])
}

/// A context whose organisation has `connections`.
pub fn context_with(
    input: Value,
    data: Value,
    connections: impl IntoIterator<Item = (&'static str, Connection)>,
) -> StepContext {
    let connections =
        connections.into_iter().map(|(name, one)| ((ORG.to_owned(), name.to_owned()), one));
    let memory = opendal::Operator::new(opendal::services::Memory::default()).unwrap();
    let services = Services {
        documents: DocumentStore::new(memory),
        sandbox: Sandbox::new(SandboxConfig::default()),
        connections: Connections::new(connections),
        sql: Arc::default(),
        outbound: Outbound::new(&OutboundConfig::default()).unwrap(),
    };
    StepContext {
        scope: StepScope {
            org_id: ORG.to_owned(),
            execution_id: Uuid::now_v7(),
            document_index: 0,
            step_id: "step".to_owned(),
        },
        input: Arc::new(input),
        data: Arc::new(data),
        document: None,
        services: Arc::new(services),
        meter: Meter::new(Arc::default(), Subject::new(Uuid::nil(), None)),
        cancel: CancellationToken::new(),
    }
}

//! What a step sees of the execution it runs in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::connections::Connections;
use crate::documents::{DocumentStore, Hash};
use crate::outbound::Outbound;
use crate::sandbox::Sandbox;
use crate::sql_pools::SqlPools;

use super::meter::Meter;

/// The shared helpers of all steps.
pub struct Services {
    /// Where document bytes and large outputs are kept.
    pub documents: DocumentStore,
    /// Child processes for parsers and programs that cannot be trusted.
    pub sandbox: Sandbox,
    /// Named, secret-bearing settings of outside systems.
    pub connections: Connections,
    /// Connection pools of the databases that steps load into.
    pub sql: Arc<SqlPools>,
    /// Clients of what is outside.
    pub outbound: Outbound,
}

/// A document of the execution, as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentRef {
    /// Id of this document within this execution.
    pub id: Uuid,
    /// The name the caller gave; not unique, never a path.
    pub name: String,
    /// Content address.
    pub hash: Hash,
    /// Size in bytes.
    pub size: u64,
    /// Media type the caller declared, if any. The content decides.
    pub mime_type: Option<String>,
    /// Where it was found, if the execution gathered it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceFile>,
}

/// A file of a source, as it was when it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Name of the connection.
    pub connection: String,
    /// Path in the connection.
    pub path: String,
    /// When it was changed, in microseconds since 1970 by the store's clock;
    /// none where that cannot be relied on.
    pub modified_at: Option<i64>,
    /// The store's own name of the content, if it has one.
    pub etag: Option<String>,
}

/// Where in all executions a step runs.
#[derive(Debug, Clone)]
pub struct StepScope {
    /// Slug of the organisation; connections are looked up in it.
    pub org_id: String,
    /// The execution.
    pub execution_id: Uuid,
    /// Position of the document in the submission; 0 if there is none.
    pub document_index: u32,
    /// Id of the step in its workflow.
    pub step_id: String,
}

impl StepScope {
    /// The same for every run of this step on this document of this
    /// execution: lets an outside system recognise a repetition.
    pub fn stable_id(&self) -> String {
        format!("{}/{}/{}", self.execution_id, self.document_index, self.step_id)
    }
}

/// Everything one run of one step may use.
pub struct StepContext {
    /// Where this step runs.
    pub scope: StepScope,
    /// What the step works on: the output of the step before it, or what the
    /// step's `input` (a JSON pointer, RFC 6901, into [`Self::data`]) selects.
    /// For the first step it is the submission's `input_data`.
    pub input: Arc<Value>,
    /// The whole context: `input_data`, `parameters`, `custom_data`,
    /// `document` (`index`, `id`, `name`, `hash`, `size`, `mime_type`, `path` in its
    /// source; or null),
    /// `execution_id` and `steps` (outputs by step id).
    pub data: Arc<Value>,
    /// The document in work; none in an execution without documents.
    pub document: Option<DocumentRef>,
    /// Shared helpers.
    pub services: Arc<Services>,
    /// Counts what models take.
    pub meter: Arc<Meter>,
    /// Cancelled when the execution is stopped or its time is up.
    pub cancel: CancellationToken,
}

//! The first part of a run: its documents are listed, loaded and committed to
//! its row. A crash before the commit begins anew, one after it goes on with
//! the same documents.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use opendal::{ErrorKind, Operator};
use tokio::time::Instant;
use uuid::Uuid;

use super::confined::Confined;
use super::listing::{self, Chosen};
use super::load::{Loaded, Loader};
use super::settings::Source;
use crate::connections::{Connection, object_store};
use crate::documents::StoreError as DocumentError;
use crate::engine::context::Context;
use crate::engine::directory::Entry;
use crate::engine::live::Live;
use crate::engine::plan::Revision;
use crate::engine::run::{Outcome, STORE_AWAY, refresh};
use crate::steps::DocumentRef;
use crate::store::StoreError;
use crate::store::committer::{Claim, CommitError, FileRow, Gathered, Write};
use crate::usage::Subject;

/// Files that are loaded at once.
const AT_ONCE: usize = 4;

/// Time for which files are loaded; the rest waits for the next run. What is
/// loaded must be referred to before it is old enough to be swept.
const LOADING: Duration = Duration::from_secs(3600);

/// Why the source cannot be read; callers see it as the execution's error.
#[derive(Debug)]
pub(super) struct Unable {
    code: &'static str,
    detail: String,
}

impl Unable {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// Its settings cannot be used.
    pub(super) fn unusable(connection: &str) -> Self {
        let detail = format!("connection `{connection}`: its service or options cannot be used");
        Self::new("connection_unusable", detail)
    }

    /// The database.
    pub(super) fn store(error: &StoreError) -> Self {
        tracing::warn!(%error, "what is known of files cannot be read");
        Self::new("source_unavailable", "what is known of its files cannot be read")
    }

    /// The document store.
    pub(super) fn documents(error: &DocumentError) -> Self {
        tracing::warn!(%error, "the document store refused a file");
        Self::new("document_store_unavailable", "the document store cannot be written")
    }

    /// OpenDAL's own text can hold addresses and options, so only its kind
    /// counts.
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub(super) fn of(error: opendal::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied => {
                Self::new("source_refused", "the object store denies access")
            }
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                Self::new("source_refused", "the bucket or folder is not there")
            }
            ErrorKind::ConfigInvalid | ErrorKind::Unsupported => Self::new(
                "connection_unusable",
                "the connection's service cannot list and read with its options",
            ),
            _ => Self::new("source_unavailable", "the object store is away or too slow"),
        }
    }
}

/// Gathers the documents of an execution and commits them. None if it is not
/// this node's any more.
pub(in crate::engine) async fn gather(
    context: &Arc<Context>,
    entry: &Entry,
    revision: &Revision,
    live: &Live,
    claim: Claim,
    deadline: Instant,
) -> Option<Result<Vec<DocumentRef>, Outcome>> {
    let finding = find(context, entry, revision, claim.execution_id);
    let found = tokio::select! {
        found = tokio::time::timeout_at(deadline, finding) => found,
        () = live.cancel.cancelled() => return Some(Err(Outcome::stopped())),
    };
    let (documents, files) = match found {
        Ok(Ok(found)) => found,
        Ok(Err(Unable { code, detail })) => return Some(Err(Outcome::failed(code, &detail))),
        Err(_) => {
            let detail = "the files of the source were not loaded in time";
            return Some(Err(Outcome::failed("execution_timed_out", detail)));
        }
    };
    let Ok(text) = serde_json::to_string(&documents) else {
        return Some(Err(Outcome::failed("source_unrecordable", "its documents have no JSON")));
    };
    let gathered = Gathered {
        documents: text,
        documents_total: i32::try_from(documents.len()).unwrap_or(i32::MAX),
        hashes: documents.iter().map(|document| document.hash.to_string()).collect(),
        files,
    };
    if let Err(error) = commit(context, claim, gathered).await {
        let detail = "what was found in the source could not be stored";
        return match error {
            CommitError::Refused(_) => Some(Err(Outcome::failed("source_unrecordable", detail))),
            _ => None,
        };
    }
    let bytes = documents.iter().map(|document| document.size).sum();
    context.usage.accepted(Subject::new(entry.id, live.key_id), documents.len(), bytes);
    Some(Ok(documents))
}

/// Tries until the store is back. The bytes stay meanwhile.
async fn commit(context: &Context, claim: Claim, gathered: Gathered) -> Result<(), CommitError> {
    let gathered = Box::new(gathered);
    loop {
        let write = Write::Gather(claim, gathered.clone());
        let committed = match context.committer.enqueue(write).await {
            Ok(done) => done.await.unwrap_or(Err(CommitError::Lost)),
            Err(error) => Err(error),
        };
        let Err(CommitError::Unavailable(error)) = committed else { return committed };
        tracing::warn!(execution_id = %claim.execution_id, error, "waiting for the store");
        tokio::time::sleep(STORE_AWAY).await;
        for hash in &gathered.hashes {
            refresh(context, Some(hash)).await;
        }
    }
}

/// The documents, and what is known from now on of other files.
async fn find(
    context: &Context,
    entry: &Entry,
    revision: &Revision,
    execution_id: Uuid,
) -> Result<(Vec<DocumentRef>, Vec<FileRow>), Unable> {
    let Some(source) = &revision.settings.source else {
        return Err(Unable::new("source_unknown", "the deployment has no source any more"));
    };
    let (operator, confined) = open(context, &entry.org_id, source).await?;
    let workflow_id = revision.workflow_id;
    if !confined.holds(&source.folder()).await {
        return Err(Unable::new("source_refused", "the folder lies outside of the connection"));
    }
    let chosen = listing::list(context, &operator, &confined, source, workflow_id).await?;
    let Chosen { found, left, passed_over } = chosen;
    let settings = &revision.settings;
    let loader =
        Loader { context, operator, confined, source, settings, workflow_id, execution_id };
    let until = Instant::now() + LOADING;
    let (mut documents, mut files) = (Vec::new(), Vec::new());
    let (mut bytes, mut failed, total) = (0, 0, found.len());
    let mut loading = stream::iter(found).map(|found| loader.load(found)).buffered(AT_ONCE);
    while let Some(loaded) = loading.next().await {
        match loaded? {
            Loaded::Document(document) if bytes + document.size > source.max_bytes => break,
            Loaded::Document(document) => {
                bytes += document.size;
                documents.push(document);
            }
            Loaded::Same(row) | Loaded::Refused(row) => files.push(row),
            Loaded::Unread(row) => {
                failed += 1;
                files.push(row);
            }
            Loaded::Gone => {}
        }
        if Instant::now() >= until {
            break;
        }
    }
    if failed > 0 && failed == total {
        return Err(Unable::new("source_unavailable", "none of its files can be read"));
    }
    tracing::info!(
        %execution_id,
        documents = documents.len(),
        other = files.len(),
        left = total - documents.len() - files.len() + left,
        passed_over,
        "gathered"
    );
    Ok((documents, files))
}

async fn open(
    context: &Context,
    org_id: &str,
    source: &Source,
) -> Result<(Operator, Confined), Unable> {
    let services = &context.services;
    let (connections, name) = (&services.connections, &source.connection);
    let operator = object_store::operator(connections, &services.outbound, org_id, name)
        .map_err(|error| Unable::new(error.code(), error.to_string()))?;
    let confined = match connections.get(org_id, name).as_deref() {
        Some(Connection::ObjectStore { service, options }) => Confined::of(service, options).await,
        _ => Confined::Never,
    };
    Ok((operator, confined))
}

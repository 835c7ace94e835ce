//! How an admitted submission becomes an execution.

use std::sync::Arc;

use uuid::Uuid;

use super::Engine;
use super::deployment::{Admission, Begin, Refund};
use super::directory::{Caller, Entry};
use super::lifecycle::Status;
use super::submission::Request;
use crate::clock;
use crate::steps::DocumentRef;
use crate::store::committer::{CommitError, ExecutionRow, Write};
use crate::usage::Subject;

impl Engine {
    /// Stores an admitted submission and starts it. When this returns `Ok`,
    /// it is durable. If it fails, place and permit are given back. After
    /// `Unavailable` it may have been stored; then it runs.
    ///
    /// # Errors
    /// The commit's.
    pub async fn accept(
        self: &Arc<Self>,
        caller: &Caller,
        admission: Admission,
        request: &Request,
        documents: &[DocumentRef],
    ) -> Result<ExecutionRow, CommitError> {
        let refused = |error: serde_json::Error| CommitError::Refused(error.to_string());
        let text = serde_json::to_string(request).map_err(refused)?;
        let row = self.new_row(&caller.entry, &admission, Some(caller.key_id), text, documents)?;
        let write = Write::Accept(Box::new(row.clone()), request.tags.clone());
        let bytes = documents.iter().map(|one| one.size).sum();
        self.store_accepted(&caller.entry, admission, row, write, bytes).await
    }

    /// Stores what `write` says of an admitted execution, and starts it; the
    /// one way in. `bytes` are those of its documents.
    pub(super) async fn store_accepted(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        admission: Admission,
        row: ExecutionRow,
        write: Write,
        bytes: u64,
    ) -> Result<ExecutionRow, CommitError> {
        let engine = Arc::clone(self);
        let entry = Arc::clone(entry);
        let count = usize::try_from(row.documents_total).unwrap_or_default();
        // A task of its own: a caller that goes away between the commit and
        // the start must not leave an accepted execution behind.
        let accepted = self.context.work.spawn(async move {
            match engine.context.committer.commit(write).await {
                Ok(()) => {
                    let subject = Subject::new(row.deployment_id, row.key_id);
                    engine.context.usage.accepted(subject, count, bytes);
                    engine.begin(&entry, row.clone(), admission).await;
                    Ok(row)
                }
                Err(error) => {
                    if matches!(error, CommitError::Unavailable(_)) {
                        engine.context.pulse.doubt();
                    }
                    if admission.metered {
                        entry.tell(Refund).await;
                    }
                    Err(error)
                }
            }
        });
        // A commit that hangs is not waited for, but its task begins what it
        // accepts.
        let unavailable = |text: &str| Err(CommitError::Unavailable(text.into()));
        match tokio::time::timeout(self.store.patience(), accepted).await {
            Ok(accepted) => accepted.unwrap_or_else(|_| unavailable("interrupted")),
            Err(_) => unavailable("no answer in time"),
        }
    }

    /// A deployment that died after the commit finds the row in the store
    /// when it is rebuilt.
    async fn begin(&self, entry: &Entry, row: ExecutionRow, admission: Admission) {
        let Admission { revision, places, .. } = admission;
        let begin = Begin { row: Box::new(row), revision, places };
        if !entry.tell(begin).await {
            self.revive(entry.id).await;
        }
    }

    pub(super) fn new_row(
        &self,
        entry: &Entry,
        admission: &Admission,
        key_id: Option<Uuid>,
        request: String,
        documents: &[DocumentRef],
    ) -> Result<ExecutionRow, CommitError> {
        let refused = |error: serde_json::Error| CommitError::Refused(error.to_string());
        Ok(ExecutionRow {
            id: Uuid::now_v7(),
            organisation_id: entry.organisation_id,
            deployment_id: entry.id,
            revision: admission.revision.number,
            key_id,
            status: Status::Pending,
            owner: Some(self.context.node),
            attempt: 1,
            recoveries: 0,
            cancel_requested: false,
            request,
            documents: serde_json::to_string(documents).map_err(refused)?,
            documents_total: i32::try_from(documents.len()).unwrap_or(i32::MAX),
            documents_failed: 0,
            steps_total: 0,
            steps_done: 0,
            error: None,
            result: None,
            result_hash: None,
            created_at: clock::now(),
            started_at: None,
            ended_at: None,
            expires_at: None,
            rerun_of: None,
            rerun_from: None,
        })
    }
}

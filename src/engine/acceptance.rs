//! How an admitted submission becomes an execution.

use std::sync::Arc;

use chrono::TimeDelta;
use uuid::Uuid;

use super::Engine;
use super::deployment::{Admission, Begin, Refund};
use super::directory::{Caller, Entry};
use super::idempotency::Keyed;
use super::lifecycle::Status;
use super::live::Progress;
use super::submission::Request;
use crate::clock;
use crate::steps::DocumentRef;
use crate::store::committer::{Acceptance, CommitError, ExecutionRow, Write};
use crate::usage::Subject;

/// A submission that is stored.
pub struct Accepted {
    /// Its execution.
    pub id: Uuid,
    /// Where it stood when it was accepted.
    pub progress: Progress,
    /// Whether it had been accepted before, under its key.
    pub is_replay: bool,
}

/// Why a submission is not stored.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Another submission was accepted under its key.
    #[error("the idempotency key belongs to another submission")]
    Mismatch,
    /// The commit's. Where it is in doubt, the submission may be stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Engine {
    /// Stores an admitted submission and starts it. When this returns `Ok`,
    /// it is durable, or was before under its key. Unless it is stored now,
    /// places and permit are given back. After an outage it may have been
    /// stored all the same; then it runs.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(
        self: &Arc<Self>,
        caller: &Caller,
        admission: Admission,
        request: &Request,
        documents: &[DocumentRef],
        keyed: Option<Keyed>,
    ) -> Result<Accepted, AcceptError> {
        let refused = |error: serde_json::Error| CommitError::Refused(error.to_string());
        let text = serde_json::to_string(request).map_err(refused)?;
        let mut row =
            self.new_row(&caller.entry, &admission, Some(caller.key_id), text, documents)?;
        if documents.is_empty() && admission.revision.settings.source.is_some() {
            row.gathered = Some(false);
        }
        let run = row.gathered.map(|_| admission.revision.workflow_id);
        let hours = self.context.upkeep.retention.idempotency_hours;
        let free_again = row.created_at + TimeDelta::hours(hours.into());
        let key = keyed.as_ref().map(|keyed| keyed.row(row.deployment_id, row.id, free_again));
        let (id, progress) = (row.id, Progress::from_row(&row));
        let acceptance = Acceptance { row, tags: request.tags.clone(), key, audit: None, run };
        let bytes = documents.iter().map(|one| one.size).sum();
        match self.store_accepted(&caller.entry, admission, acceptance, bytes).await {
            Ok(()) => Ok(Accepted { id, progress, is_replay: false }),
            Err(CommitError::Repeated(earlier)) => {
                if !keyed.is_some_and(|keyed| keyed.is_same(&earlier.fingerprint)) {
                    return Err(AcceptError::Mismatch);
                }
                Ok(Accepted { id: earlier.execution_id, progress, is_replay: true })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores an admitted execution and starts it; the one way in. `bytes` are
    /// those of its documents.
    pub(super) async fn store_accepted(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        admission: Admission,
        acceptance: Acceptance,
        bytes: u64,
    ) -> Result<(), CommitError> {
        let engine = Arc::clone(self);
        let entry = Arc::clone(entry);
        // A task of its own: a caller that goes away between the commit and
        // the start must not leave an accepted execution behind.
        let accepting = self.context.accepting(acceptance.row.id);
        let accepted = self.context.work.spawn(async move {
            let _accepting = accepting;
            let row = acceptance.row.clone();
            let accept = Write::Accept(Box::new(acceptance));
            if let Err(error) = engine.context.committer.commit(accept).await {
                if matches!(error, CommitError::Unavailable(_) | CommitError::Refused(_)) {
                    engine.context.pulse.doubt();
                }
                let metered = admission.metered;
                drop(admission);
                if metered {
                    entry.tell(Refund).await;
                }
                return Err(error);
            }
            let count = usize::try_from(row.documents_total).unwrap_or_default();
            let subject = Subject::new(row.deployment_id, row.key_id);
            engine.context.usage.accepted(subject, count, bytes);
            engine.begin(&entry, row, admission).await;
            Ok(())
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
            gathered: None,
        })
    }
}

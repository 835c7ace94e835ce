//! What is known of executions that have not ended, without asking the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use millrace_entities::execution;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::events::EventLog;
use super::lifecycle::{self, Status};
use crate::store::records::Summary;

/// Where an execution stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Its status.
    pub status: Status,
    /// Documents, at least 1 unless it gathers them itself: an execution
    /// without documents runs once.
    pub documents_total: usize,
    /// Documents that ended.
    pub documents_done: usize,
    /// Documents that failed.
    pub documents_failed: usize,
    /// Steps over all documents; 0 until they are known.
    pub steps_total: usize,
    /// Steps that ended.
    pub steps_done: usize,
    /// Why it failed.
    pub error: Option<Value>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it first ran.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// From when on its result may be gone.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Progress {
    /// What the store knows.
    pub fn from_row(row: &execution::Model) -> Self {
        Self::from_summary(&Summary::of(row))
    }

    /// What the store knows.
    pub fn from_summary(row: &Summary) -> Self {
        let documents_total = row.walks();
        let ended = lifecycle::is_terminal(row.status);
        Self {
            status: row.status,
            documents_total,
            documents_done: if ended { documents_total } else { 0 },
            documents_failed: usize::try_from(row.documents_failed).unwrap_or_default(),
            steps_total: usize::try_from(row.steps_total).unwrap_or_default(),
            steps_done: usize::try_from(row.steps_done).unwrap_or_default(),
            error: row.error.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            expires_at: row.expires_at,
        }
    }
}

/// An execution that waits or runs on this node.
#[derive(Debug)]
pub struct Live {
    /// The key that submitted it.
    pub key_id: Option<Uuid>,
    /// Changes are announced here, the terminal status after its commit.
    pub progress: watch::Sender<Progress>,
    /// What happened so far.
    pub events: EventLog,
    /// Cancelled when a caller wants the execution stopped.
    pub cancel: CancellationToken,
    started: AtomicBool,
    /// Writes of its status on their way to the store.
    writes: AtomicUsize,
}

impl Live {
    /// Starts from what the store knows.
    pub fn new(row: &execution::Model) -> Arc<Self> {
        let cancel = CancellationToken::new();
        if row.cancel_requested {
            cancel.cancel();
        }
        let progress = watch::Sender::new(Progress::from_row(row));
        let events = EventLog::new(row);
        let started = AtomicBool::new(false);
        let writes = AtomicUsize::new(0);
        Arc::new(Self { key_id: row.key_id, progress, events, cancel, started, writes })
    }

    /// Whether an execution actor has it in hand.
    pub fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(super) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Says how many documents it found, of so many steps each.
    pub(super) fn count(&self, documents: usize, steps: usize) {
        self.progress.send_modify(|progress| {
            progress.documents_total = documents;
            progress.steps_total = documents * steps;
        });
    }

    /// Whether the store knows no later status: none is on its way there.
    pub fn is_settled(&self) -> bool {
        self.writes.load(Ordering::Acquire) == 0
    }

    /// Takes over what the store says of it, where that is later: told once,
    /// it is not taken back while the store is away, though the answer to the
    /// commit never came.
    pub(super) fn hear(&self, told: &Progress) {
        self.progress.send_if_modified(|progress| {
            if lifecycle::is_terminal(progress.status) {
                return false;
            }
            if lifecycle::is_terminal(told.status) {
                *progress = told.clone();
                return true;
            }
            let is_later = progress.status == Status::Pending && told.status != Status::Pending;
            if is_later {
                progress.status = told.status;
            }
            is_later
        });
    }

    /// Says that a status is on its way to the store, until the value is
    /// dropped: after it is announced here.
    pub(super) fn writing(&self) -> Writing<'_> {
        self.writes.fetch_add(1, Ordering::AcqRel);
        Writing(self)
    }
}

/// A status on its way to the store.
#[derive(Debug)]
pub(super) struct Writing<'a>(&'a Live);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writes.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The live executions of one deployment: its actor enters them, the end of
/// an execution removes them, everybody reads them.
pub type LiveMap = DashMap<Uuid, Arc<Live>>;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock;

    /// An execution of two documents that has just been accepted.
    pub(in crate::engine) fn new_row() -> execution::Model {
        execution::Model {
            id: Uuid::nil(),
            organisation_id: Uuid::nil(),
            deployment_id: Uuid::nil(),
            revision: 1,
            key_id: None,
            status: Status::Pending,
            owner: None,
            attempt: 1,
            recoveries: 0,
            cancel_requested: false,
            request: "{}".into(),
            documents: "[]".into(),
            documents_total: 2,
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
        }
    }

    #[test]
    fn what_the_store_has_told_is_never_taken_back() {
        let live = Live::new(&new_row());
        let status = || live.progress.borrow().status;
        let told = |status| Progress { status, steps_total: 7, ..live.progress.borrow().clone() };
        live.hear(&told(Status::Executing));
        assert_eq!((status(), live.progress.borrow().steps_total), (Status::Executing, 0));
        live.hear(&told(Status::Pending));
        assert_eq!(status(), Status::Executing, "it was read before");
        live.hear(&told(Status::Stopped));
        assert_eq!((status(), live.progress.borrow().steps_total), (Status::Stopped, 7));
        live.hear(&told(Status::Executing));
        assert_eq!(status(), Status::Stopped);
    }

    #[test]
    fn a_status_is_settled_once_all_its_writes_are_told() {
        let live = Live::new(&new_row());
        let (begin, end) = (live.writing(), live.writing());
        drop(begin);
        assert!(!live.is_settled());
        drop(end);
        assert!(live.is_settled());
    }
}

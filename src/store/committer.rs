//! The committer: writes of many requests share commits.
//!
//! Each lane is one task. While a commit is in flight, writes gather in the
//! lane's queue; whatever has gathered goes into the next transaction. No
//! timer waits. All writes of one execution go through the same lane, so they
//! are committed in the order they were made.

mod batch;

use std::time::Duration;

use sea_orm::entity::prelude::DateTimeUtc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

pub use millrace_entities::audit_entry::Model as AuditRow;
pub use millrace_entities::execution::Model as ExecutionRow;
pub use millrace_entities::file_history::Model as FileRow;
pub use millrace_entities::idempotency_key::Model as KeyRow;
pub use millrace_entities::step_run::Model as StepRow;

use super::{Store, StoreError};
use millrace_entities::enums::Status;

/// The right to write to an execution: the node that owns it, and the attempt
/// it owns it by. A write under a claim that no longer holds changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The execution.
    pub execution_id: Uuid,
    /// The node.
    pub owner: Uuid,
    /// Counts the claims of this execution.
    pub attempt: i32,
}

/// How an execution ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// A terminal status.
    pub status: Status,
    /// Number of documents that failed.
    pub documents_failed: i32,
    /// Steps over all documents.
    pub steps_total: i32,
    /// Steps that ended.
    pub steps_done: i32,
    /// Why it failed, as JSON.
    pub error: Option<String>,
    /// The result, as JSON, if it is small.
    pub result: Option<String>,
    /// The result in the document store, if it is large.
    pub result_hash: Option<String>,
    /// When it began to run, unless an earlier attempt did.
    pub started_at: Option<DateTimeUtc>,
    /// When it ended.
    pub ended_at: DateTimeUtc,
    /// From when on its result may be gone.
    pub expires_at: Option<DateTimeUtc>,
    /// Outcomes of steps that are recorded with the end or not at all: the
    /// last one, and those that the end interrupts.
    pub steps: Vec<StepRow>,
    /// Who is told of it, if anybody: recorded with the end or not at all.
    pub notice: Option<Notice>,
    /// What came of the files of a source: recorded with the end or not at all.
    pub files: Vec<FileRow>,
}

/// Whom to tell of an end.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Whose execution it is.
    pub organisation_id: Uuid,
    /// What was called.
    pub deployment_id: Uuid,
    /// The organisation's connection that leads to the receiver.
    pub connection: String,
    /// The ends that the receiver wants to be told of.
    pub statuses: Vec<Status>,
}

/// An execution that is accepted.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// Its row.
    pub row: ExecutionRow,
    /// Tags to find it by.
    pub tags: Vec<String>,
    /// The idempotency key it is accepted under, if any. It names the row's
    /// execution.
    pub key: Option<KeyRow>,
    /// Who asked for it, if it repeats another execution.
    pub audit: Option<AuditRow>,
    /// The workflow whose files it gathers, if any: one execution does at a
    /// time.
    pub run: Option<Uuid>,
}

/// The documents that an execution found in its source.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// They, as JSON.
    pub documents: String,
    /// Their number.
    pub documents_total: i32,
    /// Content addresses of their bytes.
    pub hashes: Vec<String>,
    /// What is known from now on of files that are no documents of it.
    pub files: Vec<FileRow>,
}

/// Who holds an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The execution that was accepted under it.
    pub execution_id: Uuid,
    /// What was submitted then.
    pub fingerprint: Vec<u8>,
}

/// One write.
#[derive(Debug, Clone)]
pub enum Write {
    /// Accepts an execution, with what is recorded of the steps that it takes
    /// over, if it repeats another one. Not if its key belongs to an earlier
    /// one.
    Accept(Box<Acceptance>),
    /// Records a step's outcome.
    Step(Claim, Box<StepRow>),
    /// Says that an execution runs. Dropped where its end is in the same
    /// batch.
    Begin(Claim, DateTimeUtc),
    /// Gives an execution the documents that it found in its source.
    Gather(Claim, Box<Gathered>),
    /// Ends an execution.
    End(Claim, Box<Ending>),
}

impl Write {
    fn execution_id(&self) -> Uuid {
        match self {
            Self::Accept(acceptance) => acceptance.row.id,
            Self::Step(claim, _)
            | Self::Begin(claim, _)
            | Self::Gather(claim, _)
            | Self::End(claim, _) => claim.execution_id,
        }
    }
}

/// Why a write did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another node owns the execution now, or it has ended.
    #[error("the execution belongs to another owner or has ended")]
    Lost,
    /// The execution was cancelled before this commit; only `STOPPED` can end
    /// it.
    #[error("the execution was cancelled")]
    Cancelled,
    /// The content of the execution that is to be repeated is gone.
    #[error("what it repeats has expired")]
    Expired,
    /// The idempotency key belongs to an earlier execution.
    #[error("the key belongs to execution {}", .0.execution_id)]
    Repeated(Earlier),
    /// Another execution gathers the workflow's files.
    #[error("execution {0} is running")]
    Running(Uuid),
    /// Too many writes wait.
    #[error("too many writes wait")]
    Full,
    /// The database is away. The write may still have happened.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The write itself cannot be done.
    #[error("write refused: {0}")]
    Refused(String),
}

type Ack = oneshot::Sender<Result<(), CommitError>>;

struct Waiting {
    write: Write,
    ack: Ack,
    /// When whoever waits gives up. What is not begun by then is not written,
    /// so that who was refused is refused.
    until: Option<Instant>,
}

/// The way into the lanes. Cheap to clone; the lanes end, after their last
/// commit, when all clones are gone.
#[derive(Clone)]
pub struct Committer {
    lanes: Vec<mpsc::Sender<Waiting>>,
    patience: Duration,
}

impl Committer {
    /// Starts `lanes` tasks whose batches take at most `batch` writes, and
    /// whose queues hold at most `queue`.
    pub fn start(store: &Store, lanes: usize, batch: usize, queue: usize) -> Self {
        let lanes = (0..lanes)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(queue);
                // A lane's next commit must not overtake one that is slow.
                store.runtime.spawn(run_lane(store.patient(), receiver, batch));
                sender
            })
            .collect();
        Self { lanes, patience: store.patience() }
    }

    /// Hands in a write and waits for its commit. Fails at once if too many
    /// wait, and without being written if its turn does not come within
    /// `database.answer_timeout_ms`; a commit that has begun is waited for to
    /// its end.
    ///
    /// # Errors
    /// See [`CommitError`]. After `Unavailable` the write may have happened.
    pub async fn commit(&self, write: Write) -> Result<(), CommitError> {
        let (ack, done) = oneshot::channel();
        let until = Some(Instant::now() + self.patience);
        self.lane(&write)?.try_send(Waiting { write, ack, until }).map_err(
            |error| match error {
                mpsc::error::TrySendError::Full(_) => CommitError::Full,
                mpsc::error::TrySendError::Closed(_) => closed(),
            },
        )?;
        done.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Hands in a write of work that is under way, waiting for room in the
    /// queue instead of failing. The receiver tells when it is committed; it
    /// may be dropped.
    ///
    /// # Errors
    /// [`CommitError::Unavailable`] if the lanes have ended.
    pub async fn enqueue(
        &self,
        write: Write,
    ) -> Result<oneshot::Receiver<Result<(), CommitError>>, CommitError> {
        let (ack, done) = oneshot::channel();
        self.lane(&write)?.send(Waiting { write, ack, until: None }).await.map_err(|_| closed())?;
        Ok(done)
    }

    fn lane(&self, write: &Write) -> Result<&mpsc::Sender<Waiting>, CommitError> {
        // The low half of a UUIDv7 is random, so the lanes share evenly.
        let (_, low) = write.execution_id().as_u64_pair();
        let lanes = self.lanes.len().max(1) as u64;
        usize::try_from(low % lanes).ok().and_then(|lane| self.lanes.get(lane)).ok_or_else(closed)
    }
}

fn closed() -> CommitError {
    CommitError::Unavailable("the committer has ended".into())
}

async fn run_lane(store: Store, mut queue: mpsc::Receiver<Waiting>, batch: usize) {
    let mut gathered = Vec::with_capacity(batch);
    while queue.recv_many(&mut gathered, batch).await > 0 {
        let now = Instant::now();
        let late = |waiting: &mut Waiting| waiting.until.is_some_and(|until| until < now);
        for waiting in gathered.extract_if(.., late) {
            let text = "its turn did not come in time".to_owned();
            acknowledge(waiting.ack, Err(CommitError::Unavailable(text)));
        }
        if !gathered.is_empty() {
            commit_all(&store, std::mem::take(&mut gathered)).await;
        }
    }
}

/// Commits a batch. Where the database refuses it as a whole, it is halved
/// until the write at fault stands alone, so that one bad row fails nobody
/// else.
///
/// A commit that panicked is repeated as a whole first: it may stand, and every
/// write may be repeated.
async fn commit_all(store: &Store, batch: Vec<Waiting>) {
    let mut rest = vec![batch];
    let mut interrupted = false;
    while let Some(mut batch) = rest.pop() {
        let writes = batch.iter().map(|waiting| waiting.write.clone()).collect();
        match batch::commit(store, writes).await {
            Ok(outcomes) => {
                for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                    acknowledge(waiting.ack, outcome);
                }
            }
            Err(StoreError::Unavailable(text)) => {
                for waiting in batch {
                    acknowledge(waiting.ack, Err(CommitError::Unavailable(text.clone())));
                }
            }
            Err(StoreError::Interrupted) if !interrupted => {
                interrupted = true;
                rest.push(batch);
            }
            Err(_) if batch.len() > 1 => {
                let later = batch.split_off(batch.len() / 2);
                rest.push(later);
                rest.push(batch);
            }
            Err(error) => {
                for waiting in batch {
                    acknowledge(waiting.ack, Err(CommitError::Refused(error.to_string())));
                }
            }
        }
    }
}

/// Nobody may be waiting any more; the write stands all the same.
fn acknowledge(ack: Ack, outcome: Result<(), CommitError>) {
    drop(ack.send(outcome));
}

//! Child processes for code that hostile input can crash, hang or bloat.
//!
//! The server starts its own binary with the hidden argument `sandbox-worker`.
//! A [`Job`] and a payload go in over standard input, an answer comes back
//! over standard output. Workers are reused, limited in memory, and killed
//! when they overrun their time or die.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

/// A piece of work that runs in a child process.
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// Name on the wire between server and worker.
    const NAME: &'static str;
    /// What the work gives.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Does the work, in the child. It may crash, loop or allocate: the
    /// child's limits hold.
    ///
    /// # Errors
    /// A [`JobError`] whose code and text go to the caller as they are.
    fn perform(self, payload: Vec<u8>) -> Result<Self::Output, JobError>;
}

/// A failure that the work itself reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct JobError {
    /// A stable name, such as `unsupported_document`.
    pub code: String,
    /// What happened, without document content.
    pub detail: String,
}

/// Why a call gave no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// The work reported a failure.
    #[error("{}: {}", .0.code, .0.detail)]
    Job(JobError),
    /// The worker died: crash, stack overflow or memory limit.
    #[error("the worker process died")]
    Crashed,
    /// The time limit passed and the worker was killed.
    #[error("the worker process was stopped after {0:?}")]
    TimedOut(Duration),
    /// The execution was cancelled and the worker was killed.
    #[error("cancelled")]
    Cancelled,
    /// No worker could be started.
    #[error("no worker process could be started")]
    Unavailable,
}

/// The pool of workers.
#[derive(Debug, Clone)]
pub struct Sandbox {}

impl Sandbox {
    /// Runs `job` on `payload` in a worker, for at most `limit`.
    ///
    /// # Errors
    /// See [`SandboxError`]; after every error but `Job` the worker is gone
    /// and the next call gets a new one.
    pub async fn call<J: Job>(
        &self,
        _job: J,
        _payload: bytes::Bytes,
        _limit: Duration,
        _cancel: &CancellationToken,
    ) -> Result<J::Output, SandboxError> {
        Err(SandboxError::Unavailable)
    }
}

/// `[sandbox]`
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// x
    pub workers: usize,
    /// x
    pub memory_mib: u64,
    /// x
    pub max_jobs_per_worker: u32,
}

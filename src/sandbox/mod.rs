//! Child processes for code that hostile input can crash, hang or bloat.
//!
//! The server starts its own binary with the hidden argument `sandbox-worker`.
//! A [`Job`] and a payload go to it over a socket that is its standard input,
//! and the answer comes back over the same socket, so that nothing a parser
//! prints can be taken for an answer. Workers are reused, limited in memory and
//! processor time, killed when they overrun their time, and kept from files,
//! the network and other programs where the system can do that.

mod confinement;
mod limits;
mod pool;
mod protocol;
pub mod worker;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use confinement::{Confinement, Probe};
pub use pool::Sandbox;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A stable name, such as `unsupported_document`.
    pub code: String,
    /// What happened, without document content.
    pub detail: String,
}

impl JobError {
    /// A failure of that code; `detail` is for the caller to read.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into() }
    }
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

/// Settings of the pool of workers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// The program started as a worker; the running binary itself if unset.
    pub program: Option<PathBuf>,
    /// Workers alive at once, at least 1. Calls beyond wait for one; how many
    /// may wait is the business of admission.
    pub workers: usize,
    /// Address space of one worker in MiB, of which 256 are its stack; at
    /// least 320. Not enforced where the system has no such limit (macOS).
    pub memory_mib: u64,
    /// Jobs after which a worker is replaced by a fresh one, so that what a
    /// parser leaks stays small.
    pub max_jobs_per_worker: u32,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self { program: None, workers: 2, memory_mib: 1024, max_jobs_per_worker: 200 }
    }
}

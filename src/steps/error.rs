//! What can go wrong in a step, and in a step's parameters.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::sandbox::SandboxError;

/// Why a step failed, in words that the caller may read.
///
/// `detail` never holds document content, a secret or an address of the
/// inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct StepError {
    /// A stable name for programs, such as `unsupported_document`.
    pub code: Cow<'static, str>,
    /// What happened and what would cure it.
    pub detail: String,
    /// Whether the same step on the same input can succeed later.
    pub retryable: bool,
    /// How long who failed asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl StepError {
    /// A failure that a retry cannot help.
    pub fn permanent(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), retryable: false, retry_after: None }
    }

    /// A failure that may pass: a destination that is away, a full queue.
    pub fn transient(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), retryable: true, retry_after: None }
    }

    /// The same, to be tried again only after `wait`.
    #[must_use]
    pub fn after(self, wait: Option<Duration>) -> Self {
        Self { retry_after: wait, ..self }
    }

    /// The step panicked; its message stays in the log's span, never here.
    pub fn crashed() -> Self {
        Self::permanent("step_crashed", "the step failed unexpectedly on this input")
    }

    /// The execution was told to stop.
    pub fn cancelled() -> Self {
        Self::permanent("cancelled", "the execution was cancelled")
    }

    /// A try took longer than the step's `timeout_seconds`.
    pub fn timed_out(limit: Duration) -> Self {
        let detail = format!("the step did not end within {} s", limit.as_secs());
        Self::transient("step_timed_out", detail)
    }

    /// Work in a child process failed. `code` names what was done, `subject`
    /// what the author of the workflow can change (`the filter`).
    pub fn sandbox(code: &'static str, subject: &str, error: SandboxError) -> Self {
        match error {
            SandboxError::Job(error) => Self::permanent(code, error.detail),
            SandboxError::Crashed => {
                Self::permanent(code, format!("{subject} needs too much memory on this input"))
            }
            SandboxError::TimedOut(limit) => {
                let seconds = limit.as_secs();
                let detail = format!("{subject} did not end within {seconds} s on this input");
                Self::permanent(code, detail)
            }
            SandboxError::Cancelled => Self::cancelled(),
            SandboxError::Unavailable => {
                Self::transient("sandbox_unavailable", "no worker process could be started")
            }
        }
    }

    /// The step got an input of the wrong form.
    pub fn bad_input(detail: impl Into<String>) -> Self {
        Self::permanent("bad_step_input", detail)
    }
}

impl From<SandboxError> for StepError {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Job(job) => Self::permanent(job.code, job.detail),
            SandboxError::Crashed => Self::permanent(
                "parser_crashed",
                "the parser crashed or ran out of memory on this document; save it anew or \
                 split it",
            ),
            SandboxError::TimedOut(limit) => Self::permanent(
                "parser_timed_out",
                format!(
                    "the document was not parsed within {} s; raise `timeout_seconds` or split it",
                    limit.as_secs()
                ),
            ),
            SandboxError::Cancelled => Self::cancelled(),
            SandboxError::Unavailable => {
                Self::transient("sandbox_unavailable", "no parser could be started; try again")
            }
        }
    }
}

/// A parameter that cannot be used: the place below `with`, and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamError {
    /// Path below `with` in dotted form (`fields.total.pattern`), or empty
    /// for the whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl ParamError {
    /// An error at `path` below `with`.
    pub fn at(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), detail: detail.into() }
    }
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "with: {}", self.detail)
        } else {
            write!(f, "with.{}: {}", self.path, self.detail)
        }
    }
}

//! Fault points: places where a test makes the server fail. The only module
//! that knows the crate `fail`.
//!
//! They exist where the crate's feature `failpoints` is on, which only the
//! tests' own dependencies turn on; in any other build they are nothing. The
//! variable `FAILPOINTS` arms them, in the crate's grammar:
//! `end-after-commit=3*off->1*return(abort)` ends the process at the fourth
//! commit with an end in it. Actions are `panic`, `return(abort)`,
//! `return(error)`, as if the store were away, and `return(delay:300)`, in
//! milliseconds, which holds up the task and no thread.

use std::time::Duration;

use crate::store::StoreError;

/// A panic in the deployment's actor, where it decides on a submission.
pub const DEPLOYMENT_ADMIT: &str = "deployment-admit";

/// In a step, before its own work.
pub const STEP_RUN: &str = "step-run";

/// Between the commit of a load in its destination and the record of it.
pub const LOAD_AFTER_COMMIT: &str = "load-after-commit";

/// Between the rename of stored bytes to their hash and the row that names
/// them.
pub const DOCUMENT_AFTER_RENAME: &str = "document-after-rename";

/// What a commit is of. It has a fault point before it and one after it, where
/// nobody was told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    before: &'static str,
    after: &'static str,
}

macro_rules! boundaries {
    ($($(#[$meaning:meta])* $name:ident $text:literal,)+) => {
        impl Boundary {
            $(
                $(#[$meaning])*
                pub const $name: Self = Self {
                    before: concat!($text, "-before-commit"),
                    after: concat!($text, "-after-commit"),
                };
            )+
        }

        /// The names of all fault points.
        pub const POINTS: &[&str] = &[
            $(Boundary::$name.before, Boundary::$name.after,)+
            DEPLOYMENT_ADMIT,
            STEP_RUN,
            LOAD_AFTER_COMMIT,
            DOCUMENT_AFTER_RENAME,
        ];
    };
}

boundaries! {
    /// A batch with an acceptance.
    ACCEPT "accept",
    /// A batch with a beginning.
    BEGIN "begin",
    /// A batch with the outcome of a step.
    STEP "step",
    /// A batch with an end.
    END "end",
    /// A node takes executions over.
    CLAIM "claim",
    /// A caller's wish to stop an execution.
    CANCEL "cancel",
    /// A node's sign of life.
    HEARTBEAT "heartbeat",
    /// A node enters.
    REGISTER "register",
    /// Silent nodes are removed.
    BURY "bury",
    /// A node gives its executions back.
    HAND_BACK "hand-back",
    /// A change of what is managed.
    CHANGE "change",
    /// Any other transaction.
    WRITE "write",
}

/// What a test asked to go wrong.
#[derive(Debug, thiserror::Error)]
#[error("fault injected at {0}")]
pub struct Fault(&'static str);

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

impl From<Fault> for opendal::Error {
    fn from(fault: Fault) -> Self {
        Self::new(opendal::ErrorKind::Unexpected, fault.to_string())
    }
}

/// Arms the points that the environment names, until the value is dropped.
pub fn arm() -> Option<fail::FailScenario<'static>> {
    fail::has_failpoints().then(fail::FailScenario::setup)
}

/// A point where only a panic can be asked for.
pub fn pass(point: &'static str) {
    drop(asked_at(point));
}

/// A point: does what is asked for.
///
/// # Errors
/// [`Fault`], if one is asked for.
pub async fn at(point: &'static str) -> Result<(), Fault> {
    let Some(action) = asked_at(point) else { return Ok(()) };
    tracing::warn!(point, action, "a fault is injected");
    match action.strip_prefix("delay:").and_then(|delay| delay.parse().ok()) {
        Some(delay) => tokio::time::sleep(Duration::from_millis(delay)).await,
        None if action == "abort" => std::process::abort(),
        None => return Err(Fault(point)),
    }
    Ok(())
}

/// The points before a commit.
pub(crate) async fn before(boundaries: &[Boundary]) -> Result<(), Fault> {
    for boundary in boundaries {
        at(boundary.before).await?;
    }
    Ok(())
}

/// The points after a commit.
pub(crate) async fn after(boundaries: &[Boundary]) -> Result<(), Fault> {
    for boundary in boundaries {
        at(boundary.after).await?;
    }
    Ok(())
}

fn asked_at(point: &'static str) -> Option<String> {
    let asked = |action: Option<String>| action.or_else(|| Some("error".into()));
    fail::fail_point!(point, asked);
    // Where there are no fault points, the macro uses neither.
    let _ = (point, asked);
    None
}

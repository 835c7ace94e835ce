//! The life cycle of an execution: one table, pure.
//!
//! ```text
//!            Start            Succeed
//!  PENDING ─────────▶ EXECUTING ─────────▶ COMPLETED
//!     │                │  ▲ │
//!     │                └──┘ │ Fail
//!     │ Fail         Resume └────────────▶ ERROR
//!     ├──────────────────────────────────▶ ERROR
//!     │ Stop                  Stop
//!     └─────────────────────────────────▶ STOPPED
//! ```

pub use millrace_entities::enums::Status;

/// What can happen to an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its turn has come.
    Start,
    /// A node goes on with what another life of a node began.
    Resume,
    /// It ended and at least one document succeeded.
    Succeed,
    /// It ended without a document that succeeded, or could not run at all.
    Fail,
    /// It was cancelled.
    Stop,
}

/// An event that the status forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not allowed in {status:?}")]
pub struct IllegalTransition {
    /// Where the execution stood.
    pub status: Status,
    /// What was to happen.
    pub event: Event,
}

/// The status after `event`.
///
/// # Errors
/// [`IllegalTransition`]: above all, nothing follows a terminal status.
pub fn next(status: Status, event: Event) -> Result<Status, IllegalTransition> {
    use Event::{Fail, Resume, Start, Stop, Succeed};
    use Status::{Completed, Error, Executing, Pending, Stopped};
    match (status, event) {
        (Pending, Start) | (Executing, Resume) => Ok(Executing),
        (Executing, Succeed) => Ok(Completed),
        (Pending | Executing, Fail) => Ok(Error),
        (Pending | Executing, Stop) => Ok(Stopped),
        _ => Err(IllegalTransition { status, event }),
    }
}

/// Whether nothing can follow.
pub fn is_terminal(status: Status) -> bool {
    matches!(status, Status::Completed | Status::Error | Status::Stopped)
}

/// The status as callers read it.
pub fn name(status: Status) -> &'static str {
    match status {
        Status::Pending => "PENDING",
        Status::Executing => "EXECUTING",
        Status::Completed => "COMPLETED",
        Status::Error => "ERROR",
        Status::Stopped => "STOPPED",
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::{ActiveEnum, Iterable};

    const EVENTS: [Event; 5] =
        [Event::Start, Event::Resume, Event::Succeed, Event::Fail, Event::Stop];

    #[test]
    fn nothing_follows_a_terminal_status() {
        for status in Status::iter().filter(|status| is_terminal(*status)) {
            for event in EVENTS {
                assert_eq!(next(status, event), Err(IllegalTransition { status, event }));
            }
        }
    }

    #[test]
    fn every_other_status_can_still_end_as_error_and_as_stopped() {
        for status in Status::iter().filter(|status| !is_terminal(*status)) {
            assert_eq!(next(status, Event::Fail), Ok(Status::Error));
            assert_eq!(next(status, Event::Stop), Ok(Status::Stopped));
        }
    }

    #[test]
    fn only_what_ran_can_complete() {
        assert!(next(Status::Pending, Event::Succeed).is_err());
        assert!(next(Status::Pending, Event::Resume).is_err());
        assert!(next(Status::Executing, Event::Start).is_err());
    }

    #[test]
    fn a_status_reads_the_same_on_the_wire_and_in_the_store() {
        for status in Status::iter() {
            assert_eq!(name(status), status.to_value());
        }
    }
}

//! The one source of wall-clock time.

use chrono::{DateTime, SubsecRound, Utc};

/// Now, in UTC and whole microseconds: what both databases keep exactly, so
/// that a time compares equal to itself after a round trip.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

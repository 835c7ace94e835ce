//! When a step that failed is tried again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::Faults;
use crate::steps::StepError;

/// Most tries of one step.
const MAX_ATTEMPTS: u32 = 20;

/// Longest pause, in seconds.
const MAX_DELAY: u32 = 3600;

/// Error codes in one list.
const MAX_ERRORS: usize = 100;

/// What [`is_code`] takes, for the schema.
const CODE: &str = "^[a-z][a-z0-9_]{0,63}$";

/// How often a step is tried on one document, and what is waited in between:
/// half to all of a delay that doubles with each try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries, the first included; 1: a step that fails is not tried again.
    #[schemars(range(min = 1, max = 20))]
    pub attempts: u32,
    /// The delay before the second try, in seconds.
    #[schemars(range(min = 0, max = 3600))]
    pub delay_seconds: u32,
    /// The longest delay, in seconds.
    #[schemars(range(min = 0, max = 3600))]
    pub max_delay_seconds: u32,
    /// Codes of the errors after which a step is tried again; null: those that
    /// may pass, such as `destination_unavailable` and `step_timed_out`.
    #[schemars(length(min = 1, max = 100), inner(regex(path = "CODE")))]
    pub errors: Option<Vec<String>>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, delay_seconds: 1, max_delay_seconds: 60, errors: None }
    }
}

impl Retry {
    /// What is wrong below `place`, each with what would be right.
    pub fn faults(&self, place: &str) -> Faults {
        let ranges = [
            ("attempts", self.attempts, 1, MAX_ATTEMPTS),
            ("delay_seconds", self.delay_seconds, 0, MAX_DELAY),
            ("max_delay_seconds", self.max_delay_seconds, 0, MAX_DELAY),
        ];
        let wrong =
            ranges.into_iter().filter(|(_, value, least, most)| value < least || value > most);
        let mut faults: Faults = wrong
            .map(|(name, _, least, most)| {
                (format!("{place}.{name}"), format!("from {least} to {most}"))
            })
            .collect();
        let Some(errors) = &self.errors else { return faults };
        if errors.is_empty() || errors.len() > MAX_ERRORS {
            let cure = format!("1 to {MAX_ERRORS} codes, or null for those that may pass");
            faults.push((format!("{place}.errors"), cure));
        }
        let odd = errors.iter().enumerate().filter(|(_, code)| !is_code(code));
        faults.extend(odd.map(|(index, _)| {
            let cure = "an error code such as destination_unavailable";
            (format!("{place}.errors[{index}]"), cure.to_owned())
        }));
        faults
    }

    /// Whether a step that failed with `error` is tried again.
    pub fn repeats(&self, error: &StepError) -> bool {
        match &self.errors {
            Some(codes) => codes.iter().any(|code| *code == error.code),
            None => error.retryable,
        }
    }

    /// What is waited before each further try; none when there is no other.
    pub fn pauses(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        let longest = Duration::from_secs(self.max_delay_seconds.into());
        let first = Duration::from_secs(self.delay_seconds.into()).min(longest);
        // The jitter adds at most as much again, so half is what it is added to.
        ExponentialBuilder::new()
            .with_min_delay(first / 2)
            .with_max_delay(longest / 2)
            .with_max_times(self.attempts.saturating_sub(1) as usize)
            .with_jitter()
            .build()
    }
}

fn is_code(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn retry(value: serde_json::Value) -> Retry {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_default_is_in_range_and_what_is_not_is_named() {
        assert!(Retry::default().faults("retry").is_empty());
        for (wrong, place) in [
            (json!({"attempts": 0}), "retry.attempts"),
            (json!({"attempts": 21}), "retry.attempts"),
            (json!({"delay_seconds": 3601}), "retry.delay_seconds"),
            (json!({"max_delay_seconds": 3601}), "retry.max_delay_seconds"),
            (json!({"errors": []}), "retry.errors"),
            (json!({"errors": vec!["a"; 101]}), "retry.errors"),
            (json!({"errors": ["a", "B"]}), "retry.errors[1]"),
            (json!({"errors": [""]}), "retry.errors[0]"),
        ] {
            let places: Vec<_> =
                retry(wrong).faults("retry").into_iter().map(|(place, _)| place).collect();
            assert_eq!(places, [place]);
        }
    }

    #[test]
    fn a_listed_code_goes_before_what_the_error_says_of_itself() {
        let (passing, lasting) = (StepError::transient("away", ""), StepError::crashed());
        assert!(Retry::default().repeats(&passing) && !Retry::default().repeats(&lasting));
        let listed = retry(json!({"errors": ["step_crashed"]}));
        assert!(!listed.repeats(&passing) && listed.repeats(&lasting));
    }

    #[test]
    fn pauses_double_within_their_jitter_and_are_never_longer_than_the_longest() {
        let retry = retry(json!({"attempts": 6, "delay_seconds": 2, "max_delay_seconds": 10}));
        for _ in 0..100 {
            let pauses: Vec<_> = retry.pauses().map(|pause| pause.as_secs_f64()).collect();
            assert_eq!(pauses.len(), 5);
            for (pause, most) in pauses.into_iter().zip([2.0, 4.0, 8.0, 10.0, 10.0]) {
                assert!((most / 2.0..=most).contains(&pause), "{pause} of {most}");
            }
        }
        assert_eq!(Retry { attempts: 1, ..Retry::default() }.pauses().count(), 0);
        let none = Retry { delay_seconds: 0, ..Retry::default() };
        assert_eq!(none.pauses().collect::<Vec<_>>(), [Duration::ZERO; 2]);
    }
}

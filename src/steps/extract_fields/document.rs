//! The text in work, and what may go wrong in it.

use tokio_util::sync::CancellationToken;

use super::value::Unreadable;
use super::value::locale::LocaleRules;
use crate::steps::StepError;

/// Length of one value in bytes: a longer one is a pattern that runs away.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Items in one list.
const MAX_ITEMS: usize = 10_000;

/// A prepared text with its locale.
pub struct Document<'a> {
    /// The text after normalisation.
    pub text: &'a str,
    /// The locale of the template or the step.
    pub locale: Option<&'a LocaleRules>,
    /// Asked between matches: one search cannot be interrupted, but takes time
    /// in proportion to the text only.
    pub cancel: &'a CancellationToken,
}

impl Document<'_> {
    /// To be called before each search and for each match.
    ///
    /// # Errors
    /// `cancelled` once the execution is.
    pub fn check_cancelled(&self) -> Result<(), StepError> {
        if self.cancel.is_cancelled() { Err(StepError::cancelled()) } else { Ok(()) }
    }
}

/// Refuses a value that is too long to be one.
///
/// # Errors
/// `field_invalid`
pub fn check_length(name: &str, text: &str) -> Result<(), StepError> {
    if text.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let detail = format!(
        "`{name}`: the text found is longer than {MAX_VALUE_BYTES} bytes; make its pattern narrower"
    );
    Err(StepError::permanent("field_invalid", detail))
}

/// Refuses a list that is too long; `count` is its length so far.
///
/// # Errors
/// `too_many_lines`
pub fn check_count(name: &str, count: usize) -> Result<(), StepError> {
    if count <= MAX_ITEMS {
        return Ok(());
    }
    let detail = format!("`{name}` has more than {MAX_ITEMS} items; make its pattern narrower");
    Err(StepError::permanent("too_many_lines", detail))
}

/// A required value that no pattern found.
pub fn missing(name: &str) -> StepError {
    StepError::permanent("field_missing", format!("`{name}` was not found in the text"))
}

/// A value that is not of its type.
pub fn invalid(name: &str, reason: Unreadable) -> StepError {
    StepError::permanent("field_invalid", format!("`{name}`: {reason}"))
}

//! What models take and give, and what that costs.
//!
//! A call is reserved before it is made and settled by what the provider
//! tells: whoever bounds what may be spent hears of it before the money is
//! gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StepError;
use crate::usage::counter::Tokens;
use crate::usage::{Subject, Usage};

/// What a model did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// It answered.
    Chat,
    /// It turned text into vectors.
    Embedding,
}

/// One call of a model, after its end.
#[derive(Debug, Clone)]
pub struct Call {
    /// The connection's name.
    pub connection: String,
    /// The model's name.
    pub model: String,
    /// What it did.
    pub kind: CallKind,
    /// What it took and gave, and what that cost.
    pub tokens: Tokens,
    /// Whether the answer was kept from an earlier call, and cost nothing.
    pub cached: bool,
    /// Whether the provider did not tell its tokens, so that they are
    /// estimated.
    pub estimated: bool,
}

/// The meter of one execution.
#[derive(Debug)]
pub struct Meter {
    usage: Arc<Usage>,
    subject: Subject,
    reserved: AtomicU64,
}

impl Meter {
    /// A meter that counts for `subject`.
    pub fn new(usage: Arc<Usage>, subject: Subject) -> Arc<Self> {
        Arc::new(Self { usage, subject, reserved: AtomicU64::new(0) })
    }

    /// Asks for so many tokens before they are spent.
    ///
    /// # Errors
    /// None yet: nothing bounds them.
    #[expect(clippy::unused_async, reason = "whoever bounds them asks the store")]
    pub async fn reserve(self: &Arc<Self>, tokens: u64) -> Result<Reservation, StepError> {
        self.reserved.fetch_add(tokens, Ordering::Relaxed);
        Ok(Reservation { meter: Arc::clone(self), tokens })
    }

    /// Counts a call.
    #[expect(clippy::unused_async, reason = "whoever keeps calls asks the store")]
    pub async fn spent(&self, call: &Call) {
        self.usage.tokens(self.subject, &call.model, call.tokens);
        tracing::info!(
            connection = call.connection,
            model = call.model,
            prompt_tokens = call.tokens.prompt,
            completion_tokens = call.tokens.completion,
            embedding_tokens = call.tokens.embedding,
            cached = call.cached,
            estimated = call.estimated,
            "a model was asked"
        );
    }

    /// Tokens of calls that are under way.
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }
}

/// Tokens that a call may take; given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    meter: Arc<Meter>,
    tokens: u64,
}

impl Reservation {
    /// Counts what the call took in the place of what it might have taken.
    pub async fn settle(self, call: &Call) {
        self.meter.spent(call).await;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.meter.reserved.fetch_sub(self.tokens, Ordering::Relaxed);
    }
}

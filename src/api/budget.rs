//! How much of request bodies may be in memory at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, ApiResult, Code};

/// Bytes for the bodies of all requests together. What is counted is what has
/// arrived, so that announcing a large body and sending none takes nothing.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

/// The bytes that one request has taken; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// The share of a request that has taken nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), taken: None }
    }
}

impl Share {
    /// Takes more bytes, before they are kept.
    ///
    /// # Errors
    /// `server_busy` if there are not so many left.
    pub fn grow(&mut self, bytes: usize) -> ApiResult<()> {
        let busy = || ApiError::new(Code::ServerBusy);
        let bytes = u32::try_from(bytes).map_err(|_| busy())?;
        let budget = Arc::clone(&self.budget.0);
        let more = budget.try_acquire_many_owned(bytes).map_err(|_| busy())?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.grow(4).is_ok() && one.grow(2).is_ok() && other.grow(4).is_ok());
        assert_eq!(other.grow(1).unwrap_err().code(), Code::ServerBusy);
        drop(one);
        assert!(other.grow(6).is_ok());
        assert!(other.grow(1).is_err());
    }
}

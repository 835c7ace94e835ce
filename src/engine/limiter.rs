//! The rate limit of one deployment, on `leaky_bucket`.

use std::time::Duration;

use leaky_bucket::RateLimiter;

use super::settings::RateLimit;

/// More permits than any bucket holds: asking for them fails, but makes the
/// bucket count what has come back since the last question.
const NEVER: usize = usize::MAX >> 4;

/// Below this the bucket's own clock loses accuracy.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What a caller is told of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    /// Requests that may come at once after a rest.
    pub limit: usize,
    /// Requests that may come now.
    pub remaining: usize,
    /// Time until `limit` requests may come again.
    pub reset: Duration,
}

/// The bucket and the limit it was made for.
pub struct Limiter {
    bucket: RateLimiter,
    limit: RateLimit,
    refill: usize,
    interval: Duration,
}

impl Limiter {
    /// A full bucket.
    pub fn new(limit: RateLimit) -> Self {
        Self::with_balance(limit, limit.burst as usize)
    }

    fn with_balance(limit: RateLimit, balance: usize) -> Self {
        let one = Duration::from_secs(limit.per_seconds.into()) / limit.requests.max(1);
        // One permit at a time, or as many as come back in the shortest interval.
        let refill = u32::try_from(SHORTEST_INTERVAL.as_nanos().div_ceil(one.as_nanos().max(1)))
            .unwrap_or(u32::MAX)
            .max(1);
        let interval =
            Duration::from_secs(limit.per_seconds.into()) * refill / limit.requests.max(1);
        let bucket = RateLimiter::builder()
            .initial(balance.min(limit.burst as usize))
            .max(limit.burst as usize)
            .refill(refill as usize)
            .interval(interval)
            .fair(false)
            .build();
        Self { bucket, limit, refill: refill as usize, interval }
    }

    /// Takes a permit.
    ///
    /// # Errors
    /// The time after which one is there for sure.
    pub fn try_acquire(&self) -> Result<(), Duration> {
        // Counted first: a permit taken from a stale balance would leave room
        // for a refill that was due before it, one more than the burst.
        let balance = self.balance();
        if self.bucket.try_acquire(1) { Ok(()) } else { Err(self.time_to(1, balance)) }
    }

    /// Gives a permit back that was taken for a request which failed by our
    /// fault. The bucket cannot be added to, so a new one takes its place.
    pub fn refund(&mut self) {
        *self = Self::with_balance(self.limit, self.balance() + 1);
    }

    /// Changes the limit. What is left is kept, up to the new burst; what the
    /// new burst has more than the old one may come at once.
    pub fn change(&mut self, limit: RateLimit) {
        if limit != self.limit {
            let more = limit.burst.saturating_sub(self.limit.burst) as usize;
            *self = Self::with_balance(limit, self.balance() + more);
        }
    }

    /// What is left.
    pub fn state(&self) -> RateState {
        let remaining = self.balance();
        let limit = self.limit.burst as usize;
        RateState { limit, remaining, reset: self.time_to(limit, remaining) }
    }

    fn balance(&self) -> usize {
        self.bucket.try_acquire(NEVER);
        self.bucket.balance()
    }

    fn time_to(&self, wanted: usize, balance: usize) -> Duration {
        let refills = wanted.saturating_sub(balance).div_ceil(self.refill);
        self.interval.saturating_mul(u32::try_from(refills).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_A_MINUTE: RateLimit = RateLimit { requests: 10, per_seconds: 60, burst: 10 };

    fn passing(limiter: &Limiter, asked: usize) -> usize {
        (0..asked).filter(|_| limiter.try_acquire().is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_bucket_passes_its_burst_and_then_what_the_refill_adds() {
        let limiter = Limiter::new(TEN_A_MINUTE);
        assert_eq!(passing(&limiter, 50), 10);
        tokio::time::advance(Duration::from_secs(12)).await;
        assert_eq!(passing(&limiter, 50), 2);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(passing(&limiter, 50), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_rest_gives_the_burst_and_not_one_more() {
        let limiter = Limiter::new(RateLimit { burst: 2, ..TEN_A_MINUTE });
        tokio::time::advance(Duration::from_secs(60)).await;
        let mut passed = 0;
        for _ in 0..5 {
            passed += passing(&limiter, 1);
            limiter.state();
        }
        assert_eq!(passed, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_as_long_as_told_passes() {
        let limiter = Limiter::new(TEN_A_MINUTE);
        passing(&limiter, 10);
        let wait = limiter.try_acquire().unwrap_err();
        assert!(wait <= Duration::from_secs(6));
        tokio::time::advance(wait).await;
        assert!(limiter.try_acquire().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn fast_limits_are_exact_over_a_second() {
        let limiter = Limiter::new(RateLimit { requests: 1000, per_seconds: 1, burst: 1 });
        let mut passed = passing(&limiter, 1);
        assert_eq!(limiter.interval, SHORTEST_INTERVAL);
        let limiter = Limiter::new(RateLimit { requests: 1000, per_seconds: 1, burst: 1000 });
        passed += passing(&limiter, 5000);
        tokio::time::advance(Duration::from_millis(500)).await;
        passed += passing(&limiter, 5000);
        assert_eq!(passed, 1 + 1000 + 500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refund_and_a_change_keep_what_is_left() {
        let mut limiter = Limiter::new(TEN_A_MINUTE);
        passing(&limiter, 4);
        limiter.refund();
        assert_eq!(limiter.state().remaining, 7);
        limiter.change(RateLimit { burst: 5, ..TEN_A_MINUTE });
        assert_eq!(limiter.state().remaining, 5);
        limiter.change(RateLimit { burst: 100, ..TEN_A_MINUTE });
        assert_eq!(
            limiter.state(),
            RateState { limit: 100, remaining: 100, reset: Duration::ZERO }
        );
        passing(&limiter, 60);
        limiter.change(RateLimit { burst: 110, ..TEN_A_MINUTE });
        assert_eq!(
            limiter.state(),
            RateState { limit: 110, remaining: 50, reset: Duration::from_secs(360) }
        );
    }
}

//! A token bucket: so many a second, so many at once.
//!
//! It is told the time and keeps exact count: `r` tokens a second are `r` billionths of a token per
//! nanosecond, so credit is an integer of billionths and nothing is ever rounded away.
//!
//! # Invariants
//! - Credit is at most the burst, and at least the debt of one second.
//!
//! # Not here
//! Who gets a token ([`governor`](crate::governor), [`retry_budget`](crate::retry_budget)).

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

/// Billionths in a token.
const TOKEN: i128 = 1_000_000_000;

/// How much may be done, on average and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in a second.
    pub per_second: NonZeroU32,
    /// Tokens that are kept for later, at most.
    pub burst: NonZeroU32,
}

/// A token bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    /// In billionths of a token; negative in debt.
    credit: i128,
    /// When it was filled up last.
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { rate, credit: i128::from(rate.burst.get()) * TOKEN, at: now }
    }

    /// Adds what has come in until `now`. A time that has passed already adds nothing.
    pub fn refill(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.at).as_nanos();
        let came = i128::try_from(nanos).unwrap_or(i128::MAX);
        self.add(came.saturating_mul(self.per_second()));
        self.at = self.at.max(now);
    }

    /// Takes a token if there is a whole one.
    pub fn take(&mut self) -> bool {
        let has = self.credit >= TOKEN;
        if has {
            self.credit -= TOKEN;
        }
        has
    }

    /// Takes tokens that need not be there. The debt ends at what comes in within a second; what is taken
    /// beyond that is forgiven.
    pub fn charge(&mut self, tokens: u32) {
        let floor = -self.per_second() * TOKEN;
        self.credit = (self.credit - i128::from(tokens) * TOKEN).max(floor);
    }

    /// Adds so many thousandths of a token.
    pub fn give(&mut self, thousandths: u32) {
        self.add(i128::from(thousandths) * TOKEN / 1_000);
    }

    /// Forgets all credit beyond so many tokens.
    pub fn limit(&mut self, tokens: u32) {
        self.credit = self.credit.min(i128::from(tokens) * TOKEN);
    }

    /// Whether more was taken than had come in.
    pub fn is_in_debt(&self) -> bool {
        self.credit < 0
    }

    /// Time until there is a whole token, as of the last [`refill`](Self::refill).
    pub fn wait(&self) -> Duration {
        let missing = (TOKEN - self.credit).max(0);
        let nanos = (missing + self.per_second() - 1) / self.per_second();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Whole tokens there are.
    pub fn tokens(&self) -> u32 {
        u32::try_from((self.credit / TOKEN).max(0)).unwrap_or(u32::MAX)
    }

    fn add(&mut self, credit: i128) {
        self.credit = self.credit.saturating_add(credit).min(i128::from(self.rate.burst.get()) * TOKEN);
    }

    fn per_second(&self) -> i128 {
        i128::from(self.rate.per_second.get())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    #[test]
    fn gives_its_burst_at_once_and_then_at_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(3, 2), start);
        assert!(bucket.take() && bucket.take() && !bucket.take());
        assert_eq!(bucket.wait(), Duration::from_nanos(333_333_334));
        bucket.refill(start + bucket.wait() - Duration::from_nanos(1));
        assert!(!bucket.take());
        bucket.refill(start + Duration::from_nanos(333_333_334));
        assert!(bucket.take());
        bucket.refill(start + Duration::from_secs(1_000));
        assert_eq!(bucket.tokens(), 2);
    }

    #[test]
    fn a_debt_is_paid_back_and_never_longer_than_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(10, 5), start);
        bucket.charge(10_000);
        assert!(bucket.is_in_debt());
        assert_eq!(bucket.wait(), Duration::from_millis(1_100));
        bucket.refill(start + Duration::from_secs(1));
        assert!(!bucket.is_in_debt() && !bucket.take());
    }

    proptest! {
        /// However the time is cut up and whatever is tried, no more is given in a span than came in.
        #[test]
        fn property_never_gives_more_than_came_in(
            per_second in 1u32..2_000, burst in 1u32..500,
            steps in prop::collection::vec((0u64..2_000_000_000, 0u8..8), 1..200),
        ) {
            let start = Instant::now();
            let (mut now, mut bucket, mut given) = (start, Bucket::full(rate(per_second, burst), start), 0u64);
            for (nanos, tries) in steps {
                now += Duration::from_nanos(nanos);
                bucket.refill(now);
                for _ in 0..tries {
                    given += u64::from(bucket.take());
                }
                let came = u128::from(per_second) * (now - start).as_nanos() / 1_000_000_000;
                prop_assert!(u128::from(given) <= u128::from(burst) + came);
            }
        }

        /// Whoever waits as long as it says finds a token.
        #[test]
        fn property_the_wait_is_long_enough_and_not_longer(per_second in 1u32..2_000, takes in 0u32..50) {
            let start = Instant::now();
            let mut bucket = Bucket::full(rate(per_second, 10), start);
            bucket.charge(takes);
            let wait = bucket.wait();
            if !wait.is_zero() {
                let mut early = bucket.clone();
                early.refill(start + wait - Duration::from_nanos(1));
                prop_assert!(!early.take());
            }
            bucket.refill(start + wait);
            prop_assert!(bucket.take());
        }
    }
}

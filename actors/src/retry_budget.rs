//! How much of what a whole tree asks for may be repetition.
//!
//! Attempts and backoffs bound what one machine repeats; during an outage a thousand machines repeat at once
//! and together hold down what they wait for. So all of them draw on one budget: a retry takes a token, and
//! tokens come back with successes and slowly by themselves. While things go well it is never noticed; when
//! most things fail, retries shrink to a part of what succeeds plus a trickle.
//!
//! Whoever finds it empty does not retry: it treats the fault as one that repeating cannot mend, and says so.
//!
//! # Not here
//! Whether a fault is worth repeating at all ([`fault`](crate::fault)), and when ([`backoff`](crate::backoff)).

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::bucket::{Bucket, Rate};

/// What the budget is made of.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Retries that are always allowed, per second and saved up. Default 10 per second and 100 saved up: few
    /// enough to spare a provider that comes back, and enough for a tree that does little else to get on.
    pub rate: Rate,
    /// What a success adds, in thousandths of a retry. Default 100: one retry for ten successes, so that
    /// retries add a tenth to the load at most.
    pub per_success: u32,
}

impl Default for Policy {
    fn default() -> Self {
        let rate =
            const { Rate { per_second: NonZeroU32::new(10).unwrap(), burst: NonZeroU32::new(100).unwrap() } };
        Self { rate, per_success: 100 }
    }
}

/// The retries that are left, as a value that is told the time.
#[derive(Clone, Debug)]
pub struct Balance {
    bucket: Bucket,
    per_success: u32,
}

impl Balance {
    /// A full one.
    pub fn full(policy: &Policy, now: Instant) -> Self {
        Self { bucket: Bucket::full(policy.rate, now), per_success: policy.per_success }
    }

    /// Takes a retry if there is one left.
    pub fn try_spend(&mut self, now: Instant) -> bool {
        self.bucket.refill(now);
        self.bucket.take()
    }

    /// Something succeeded.
    pub fn succeeded(&mut self) {
        self.bucket.give(self.per_success);
    }

    /// Retries that are left.
    pub fn left(&mut self, now: Instant) -> u32 {
        self.bucket.refill(now);
        self.bucket.tokens()
    }
}

/// The [`Balance`] that all machines of a tree share.
#[derive(Debug)]
pub struct RetryBudget(Mutex<Balance>);

impl RetryBudget {
    /// A full one.
    pub fn new(policy: &Policy) -> Self {
        Self(Mutex::new(Balance::full(policy, Instant::now())))
    }

    /// Takes a retry if there is one left; if not, do not retry.
    pub fn try_spend(&self) -> bool {
        self.balance().try_spend(Instant::now())
    }

    /// Something of the kind that is retried succeeded.
    pub fn succeeded(&self) {
        self.balance().succeeded();
    }

    /// Retries that are left.
    pub fn left(&self) -> u32 {
        self.balance().left(Instant::now())
    }

    /// Every critical section is a few additions, which cannot panic.
    fn balance(&self) -> MutexGuard<'_, Balance> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_outage_spends_it_and_successes_and_time_bring_it_back() {
        let start = Instant::now();
        let mut balance = Balance::full(&Policy::default(), start);
        let spent = (0..1_000).filter(|_| balance.try_spend(start)).count();
        assert_eq!(spent, 100);
        for _ in 0..9 {
            balance.succeeded();
        }
        assert!(!balance.try_spend(start), "nine successes are not a retry yet");
        balance.succeeded();
        assert!(balance.try_spend(start));
        assert_eq!(balance.left(start + Duration::from_millis(500)), 5);
        assert_eq!(balance.left(start + Duration::from_secs(3_600)), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn all_handles_draw_on_one_balance() {
        let budget = RetryBudget::new(&Policy::default());
        assert_eq!((0..1_000).filter(|_| budget.try_spend()).count(), 100);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1_000).filter(|_| budget.try_spend()).count(), 10);
    }

    proptest! {
        /// Retries are at most a tenth of the successes, plus what is always allowed.
        #[test]
        fn property_retries_stay_a_part_of_what_succeeds(
            steps in prop::collection::vec((0u64..50, prop::bool::ANY), 1..2_000),
        ) {
            let start = Instant::now();
            let (mut now, mut balance) = (start, Balance::full(&Policy::default(), start));
            let (mut retries, mut successes) = (0u64, 0u64);
            for (millis, succeeds) in steps {
                now += Duration::from_millis(millis);
                if succeeds {
                    successes += 1;
                    balance.succeeded();
                } else {
                    retries += u64::from(balance.try_spend(now));
                }
                let always = 100 + (now - start).as_millis() as u64 / 100;
                prop_assert!(retries <= always + successes / 10 + 1);
            }
        }
    }
}

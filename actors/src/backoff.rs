//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt;

/// An exponential delay sequence with jitter.
///
/// Attempt `n` (the first retry is 1) waits a random time between half of and the whole of
/// `base · 2^(n-1)`, at most `cap`. The lower half is never drawn, so that a fleet which failed together
/// spreads out without anyone retrying at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper limit of the first delay.
    pub base: Duration,
    /// Upper limit of every delay.
    pub cap: Duration,
}

impl Backoff {
    /// A sequence from `base` up to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The delay before retry number `attempt`, counted from 1, or what the other side asked for if that is
    /// longer. A request of more than four times [`cap`](Self::cap) is cut to that: a peer must not be able
    /// to park us for good.
    pub fn delay(&self, attempt: u32, asked: Option<Duration>, rng: &mut impl RngExt) -> Duration {
        let doubled = self.base.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let ceiling = doubled.min(self.cap);
        let drawn = ceiling.mul_f64(rng.random_range(0.5..=1.0));
        asked.map_or(drawn, |asked| drawn.max(asked.min(self.cap * 4)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

    #[test]
    fn grows_up_to_the_cap() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut within = |attempt, low: u64, high: u64| {
            let delay = BACKOFF.delay(attempt, None, &mut rng);
            assert!((Duration::from_millis(low)..=Duration::from_millis(high)).contains(&delay), "{delay:?}");
        };
        within(1, 250, 500);
        within(2, 500, 1_000);
        within(5, 4_000, 8_000);
        within(6, 5_000, 10_000);
    }

    #[test]
    fn the_other_side_may_ask_for_more_but_not_for_ever() {
        let mut rng = SmallRng::seed_from_u64(1);
        let asked = |secs| Some(Duration::from_secs(secs));
        assert_eq!(BACKOFF.delay(1, asked(7), &mut rng), Duration::from_secs(7));
        assert_eq!(BACKOFF.delay(1, asked(3_600), &mut rng), Duration::from_secs(40));
    }

    proptest! {
        #[test]
        fn property_every_delay_is_bounded(attempt: u32, seed: u64, asked: Option<u32>) {
            let asked = asked.map(|ms| Duration::from_millis(ms.into()));
            let delay = BACKOFF.delay(attempt, asked, &mut SmallRng::seed_from_u64(seed));
            prop_assert!(delay >= BACKOFF.base / 2);
            prop_assert!(delay <= BACKOFF.cap * 4);
        }
    }
}

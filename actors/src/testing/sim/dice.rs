//! Randomness that depends on nothing but the seed and what it is for.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A generator of its own for each decision.
///
/// What is drawn for one thing never moves what is drawn for another, so that a history changes as little as
/// can be when one fault is left out of it.
#[derive(Clone, Debug)]
pub struct Dice(SmallRng);

impl Dice {
    /// The dice for one thing.
    pub fn new(seed: u64, what: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, what).hash(&mut hasher);
        Self(SmallRng::seed_from_u64(hasher.finish()))
    }

    /// Whether something happens that happens so many times in a thousand.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.0.random_range(0..1000) < permille
    }

    /// A whole number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.random_range(0..limit.max(1))
    }

    /// A time between two, both included, in whole milliseconds.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.0.random_range(ms(low)..=ms(high).max(ms(low))))
    }

    /// The same, in seconds.
    pub fn secs(&mut self, low: u64, high: u64) -> Duration {
        self.between(Duration::from_secs(low), Duration::from_secs(high))
    }

    /// One of several.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.0.random_range(0..of.len())]
    }
}

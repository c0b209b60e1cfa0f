//! Wall-clock stamps that agree with the monotonic clock.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Turns instants into wall-clock time. Steps of the host's clock after the start do not show, so stamps
/// order like the instants they come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    wall: Timestamp,
}

impl Clock {
    /// A clock that reads the host's wall clock once, now.
    pub(super) fn start() -> Self {
        Self { start: Instant::now(), wall: whole_micros(Timestamp::now()) }
    }

    /// The wall-clock time of `instant`, in whole microseconds, so that it equals what is written of it.
    pub(super) fn wall(&self, instant: Instant) -> Timestamp {
        let since = SignedDuration::try_from(instant.saturating_duration_since(self.start));
        let wall = since.ok().and_then(|since| self.wall.checked_add(since).ok());
        whole_micros(wall.unwrap_or(Timestamp::MAX))
    }

    /// Microseconds from the start to `instant`.
    pub(super) fn micros(&self, instant: Instant) -> u64 {
        let micros = instant.saturating_duration_since(self.start).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

fn whole_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// RFC 3339 with microseconds, always six digits, so that texts compare like times.
pub(super) fn rfc3339(at: Timestamp) -> String {
    format!("{at:.6}")
}

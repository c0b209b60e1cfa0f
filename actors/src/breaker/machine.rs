//! One circuit.
//!
//! ```text
//!            `failures` in a row                  the wait is over and somebody asks
//! Closed ─────────────────────────▶ Open ─────────────────────────────────────────────▶ HalfOpen
//!   ▲                                 ▲                                                  │ │ │
//!   │                                 ├── the probe failed: a longer wait ───────────────┘ │ │
//!   │                                 └── the probe was dropped: no wait ──────────────────┘ │
//!   └───────────────────────────────────── the probe succeeded ──────────────────────────────┘
//! ```
//!
//! # Invariants
//! - While it is open nothing passes, and while it is half-open one request does.
//! - Only the probe decides what becomes of a half-open circuit; what was on its way before does not.
//!
//! # Not here
//! Jitter: how long it stays open is drawn by the caller.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Failures in a row that open it. Default 5: more than one sandbox's worth of bad luck, since one is
    /// tried four times.
    pub failures: u32,
    /// How long it stays open, the more often in a row the longer. Default 1 s up to 60 s.
    pub open: Backoff,
}

impl Default for Policy {
    fn default() -> Self {
        Self { failures: 5, open: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)) }
    }
}

/// Where a circuit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// Nothing passes.
    Open {
        /// How it came to that.
        outage: Outage,
        /// When one request may pass again.
        until: Instant,
    },
    /// One request has passed, and its outcome decides.
    HalfOpen {
        /// How it came to that.
        outage: Outage,
    },
}

/// How a circuit came to be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it was closed last.
    pub since: Instant,
    /// How often it has opened since then.
    pub trips: u32,
    /// The last failure.
    pub reason: Arc<str>,
}

/// Leave for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// One of many.
    Plain,
    /// The one whose outcome decides.
    Probe,
}

/// One circuit.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 } }
    }
}

impl Breaker {
    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// One word for that.
    pub fn name(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }

    /// How it came to be open, unless it is closed.
    pub fn outage(&self) -> Option<&Outage> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { outage, .. } | State::HalfOpen { outage } => Some(outage),
        }
    }

    /// A request wants to pass.
    ///
    /// # Errors
    /// How long to wait before the next try, at least; zero if that depends on the probe that is under way.
    pub fn pass(&mut self, now: Instant) -> Result<Pass, Duration> {
        match &self.state {
            State::Closed { .. } => Ok(Pass::Plain),
            State::Open { until, .. } if now < *until => Err(*until - now),
            State::Open { outage, .. } => {
                self.state = State::HalfOpen { outage: outage.clone() };
                Ok(Pass::Probe)
            }
            State::HalfOpen { .. } => Err(Duration::ZERO),
        }
    }

    /// A request that had passed succeeded.
    pub fn succeeded(&mut self, pass: Pass) {
        if pass == Pass::Probe || matches!(self.state, State::Closed { .. }) {
            self.state = State::Closed { failures: 0 };
        }
    }

    /// A request that had passed failed. `open_for` says how long the circuit stays open, given how often in a
    /// row it has opened.
    pub fn failed(
        &mut self,
        pass: Pass,
        reason: &Arc<str>,
        now: Instant,
        policy: &Policy,
        open_for: impl FnOnce(u32) -> Duration,
    ) {
        let reason = Arc::clone(reason);
        let outage = match (&mut self.state, pass) {
            (State::Closed { failures }, _) => {
                *failures += 1;
                if *failures < policy.failures {
                    return;
                }
                Outage { since: now, trips: 1, reason }
            }
            (State::HalfOpen { outage }, Pass::Probe) => {
                Outage { since: outage.since, trips: outage.trips.saturating_add(1), reason }
            }
            // It was on its way before, and tells nothing new.
            (State::Open { .. } | State::HalfOpen { .. }, _) => return,
        };
        self.state = State::Open { until: now + open_for(outage.trips), outage };
    }

    /// A request that had passed told nothing about what it was asked of. If it was the probe, the next one is.
    pub fn dropped(&mut self, pass: Pass, now: Instant) {
        if let (State::HalfOpen { outage }, Pass::Probe) = (&self.state, pass) {
            self.state = State::Open { outage: outage.clone(), until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(breaker: &mut Breaker, pass: Pass, now: Instant) {
        breaker.failed(pass, &"no".into(), now, &Policy::default(), |trips| SECOND * trips);
    }

    fn open(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            assert_eq!(breaker.pass(now), Ok(Pass::Plain));
            fail(&mut breaker, Pass::Plain, now);
        }
        breaker
    }

    #[test]
    fn opens_after_so_many_failures_in_a_row_and_not_otherwise() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            fail(&mut breaker, Pass::Plain, now);
        }
        breaker.succeeded(Pass::Plain);
        for _ in 0..4 {
            fail(&mut breaker, Pass::Plain, now);
        }
        assert_eq!(breaker.name(), "closed");
        fail(&mut breaker, Pass::Plain, now);
        assert_eq!(breaker.name(), "open");
        assert_eq!(breaker.pass(now + SECOND / 4), Err(SECOND * 3 / 4));
    }

    #[test]
    fn one_probe_closes_it_or_opens_it_for_longer() {
        let now = Instant::now();
        let mut breaker = open(now);
        assert_eq!(breaker.pass(now + SECOND), Ok(Pass::Probe));
        assert_eq!(breaker.pass(now + SECOND), Err(Duration::ZERO), "one at a time");
        fail(&mut breaker, Pass::Probe, now + SECOND);
        assert_eq!(breaker.pass(now + SECOND), Err(2 * SECOND));
        assert_eq!(breaker.outage().map(|outage| (outage.since, outage.trips)), Some((now, 2)));
        assert_eq!(breaker.pass(now + 3 * SECOND), Ok(Pass::Probe));
        breaker.succeeded(Pass::Probe);
        assert_eq!(breaker.state(), &State::Closed { failures: 0 });
        let again = open(now);
        assert_eq!(again.outage().map(|outage| outage.trips), Some(1), "a success forgets");
    }

    #[test]
    fn a_dropped_probe_makes_room_for_the_next() {
        let now = Instant::now();
        let mut breaker = open(now);
        assert_eq!(breaker.pass(now + SECOND), Ok(Pass::Probe));
        breaker.dropped(Pass::Probe, now + SECOND);
        assert_eq!(breaker.pass(now + SECOND), Ok(Pass::Probe));
    }

    #[test]
    fn what_was_on_its_way_decides_nothing() {
        let now = Instant::now();
        let mut breaker = open(now);
        let before = breaker.state().clone();
        breaker.succeeded(Pass::Plain);
        fail(&mut breaker, Pass::Plain, now);
        breaker.dropped(Pass::Plain, now);
        assert_eq!(breaker.state(), &before);
        assert_eq!(breaker.pass(now + SECOND), Ok(Pass::Probe));
        breaker.succeeded(Pass::Plain);
        fail(&mut breaker, Pass::Plain, now);
        breaker.dropped(Pass::Plain, now);
        assert_eq!(breaker.name(), "half_open");
    }

    proptest! {
        /// Whatever happens: nothing passes before its time, at most one probe is out, exactly while the
        /// circuit is half-open, and once everything that is out has come to an end, somebody gets through.
        #[test]
        fn property_one_probe_at_a_time_and_never_stuck(
            steps in prop::collection::vec((0u8..5, any::<usize>(), 0u64..1_500), 0..300),
        ) {
            let (mut now, mut breaker) = (Instant::now(), Breaker::default());
            let mut out = Vec::new();
            for (step, nth, millis) in steps {
                let chosen = |out: &mut Vec<Pass>| out.swap_remove(nth % out.len());
                match step {
                    0 => {
                        let before = breaker.state().clone();
                        match (before, breaker.pass(now)) {
                            (State::Closed { .. }, Ok(Pass::Plain)) => out.push(Pass::Plain),
                            (State::Open { until, .. }, Ok(Pass::Probe)) if until <= now => out.push(Pass::Probe),
                            (State::Open { until, .. }, Err(wait)) => prop_assert_eq!(now + wait, until),
                            (State::HalfOpen { .. }, Err(_)) => {}
                            (before, passed) => prop_assert!(false, "{before:?} gave {passed:?}"),
                        }
                    }
                    1 if !out.is_empty() => breaker.succeeded(chosen(&mut out)),
                    2 if !out.is_empty() => fail(&mut breaker, chosen(&mut out), now),
                    3 if !out.is_empty() => breaker.dropped(chosen(&mut out), now),
                    _ => now += Duration::from_millis(millis),
                }
                let probes = out.iter().filter(|pass| **pass == Pass::Probe).count();
                prop_assert_eq!(probes, usize::from(breaker.name() == "half_open"));
            }
            for pass in out {
                breaker.dropped(pass, now);
            }
            prop_assert!(breaker.pass(now + 1_000 * SECOND).is_ok());
        }
    }
}

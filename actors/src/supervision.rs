//! When a failed child is started again, and when its parent gives up.
//!
//! | Child of | Child | On failure | Budget | When it is spent |
//! |---|---|---|---|---|
//! | root | sessions | started again; it takes its sessions up from the ledger, and so are the pollers | 5 in 60 s | the tree ends |
//! | root | poller | started again | 5 in 60 s, each | the tree ends |
//! | root | reaper | started again | 5 in 60 s | the tree ends |
//! | root | herd | started again; it goes on with the same shelf | 5 in 60 s | the tree ends |
//! | sessions | session, or its own worker's | started again on the same lease and sandbox | 3 in 5 min, each | that work item is given up |
//! | session | sandbox | started again; it adopts what it had | 3 in 60 s | the session fails |
//!
//! Every restart waits a jittered backoff first. A failure that a machine foresees is no failure of an
//! actor: it is a state. What is counted here are bugs.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// The kinds of actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// The root supervisor.
    Root,
    /// The supervisor of all sessions.
    Sessions,
    /// One environment's poller.
    Poller,
    /// One session.
    Session,
    /// One item that a worker of its own serves.
    Worker,
    /// One session's sandbox.
    Sandbox,
    /// The herd.
    Herd,
    /// The reaper.
    Reaper,
}

impl ActorKind {
    /// One word, for labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Sessions => "sessions",
            Self::Poller => "poller",
            Self::Session => "session",
            Self::Worker => "worker",
            Self::Sandbox => "sandbox",
            Self::Herd => "herd",
            Self::Reaper => "reaper",
        }
    }
}

/// How often a child may fail within how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Failures tolerated within `period`.
    pub failures: usize,
    /// The sliding window.
    pub period: Duration,
}

/// The numbers of the table above.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Of each child of the root. Default 5 in 60 s.
    pub core: Intensity,
    /// Of each session. Default 3 in 5 min.
    pub session: Intensity,
    /// Of each sandbox. Default 3 in 60 s.
    pub sandbox: Intensity,
    /// The wait before a restart. Default 50 ms up to 5 s.
    pub backoff: Backoff,
    /// How long a killed actor may take to stop before its successor is started anyway. Default 5 s.
    pub kill: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            core: Intensity { failures: 5, period: Duration::from_secs(60) },
            session: Intensity { failures: 3, period: Duration::from_secs(300) },
            sandbox: Intensity { failures: 3, period: Duration::from_secs(60) },
            backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
            kill: Duration::from_secs(5),
        }
    }
}

/// What to do about a failed child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again; this was failure number so many within the window.
    Restart(u32),
    /// Its budget is spent.
    GiveUp,
}

/// The failures of one child.
#[derive(Clone, Debug)]
pub struct Budget {
    intensity: Intensity,
    failures: VecDeque<Instant>,
}

impl Budget {
    /// A child that has not failed yet.
    pub fn new(intensity: Intensity) -> Self {
        Self { intensity, failures: VecDeque::new() }
    }

    /// Counts a failure at `now`.
    pub fn spend(&mut self, now: Instant) -> Verdict {
        while self.failures.front().is_some_and(|then| now - *then > self.intensity.period) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        if self.failures.len() > self.intensity.failures {
            return Verdict::GiveUp;
        }
        Verdict::Restart(u32::try_from(self.failures.len()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_when_too_many_failures_fall_within_the_window() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut budget = Budget::new(Intensity { failures: 2, period: Duration::from_secs(60) });
        assert_eq!(budget.spend(at(0)), Verdict::Restart(1));
        assert_eq!(budget.spend(at(10)), Verdict::Restart(2));
        assert_eq!(budget.spend(at(65)), Verdict::Restart(2), "the first has left the window");
        assert_eq!(budget.spend(at(66)), Verdict::GiveUp);
    }
}

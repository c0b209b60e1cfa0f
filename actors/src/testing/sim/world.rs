//! What all processes of one simulated world share.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::invariant::{Broken, Invariant};
use super::plan::{Plan, Setup};
use super::trace::{Trace, Weight};
use super::watch::Watch;
use super::{Act, Dice};
use crate::testing::{FakeControl, FakeJournal, FakeProvider};

/// One machine: what outlives the processes on it.
pub(super) struct Host {
    pub(super) index: usize,
    pub(super) provider: Arc<FakeProvider>,
    pub(super) journal: Arc<FakeJournal>,
}

/// Something the director has to do.
#[derive(Debug)]
pub(super) enum Deed {
    /// Let this happen.
    Act(Act),
    /// A process has died on its own, or has ended.
    Died { host: usize, life: u32 },
}

/// A simulated world.
pub(super) struct World {
    pub(super) plan: Arc<dyn Plan>,
    pub(super) setup: Setup,
    pub(super) seed: u64,
    pub(super) begun: Instant,
    /// How long things go wrong.
    pub(super) faults_for: Duration,
    /// How many faults there are at most.
    limit: usize,
    pub(super) control: Arc<FakeControl>,
    pub(super) deeds: mpsc::UnboundedSender<Deed>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) trace: Trace,
    pub(super) watch: Watch,
    pub(super) broken: Vec<Broken>,
    pub(super) injected: usize,
    partitions: Vec<Partition>,
}

struct Partition {
    host: usize,
    until: Instant,
    one_way: bool,
}

/// How a host stands to the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Both,
    /// What it sends arrives, what it is sent does not.
    Out,
    None,
}

/// Broken invariants that are kept; the first is what matters.
const KEPT: usize = 20;

impl World {
    pub(super) fn new(
        plan: Arc<dyn Plan>,
        setup: Setup,
        (seed, limit): (u64, usize),
        faults_for: Duration,
        keep_trace: bool,
        deeds: mpsc::UnboundedSender<Deed>,
    ) -> Self {
        let begun = Instant::now();
        let state = State {
            trace: Trace::new(begun, keep_trace),
            watch: Watch::new(&setup),
            broken: Vec::new(),
            injected: 0,
            partitions: Vec::new(),
        };
        let control = Arc::new(FakeControl::new(setup.lease));
        Self { plan, setup, seed, begun, faults_for, limit, control, deeds, state: Mutex::new(state) }
    }

    pub(super) fn dice(&self, what: impl std::hash::Hash) -> Dice {
        Dice::new(self.seed, what)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether things go wrong at present.
    pub(super) fn is_rough(&self) -> bool {
        self.elapsed() < self.faults_for
    }

    /// Whether a fault that is about to happen does: there may have been enough of them.
    pub(super) fn injects(&self, host: Option<usize>, what: fmt::Arguments<'_>) -> bool {
        let mut state = self.state();
        if state.injected >= self.limit {
            return false;
        }
        state.injected += 1;
        let number = state.injected;
        state.trace.note(Weight::Fault, host, format_args!("#{number} {what}"));
        true
    }

    pub(super) fn note(&self, weight: Weight, host: Option<usize>, what: fmt::Arguments<'_>) {
        self.state().trace.note(weight, host, what);
    }

    /// Has the watch look at something, and writes down what it finds broken.
    pub(super) fn watch<T>(&self, look: impl FnOnce(&mut Watch, &mut Findings) -> T) -> T {
        let mut findings = Findings(Vec::new());
        let mut state = self.state();
        let seen = look(&mut state.watch, &mut findings);
        for (invariant, what) in findings.0 {
            state.trace.note(Weight::Broken, None, format_args!("{}: {what}", invariant.name()));
            if state.broken.len() < KEPT {
                state.broken.push(Broken { invariant, at: self.begun.elapsed(), what });
            }
        }
        seen
    }

    pub(super) fn has_broken(&self) -> bool {
        !self.state().broken.is_empty()
    }

    pub(super) fn part(&self, host: usize, lasts: Duration, one_way: bool) {
        self.state().partitions.push(Partition { host, until: Instant::now() + lasts, one_way });
    }

    /// How a host stands to the control plane, and until when if not well.
    pub(super) fn reach(&self, host: usize) -> (Reach, Instant) {
        let (state, now) = (self.state(), Instant::now());
        let mut partitions = state.partitions.iter();
        match partitions.rfind(|partition| partition.host == host && partition.until > now) {
            None => (Reach::Both, now),
            Some(Partition { one_way: true, until, .. }) => (Reach::Out, *until),
            Some(Partition { until, .. }) => (Reach::None, *until),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look has found broken.
pub(super) struct Findings(Vec<(Invariant, String)>);

impl Findings {
    pub(super) fn broken(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.0.push((invariant, what.into()));
    }
}

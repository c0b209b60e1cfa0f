//! How much is asked at once, and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Watch;
use crate::ids::SandboxId;
use crate::snapshot::Snapshot;
use crate::testing::sim::invariant::Invariant;
use crate::testing::sim::plan::Setup;
use crate::testing::sim::world::Findings;

/// What a host does right now.
#[derive(Debug, Default)]
pub(in crate::testing::sim) struct Load {
    starts: usize,
    calls: BTreeMap<SandboxId, usize>,
    second: u64,
    requests: usize,
}

#[derive(Debug)]
pub(super) struct Bounds {
    starts: usize,
    calls: usize,
    sessions: usize,
    restarts: u32,
    requests: usize,
}

impl Bounds {
    pub(super) fn new(setup: &Setup) -> Self {
        let settings = &setup.settings;
        Self {
            starts: settings.admission.max_starts.get(),
            calls: settings.session.parallel_calls,
            sessions: settings.max_sessions,
            // In every window of its budget; a run is shorter than a few of them.
            restarts: u32::try_from(settings.supervision.session.failures).unwrap_or(u32::MAX) * 3,
            requests: 200 + 40 * settings.max_sessions,
        }
    }
}

impl Watch {
    /// A host asks for a sandbox to be created.
    pub(in crate::testing::sim) fn starting(&mut self, host: usize, findings: &mut Findings) {
        let load = self.load.entry(host).or_default();
        load.starts += 1;
        if load.starts > self.bounds.starts {
            findings
                .broken(Invariant::Bounded, format!("host {host} starts {} sandboxes at once", load.starts));
        }
    }

    /// It does not wait for that any more.
    pub(in crate::testing::sim) fn started(&mut self, host: usize) {
        let load = self.load.entry(host).or_default();
        load.starts = load.starts.saturating_sub(1);
    }

    /// A host gives a call to a sandbox.
    pub(super) fn joined(&mut self, host: usize, sandbox: &SandboxId, findings: &mut Findings) {
        let calls = self.load.entry(host).or_default().calls.entry(sandbox.clone()).or_default();
        *calls += 1;
        if *calls > self.bounds.calls {
            findings.broken(Invariant::Bounded, format!("{calls} calls are with {sandbox} at once"));
        }
    }

    /// It does not wait for that any more.
    pub(in crate::testing::sim) fn left(&mut self, host: usize, sandbox: &SandboxId) {
        if let Some(calls) = self.load.entry(host).or_default().calls.get_mut(sandbox) {
            *calls = calls.saturating_sub(1);
        }
    }

    /// A process asks for something.
    pub(in crate::testing::sim) fn asks(&mut self, host: usize, at: Duration, findings: &mut Findings) {
        let load = self.load.entry(host).or_default();
        if load.second != at.as_secs() {
            (load.second, load.requests) = (at.as_secs(), 0);
        }
        load.requests += 1;
        if load.requests == self.bounds.requests {
            let what = format!("host {host} makes {} requests in one second", load.requests);
            findings.broken(Invariant::Bounded, what);
        }
    }

    /// What a tree holds at some moment.
    pub(in crate::testing::sim) fn holding(&mut self, host: usize, tree: &Snapshot, findings: &mut Findings) {
        // What an earlier process could not write off is served once more, slot or not.
        if tree.sessions.len() > self.bounds.sessions && !self.is_unwritten() {
            let what = format!("host {host} holds {} sessions", tree.sessions.len());
            findings.broken(Invariant::Bounded, what);
        }
        for session in tree.sessions.iter().filter(|session| session.restarts > self.bounds.restarts) {
            let what = format!("{} was started again {} times", session.work, session.restarts);
            findings.broken(Invariant::Bounded, what);
        }
    }
}

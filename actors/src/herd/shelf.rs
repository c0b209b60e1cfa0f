//! What is on the shelf, and what is to be done about it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::policy::Policy;
use crate::ids::{SandboxId, SessionId};
use crate::ports::{Parked, Shelved};

/// The sandboxes that belong to no work item.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// With the time it was put here.
    blank: BTreeMap<SandboxId, Instant>,
    parked: BTreeMap<SessionId, Berth>,
    /// Being made.
    making: BTreeSet<SandboxId>,
    /// To be deleted as soon as there is room.
    doomed: BTreeMap<SandboxId, Eviction>,
    /// Being deleted.
    leaving: BTreeMap<SandboxId, Eviction>,
    /// How often whoever does that was started.
    starts: u32,
}

/// A parked sandbox.
#[derive(Clone, Debug)]
struct Berth {
    sandbox: SandboxId,
    parked: Parked,
    since: Instant,
}

/// What is to be done about the shelf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Blank sandboxes to make.
    pub make: usize,
    /// Sandboxes to delete, which are leaving from now on.
    pub evict: Vec<(SandboxId, Eviction)>,
    /// When the shelf is to be looked at again, if nothing else happens.
    pub again: Option<Duration>,
}

/// Why a sandbox leaves the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Eviction {
    /// Its session did not come back in time.
    Waited,
    /// Too many are parked, and it has waited longest.
    Crowded,
    /// Those that are parked hold too many bytes of files, and it has waited longest.
    Disk,
    /// Those that are parked hold too much memory, and it has waited longest.
    Memory,
    /// More blank ones are there than wanted.
    Surplus,
    /// It is older than sandboxes may become.
    Aged,
    /// Its session has another one now.
    Replaced,
    /// It is not there any more.
    Missing,
}

/// The shelf, as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Blank sandboxes being made.
    pub making: usize,
    /// Sandboxes that are being deleted, or wait for that.
    pub leaving: usize,
    /// Those that wait for a session: the blank ones, then the parked ones, each by their ids.
    pub waiting: Vec<WaitingView>,
}

/// A sandbox that waits for a session, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingView {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// What it waits for.
    pub tier: Tier,
    /// Whose it is; none if it is blank.
    pub session: Option<SessionId>,
    /// How long it has waited.
    pub waited: Duration,
    /// Bytes of files in it when it was parked; none if it is blank.
    pub disk_bytes: Option<u64>,
    /// Bytes of memory in it when it was parked; none if it is blank.
    pub memory_bytes: Option<u64>,
}

/// What a sandbox on the shelf waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Any session that has none yet.
    Blank,
    /// Its own session.
    Parked,
}

impl Shelf {
    /// Every sandbox that is here, in whatever way.
    pub fn all(&self) -> impl Iterator<Item = &SandboxId> {
        self.waiting().chain(&self.making).chain(self.doomed.keys()).chain(self.leaving.keys())
    }

    /// Puts a sandbox here. If the session had another one parked, that one leaves.
    pub fn put(&mut self, Shelved { sandbox, parked }: Shelved, since: Instant) {
        self.making.remove(&sandbox);
        let Some(parked) = parked else {
            self.blank.insert(sandbox, since);
            return;
        };
        let session = parked.session.clone();
        let before = self.parked.insert(session, Berth { sandbox: sandbox.clone(), parked, since });
        // One that is put here again is not in its own way.
        if let Some(old) = before.filter(|old| old.sandbox != sandbox) {
            self.doomed.insert(old.sandbox, Eviction::Replaced);
        }
    }

    /// A blank sandbox, which is nobody's from now on: the caller must own it before anyone looks.
    pub fn take_blank(&mut self) -> Option<SandboxId> {
        self.blank.pop_first().map(|(sandbox, _)| sandbox)
    }

    /// The session's own sandbox; as above.
    pub fn take_parked(&mut self, session: &SessionId) -> Option<(SandboxId, Parked)> {
        self.parked.remove(session).map(|berth| (berth.sandbox, berth.parked))
    }

    /// A blank sandbox is going to be made.
    pub fn making(&mut self, sandbox: SandboxId) {
        self.making.insert(sandbox);
    }

    /// Whoever makes and deletes is started anew. What was being deleted is deleted again; what was being made
    /// is the reaper's, since nobody says how far it came. Returns how often that happened.
    pub fn restart(&mut self) -> u32 {
        self.making.clear();
        self.doomed.append(&mut self.leaving);
        self.starts += 1;
        self.starts
    }

    /// It could not be made, or it is gone: nothing is known of it any more.
    pub fn forget(&mut self, sandbox: &SandboxId) {
        self.making.remove(sandbox);
        self.leaving.remove(sandbox);
    }

    /// A sandbox leaves, if it still waits, for a reason that is seen from outside.
    pub fn evict(&mut self, sandbox: &SandboxId, why: Eviction) {
        let session = self.parked.iter().find(|(_, berth)| berth.sandbox == *sandbox);
        let session = session.map(|(session, _)| session.clone());
        if self.blank.remove(sandbox).is_some() || session.is_some_and(|of| self.parked.remove(&of).is_some())
        {
            self.doomed.insert(sandbox.clone(), why);
        }
    }

    /// The sandboxes that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &SandboxId> {
        self.blank.keys().chain(self.parked.values().map(|berth| &berth.sandbox))
    }

    /// What is to be done now.
    pub fn plan(&mut self, now: Instant, policy: &Policy) -> Plan {
        let mut plan = Plan::default();
        let there = self.blank.len() + self.making.len();
        plan.make = policy.warm.saturating_sub(there).min(policy.making.saturating_sub(self.making.len()));
        while self.blank.len() > policy.warm
            && let Some((surplus, _)) = self.blank.pop_last()
        {
            self.doomed.insert(surplus, Eviction::Surplus);
        }
        while let Some((session, why)) = self.next_eviction(now, policy)
            && let Some(berth) = self.parked.remove(&session)
        {
            self.doomed.insert(berth.sandbox, why);
        }
        while self.leaving.len() < policy.leaving
            && let Some((sandbox, why)) = self.doomed.pop_first()
        {
            self.leaving.insert(sandbox.clone(), why);
            plan.evict.push((sandbox, why));
        }
        let oldest = self.parked.values().map(|berth| berth.since).min();
        plan.again = oldest.map(|since| (since + policy.park_for).saturating_duration_since(now));
        plan
    }

    /// The parked sandbox that has to go first, if one has to.
    fn next_eviction(&self, now: Instant, policy: &Policy) -> Option<(SessionId, Eviction)> {
        let (session, oldest) = self.parked.iter().min_by_key(|(_, berth)| berth.since)?;
        let sum = |of: fn(&Parked) -> u64| self.parked.values().map(|berth| of(&berth.parked)).sum::<u64>();
        let why = if now.saturating_duration_since(oldest.since) >= policy.park_for {
            Eviction::Waited
        } else if self.parked.len() > policy.max_parked {
            Eviction::Crowded
        } else if sum(|parked| parked.disk_bytes) > policy.max_parked_disk {
            Eviction::Disk
        } else if sum(|parked| parked.memory_bytes) > policy.max_parked_memory {
            Eviction::Memory
        } else {
            return None;
        };
        Some((session.clone(), why))
    }

    /// How it stands, for people.
    pub fn view(&self, now: Instant) -> View {
        let blank = self.blank.iter().map(|(sandbox, since)| WaitingView {
            sandbox: sandbox.clone(),
            tier: Tier::Blank,
            session: None,
            waited: now.saturating_duration_since(*since),
            disk_bytes: None,
            memory_bytes: None,
        });
        let parked = self.parked.values().map(|Berth { sandbox, parked, since }| WaitingView {
            sandbox: sandbox.clone(),
            tier: Tier::Parked,
            session: Some(parked.session.clone()),
            waited: now.saturating_duration_since(*since),
            disk_bytes: Some(parked.disk_bytes),
            memory_bytes: Some(parked.memory_bytes),
        });
        let (making, leaving) = (self.making.len(), self.doomed.len() + self.leaving.len());
        View { making, leaving, waiting: blank.chain(parked).collect() }
    }
}

#[cfg(test)]
mod tests;

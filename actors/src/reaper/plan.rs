//! Which sandboxes nobody owns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::herd::shelf::Eviction;
use crate::ids::SandboxId;
use crate::ports::{OwnerId, Sandbox};

/// How orphans are found.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Time between two sweeps. Default 60 s.
    pub interval: Duration,
    /// Age before which a sandbox without an owner is left alone: its owner may be about to write it down.
    /// Default 60 s.
    pub grace: Duration,
    /// Sandboxes deleted in one sweep, at most. Default 32; the next sweep goes on.
    pub deletions: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), grace: Duration::from_secs(60), deletions: 32 }
    }
}

/// The sandboxes to delete, given a *complete* listing: ours, old enough, and nobody's.
pub fn orphans(
    listing: &[Sandbox],
    owner: &OwnerId,
    is_owned: impl Fn(&SandboxId) -> bool,
    policy: &Policy,
) -> Vec<SandboxId> {
    let orphans = listing.iter().filter(|sandbox| {
        // A provider that lists strangers' sandboxes must not cost them theirs.
        sandbox.owner == *owner && sandbox.age >= policy.grace && !is_owned(&sandbox.id)
    });
    orphans.map(|sandbox| sandbox.id.clone()).take(policy.deletions).collect()
}

/// What waits for a session but cannot serve it, given a *complete* listing that was taken after `waiting`:
/// sandboxes that are not there any more, and those that are too old.
pub(super) fn unfit(
    listing: &[Sandbox],
    waiting: &BTreeSet<SandboxId>,
    max_age: Option<Duration>,
) -> Vec<(SandboxId, Eviction)> {
    let listed: BTreeMap<_, _> = listing.iter().map(|sandbox| (&sandbox.id, sandbox.age)).collect();
    let unfit = waiting.iter().filter_map(|sandbox| {
        let why = match (listed.get(sandbox), max_age) {
            (None, _) => Eviction::Missing,
            (Some(age), Some(most)) if *age >= most => Eviction::Aged,
            _ => return None,
        };
        Some((sandbox.clone(), why))
    });
    unfit.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(id: &str, owner: &str, age: u64) -> Sandbox {
        Sandbox {
            id: id.into(),
            owner: OwnerId::new(owner),
            session: Some("sesn_1".into()),
            age: Duration::from_secs(age),
        }
    }

    #[test]
    fn takes_only_what_is_ours_and_old_and_nobodys() {
        let listing = [
            sandbox("owned", "me", 500),
            sandbox("young", "me", 59),
            sandbox("strange", "you", 500),
            sandbox("orphan", "me", 60),
        ];
        let is_owned = |id: &SandboxId| id.as_str() == "owned";
        let found = orphans(&listing, &OwnerId::new("me"), is_owned, &Policy::default());
        assert_eq!(found, [SandboxId::from("orphan")]);
    }

    #[test]
    fn takes_a_bounded_number_at_once() {
        let listing: Vec<_> = (0..40).map(|n| sandbox(&format!("s{n}"), "me", 500)).collect();
        assert_eq!(orphans(&listing, &OwnerId::new("me"), |_| false, &Policy::default()).len(), 32);
    }
}

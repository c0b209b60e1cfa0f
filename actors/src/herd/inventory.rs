//! The shelf, shared by all actors of a tree.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::shelf::{Eviction, Shelf};
use crate::ids::{SandboxId, SessionId};
use crate::ledger::{Entry, Ledger};
use crate::ports::Shelved;

/// The shelf, and a bell that rings when it changes.
///
/// What is taken from it belongs to a ledger entry before it leaves the shelf, so that there is no moment in
/// which a sandbox is nobody's and the reaper may take it.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    shelf: Mutex<Shelf>,
    changed: Arc<Notify>,
}

impl Inventory {
    /// Gives a blank sandbox to an entry, as its instance of this number. Whether there was one.
    pub(crate) fn give_blank(&self, entry: &Entry, instance: u32) -> bool {
        let mut shelf = self.shelf();
        let Some(sandbox) = shelf.take_blank() else { return false };
        entry.intend_sandbox(instance, sandbox);
        self.changed.notify_one();
        true
    }

    /// Gives a session's parked sandbox to its entry. The instance it is, if there was one.
    pub(crate) fn give_parked(&self, session: &SessionId, entry: &Entry) -> Option<u32> {
        let mut shelf = self.shelf();
        let (sandbox, parked) = shelf.take_parked(session)?;
        entry.intend_sandbox(parked.instance, sandbox);
        Some(parked.instance)
    }

    /// Puts a sandbox on the shelf, where the journal has it already.
    pub(crate) fn put(&self, shelved: Shelved, since: Instant) {
        self.shelf().put(shelved, since);
        self.changed.notify_one();
    }

    /// Puts there what an earlier process left there, except what has an owner by now.
    pub(crate) fn restore(&self, mut shelved: Vec<(Shelved, Duration)>, ledger: &Ledger) {
        let (mut shelf, now) = (self.shelf(), Instant::now());
        let owned: BTreeSet<_> = ledger.all().iter().flat_map(|entry| entry.sandboxes()).collect();
        // Of two that a session has there, the one that was put there last stays.
        shelved.sort_by_key(|(_, age)| std::cmp::Reverse(*age));
        for (shelved, age) in shelved {
            if !owned.contains(&shelved.sandbox) {
                shelf.put(shelved, now.checked_sub(age).unwrap_or(now));
            }
        }
    }

    /// Has a sandbox that waits deleted.
    pub(crate) fn evict(&self, sandbox: &SandboxId, why: Eviction) {
        self.shelf().evict(sandbox, why);
        self.changed.notify_one();
    }

    /// Resolves when the shelf has changed.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let changed = Arc::clone(&self.changed);
        async move { changed.notified().await }
    }

    /// The shelf itself. Every critical section is a few steps of it, none of which can panic half-way.
    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Parked;

    #[test]
    fn of_two_sandboxes_of_a_session_the_one_that_was_parked_last_is_taken_up() {
        let parked = |sandbox: &str, instance, age| {
            let parked = Parked { session: "sesn_1".into(), instance, disk_bytes: 0, memory_bytes: 0 };
            (Shelved { sandbox: sandbox.into(), parked: Some(parked) }, Duration::from_secs(age))
        };
        let inventory = Inventory::default();
        let shelved = vec![parked("sesn_1.10", 10, 1), parked("sesn_1.9", 9, 2)];
        inventory.restore(shelved, &Ledger::default());
        let taken = inventory.shelf().take_parked(&"sesn_1".into());
        assert_eq!(taken.map(|(sandbox, _)| sandbox), Some("sesn_1.10".into()));
    }
}

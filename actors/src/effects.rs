//! The only place that starts tasks.
//!
//! A task belongs to the actor that started it: it is aborted when the actor's state goes away, for whatever
//! reason. What it finds out it says in a message, and if it panics it says that, too, so that a lost answer
//! can never leave a machine waiting for ever.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{ActorRef, Message};
use tokio::task::AbortHandle;
use tracing::{Instrument, Span};

/// A running task, aborted when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Messages that can report the panic of a task.
pub(crate) trait Crashed: Message {
    /// The message that says so.
    fn crashed(what: String) -> Self;
}

/// Starts a task for an actor, in the current span.
pub(crate) fn spawn<M: Crashed>(
    owner: &ActorRef<M>,
    work: impl Future<Output = ()> + Send + 'static,
) -> Task {
    let owner = owner.clone();
    let watched = async move {
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            let what = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a task panicked".to_owned());
            // An actor that is gone has nobody left to tell.
            let _ = owner.cast(M::crashed(what));
        }
    };
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    Task(tokio::spawn(watched.instrument(Span::current())).abort_handle())
}

/// Tasks of one actor from which on those that have ended are forgotten.
const MANY: usize = 32;

/// An actor's tasks, each in a slot of its own: starting another one in a slot ends the one before.
#[derive(Debug)]
pub(crate) struct Tasks<K>(BTreeMap<K, Task>);

impl<K: Ord> Tasks<K> {
    /// No tasks.
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Starts a task.
    pub(crate) fn start<M: Crashed>(
        &mut self,
        slot: K,
        owner: &ActorRef<M>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        // The old one goes first: the two must not overlap.
        self.0.remove(&slot);
        // Slots that are named after a call are many, and each is used once.
        if self.0.len() >= MANY {
            self.0.retain(|_, task| !task.0.is_finished());
        }
        self.0.insert(slot, spawn(owner, work));
    }

    /// Sends a message to its own actor after some time.
    pub(crate) fn arm<M: Crashed>(&mut self, slot: K, owner: &ActorRef<M>, after: Duration, message: M) {
        let to = owner.clone();
        self.start(slot, owner, async move {
            tokio::time::sleep(after).await;
            let _ = to.cast(message);
        });
    }

    /// Ends the tasks in all slots that `which` picks.
    pub(crate) fn clear_all(&mut self, which: impl Fn(&K) -> bool) {
        self.0.retain(|slot, _| !which(slot));
    }

    /// Ends the task in a slot, or forgets one that has ended.
    pub(crate) fn clear(&mut self, slot: &K) {
        self.0.remove(slot);
    }
}

//! The gate around [`Shares`]: wakes whoever is granted a slot, and takes slots back when they are dropped.
//!
//! Starts no task. What must happen later, that is, another look at the host's memory, is done by those who
//! wait, since without them there is nothing to decide.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep};

use super::{Demand, Environment, Policy, Shares, Ticket};
use crate::ids::EnvironmentId;
use crate::notice::{Notice, Notices};
use crate::ports::Pressure;

/// Admits sessions and starts of sandboxes.
#[derive(Debug)]
pub(crate) struct Admission {
    policy: Policy,
    notices: Notices,
    state: Mutex<State>,
    /// Its queue is fair: the first to ask is the first to get one.
    starts: Arc<Semaphore>,
}

#[derive(Debug)]
struct State {
    shares: Shares,
    waiting: BTreeMap<Ticket, oneshot::Sender<Slot>>,
    /// Why nothing is granted, if nothing is.
    paused: Option<Arc<str>>,
    /// When the host's memory was looked at last.
    looked: Option<Instant>,
}

/// Room for one session, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    admission: Arc<Admission>,
    environment: EnvironmentId,
    /// None if it was not waited for.
    ticket: Option<Ticket>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.state().shares.release(&self.environment, self.ticket);
        self.admission.grant();
    }
}

/// Leave to create one sandbox, until it is dropped.
#[derive(Debug)]
pub(crate) struct Start {
    _permit: Option<OwnedSemaphorePermit>,
}

/// How admission stands.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Why no slot is granted at present, if none is.
    pub paused: Option<Arc<str>>,
    /// Sandboxes being created.
    pub starting: usize,
    /// The environments, in the order of their ids.
    pub environments: Vec<ShareView>,
}

/// One environment's part of the slots.
#[derive(Clone, Debug, Serialize)]
pub struct ShareView {
    /// The environment.
    pub environment: EnvironmentId,
    /// Its weight.
    pub weight: u32,
    /// Slots it holds: one for each session, and one while its queue is polled.
    pub held: usize,
    /// Whether its poller waits for one.
    pub waiting: bool,
}

impl Admission {
    pub(crate) fn new(slots: usize, environments: &[Environment], policy: Policy, notices: Notices) -> Self {
        let starts = Arc::new(Semaphore::new(policy.max_starts.get()));
        let shares = Shares::new(slots, environments);
        let state = State { shares, waiting: BTreeMap::new(), paused: None, looked: None };
        Self { policy, notices, state: Mutex::new(state), starts }
    }

    /// Waits for room for one session of an environment.
    ///
    /// # Cancel safety
    /// If this is dropped, the place in the queue is given up, and so is a slot that was on its way.
    pub(crate) async fn slot(self: &Arc<Self>, environment: EnvironmentId, demand: Demand) -> Slot {
        let (tell, mut told) = oneshot::channel();
        let waiting = {
            let mut state = self.state();
            let ticket = state.shares.ask(environment, demand);
            state.waiting.insert(ticket, tell);
            Waiting { admission: self, ticket }
        };
        loop {
            self.grant();
            tokio::select! {
                biased;
                // It is told before it is forgotten, unless it forgets itself.
                Ok(slot) = &mut told => {
                    drop(waiting);
                    return slot;
                }
                () = sleep(self.policy.interval), if self.policy.pressure.is_some() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Room for a session that was claimed in an earlier life, even if there is none.
    pub(crate) fn occupy(self: &Arc<Self>, environment: EnvironmentId) -> Slot {
        self.state().shares.occupy(environment.clone());
        Slot { admission: Arc::clone(self), environment, ticket: None }
    }

    /// Waits until a sandbox may be created.
    ///
    /// # Cancel safety
    /// If this is dropped, the place in the queue is given up.
    pub(crate) async fn start(&self) -> Start {
        // The semaphore is never closed.
        Start { _permit: Arc::clone(&self.starts).acquire_owned().await.ok() }
    }

    /// Whether a slot that is not needed should be given back: somebody else waits for one, or none is
    /// granted at present.
    pub(crate) fn is_crowded(&self) -> bool {
        self.look();
        let state = self.state();
        state.paused.is_some() || state.shares.is_crowded()
    }

    /// Slots that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.state().shares.free()
    }

    pub(crate) fn view(&self) -> View {
        let state = self.state();
        let environments = state.shares.all().map(|(environment, share)| ShareView {
            environment: environment.clone(),
            weight: share.weight.get(),
            held: share.held,
            waiting: state.shares.waits(environment),
        });
        View {
            paused: state.paused.clone(),
            starting: self.policy.max_starts.get() - self.starts.available_permits(),
            environments: environments.collect(),
        }
    }

    /// Grants what can be granted.
    fn grant(self: &Arc<Self>) {
        self.look();
        let mut granted = Vec::new();
        {
            let mut state = self.state();
            while state.paused.is_none()
                && let Some((ticket, environment)) = state.shares.grant()
            {
                let slot = Slot { admission: Arc::clone(self), environment, ticket: Some(ticket) };
                granted.push((state.waiting.remove(&ticket), slot));
            }
        }
        // Not under the lock: the slot of one who has just left comes back at once.
        for (tell, slot) in granted {
            let _ = tell.map(|tell| tell.send(slot));
        }
    }

    /// Looks at the host's memory, unless that was done just now.
    fn look(&self) {
        let Some(pressure) = &self.policy.pressure else { return };
        let now = Instant::now();
        {
            let mut state = self.state();
            if state.looked.is_some_and(|then| now - then < self.policy.interval) {
                return;
            }
            state.looked = Some(now);
        }
        // Not under the lock: this is the host's code.
        let paused = match pressure.level() {
            Pressure::Normal => None,
            Pressure::High { reason } => Some(reason),
        };
        let before = std::mem::replace(&mut self.state().paused, paused.clone());
        match (before, paused) {
            (None, Some(reason)) => self.notices.publish(Notice::AdmissionPaused { reason }),
            (Some(_), None) => self.notices.publish(Notice::AdmissionResumed),
            _ => {}
        }
    }

    /// Every critical section here is a few assignments, none of which can panic half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given up when it is dropped.
struct Waiting<'a> {
    admission: &'a Admission,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.shares.cancel(self.ticket);
        state.waiting.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::testing::FakePressure;

    fn admission(slots: usize, policy: Policy) -> Arc<Admission> {
        let environments = ["env_1".into(), "env_2".into()];
        Arc::new(Admission::new(slots, &environments, policy, Notices::new()))
    }

    async fn slot(admission: &Arc<Admission>, environment: &str) -> Option<Slot> {
        let slot = admission.slot(environment.into(), Demand::Known);
        timeout(Duration::from_millis(10), slot).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_is_dropped_goes_to_whoever_waits() {
        let admission = admission(1, Policy::default());
        let held = slot(&admission, "env_1").await.unwrap();
        assert!(slot(&admission, "env_2").await.is_none());
        let (next, ()) = tokio::join!(slot(&admission, "env_2"), async { drop(held) });
        assert_eq!(admission.free(), 0);
        drop(next.unwrap());
        assert_eq!(admission.free(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_before_it_takes_its_slot_gives_it_back() {
        let admission = admission(1, Policy::default());
        let held = slot(&admission, "env_1").await.unwrap();
        let mut leaving = Box::pin(admission.slot("env_2".into(), Demand::Known));
        assert!(futures_util::poll!(&mut leaving).is_pending());
        // It is granted now, and dropped before it looks again.
        drop(held);
        assert_eq!(admission.free(), 0);
        drop(leaving);
        assert_eq!(admission.free(), 1);
        let mut waiting = Box::pin(admission.slot("env_1".into(), Demand::Known));
        let held = slot(&admission, "env_2").await.unwrap();
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(admission.is_crowded());
        drop(waiting);
        assert!(!admission.is_crowded(), "one that left does not wait any more");
        drop(held);
        assert_eq!(admission.free(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_is_one_of_few_and_comes_back_however_it_ends() {
        let policy = Policy { max_starts: NonZeroUsize::MIN, ..Policy::default() };
        let admission = admission(1, policy);
        let first = admission.start().await;
        let mut second = Box::pin(admission.start());
        let mut third = Box::pin(admission.start());
        assert!(futures_util::poll!(&mut second).is_pending());
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first);
        drop(second);
        assert!(futures_util::poll!(&mut third).is_ready(), "the one before it did not want its turn");
    }

    #[tokio::test(start_paused = true)]
    async fn the_hosts_memory_is_looked_at_once_in_an_interval() {
        let pressure = Arc::new(FakePressure::default());
        let policy = Policy { pressure: Some(Arc::clone(&pressure) as _), ..Policy::default() };
        let admission = admission(5, policy);
        pressure.set(Pressure::High { reason: "no".into() });
        let begun = Instant::now();
        let waiting = admission.slot("env_1".into(), Demand::Known);
        let relief = async {
            sleep(Duration::from_millis(2_500)).await;
            pressure.set(Pressure::Normal);
        };
        let (slot, ()) = tokio::join!(waiting, relief);
        assert_eq!(begun.elapsed().as_secs(), 3);
        pressure.set(Pressure::High { reason: "no".into() });
        assert!(!admission.is_crowded(), "it has just been looked at");
        sleep(Duration::from_secs(1)).await;
        assert!(admission.is_crowded());
        drop(slot);
    }
}

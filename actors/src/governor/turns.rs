//! The shell around [`Lanes`]: wakes whoever has its turn.
//!
//! Starts no task. Somebody must look again when the next token comes, so one of those who wait does it for
//! all of them; when it leaves, the next one takes over.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::{Class, Full, Lanes, Policy, Ticket};
use crate::notice::{Notice, Notices};
use crate::ports::ControlError;

/// Gives requests their turn.
#[derive(Debug)]
pub(crate) struct Governor {
    policy: Policy,
    notices: Notices,
    state: Mutex<State>,
    /// Whoever holds this serves everyone who waits.
    server: tokio::sync::Mutex<()>,
    /// Somebody has come who may be served sooner than those who were there.
    arrived: Notify,
}

#[derive(Debug)]
struct State {
    lanes: Lanes,
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
}

/// How the governor stands.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Requests that may be made at once; none if there is no limit.
    pub tokens: Option<u32>,
    /// The classes that wait, the first to be served first.
    pub lanes: Vec<LaneView>,
}

/// How one class of requests stands.
#[derive(Clone, Debug, Serialize)]
pub struct LaneView {
    /// Its name.
    pub class: &'static str,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// How much longer the server is left alone, if it asked for that.
    pub paused: Option<Duration>,
}

impl Governor {
    pub(crate) fn new(policy: Policy, notices: Notices) -> Self {
        let state = State { lanes: Lanes::new(policy, Instant::now()), waiting: BTreeMap::new() };
        let (server, arrived) = (tokio::sync::Mutex::new(()), Notify::new());
        Self { policy, notices, state: Mutex::new(state), server, arrived }
    }

    /// Waits until a request may be made, which must then be made.
    ///
    /// # Errors
    /// [`ControlError::HeldBack`] if too many wait, or this one has waited too long.
    ///
    /// # Cancel safety
    /// If this is dropped, the turn is given up, even if it had come.
    pub(crate) async fn turn(&self, class: Class) -> Result<(), ControlError> {
        if class == Class::Lease {
            let mut state = self.state();
            state.lanes.lease(Instant::now());
            state.serve();
            return Ok(());
        }
        let Ok(mut turn) = self.ask(class) else {
            let what = format!("{} requests of its kind wait already", self.policy.waiting);
            return Err(ControlError::HeldBack { what, retry_after: self.paused(class) });
        };
        let served = async {
            tokio::select! {
                biased;
                _ = &mut turn.told => {}
                never = self.serve_all() => match never {},
            }
        };
        if timeout(self.policy.patience, served).await.is_err() {
            let what = format!("it waited {:?} for its turn", self.policy.patience);
            return Err(ControlError::HeldBack { what, retry_after: self.paused(class) });
        }
        turn.taken = true;
        Ok(())
    }

    /// A request that had its turn turned out to be so many more.
    pub(super) fn charge(&self, requests: u32) {
        self.state().lanes.charge(requests, Instant::now());
    }

    /// The server asked for patience.
    pub(super) fn throttled(&self, class: Class, retry_after: Option<Duration>) {
        let begun = self.state().lanes.throttled(class, retry_after, Instant::now());
        if let Some(pause) = begun {
            self.notices.publish(Notice::Throttled { class: class.name(), pause });
        }
    }

    pub(crate) fn view(&self) -> View {
        let (state, now) = (self.state(), Instant::now());
        let lanes = Class::LANES.map(|class| LaneView {
            class: class.name(),
            waiting: state.lanes.waiting(class),
            paused: state.lanes.paused(class, now),
        });
        View { tokens: state.lanes.tokens(), lanes: lanes.into() }
    }

    fn ask(&self, class: Class) -> Result<Turn<'_>, Full> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state();
        let ticket = state.lanes.ask(class)?;
        state.waiting.insert(ticket, tell);
        if state.serve().is_some() {
            self.arrived.notify_one();
        }
        drop(state);
        Ok(Turn { governor: self, ticket, told, taken: false })
    }

    /// Serves everyone who waits, for as long as this is polled.
    async fn serve_all(&self) -> Infallible {
        let _server = self.server.lock().await;
        loop {
            let wait = self.state().serve();
            tokio::select! {
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                () = self.arrived.notified() => {}
            }
        }
    }

    fn paused(&self, class: Class) -> Option<Duration> {
        self.state().lanes.paused(class, Instant::now())
    }

    /// Every critical section here is a few assignments, none of which can panic half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells everyone whose turn it is. Returns the time until the next turn, if somebody waits.
    fn serve(&mut self) -> Option<Duration> {
        let now = Instant::now();
        while let Some(ticket) = self.lanes.serve(now) {
            // Whoever waits forgets itself here before it leaves.
            let _ = self.waiting.remove(&ticket).map(|tell| tell.send(()));
        }
        self.lanes.wait(now)
    }
}

/// A request that waits, or whose turn has come. Dropped before the turn is taken, it gives it up.
struct Turn<'a> {
    governor: &'a Governor,
    ticket: Ticket,
    told: oneshot::Receiver<()>,
    taken: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut state = self.governor.state();
        state.waiting.remove(&self.ticket);
        if !state.lanes.cancel(self.ticket) {
            state.lanes.refund();
            state.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Rate;

    fn governor(per_second: u32, burst: u32) -> Governor {
        let rate = Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() };
        Governor::new(Policy { rate: Some(rate), ..Policy::default() }, Notices::new())
    }

    #[tokio::test(start_paused = true)]
    async fn everyone_has_its_turn_at_the_rate() {
        let governor = governor(10, 1);
        let begun = Instant::now();
        let turns = (0..21).map(|_| governor.turn(Class::Attach));
        futures_util::future::join_all(turns).await;
        assert_eq!(begun.elapsed().as_millis() / 10, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_gives_up_its_turn_even_if_it_serves_the_others_or_was_served() {
        let governor = governor(1, 1);
        governor.turn(Class::Result).await.unwrap();
        let mut serving = Box::pin(governor.turn(Class::Result));
        let mut second = Box::pin(governor.turn(Class::Result));
        let mut third = Box::pin(governor.turn(Class::Result));
        for waiting in [&mut serving, &mut second, &mut third] {
            assert!(futures_util::poll!(waiting).is_pending());
        }
        drop(serving);
        // The second one's turn comes while it does not look, and then it leaves.
        assert!(futures_util::poll!(&mut second).is_pending());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(governor.state().serve().is_some());
        drop(second);
        assert!(futures_util::poll!(&mut third).is_ready());
        assert_eq!(governor.view().lanes[0].waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_later_and_is_not_paused_does_not_wait_for_one_that_is() {
        let governor = governor(10, 1);
        governor.throttled(Class::Attach, Some(Duration::from_secs(10)));
        governor.turn(Class::Result).await.unwrap();
        let begun = Instant::now();
        let paused = async {
            governor.turn(Class::Attach).await.unwrap();
            begun.elapsed().as_secs()
        };
        let urgent = async {
            sleep(Duration::from_millis(10)).await;
            governor.turn(Class::Result).await.unwrap();
            begun.elapsed().as_millis() / 10
        };
        assert_eq!(tokio::join!(paused, urgent), (10, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_goes_at_once_whatever_waits() {
        let governor = governor(1, 1);
        governor.throttled(Class::Lease, Some(Duration::from_secs(60)));
        let mut waiting = Box::pin(governor.turn(Class::Result));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        for _ in 0..100 {
            assert!(futures_util::poll!(Box::pin(governor.turn(Class::Lease))).is_ready());
        }
    }
}

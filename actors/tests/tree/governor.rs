//! How the control plane is treated.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use remuda_actors::bucket::Rate;
use remuda_actors::event::Event;
use remuda_actors::ids::EnvironmentId;
use remuda_actors::notice::Notice;
use remuda_actors::ports::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, Session, StopMode, WorkItem,
};
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{Brain, FakeControl, Request, Strike, call};
use remuda_actors::{Ports, Tree};
use tokio::time::Instant;

use crate::stage::{ENVIRONMENT, World, ended, next};

fn rate(per_second: u32, burst: u32) -> Option<Rate> {
    let number = |n| NonZeroU32::new(n).expect("not zero");
    Some(Rate { per_second: number(per_second), burst: number(burst) })
}

/// Queues so many sessions, each of which runs for so many seconds.
fn queue(world: &World, count: usize, seconds: usize) {
    for n in 0..count {
        let brain = Brain::new().turn([call(&format!("call_{n}"), &format!("sleep {seconds}"))]);
        world.control.queue(ENVIRONMENT, &format!("sesn_{n}"), &format!("work_{n}"), brain);
    }
}

fn is_lease(request: &Request) -> bool {
    matches!(request.operation, "heartbeat" | "ack")
}

/// The longest time between two beats of the same lease.
fn longest_gap(requests: &[Request]) -> Duration {
    let mut last = BTreeMap::new();
    let beats = requests.iter().filter(|request| request.operation == "heartbeat");
    let gaps =
        beats.filter_map(|beat| last.insert(beat.work.clone(), beat.at).map(|before| beat.at - before));
    gaps.max().expect("there were beats")
}

#[tokio::test(start_paused = true)]
async fn requests_keep_to_the_rate_and_heartbeats_to_their_time() {
    let mut world = World::new();
    world.settings.governor.rate = rate(10, 20);
    queue(&world, 60, 120);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for _ in 0..60 {
        let (outcome, reason) = ended(&mut notices).await;
        assert_eq!(outcome, Outcome::Finished, "{reason}");
    }
    let requests = world.control.requests();
    assert!(longest_gap(&requests) <= Duration::from_secs(31), "{:?}", longest_gap(&requests));
    let waiting: Vec<_> = requests.iter().filter(|request| !is_lease(request)).collect();
    for (n, first) in waiting.iter().enumerate() {
        let window = waiting[n..].iter().take_while(|other| other.at - first.at < Duration::from_secs(5));
        let leases = requests.iter().filter(|other| {
            is_lease(other) && other.at >= first.at && other.at - first.at < Duration::from_secs(5)
        });
        // The burst, what comes in, and one for every eight leases.
        let (count, allowed) = (window.count(), 20 + 50 + leases.count() / 8 + 1);
        assert!(count <= allowed, "{count} requests in 5 s, {allowed} are allowed");
    }
    let first = requests.first().expect("there were requests").at;
    let early = requests.iter().filter(|request| request.at - first < Duration::from_secs(10)).count();
    assert!(early >= 115, "the rate is not used: {early} requests in the first 10 s");
}

/// A control plane that is overrun: it answers everything but heartbeats with 429 until then.
struct Overrun {
    inner: Arc<FakeControl>,
    from: Instant,
    until: Instant,
    turned_away: AtomicUsize,
}

impl Overrun {
    async fn answer<T>(
        &self,
        request: impl Future<Output = Result<T, ControlError>> + Send,
    ) -> Result<T, ControlError> {
        if (self.from..self.until).contains(&Instant::now()) {
            self.turned_away.fetch_add(1, Ordering::SeqCst);
            return Err(ControlError::Throttled { retry_after: Some(Duration::from_secs(10)) });
        }
        request.await
    }
}

#[async_trait]
impl ControlPlane for Overrun {
    async fn poll(&self, of: &EnvironmentId, block: Duration) -> Result<Option<WorkItem>, ControlError> {
        self.answer(self.inner.poll(of, block)).await
    }
    async fn ack(&self, item: &WorkItem) -> Result<(), ControlError> {
        self.answer(self.inner.ack(item)).await
    }
    async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        self.inner.heartbeat(item, expected).await
    }
    async fn stop(&self, item: &WorkItem, mode: StopMode) -> Result<(), ControlError> {
        self.answer(self.inner.stop(item, mode)).await
    }
    async fn session(&self, item: &WorkItem) -> Result<Session, ControlError> {
        self.answer(self.inner.session(item)).await
    }
    async fn stream(&self, item: &WorkItem) -> Result<EventStream, ControlError> {
        self.answer(self.inner.stream(item)).await
    }
    async fn history(&self, item: &WorkItem) -> Result<Vec<Event>, ControlError> {
        self.answer(self.inner.history(item)).await
    }
    async fn post(&self, item: &WorkItem, answer: &Answer) -> Result<(), ControlError> {
        self.answer(self.inner.post(item, answer)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_429_costs_no_lease_and_is_met_with_patience() {
    let mut world = World::new();
    // What has queued up does not go all at once when the storm is over.
    world.settings.governor.rate = rate(20, 500);
    queue(&world, 50, 30);
    let from = Instant::now() + Duration::from_secs(20);
    let until = from + Duration::from_secs(180);
    let turned_away = AtomicUsize::new(0);
    let overrun = Arc::new(Overrun { inner: Arc::clone(&world.control), from, until, turned_away });
    let ports = Ports { control: Arc::clone(&overrun) as _, ..world.ports() };
    let tree = Tree::start(ports, world.settings.clone()).await.expect("the tree starts");
    let mut notices = tree.subscribe();
    tokio::time::sleep_until(from + Duration::from_secs(15)).await;
    // Their streams break, and their calls end: everyone wants to attach and to post at the same time.
    for n in 0..50 {
        world.control.cut_streams(&format!("sesn_{n}"));
    }
    tokio::time::sleep_until(from + Duration::from_secs(25)).await;
    let lanes = tree.snapshot().governor.lanes;
    assert!(lanes.iter().all(|lane| lane.paused.is_some()), "{lanes:?}");
    assert_eq!(lanes.iter().find(|lane| lane.class == "result").map(|lane| lane.waiting > 40), Some(true));
    let (mut over, mut throttled) = (0, 0);
    while over < 50 {
        let ended = next(&mut notices, |notice| match notice {
            Notice::Ended { outcome, reason, .. } => Some(Some((*outcome, reason.clone()))),
            Notice::Throttled { .. } => Some(None),
            _ => None,
        });
        match ended.await {
            Some((outcome, reason)) => {
                assert_eq!(outcome, Outcome::Finished, "{reason}");
                over += 1;
            }
            None => throttled += 1,
        }
    }
    assert!(longest_gap(&world.control.requests()) <= Duration::from_secs(31));
    for n in 0..50 {
        assert_eq!(world.control.texts(&format!("sesn_{n}")), ["sleep 30"]);
    }
    // A pause lasts ten seconds, and after each at most one request of each class finds out that it goes on,
    // and those that were on their way at the same moment.
    let turned_away = overrun.turned_away.load(Ordering::SeqCst);
    assert!((18..=3 * 18 + 10).contains(&turned_away), "{turned_away} requests were turned away");
    assert!((10..=3 * 19).contains(&throttled), "told of {throttled} pauses");
    let after: Vec<_> = world.control.requests().into_iter().filter(|request| request.at >= until).collect();
    let rush = |request: &&Request| !is_lease(request) && request.at - until < Duration::from_secs(1);
    assert!(after.iter().filter(rush).count() <= 25, "all that had waited came at once");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_too_long_for_its_turn_says_so() {
    let mut world = World::new();
    world.settings.environments.push("env_2".into());
    let throttled = ControlError::Throttled { retry_after: Some(Duration::from_secs(60)) };
    world.control.faults.next("poll", Strike::Fail(throttled));
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let begun = Instant::now();
    let mut reasons = Vec::new();
    for _ in 0..2 {
        let failed = next(&mut notices, |notice| match notice {
            Notice::QueueFailed { reason, .. } => Some(reason.to_string()),
            _ => None,
        });
        reasons.push(failed.await);
    }
    let expected = [
        "the control plane asked us to slow down",
        // A poll of the other queue was on its way already; the next one had to wait.
        "the request was held back: it waited 20s for its turn",
    ];
    assert_eq!(reasons, expected);
    assert!(begun.elapsed() < Duration::from_secs(25));
    world.control.queue("env_2", "sesn_2", "work_2", Brain::new());
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished, "it is asked again when the pause is over");
}

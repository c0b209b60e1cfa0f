//! A tree that is killed, and another that goes on with its journal.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use remuda_actors::Tree;
use remuda_actors::event::Event;
use remuda_actors::ids::EnvironmentId;
use remuda_actors::notice::Notice;
use remuda_actors::ports::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, Record, Session, StopMode,
    WorkItem,
};
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{Brain, FakeControl, Stage, Strike, call};

use crate::stage::{ENVIRONMENT, World, call_started, ended, next, settle};

#[tokio::test(start_paused = true)]
async fn a_tree_that_was_killed_is_continued_where_it_was_and_runs_nothing_twice() {
    // Killed at every hundredth of the first twelve seconds of the same session.
    for n in 0..120 {
        let world = World::new();
        let brain = Brain::new()
            .turn([call("a", "sleep 1"), call("b", "sleep 3")])
            .turn([call("c", "sleep 2"), call("d", "echo four")]);
        let tree = world.tree().await;
        world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
        tokio::time::sleep(Duration::from_millis(n * 100)).await;
        drop(tree);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let tree = world.tree().await;
        let mut notices = tree.subscribe();
        let (outcome, reason) = ended(&mut notices).await;
        assert_eq!(outcome, Outcome::Finished, "killed after {n}00 ms: {reason}");
        assert_eq!(world.control.texts("sesn_1"), ["sleep 1", "sleep 3", "sleep 2", "four"], "{n}00 ms");
        assert_eq!(world.provider.runs().len(), 4, "a call ran twice, killed after {n}00 ms");
        assert_eq!(world.provider.count("create"), 1, "killed after {n}00 ms");
        assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped), "killed after {n}00 ms");
        world.assert_clean(&tree);
        assert!(world.journal.records().is_empty(), "the journal is done with it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_expired_in_between_is_given_up() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 3600")]));
    call_started(&mut notices, "a").await;
    drop(tree);
    tokio::time::sleep(Duration::from_secs(130)).await;
    world.control.steal("work_1");
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Lost);
    assert_eq!(world.control.count("stop"), 0);
    assert_eq!(world.control.count("post"), 0);
    world.assert_clean(&tree);
}

/// The whole process is stopped for longer than its lease, and what happened meanwhile comes before its timers.
#[tokio::test(start_paused = true)]
async fn a_tree_that_stood_still_until_its_lease_was_over_does_nothing_more_under_it() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
    call_started(&mut notices, "a").await;
    settle().await;
    let posts = world.control.count("post");
    world.control.steal("work_1");
    world.control.emit("sesn_1", Event::Call(call("b", "echo two")));
    tokio::time::advance(Duration::from_secs(130)).await;
    let outcome = next(&mut notices, |notice| match notice {
        Notice::CallStarted { call, .. } if call.as_str() == "b" => {
            panic!("a call was given out without a lease")
        }
        Notice::Ended { outcome, .. } => Some(*outcome),
        _ => None,
    });
    assert_eq!(outcome.await, Outcome::Lost);
    assert_eq!(world.provider.runs().len(), 1, "a call was started without a lease");
    assert_eq!((world.control.count("post"), world.control.count("stop")), (posts, 0));
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_sandbox_went_with_the_tree_is_reported_as_unknown() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 100")]).turn([call("b", "echo two")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(tree);
    world.provider.lose("sesn_1.1");
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    let answers = world.control.answers("sesn_1");
    assert!(answers[0].2.text().contains("Nobody knows how far it came"), "{answers:?}");
    assert_eq!(answers[1].2.text(), "two");
}

#[tokio::test(start_paused = true)]
async fn what_is_about_to_happen_is_written_down_before_it_does() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 50")]));
    call_started(&mut notices, "a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(tree);
    let records: Vec<_> = world.journal.records().into_iter().map(|(_, record)| name(&record)).collect();
    assert_eq!(records, ["claimed", "beat", "beat", "sandbox intended", "call started"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_process_does_not_believe_a_lease_to_last_longer_than_it_does() {
    let world = World::new();
    let tree = world.tree().await;
    world.control.faults.next("heartbeat", Strike::Delay(Duration::from_secs(10)));
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    tokio::time::sleep(Duration::from_secs(15)).await;
    drop(tree);
    let beats: Vec<_> = beats(&world);
    let left = Duration::from_secs(110);
    assert!(beats[1] <= left && beats[1] > left - Duration::from_secs(1), "{beats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_length_is_not_said_again_is_continued() {
    let world = World::new();
    let ports = || {
        let control = Arc::new(Terse(Arc::clone(&world.control)));
        remuda_actors::Ports { control, ..world.ports() }
    };
    let tree = Tree::start(ports(), world.settings.clone()).await.expect("the tree starts");
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 20")]));
    call_started(&mut notices, "a").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(tree);
    let tree = Tree::start(ports(), world.settings.clone()).await.expect("the tree starts");
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["sleep 20"]);
}

/// How long each beat in the journal says that the lease lasts.
fn beats(world: &World) -> Vec<Duration> {
    let beats = world.journal.records().into_iter().filter_map(|(_, record)| match record {
        Record::Beat { ttl, .. } => Some(ttl),
        _ => None,
    });
    beats.collect()
}

/// A control plane that never says how long a lease lasts.
struct Terse(Arc<FakeControl>);

#[async_trait]
impl ControlPlane for Terse {
    async fn poll(&self, of: &EnvironmentId, block: Duration) -> Result<Option<WorkItem>, ControlError> {
        self.0.poll(of, block).await
    }

    async fn ack(&self, item: &WorkItem) -> Result<(), ControlError> {
        self.0.ack(item).await
    }

    async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        Ok(Heartbeat { ttl: Duration::ZERO, ..self.0.heartbeat(item, expected).await? })
    }

    async fn stop(&self, item: &WorkItem, mode: StopMode) -> Result<(), ControlError> {
        self.0.stop(item, mode).await
    }

    async fn session(&self, item: &WorkItem) -> Result<Session, ControlError> {
        self.0.session(item).await
    }

    async fn stream(&self, item: &WorkItem) -> Result<EventStream, ControlError> {
        self.0.stream(item).await
    }

    async fn history(&self, item: &WorkItem) -> Result<Vec<Event>, ControlError> {
        self.0.history(item).await
    }

    async fn post(&self, item: &WorkItem, answer: &Answer) -> Result<(), ControlError> {
        self.0.post(item, answer).await
    }
}

fn name(record: &Record) -> &'static str {
    match record {
        Record::Claimed { .. } => "claimed",
        Record::Beat { .. } => "beat",
        Record::SandboxIntended { .. } => "sandbox intended",
        Record::CallStarted { .. } => "call started",
        Record::CallFinished { .. } => "call finished",
        Record::CallPosted { .. } => "call posted",
        Record::Left { .. } => "left",
        Record::Ended => "ended",
    }
}

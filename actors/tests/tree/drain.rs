//! The end of a tree.

use std::time::Duration;

use remuda_actors::event::{Event, IdleReason};
use remuda_actors::ports::{Limits, OwnerId, SandboxProvider as _, SandboxSpec};
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{Brain, Stage, Strike, call};
use remuda_actors::{Drained, OnDrain, StartError, Tree};

use crate::stage::{ENVIRONMENT, World, call_started, ended};

#[tokio::test(start_paused = true)]
async fn a_drain_claims_nothing_more_and_lets_a_running_turn_finish() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 5")]).turn([call("b", "echo two")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    let (drained, ()) = tokio::join!(tree.drain(Duration::from_secs(30)), async {
        world.control.queue(ENVIRONMENT, "sesn_2", "work_2", Brain::new());
    });
    assert_eq!(drained, Drained::default());
    assert_eq!(world.control.texts("sesn_1"), ["sleep 5", "two"]);
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
    assert!(matches!(world.control.stage("work_2"), Some(Stage::Queued { .. })), "the queue keeps it");
    assert_eq!(tree.ended().await, Ok(()));
    assert_eq!(world.provider.sandboxes(), []);
}

/// What a process was about to write down when it was killed is too young for the reaper, and stays for ever on a
/// host that goes for good.
#[tokio::test(start_paused = true)]
async fn a_drain_that_releases_leaves_no_orphan_however_young() {
    let world = World::new();
    let tree = world.tree().await;
    for (id, owner) in [("orphan", world.settings.owner.clone()), ("strange", OwnerId::new("another"))] {
        let spec = SandboxSpec {
            id: id.into(),
            owner,
            session: None,
            image: None,
            limits: Limits::default(),
            files_of: None,
        };
        world.provider.create(&spec).await.unwrap();
    }
    tree.drain(Duration::from_secs(30)).await;
    assert_eq!(world.provider.sandboxes(), ["strange".into()]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_does_not_hold_a_drain_up() {
    let world = World::new();
    let tree = world.tree().await;
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(tree.drain(Duration::from_secs(30)).await, Drained::default());
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_too_long_is_cut_said_so_and_handed_back() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 140")]));
    call_started(&mut notices, "a").await;
    let drained = tree.drain(Duration::from_secs(10)).await;
    assert_eq!(drained, Drained { handed_back: 1, left: 0, killed: 0 });
    assert_eq!(ended(&mut notices).await.0, Outcome::HandedBack);
    assert_eq!(world.control.texts("sesn_1"), ["bash: cancelled: the worker is shutting down"]);
    assert_eq!(world.control.count("stop"), 0, "it lapses, so that another worker gets it");
    assert_eq!(world.provider.sandboxes(), []);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_even_then_is_killed_and_counted() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 140")]));
    call_started(&mut notices, "a").await;
    for _ in 0..10 {
        world.provider.faults.next("delete", Strike::Hang);
    }
    let drained = tree.drain(Duration::from_secs(10)).await;
    assert_eq!(drained, Drained { handed_back: 0, left: 0, killed: 1 });
    assert_eq!(tree.ended().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_drain_before_anything_was_claimed_is_quick() {
    let world = World::new();
    let tree = world.tree().await;
    assert_eq!(tree.drain(Duration::from_secs(30)).await, Drained::default());
    assert_eq!(tree.drain(Duration::from_secs(30)).await, Drained::default(), "and may be repeated");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_waits_for_somebody_else_is_handed_back_when_the_grace_is_over() {
    let world = World::new();
    let tree = world.tree().await;
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.control.emit("sesn_1", Event::Idle { reason: IdleReason::RequiresAction });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tree.drain(Duration::from_secs(10)).await, Drained { handed_back: 1, left: 0, killed: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_was_left_to_the_next_process_is_not_taken_for_an_orphan() {
    let mut world = World::new();
    world.settings.on_drain = OnDrain::Leave;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let quiet = Brain::new().turn([call("q", "echo quiet")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", quiet);
    world.control.queue(ENVIRONMENT, "sesn_2", "work_2", Brain::new().turn([call("a", "sleep 140")]));
    call_started(&mut notices, "a").await;
    // Its sandbox is old enough to be an orphan when the next sweep comes.
    tokio::time::sleep(Duration::from_secs(50)).await;
    let drained = tree.drain(Duration::from_secs(120)).await;
    assert_eq!((drained.left, drained.killed), (2, 0));
    assert_eq!(world.provider.sandboxes(), ["sesn_1.1".into(), "sesn_2.1".into()]);
}

#[tokio::test(start_paused = true)]
async fn settings_that_make_no_sense_start_nothing() {
    let mut world = World::new();
    world.settings.max_sessions = 0;
    let refused = Tree::start(world.ports(), world.settings.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::NoSlots));
    world.settings.environments.clear();
    let refused = Tree::start(world.ports(), world.settings.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::NoEnvironment));
}

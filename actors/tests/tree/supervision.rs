//! Actors that fail, and what their supervisors make of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use remuda_actors::TreeError;
use remuda_actors::notice::Notice;
use remuda_actors::session::end::Outcome;
use remuda_actors::supervision::ActorKind;
use remuda_actors::testing::{Brain, Sabotage, Stage, Strike, call};
use tokio::time::sleep;

use crate::stage::{ENVIRONMENT, World, ended, next};

/// Fails an actor the first `times` times that it meets an event.
fn fail(actor: ActorKind, event: &'static str, times: usize) -> Sabotage {
    let left = Arc::new(AtomicUsize::new(times));
    Sabotage::new(move |of, met| {
        let meant = of == actor && (event == "*" || met == event);
        meant && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    })
}

fn brain() -> Brain {
    Brain::new().turn([call("a", "echo one")]).turn([call("b", "sleep 5"), call("c", "echo three")])
}

/// Every event that a session's or a sandbox's actor meets in the course of a plain session.
const EVENTS: [(ActorKind, &[&str]); 2] = [
    (
        ActorKind::Session,
        &[
            "acked",
            "retrieved",
            "beaten",
            "history",
            "live",
            "finished",
            "posted",
            "beat_due",
            "idle_due",
            "sandbox_gone",
            "stopped",
        ],
    ),
    (ActorKind::Sandbox, &["created", "call", "answered", "idle_due", "stood_by", "released", "deleted"]),
];

#[tokio::test(start_paused = true)]
async fn a_session_or_sandbox_that_fails_at_any_event_comes_back_to_the_same_lease_and_sandbox() {
    for (actor, events) in EVENTS {
        for event in events {
            let world = World::new();
            let tree = world.sabotaged(fail(actor, event, 1)).await;
            let mut notices = tree.subscribe();
            world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain());
            let failed = next(&mut notices, |notice| match notice {
                Notice::Failed { actor, restarted: true, .. } => Some(*actor),
                Notice::Ended { .. } => panic!("{actor:?} never met `{event}`"),
                _ => None,
            });
            assert_eq!(failed.await, actor, "{event}");
            let (outcome, reason) = ended(&mut notices).await;
            assert_eq!(outcome, Outcome::Finished, "{actor:?} at {event}: {reason}");
            assert_eq!(world.control.texts("sesn_1"), ["one", "sleep 5", "three"], "{actor:?} at {event}");
            assert_eq!(world.provider.runs().len(), 3, "a call ran twice: {actor:?} at {event}");
            assert!(world.provider.count("create") <= 1, "a second sandbox: {actor:?} at {event}");
            assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped), "{actor:?} at {event}");
            world.assert_clean(&tree);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_fails_too_often_is_given_up_and_its_siblings_are_not() {
    let world = World::new();
    // Fails whenever the first session is asked to run something.
    let tree = world
        .sabotaged(Sabotage::new({
            let seen = AtomicUsize::new(0);
            move |actor, event| {
                actor == ActorKind::Session && event == "history" && seen.fetch_add(1, Ordering::SeqCst) < 4
            }
        }))
        .await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain());
    let (outcome, reason) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("failed too often: sabotaged"), "{reason}");
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped), "the item is not left to hang");
    world.assert_clean(&tree);
    world.control.queue(ENVIRONMENT, "sesn_2", "work_2", Brain::new().turn([call("x", "echo fine")]));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn the_supervisor_of_sessions_takes_them_up_again_when_it_fails() {
    let world = World::new();
    let tree = world.sabotaged(fail(ActorKind::Sessions, "admit", 1)).await;
    let mut notices = tree.subscribe();
    for n in 0..10 {
        let (session, work) = (format!("sesn_{n}"), format!("work_{n}"));
        let brain = Brain::new().turn([call(&format!("c{n}"), "sleep 20")]);
        world.control.queue(ENVIRONMENT, &session, &work, brain);
    }
    for _ in 0..10 {
        let (outcome, reason) = ended(&mut notices).await;
        assert_eq!(outcome, Outcome::Finished, "{reason}");
    }
    assert_eq!(world.provider.runs().len(), 10);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_poller_or_reaper_that_fails_is_started_again() {
    for (actor, event) in
        [(ActorKind::Poller, "slot_granted"), (ActorKind::Poller, "claimed"), (ActorKind::Reaper, "sweep")]
    {
        let world = World::new();
        let tree = world.sabotaged(fail(actor, event, 1)).await;
        let mut notices = tree.subscribe();
        world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain());
        let (outcome, reason) = ended(&mut notices).await;
        assert_eq!(outcome, Outcome::Finished, "{actor:?}: {reason}");
        world.assert_clean(&tree);
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_keeps_failing_ends_the_tree_with_a_reason() {
    let world = World::new();
    let tree = world.sabotaged(fail(ActorKind::Reaper, "*", usize::MAX)).await;
    let ended = tokio::time::timeout(Duration::from_secs(600), tree.ended()).await.expect("it gives up");
    let Err(TreeError::GaveUp { cause }) = ended else { panic!("{ended:?}") };
    assert_eq!(cause, "the reaper actor failed too often: sabotaged: reaper failed at `sweep`");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_fails_its_actor_and_leaves_no_machine_waiting() {
    for operation in ["heartbeat", "history", "post", "session"] {
        let world = World::new();
        let tree = world.tree().await;
        let mut notices = tree.subscribe();
        world.control.faults.next(operation, Strike::Panic);
        world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain());
        let (outcome, reason) = ended(&mut notices).await;
        assert_eq!(outcome, Outcome::Finished, "{operation}: {reason}");
        assert_eq!(world.provider.runs().len(), 3, "{operation}");
        world.assert_clean(&tree);
    }
}

#[tokio::test(start_paused = true)]
async fn two_trees_in_one_process_do_not_know_of_each_other() {
    let (one, two) = (World::new(), World::new());
    let (first, second) = (one.tree().await, two.tree().await);
    let (mut notices_one, mut notices_two) = (first.subscribe(), second.subscribe());
    one.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain());
    two.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain());
    assert_eq!(ended(&mut notices_one).await.0, Outcome::Finished);
    drop(first);
    assert_eq!(ended(&mut notices_two).await.0, Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn every_queue_is_asked_again_however_often_the_supervisor_of_sessions_fails() {
    for times in 1..5 {
        let mut world = World::new();
        let queues: Vec<_> = (0..4).map(|n| format!("env_{n}")).collect();
        world.settings.environments = queues.iter().map(|id| id.as_str().into()).collect();
        let tree = world.sabotaged(fail(ActorKind::Sessions, "admit", times)).await;
        let mut notices = tree.subscribe();
        world.control.queue("env_0", "sesn_0", "work_0", Brain::new());
        sleep(Duration::from_secs(30)).await;
        for (n, queue) in queues.iter().enumerate().skip(1) {
            world.control.queue(queue, &format!("sesn_{n}"), &format!("work_{n}"), Brain::new());
        }
        for _ in &queues {
            ended(&mut notices).await;
        }
    }
}

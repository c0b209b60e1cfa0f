//! Sessions that are served as they should be.

use std::time::Duration;

use remuda_actors::event::{Call, CallKind, Event, IdleReason, Permission, Verdict};
use remuda_actors::notice::Notice;
use remuda_actors::ports::{CallRequest, SandboxProvider as _, SessionStatus, Target};
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{Brain, Stage, call};

use crate::stage::{ENVIRONMENT, World, call_started, ended, next, settle};

#[tokio::test(start_paused = true)]
async fn a_session_is_claimed_served_and_stopped() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "echo one")]).turn([call("b", "echo two"), call("c", "exit 3")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["one", "two", ""]);
    let kinds = world.control.answers("sesn_1").into_iter().map(|(_, kind, result)| (kind, result.is_error));
    let expected = [(CallKind::Toolset, false), (CallKind::Toolset, false), (CallKind::Toolset, true)];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn row_5_and_17_and_30_the_requests_come_in_the_right_order() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo")]));
    ended(&mut notices).await;
    let requests = world.control.requests();
    let first = |operation| requests.iter().position(|request| request.operation == operation);
    let order = ["poll", "ack", "heartbeat", "session", "stream", "history", "post", "stop"].map(first);
    assert!(order.iter().all(Option::is_some), "{requests:?}");
    assert!(order.is_sorted(), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn many_sessions_are_served_side_by_side_each_in_a_sandbox_of_its_own() {
    let mut world = World::new();
    world.settings.max_sessions = 20;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for n in 0..20 {
        let brain = Brain::new().turn([call(&format!("c{n}"), "sleep 5")]);
        world.control.queue(ENVIRONMENT, &format!("sesn_{n}"), &format!("work_{n}"), brain);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(tree.snapshot().sessions.len(), 20);
    assert_eq!(world.provider.sandboxes().len(), 20);
    for _ in 0..20 {
        assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    }
    for n in 0..20 {
        assert_eq!(world.control.texts(&format!("sesn_{n}")), ["sleep 5"]);
    }
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_claimed_than_there_are_slots() {
    let mut world = World::new();
    world.settings.max_sessions = 2;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for n in 0..5 {
        world.control.queue(ENVIRONMENT, &format!("sesn_{n}"), &format!("work_{n}"), Brain::new());
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(tree.snapshot().sessions.len(), 2);
    assert_eq!(world.control.count("ack"), 2, "an item without a slot is not taken off the queue");
    for _ in 0..5 {
        assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    }
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn several_queues_are_served() {
    let mut world = World::new();
    world.settings.environments.push("env_2".into());
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue("env_2", "sesn_2", "work_2", Brain::new());
    let environment = next(&mut notices, |notice| match notice {
        Notice::Claimed { environment, .. } => Some(environment.clone()),
        _ => None,
    });
    assert_eq!(environment.await.as_str(), "env_2");
    ended(&mut notices).await;
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_call_runs_and_a_denied_one_does_not() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let ask = |id| remuda_actors::event::Call { permission: Permission::Ask, ..call(id, "echo yes") };
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([ask("a"), ask("b")]));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.provider.runs(), [], "nothing runs without a decision, however long it takes");
    world.control.emit("sesn_1", Event::Confirmed { call: "b".into(), verdict: Verdict::Deny });
    world.control.emit("sesn_1", Event::Confirmed { call: "a".into(), verdict: Verdict::Allow });
    call_started(&mut notices, "a").await;
    settle().await;
    assert_eq!(world.control.texts("sesn_1"), ["yes"]);
    assert_eq!(world.provider.runs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_cuts_the_running_call_and_says_so() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 100")]));
    call_started(&mut notices, "a").await;
    settle().await;
    world.control.emit("sesn_1", Event::Interrupted { id: "".into(), thread: None });
    settle().await;
    assert_eq!(world.control.texts("sesn_1"), ["bash: cancelled: interrupted by the user"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_request_cuts_the_running_call_says_so_and_stops_the_item() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 1000")]));
    call_started(&mut notices, "a").await;
    world.control.ask_stop("work_1");
    assert_eq!(ended(&mut notices).await.0, Outcome::Stopped);
    assert_eq!(world.control.texts("sesn_1"), ["bash: cancelled: the session was asked to stop"]);
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn row_8_an_item_of_unknown_type_is_given_back_and_named() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue_target(ENVIRONMENT, "work_1", Target::Other("healthcheck".into()));
    let (outcome, reason) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(reason, "work of type `healthcheck` is not known; expected `session`");
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
    assert_eq!(world.provider.count("create"), 0);
}

#[tokio::test(start_paused = true)]
async fn row_28_nothing_is_run_for_a_terminated_session() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.set_status("sesn_1", SessionStatus::Terminated);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo")]));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.provider.count("create"), 0);
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
}

#[tokio::test(start_paused = true)]
async fn row_46_a_session_ends_a_minute_after_its_turn_and_not_before() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    tokio::time::sleep(Duration::from_secs(50)).await;
    world.control.emit("sesn_1", Event::Activity);
    world.control.emit("sesn_1", Event::Idle { reason: IdleReason::TurnEnded });
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(world.control.stage("work_1").map(|stage| stage == Stage::Stopped), Some(false));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn row_12_a_session_that_comes_back_under_another_item_gets_a_successor() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 100")]));
    call_started(&mut notices, "a").await;
    world.control.queue_target(ENVIRONMENT, "work_2", Target::Session("sesn_1".into()));
    let (outcome, reason) = ended(&mut notices).await;
    assert_eq!((outcome, reason.as_str()), (Outcome::Lost, "the session came back under another work item"));
    assert_eq!(world.control.count("stop"), 0, "the old item is not ours to stop");
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["sleep 100"]);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_hint_wakes_a_poller_that_pauses() {
    let mut world = World::new();
    // A server that does not hold polls, and long pauses.
    world.settings.poller.block = Duration::ZERO;
    world.settings.poller.pace = Duration::from_secs(600);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    next(&mut notices, |notice| matches!(notice, Notice::Poller { to: "pacing", .. }).then_some(())).await;
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    let before = tokio::time::Instant::now();
    tree.wake(None);
    next(&mut notices, |notice| matches!(notice, Notice::Claimed { .. }).then_some(())).await;
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_sandbox_stands_by_and_is_woken_for_the_next_call() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
    next(&mut notices, |notice| matches!(notice, Notice::Sandbox { to: "standby", .. }).then_some(())).await;
    world.control.emit("sesn_1", Event::Call(call("b", "echo two")));
    next(&mut notices, |notice| matches!(notice, Notice::Sandbox { from: "thawing", .. }).then_some(()))
        .await;
    settle().await;
    assert_eq!(world.control.texts("sesn_1"), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_in_which_somebody_elses_call_runs_does_not_stand_by() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
    call_started(&mut notices, "a").await;
    settle().await;
    let Call { id, name, input, .. } = call("foreign", "sleep 30");
    let timeout = Duration::from_secs(60);
    let request = CallRequest { call: id, tool: name, input, thread: None, again: false, timeout };
    let hand = world.provider.hand(&"sesn_1.1".into());
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert!(!world.provider.is_frozen("sesn_1.1"));
    };
    let (answered, ()) = tokio::join!(hand.call(&request), meanwhile);
    assert!(answered.is_ok());
    next(&mut notices, |notice| matches!(notice, Notice::Sandbox { to: "standby", .. }).then_some(())).await;
    assert!(world.provider.is_frozen("sesn_1.1"));
}

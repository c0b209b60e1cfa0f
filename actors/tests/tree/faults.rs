//! What the world does wrong, and what the tree makes of it.

use std::time::Duration;

use remuda_actors::event::Event;
use remuda_actors::notice::Notice;
use remuda_actors::ports::{ControlError, HandError, JournalError, ProviderError};
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{Brain, Stage, Strike, call};

use crate::stage::{ENVIRONMENT, World, call_started, ended, next, settle};

fn unavailable() -> ControlError {
    ControlError::Unavailable { status: 503, retry_after: None, message: "overloaded".to_owned() }
}

fn broken() -> ControlError {
    ControlError::Broken("cut".into())
}

fn rejected(status: u16) -> ControlError {
    ControlError::Rejected { status, message: "no".to_owned() }
}

fn timed_out() -> ProviderError {
    ProviderError::TimedOut { waited: Duration::from_secs(60) }
}

#[tokio::test(start_paused = true)]
async fn every_request_may_fail_once_or_lose_its_answer_and_nothing_is_lost_or_run_twice() {
    for operation in ["poll", "ack", "heartbeat", "stop", "session", "stream", "history", "post"] {
        for lose_answer in [false, true] {
            let world = World::new();
            let tree = world.tree().await;
            let mut notices = tree.subscribe();
            // A lost answer of a poll is a reserved item: it is offered again.
            let strike = if lose_answer { Strike::LoseAnswer(broken()) } else { Strike::Fail(unavailable()) };
            let brain = Brain::new().turn([call("a", "echo one")]).turn([call("b", "echo two")]);
            world.control.faults.next(operation, strike);
            world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
            let (outcome, reason) = ended(&mut notices).await;
            assert_eq!(outcome, Outcome::Finished, "{operation}, answer lost: {lose_answer}: {reason}");
            assert_eq!(world.control.texts("sesn_1"), ["one", "two"], "{operation}");
            assert_eq!(world.provider.runs().len(), 2, "{operation}");
            assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped), "{operation}");
            world.assert_clean(&tree);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_is_given_up_and_repeated() {
    for operation in ["poll", "ack", "heartbeat", "stop", "session", "stream", "history", "post"] {
        let world = World::new();
        let tree = world.tree().await;
        let mut notices = tree.subscribe();
        world.control.faults.next(operation, Strike::Hang);
        world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
        assert_eq!(ended(&mut notices).await.0, Outcome::Finished, "{operation}");
        assert_eq!(world.control.texts("sesn_1"), ["one"], "{operation}");
        world.assert_clean(&tree);
    }
}

#[tokio::test(start_paused = true)]
async fn row_21_a_stolen_lease_ends_the_session_without_a_post_or_a_stop() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 1000")]));
    call_started(&mut notices, "a").await;
    world.control.steal("work_1");
    assert_eq!(ended(&mut notices).await.0, Outcome::Lost);
    assert_eq!(world.control.count("stop"), 0);
    assert_eq!(world.control.count("post"), 0);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn row_22_a_control_plane_that_is_gone_for_a_ttl_costs_the_lease_and_nothing_is_stopped() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 1000")]));
    call_started(&mut notices, "a").await;
    for _ in 0..100 {
        world.control.faults.next("heartbeat", Strike::Fail(unavailable()));
    }
    let (outcome, reason) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Lost);
    assert_eq!(reason, "the lease expired: no heartbeat was accepted in time");
    assert_eq!(world.control.count("stop"), 0);
}

#[tokio::test(start_paused = true)]
async fn row_6_a_queue_that_refuses_us_is_not_asked_again_and_sessions_go_on() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 30")]));
    call_started(&mut notices, "a").await;
    let refused = ControlError::Unauthorized { status: 401, message: "revoked".to_owned() };
    world.control.faults.next("poll", Strike::Fail(refused));
    let reason = next(&mut notices, |notice| match notice {
        Notice::QueueRefused { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(reason.await, "the control plane refused our credential (HTTP 401): revoked");
    let polls = world.control.count("poll");
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.count("poll"), polls);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_is_refused_costs_nothing_but_the_try() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.faults.next("ack", Strike::Fail(rejected(404)));
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    assert_eq!(ended(&mut notices).await.0, Outcome::NotClaimed);
    assert_eq!(world.provider.count("create"), 0);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished, "it is offered again");
}

#[tokio::test(start_paused = true)]
async fn row_44_a_cut_stream_is_opened_again_and_what_was_missed_is_caught_up() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
    call_started(&mut notices, "a").await;
    settle().await;
    world.control.cut_streams("sesn_1");
    world.control.emit("sesn_1", Event::Call(call("b", "echo missed")));
    call_started(&mut notices, "b").await;
    settle().await;
    assert_eq!(world.control.texts("sesn_1"), ["one", "missed"]);
}

#[tokio::test(start_paused = true)]
async fn row_32_nothing_is_dispatched_while_the_history_cannot_be_read() {
    let world = World::new();
    let tree = world.tree().await;
    for _ in 0..3 {
        world.control.faults.next("history", Strike::Fail(unavailable()));
    }
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
    call_started(&mut notices, "a").await;
    assert_eq!(world.control.count("history"), 4);
    assert_eq!(world.control.count("stream"), 4, "the stream is opened before each listing");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_refused_is_reported_and_the_session_goes_on() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.faults.next("post", Strike::Fail(rejected(400)));
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
    let refused = next(&mut notices, |notice| match notice {
        Notice::PostRefused { call, .. } => Some(call.clone()),
        _ => None,
    });
    assert_eq!(refused.await.as_str(), "a");
    world.control.emit("sesn_1", Event::Call(call("b", "echo two")));
    call_started(&mut notices, "b").await;
    settle().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    // The agent is told that there is no result, so that it does not wait for one.
    let texts = world.control.texts("sesn_1");
    assert!(texts[0].starts_with("the result of this call could not be delivered: "), "{texts:?}");
    assert_eq!(texts[1..], ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_timed_out_but_happened_is_taken_up() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.provider.faults.next("create", Strike::LoseAnswer(timed_out()));
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.provider.count("create"), 1);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_allows_no_sandboxes_is_told_to_the_agent_and_in_the_end_ends_the_session() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let unusable = ProviderError::Unusable { what: "user namespaces are disabled".to_owned() };
    world.provider.faults.next("create", Strike::Fail(unusable));
    let turns =
        ["a", "b", "c", "d"].into_iter().fold(Brain::new(), |brain, id| brain.turn([call(id, "echo")]));
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", turns);
    let (outcome, reason) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(reason, "could not serve it: user namespaces are disabled");
    let said = "not run: no sandbox could be started: user namespaces are disabled";
    assert_eq!(world.control.texts("sesn_1")[..3], [said; 3]);
    assert_eq!(world.provider.count("create"), 1, "what can never work is not tried again");
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_vanishes_is_told_to_the_agent_and_replaced() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 10")]).turn([call("b", "echo two")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    settle().await;
    world.provider.lose("sesn_1.1");
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    let answers = world.control.answers("sesn_1");
    assert!(answers[0].2.is_error && answers[0].2.text().contains("Nobody knows how far it came"));
    assert_eq!(answers[1].2.text(), "two");
    let runs: Vec<_> =
        world.provider.runs().into_iter().map(|(sandbox, call)| format!("{sandbox} {call}")).collect();
    assert_eq!(runs, ["sesn_1.1 a", "sesn_1.2 b"]);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_hand_that_loses_its_answer_is_asked_again_and_runs_nothing_twice() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.provider.hand_faults.next("call", Strike::LoseAnswer(HandError::Broken("cut".into())));
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["one"]);
    assert_eq!(world.provider.runs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hand_that_hangs_is_given_up_with_its_sandbox() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for _ in 0..4 {
        world.provider.hand_faults.next("call", Strike::Hang);
    }
    let brain = Brain::new().turn([call("a", "echo one")]).turn([call("b", "echo two")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    let answers = world.control.answers("sesn_1");
    assert!(answers[0].2.is_error);
    assert_eq!(answers[1].2.text(), "two");
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_not_run() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let full = || JournalError::Write("no space left on device".into());
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    next(&mut notices, |notice| matches!(notice, Notice::Sandbox { to: "ready", .. }).then_some(())).await;
    world.journal.faults.next("append", Strike::Fail(full()));
    world.control.emit("sesn_1", Event::Call(call("a", "echo one")));
    next(&mut notices, |notice| matches!(notice, Notice::Posted { .. }).then_some(())).await;
    assert_eq!(
        world.control.texts("sesn_1"),
        ["not run: could not write the journal: no space left on device"]
    );
    assert_eq!(world.provider.runs(), []);
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_for_good_is_left_to_the_reaper() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for _ in 0..5 {
        world.provider.faults.next("delete", Strike::Fail(timed_out()));
    }
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.provider.sandboxes().len(), 1);
    let deleted = next(&mut notices, |notice| match notice {
        Notice::Orphan { sandbox, reason } if reason.starts_with("deleted") => Some(sandbox.clone()),
        _ => None,
    });
    assert_eq!(deleted.await.as_str(), "sesn_1.1");
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_reaps_nothing() {
    let world = World::new();
    let orphan = remuda_actors::ports::SandboxSpec {
        id: "old.1".into(),
        owner: world.settings.owner.clone(),
        session: Some("old".into()),
        image: None,
        limits: Default::default(),
        files_of: None,
    };
    remuda_actors::ports::SandboxProvider::create(&*world.provider, &orphan).await.expect("create");
    tokio::time::sleep(Duration::from_secs(600)).await;
    for _ in 0..3 {
        world.provider.faults.next("list", Strike::Fail(timed_out()));
    }
    let _tree = world.tree().await;
    tokio::time::sleep(Duration::from_secs(150)).await;
    assert_eq!(world.provider.sandboxes().len(), 1, "unknown is not empty");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.provider.sandboxes(), []);
}

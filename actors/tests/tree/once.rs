//! That no call runs twice and no answer is lost, in the corners where that is hardest.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use remuda_actors::event::{Call, Event, IdleReason};
use remuda_actors::notice::Notice;
use remuda_actors::ports::{
    ControlError, JournalError, Limits, OwnerId, ProviderError, Record, SandboxProvider, SandboxSpec, Target,
};
use remuda_actors::session::end::Outcome;
use remuda_actors::supervision::ActorKind;
use remuda_actors::testing::{Brain, Sabotage, Stage, Strike, call};
use tokio::time::sleep;

use crate::stage::{ENVIRONMENT, World, call_started, ended, next, settle};

fn unavailable() -> ControlError {
    ControlError::Unavailable { status: 503, retry_after: None, message: "overloaded".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_lost_with_its_sandbox_is_not_given_to_the_next_one_by_the_next_process() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for _ in 0..50 {
        world.control.faults.next("post", Strike::Fail(unavailable()));
    }
    let brain = Brain::new().turn([call("a", "sleep 10"), call("b", "sleep 20")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    settle().await;
    world.provider.lose("sesn_1.1");
    call_started(&mut notices, "b").await;
    sleep(Duration::from_secs(1)).await;
    drop(tree);
    sleep(Duration::from_secs(1)).await;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    let runs = world.provider.runs();
    assert_eq!(runs, [("sesn_1.1".into(), "a".into()), ("sesn_1.2".into(), "b".into())]);
    let answers = world.control.texts("sesn_1");
    assert!(answers.iter().any(|text| text.contains("Nobody knows how far it came")), "{answers:?}");
    assert!(answers.contains(&"sleep 20".to_owned()), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_stood_by_when_the_process_died_is_woken_by_the_next_call() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "echo one")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    let stands_by = |notice: &Notice| matches!(notice, Notice::Sandbox { to: "standby", .. }).then_some(());
    next(&mut notices, stands_by).await;
    drop(tree);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    world.control.emit("sesn_1", Event::Running);
    world.control.emit("sesn_1", Event::Call(call("b", "echo two")));
    let posted = next(&mut notices, |notice| matches!(notice, Notice::Posted { .. }).then_some(()));
    tokio::time::timeout(Duration::from_secs(1), posted).await.expect("at once");
    assert_eq!(world.control.texts("sesn_1"), ["one", "two"]);
    assert_eq!(world.provider.count("create"), 1);
}

#[tokio::test(start_paused = true)]
async fn every_beat_that_was_accepted_is_written_down() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 140")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    sleep(Duration::from_secs(100)).await;
    drop(tree);
    sleep(Duration::from_secs(1)).await;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.provider.runs().len(), 1);
    assert_eq!(world.control.count("ack"), 1, "the lease went on");
    assert_eq!(world.control.texts("sesn_1"), ["sleep 140"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_comes_back_under_another_item_keeps_its_running_call() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 100")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    settle().await;
    world.control.queue_target(ENVIRONMENT, "work_2", Target::Session("sesn_1".into()));
    assert_eq!(ended(&mut notices).await.0, Outcome::Lost);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.provider.runs().len(), 1);
    assert_eq!(world.control.texts("sesn_1"), ["sleep 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_lost_lease_is_not_run_again_when_the_item_comes_back_to_us() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 140")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    for _ in 0..14 {
        world.control.faults.next("heartbeat", Strike::Fail(unavailable()));
    }
    assert_eq!(ended(&mut notices).await.0, Outcome::Lost);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.provider.runs().len(), 1);
    assert_eq!(world.control.texts("sesn_1").len(), 1, "and it is answered");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_lost_lease_is_reported_as_unknown_when_its_sandbox_could_not_be_kept() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 140")]).turn([call("b", "echo two")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    for _ in 0..14 {
        world.control.faults.next("heartbeat", Strike::Fail(unavailable()));
    }
    assert_eq!(ended(&mut notices).await.0, Outcome::Lost);
    for _ in 0..5 {
        world.control.faults.next("post", Strike::Fail(unavailable()));
    }
    next(&mut notices, |notice| matches!(notice, Notice::CallFinished { .. }).then_some(())).await;
    // Nor does the next process run it.
    drop(tree);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    let runs = world.provider.runs();
    assert_eq!(runs, [("sesn_1.1".into(), "a".into()), ("sesn_1.2".into(), "b".into())]);
    let texts = world.control.texts("sesn_1");
    assert!(texts[0].contains("Nobody knows how far it came"), "{texts:?}");
    assert_eq!(texts[1..], ["two"]);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_lost_lease_is_reported_as_unknown_when_its_parked_sandbox_is_gone() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 140")]));
    call_started(&mut notices, "a").await;
    settle().await;
    let sandbox = world.provider.runs()[0].0.to_string();
    world.control.steal("work_1");
    assert_eq!(ended(&mut notices).await.0, Outcome::Lost);
    world.provider.lose(&sandbox);
    // The thief does not beat, so the item comes back.
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.provider.runs().len(), 1);
    let texts = world.control.texts("sesn_1");
    assert!(texts[0].contains("Nobody knows how far it came"), "{texts:?}");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_on_its_way_when_the_lease_is_lost_does_not_arrive() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "sleep 110")]));
    call_started(&mut notices, "a").await;
    for _ in 0..40 {
        world.control.faults.next("heartbeat", Strike::Fail(unavailable()));
    }
    world.control.faults.next("post", Strike::Delay(Duration::from_secs(20)));
    world.provider.faults.next("delete", Strike::Delay(Duration::from_secs(25)));
    sleep(Duration::from_secs(115)).await;
    assert_eq!(world.control.count("post"), 1);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(tree.snapshot().sessions[0].state, "deleting");
    assert_eq!(world.control.texts("sesn_1"), [""; 0]);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_actor_failed_while_it_was_written_down_is_written_down_again() {
    let world = World::new();
    let times = AtomicUsize::new(0);
    let sabotage = Sabotage::new(move |actor, event| {
        let is_call = actor == ActorKind::Sandbox && event == "call";
        is_call && times.fetch_add(1, Ordering::SeqCst) == 1
    });
    let tree = world.sabotaged(sabotage).await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    sleep(Duration::from_secs(1)).await;
    world.journal.faults.next("append", Strike::Delay(Duration::from_secs(1)));
    world.control.emit("sesn_1", Event::Running);
    for (id, thread) in [("a", "sthr_1"), ("b", "sthr_2")] {
        let call = Call { thread: Some(thread.into()), ..call(id, "sleep 50") };
        world.control.emit("sesn_1", Event::Call(call));
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.provider.runs().len(), 2);
    let started = world.journal.records().into_iter().filter_map(|(_, record)| match record {
        Record::CallStarted { call, .. } => Some(call.to_string()),
        _ => None,
    });
    let mut started: Vec<_> = started.collect();
    started.sort();
    assert_eq!(started, ["a", "b"]);
    next(&mut notices, |notice| matches!(notice, Notice::Posted { .. }).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_that_came_while_the_history_was_read_does_not_cut_what_came_after_it() {
    let world = World::new();
    world.control.faults.next("history", Strike::Delay(Duration::from_secs(3)));
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    sleep(Duration::from_secs(1)).await;
    world.control.emit("sesn_1", Event::Interrupted { id: "sevt_i".into(), thread: None });
    world.control.emit("sesn_1", Event::Running);
    world.control.emit("sesn_1", Event::Call(call("b", "sleep 5")));
    call_started(&mut notices, "b").await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(world.control.texts("sesn_1"), ["sleep 5"]);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_session_does_not_end_while_nothing_is_heard_of_it() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    sleep(Duration::from_secs(1)).await;
    for _ in 0..30 {
        world.control.faults.next("stream", Strike::Fail(unavailable()));
    }
    world.control.cut_streams("sesn_1");
    sleep(Duration::from_secs(1)).await;
    world.control.emit("sesn_1", Event::Running);
    world.control.emit("sesn_1", Event::Call(call("b", "echo b")));
    world.control.emit("sesn_1", Event::Idle { reason: IdleReason::RequiresAction });
    call_started(&mut notices, "b").await;
    settle().await;
    assert_eq!(world.control.texts("sesn_1"), ["b"]);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_posted_until_it_is_accepted_however_long_that_takes() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for _ in 0..60 {
        world.control.faults.next("post", Strike::Fail(unavailable()));
    }
    let brain = Brain::new().turn([call("a", "echo one")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["one"]);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_does_not_call_a_running_call_unrun() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 50")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    sleep(Duration::from_secs(5)).await;
    drop(tree);
    for _ in 0..100 {
        let full = JournalError::Write("no space left on device".into());
        world.journal.faults.next("append", Strike::Fail(full));
    }
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["sleep 50"]);
    assert_eq!(world.provider.runs().len(), 1);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_starts_together_with_us_costs_no_running_call() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 50"), call("b", "echo b")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    sleep(Duration::from_secs(5)).await;
    drop(tree);
    for _ in 0..12 {
        let what = "the daemon restarts".to_owned();
        let fault = ProviderError::Unavailable { what, source: "connection refused".into() };
        world.provider.faults.next("find", Strike::Fail(fault));
    }
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["sleep 50", "b"]);
    assert_eq!(world.provider.count("create"), 1);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_of_a_stranger_is_neither_used_nor_deleted() {
    let world = World::new();
    let (id, owner) = ("sesn_1.1".into(), OwnerId::new("another"));
    let spec = SandboxSpec {
        id,
        owner,
        session: Some("sesn_1".into()),
        image: None,
        limits: Limits::default(),
        files_of: None,
    };
    world.provider.create(&spec).await.unwrap();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "echo one")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    ended(&mut notices).await;
    assert_eq!(world.provider.runs(), []);
    assert_eq!(world.provider.sandboxes(), ["sesn_1.1".into()]);
    let answers = world.control.answers("sesn_1");
    assert!(answers[0].2.is_error && answers[0].2.text().starts_with("not run: "), "{answers:?}");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_of_a_stranger_survives_a_session_that_is_given_up_or_killed() {
    for keeps_failing in [true, false] {
        let world = World::new();
        let (id, owner) = ("sesn_1.1".into(), OwnerId::new("another"));
        let spec = SandboxSpec {
            id,
            owner,
            session: Some("sesn_1".into()),
            image: None,
            limits: Limits::default(),
            files_of: None,
        };
        world.provider.create(&spec).await.unwrap();
        // From its first answer on, the session fails whatever its successors get to know.
        let answered = AtomicBool::new(false);
        let sabotage = Sabotage::new(move |actor, event| {
            answered.fetch_or(event == "finished", Ordering::Relaxed);
            let fails = matches!(event, "finished" | "history") && answered.load(Ordering::Relaxed);
            keeps_failing && actor == ActorKind::Session && fails
        });
        let tree = world.sabotaged(sabotage).await;
        let mut notices = tree.subscribe();
        world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn([call("a", "echo one")]));
        if keeps_failing {
            assert_eq!(ended(&mut notices).await.0, Outcome::Failed);
        } else {
            let unavailable =
                |notice: &Notice| matches!(notice, Notice::SandboxUnavailable { .. }).then_some(());
            next(&mut notices, unavailable).await;
            for _ in 0..10 {
                world.provider.faults.next("find", Strike::Hang);
            }
            assert_eq!(tree.drain(Duration::ZERO).await.killed, 1);
        }
        assert_eq!(world.provider.sandboxes(), ["sesn_1.1".into()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_must_use_force_starts_nothing_again_and_takes_its_time_once() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for n in 0..4 {
        let brain = Brain::new().turn([call(&format!("c{n}"), "sleep 140")]);
        world.control.queue(ENVIRONMENT, &format!("sesn_{n}"), &format!("work_{n}"), brain);
    }
    for n in 0..4 {
        call_started(&mut notices, &format!("c{n}")).await;
    }
    for _ in 0..30 {
        world.provider.faults.next("delete", Strike::Hang);
    }
    let begun = tokio::time::Instant::now();
    let drained = tree.drain(Duration::from_secs(10)).await;
    assert_eq!(drained.killed, 4);
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    while let Ok(notice) = notices.try_recv() {
        assert!(!matches!(notice, Notice::Failed { .. } | Notice::Claimed { .. }), "{notice:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_fails_while_the_tree_drains_costs_no_grace() {
    let world = World::new();
    let times = AtomicUsize::new(0);
    let sabotage = Sabotage::new(move |actor, event| {
        actor == ActorKind::Sessions && event == "end" && times.fetch_add(1, Ordering::SeqCst) == 0
    });
    let tree = world.sabotaged(sabotage).await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 5")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    tree.drain(Duration::from_secs(30)).await;
    assert_eq!(world.control.texts("sesn_1"), ["sleep 5"]);
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
}

#[tokio::test(start_paused = true)]
async fn what_has_used_the_budget_of_retries_up_is_told_and_not_repeated() {
    use std::num::NonZeroU32;
    let mut world = World::new();
    let few = |n| NonZeroU32::new(n).expect("not zero");
    (world.settings.retries.rate.per_second, world.settings.retries.rate.burst) = (few(1), few(1));
    // What an open circuit refuses is no repetition.
    world.settings.breaker.failures = u32::MAX;
    for _ in 0..100 {
        let what = "there is no room".to_owned();
        let fault = ProviderError::Unavailable { what, source: "full".into() };
        world.provider.faults.next("create", Strike::Fail(fault));
    }
    let tree = world.tree().await;
    for n in 0..20 {
        let brain = Brain::new().turn([call(&format!("c{n}"), "echo x")]);
        world.control.queue(ENVIRONMENT, &format!("sesn_{n}"), &format!("work_{n}"), brain);
    }
    sleep(Duration::from_secs(30)).await;
    let texts: Vec<_> = (0..20).flat_map(|n| world.control.texts(&format!("sesn_{n}"))).collect();
    let told = texts.iter().filter(|text| text.contains("too much fails just now")).count();
    assert!(told >= 10, "{told} of {texts:?}");
    drop(tree);
}

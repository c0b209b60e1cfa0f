//! Sandboxes that are made ahead, sleep, wait for their sessions and come back.

use std::time::Duration;

use remuda_actors::OnDrain;
use remuda_actors::event::Event;
use remuda_actors::herd::Tier;
use remuda_actors::herd::shelf::Eviction;
use remuda_actors::notice::Notice;
use remuda_actors::ports::ProviderError;
use remuda_actors::sandbox::Background;
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{Brain, Strike, call};
use tokio::sync::broadcast::Receiver;
use tokio::time::sleep;

use crate::stage::{ENVIRONMENT, World, call_started, ended, next, settle};

fn says(session: &str, command: &str) -> Brain {
    Brain::new().turn([call(&format!("{session}-{command}"), command)])
}

/// What `pick` picks of the notices so far.
fn seen<T>(notices: &mut Receiver<Notice>, pick: impl Fn(&Notice) -> Option<T>) -> Vec<T> {
    std::iter::from_fn(|| notices.try_recv().ok()).filter_map(|notice| pick(&notice)).collect()
}

fn blanks(world: &World) -> Vec<String> {
    let all = world.provider.sandboxes().into_iter().map(|id| id.to_string());
    all.filter(|id| id.starts_with("blank.")).collect()
}

#[tokio::test(start_paused = true)]
async fn blank_sandboxes_are_made_ahead_and_a_session_takes_one() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    let ahead = blanks(&world);
    assert_eq!(ahead.len(), 2);
    assert!(ahead.iter().all(|id| world.provider.is_frozen(id)), "they stand by");
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo one >>notes"));
    call_started(&mut notices, "1-echo one >>notes").await;
    settle().await;
    assert!(ahead.contains(&world.provider.runs()[0].0.to_string()), "one of them runs the call");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(blanks(&world).len(), 3, "and another one is made");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_comes_back_finds_what_it_left_and_nobody_else_does() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo secret >>notes"));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    let first = world.provider.runs()[0].0.clone();
    assert!(world.provider.is_frozen(first.as_str()), "it waits in standby");
    for n in 2..6 {
        world.control.queue(
            ENVIRONMENT,
            &format!("sesn_{n}"),
            &format!("work_{n}"),
            says(&n.to_string(), "cat notes"),
        );
        ended(&mut notices).await;
        assert_eq!(world.control.texts(&format!("sesn_{n}")), [""], "another session sees nothing of it");
    }
    world.control.queue(ENVIRONMENT, "sesn_1", "work_9", says("9", "cat notes"));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.provider.runs().last().unwrap().0, first);
    assert_eq!(world.control.texts("sesn_1").last().unwrap(), "secret");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_parked_sandbox_does_not_wait_for_ever_and_room_is_made_for_younger_ones() {
    let mut world = World::with_herd();
    (world.settings.herd.warm, world.settings.herd.max_parked) = (0, 2);
    let tree = world.tree().await;
    let (mut notices, mut all) = (tree.subscribe(), tree.subscribe());
    for n in 1..4 {
        world.control.queue(
            ENVIRONMENT,
            &format!("sesn_{n}"),
            &format!("work_{n}"),
            says(&n.to_string(), "echo x"),
        );
        ended(&mut notices).await;
    }
    let evicted = |notice: &Notice| match notice {
        Notice::Evicted { sandbox, why } => Some((sandbox.to_string(), *why)),
        _ => None,
    };
    settle().await;
    let mut evictions = seen(&mut all, evicted);
    assert_eq!(evictions, [("sesn_1.1".to_owned(), Eviction::Crowded)]);
    sleep(Duration::from_secs(3700)).await;
    evictions = seen(&mut all, evicted);
    let waited = |n| (format!("sesn_{n}.1"), Eviction::Waited);
    assert_eq!(evictions, [waited(2), waited(3)]);
    assert_eq!(world.provider.sandboxes(), []);
    assert_eq!(world.journal.shelf(), []);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn what_waits_survives_the_death_of_the_process() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo kept >>notes"));
    ended(&mut notices).await;
    sleep(Duration::from_secs(1)).await;
    let before = world.provider.sandboxes();
    drop(tree);
    sleep(Duration::from_secs(300)).await;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(200)).await;
    assert_eq!(world.provider.sandboxes(), before, "the reaper knows them, and no more are made");
    world.control.queue(ENVIRONMENT, "sesn_1", "work_2", says("2", "cat notes"));
    ended(&mut notices).await;
    assert_eq!(world.control.texts("sesn_1").last().unwrap(), "kept");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_of_which_nothing_is_known_is_never_taken_for_blank() {
    let world = World::with_herd();
    // Killed at any moment: a blank one that was given to a session may be known to nobody afterwards.
    for n in 0..60 {
        let tree = world.tree().await;
        let session = format!("sesn_{n}");
        world.control.queue(
            ENVIRONMENT,
            &session,
            &format!("work_{n}"),
            says(&n.to_string(), &format!("echo {n} >>notes")),
        );
        sleep(Duration::from_micros(700 * n)).await;
        drop(tree);
        sleep(Duration::from_secs(150)).await;
    }
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(200)).await;
    for n in 100..104 {
        world.control.queue(
            ENVIRONMENT,
            &format!("sesn_{n}"),
            &format!("work_{n}"),
            says(&n.to_string(), "cat notes"),
        );
    }
    let mut waited_for: Vec<_> = (100..104).map(|n| format!("sesn_{n}")).collect();
    while !waited_for.is_empty() {
        let session = next(&mut notices, |notice| match notice {
            Notice::Ended { session, .. } => session.clone(),
            _ => None,
        });
        let session = session.await;
        waited_for.retain(|one| *one != session.as_str());
    }
    for n in 100..104 {
        let texts = world.control.texts(&format!("sesn_{n}"));
        assert_eq!(texts, [""], "session {n} sees another's files");
    }
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_blank_sandbox_that_cannot_be_woken_is_not_waited_for() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    for id in blanks(&world) {
        world.provider.lose(&id);
    }
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo one"));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["one"]);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_makes_none_is_asked_less_and_less_often() {
    let world = World::with_herd();
    for _ in 0..1_000 {
        let what = "there is no room".to_owned();
        let fault = ProviderError::Unavailable { what, source: "full".into() };
        world.provider.faults.next("create", Strike::Fail(fault));
    }
    let tree = world.tree().await;
    sleep(Duration::from_secs(600)).await;
    let asked = world.provider.count("create");
    assert!((10..30).contains(&asked), "{asked}");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_busy_job_holds_its_sandbox_and_an_idle_one_does_not() {
    for (load, background, frozen_after_a_minute) in [
        (0.5, Background::HoldWhileBusy, false),
        (0.01, Background::HoldWhileBusy, true),
        (0.01, Background::Hold, false),
        (0.5, Background::Freeze, true),
    ] {
        let mut world = World::new();
        world.settings.session.max_idle = None;
        world.settings.sandbox.background = background;
        let tree = world.tree().await;
        let mut notices = tree.subscribe();
        world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo one"));
        call_started(&mut notices, "1-echo one").await;
        world.provider.keep_busy("sesn_1.1", 1, load);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(world.provider.is_frozen("sesn_1.1"), frozen_after_a_minute, "{load} {background:?}");
        sleep(Duration::from_secs(660)).await;
        let held = background == Background::Hold;
        assert_eq!(world.provider.is_frozen("sesn_1.1"), !held, "{load} {background:?}");
        drop(tree);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_the_model_wakes_a_sandbox_before_the_call() {
    let mut world = World::new();
    world.settings.session.max_idle = None;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo one"));
    call_started(&mut notices, "1-echo one").await;
    sleep(Duration::from_secs(20)).await;
    assert!(world.provider.is_frozen("sesn_1.1"));
    world.control.emit("sesn_1", Event::Generating);
    settle().await;
    assert!(!world.provider.is_frozen("sesn_1.1"));
    sleep(Duration::from_secs(20)).await;
    assert!(world.provider.is_frozen("sesn_1.1"), "none came");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn files_survive_the_loss_of_a_sandbox() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain =
        Brain::new().turn([call("a", "echo kept >>notes"), call("b", "sleep 10"), call("c", "cat notes")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "b").await;
    for _ in 0..4 {
        world
            .provider
            .hand_faults
            .next("call", Strike::Fail(remuda_actors::ports::HandError::Broken("gone".into())));
    }
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    let texts = world.control.texts("sesn_1");
    assert!(texts.contains(&"kept".to_owned()), "{texts:?}");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_leaves_is_continued_by_the_next_one() {
    let mut world = World::with_herd();
    world.settings.on_drain = OnDrain::Leave;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "sleep 5"), call("b", "echo two")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    let slow = Brain::new().turn([call("c", "sleep 100")]);
    world.control.queue(ENVIRONMENT, "sesn_2", "work_2", slow);
    call_started(&mut notices, "c").await;
    settle().await;
    let drained = tree.drain(Duration::from_secs(30)).await;
    assert_eq!((drained.left, drained.handed_back, drained.killed), (2, 0, 0));
    assert_eq!(world.control.texts("sesn_1"), ["sleep 5"], "what ran was answered, and no more begun");
    assert_eq!(world.control.count("stop"), 0);
    drop(tree);
    sleep(Duration::from_secs(20)).await;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["sleep 5", "two"]);
    assert_eq!(world.control.texts("sesn_2"), ["sleep 100"]);
    assert_eq!(world.provider.runs().len(), 3, "nothing ran twice");
    assert_eq!(world.control.count("ack"), 2, "the leases went on");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_what_waits_for_whom_and_what_it_holds() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo one >>notes"));
    ended(&mut notices).await;
    sleep(Duration::from_secs(7)).await;
    let herd = tree.snapshot().herd;
    assert_eq!((herd.making, herd.leaving), (0, 0));
    let tiers: Vec<_> = herd.waiting.iter().map(|waiting| waiting.tier).collect();
    assert_eq!(tiers, [Tier::Blank, Tier::Blank, Tier::Parked]);
    assert!(herd.waiting[..2].iter().all(|blank| blank.session.is_none() && blank.disk_bytes.is_none()));
    let parked = &herd.waiting[2];
    assert_eq!(parked.session, Some("sesn_1".into()));
    assert_eq!(parked.sandbox, world.provider.runs()[0].0);
    assert_eq!(
        (parked.waited.as_secs(), parked.disk_bytes, parked.memory_bytes),
        (7, Some(4), Some(1 << 20))
    );
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_blank_one_whose_name_is_a_sessions_already_costs_that_session_nothing() {
    // The same seed as the process before: it draws the same names.
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "sleep 100"));
    call_started(&mut notices, "1-sleep 100").await;
    sleep(Duration::from_secs(1)).await;
    drop(tree);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_2", "work_2", says("2", "echo two"));
    let taken = next(&mut notices, |notice| match notice {
        Notice::NotMade { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert!(taken.await.contains("exists already"));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["sleep 100"]);
    assert_eq!(blanks(&world).len(), 4, "two that are parked, and two ahead");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_silent_for_too_long_is_let_go() {
    let mut world = World::new();
    world.settings.session.max_silence = Some(Duration::from_secs(600));
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    sleep(Duration::from_secs(1)).await;
    world.control.emit("sesn_1", Event::Running);
    sleep(Duration::from_secs(550)).await;
    world.control.emit("sesn_1", Event::Running);
    sleep(Duration::from_secs(550)).await;
    assert_eq!(tree.snapshot().sessions.len(), 1, "there was a sign of life");
    let (outcome, reason) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Finished);
    assert!(reason.contains("nothing was heard of it"), "{reason}");
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_goes_for_good_leaves_nothing_waiting() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo one"));
    ended(&mut notices).await;
    assert_eq!(world.provider.sandboxes().len(), 3);
    tree.drain(Duration::from_secs(30)).await;
    assert_eq!(world.provider.sandboxes(), []);
    assert_eq!(world.journal.shelf(), []);
}

#[tokio::test(start_paused = true)]
async fn a_blank_sandbox_whose_taking_was_not_written_down_is_not_used() {
    let world = World::with_herd();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    sleep(Duration::from_secs(1)).await;
    // The item is claimed and acknowledged, beaten for, and then a sandbox is intended.
    for _ in 0..3 {
        world.journal.faults.next("append", Strike::Delay(Duration::ZERO));
    }
    world.journal.faults.next("append", Strike::Hang);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", says("1", "echo one"));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["one"]);
    let (used, _) = &world.provider.runs()[0];
    assert_eq!(used.as_str(), "sesn_1.1", "the blank one is still on the shelf of the journal");
    drop(tree);
}

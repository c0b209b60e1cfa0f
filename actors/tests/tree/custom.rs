//! Tools that the operator has declared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use remuda_actors::event::{Call, CallKind, Event, Input};
use remuda_actors::notice::Notice;
use remuda_actors::ports::{CustomPlace, CustomTool, JournalError};
use remuda_actors::session::Effects;
use remuda_actors::session::end::Outcome;
use remuda_actors::supervision::ActorKind;
use remuda_actors::testing::{Brain, FakeInsideTool, FakeTool, Fate, Sabotage, Strike, call};
use serde_json::value::RawValue;
use tokio::time::sleep;

use crate::stage::{ENVIRONMENT, World, call_started, ended, next, settle};

fn custom(id: &str, name: &str, input: &str) -> Call {
    let input = Input::Json(RawValue::from_string(input.to_owned()).expect("it is JSON").into());
    Call { kind: CallKind::Custom, name: name.into(), input, ..call(id, "") }
}

/// A world in which `order` and `look` are outside, the latter only looks, and `make` is in sandboxes.
fn world() -> (World, FakeTool) {
    let (mut world, tool) = (World::new(), FakeTool::new());
    let outside = || CustomTool {
        timeout: Some(Duration::from_secs(30)),
        place: CustomPlace::Outside(Arc::new(tool.clone())),
    };
    let inside = CustomTool {
        timeout: Some(Duration::from_secs(7)),
        place: CustomPlace::Inside(Arc::new(FakeInsideTool)),
    };
    world.settings.session.declare("order".into(), outside(), Effects::Unknown);
    world.settings.session.declare("look".into(), outside(), Effects::None);
    world.settings.session.declare("make".into(), inside, Effects::Unknown);
    (world, tool)
}

#[tokio::test(start_paused = true)]
async fn row_35_a_custom_tool_outside_is_answered_by_its_own_kind_of_result_and_needs_no_sandbox() {
    let (world, tool) = world();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([call("a", "echo one")]).turn([custom("b", "order", r#"{"seconds":25}"#)]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "b").await;
    sleep(Duration::from_secs(20)).await;
    assert!(world.provider.is_frozen("sesn_1.1"), "the sandbox sleeps meanwhile");
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["one", "order"]);
    let kinds = world.control.answers("sesn_1").into_iter().map(|(_, kind, _)| kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [CallKind::Toolset, CallKind::Custom]);
    assert_eq!(tool.calls(), [("b".into(), Fate::Answered)]);
    assert_eq!(world.provider.runs().len(), 1);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_custom_tool_inside_runs_in_the_sandbox_within_its_own_time() {
    let (world, tool) = world();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([custom("a", "make", r#"{"command":"echo made"}"#)]);
    let brain = brain.turn([custom("b", "make", r#"{"command":"sleep 8"}"#)]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    assert_eq!(world.control.texts("sesn_1"), ["made", "bash: timed out"]);
    assert!(world.control.answers("sesn_1").iter().all(|(_, kind, _)| *kind == CallKind::Custom));
    assert_eq!(world.provider.runs().len(), 2);
    assert_eq!(tool.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn row_40_a_name_that_nobody_declared_stays_pending() {
    let (world, tool) = world();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([custom("a", "nobodys", "{}"), custom("b", "order", "{}")]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "b").await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.control.awaited("sesn_1"), ["a".into()]);
    assert_eq!(tool.calls(), [("b".into(), Fate::Answered)]);
    assert_eq!(tree.snapshot().sessions.len(), 1, "its client may still answer, so the session goes on");
}

#[tokio::test(start_paused = true)]
async fn a_call_outside_ends_when_its_time_is_up_or_the_user_interrupts() {
    let (world, tool) = world();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let forever = r#"{"seconds":1000}"#;
    let brain = Brain::new().turn([custom("a", "order", forever)]).turn([custom("b", "order", forever)]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "b").await;
    sleep(Duration::from_secs(5)).await;
    world.control.emit("sesn_1", Event::Interrupted { id: "".into(), thread: None });
    settle().await;
    assert_eq!(
        world.control.texts("sesn_1"),
        [
            "order: timed out after 30s; nobody knows how far the call came",
            "order: the call was cancelled (interrupted by the user)"
        ]
    );
    assert_eq!(tool.calls(), [("a".into(), Fate::Dropped), ("b".into(), Fate::Dropped)]);
    assert!(world.control.answers("sesn_1").iter().all(|(_, _, result)| result.is_error));
}

#[tokio::test(start_paused = true)]
async fn a_call_outside_is_not_made_again_by_the_next_process_unless_it_only_looks() {
    let (world, tool) = world();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let slow = r#"{"seconds":20}"#;
    let threads = [("a", "order", "sthr_1"), ("b", "look", "sthr_2")];
    let calls =
        threads.map(|(id, name, thread)| Call { thread: Some(thread.into()), ..custom(id, name, slow) });
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new().turn(calls));
    call_started(&mut notices, "a").await;
    sleep(Duration::from_secs(5)).await;
    drop(tree);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    let texts = world.control.texts("sesn_1");
    let lost =
        "order: contact was lost while this call ran. Nobody knows how far it came; it was not run again";
    assert_eq!(texts, [lost, "look"]);
    let calls = tool.calls();
    assert_eq!(calls.iter().filter(|(id, _)| id.as_str() == "a").count(), 1, "{calls:?}");
    assert_eq!(calls.iter().filter(|(id, _)| id.as_str() == "b").count(), 2, "{calls:?}");
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_call_outside_is_not_made_again_when_its_session_failed() {
    let (world, tool) = world();
    let strikes = AtomicUsize::new(0);
    let sabotage = Sabotage::new(move |actor, event| {
        actor == ActorKind::Session && event == "live" && strikes.fetch_add(1, Ordering::SeqCst) == 0
    });
    let tree = world.sabotaged(sabotage).await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([custom("a", "order", r#"{"seconds":20}"#)]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    world.control.emit("sesn_1", Event::Activity);
    next(&mut notices, |notice| matches!(notice, Notice::Posted { .. }).then_some(())).await;
    assert!(world.control.texts("sesn_1")[0].contains("it was not run again"));
    assert_eq!(tool.calls(), [("a".into(), Fate::Dropped)]);
}

#[tokio::test(start_paused = true)]
async fn row_27_a_lost_lease_ends_a_call_outside_and_nothing_is_posted() {
    let (mut world, tool) = world();
    for tool in world.settings.session.custom.values_mut() {
        tool.timeout = Some(Duration::from_secs(300));
    }
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let brain = Brain::new().turn([custom("a", "order", r#"{"seconds":200}"#)]);
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    call_started(&mut notices, "a").await;
    settle().await;
    // It ends with the lease, and not with the session, which has to see to its sandbox.
    world.provider.faults.next("delete", Strike::Delay(Duration::from_secs(20)));
    world.control.steal("work_1");
    next(&mut notices, |notice| matches!(notice, Notice::Session { to: "deleting", .. }).then_some(())).await;
    settle().await;
    assert_eq!(tool.calls(), [("a".into(), Fate::Dropped)]);
    assert_eq!(ended(&mut notices).await.0, Outcome::Lost);
    assert_eq!(world.control.texts("sesn_1"), [""; 0]);
    drop(tree);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_not_asked_for() {
    let (world, tool) = world();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    sleep(Duration::from_secs(1)).await;
    world.journal.faults.next("append", Strike::Fail(JournalError::Write("no space left".into())));
    world.control.emit("sesn_1", Event::Running);
    world.control.emit("sesn_1", Event::Call(custom("a", "order", "{}")));
    next(&mut notices, |notice| matches!(notice, Notice::Posted { .. }).then_some(())).await;
    assert_eq!(tool.calls(), []);
    let texts = world.control.texts("sesn_1");
    assert!(texts[0].starts_with("not run: could not write the journal"), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_while_it_is_written_down_is_not_asked_for() {
    let (world, tool) = world();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_1", "work_1", Brain::new());
    sleep(Duration::from_secs(1)).await;
    world.journal.faults.next("append", Strike::Delay(Duration::from_secs(2)));
    world.control.emit("sesn_1", Event::Running);
    world.control.emit("sesn_1", Event::Call(custom("a", "order", "{}")));
    settle().await;
    world.control.emit("sesn_1", Event::Interrupted { id: "".into(), thread: None });
    next(&mut notices, |notice| matches!(notice, Notice::Posted { .. }).then_some(())).await;
    assert_eq!(tool.calls(), []);
    assert_eq!(world.control.texts("sesn_1"), ["not run: interrupted by the user"]);
}

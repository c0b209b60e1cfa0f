//! How it ends: drained, in a hurry, or in the middle of something.

use remuda::emulator::{CallRequest, Operation};
use remuda_actors::ids::CallId;
use rustix::process::Signal;
use serde_json::json;

use crate::bench::{Bench, PATIENCE, Running, finish, until};

/// Waits until a sandbox's hand has heard of a call.
async fn is_with_the_hand(running: &Running, call: &CallId) {
    until("the call is with the hand", || {
        let journals = running.sandboxes().into_iter().map(|folder| folder.join("files/calls"));
        journals
            .flat_map(std::fs::read_dir)
            .flatten()
            .flatten()
            .any(|file| std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains(call.as_str())))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_nothing_goes_on_it_ends_at_once() {
    let bench = Bench::new().await;
    for signal in [Signal::TERM, Signal::INT] {
        let running = bench.run(&[]);
        let polls = bench.emulator.log().of(Operation::Poll).len();
        until("it polls", || bench.emulator.log().of(Operation::Poll).len() > polls).await;
        running.signal(signal);
        assert_eq!(running.ended().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_63_told_to_stop_in_the_middle_of_a_turn_it_lets_the_turn_finish() {
    const SLOW: &str = "
name: slow
turns:
  - message: go
    steps:
      - call: { tool: bash, input: { command: sleep 1; echo one }, expect: { text: one } }
      - call: { tool: bash, input: { command: echo two }, expect: { text: two } }
";
    let bench = Bench::playing(&[("slow", SLOW)]).await;
    let running = bench.run(&[]);
    let session = bench.play("slow");
    let called = || session.timing().and_then(|timing| timing.calls.front().map(|call| call.call.clone()));
    until("a call is made", || called().is_some()).await;
    is_with_the_hand(&running, &called().unwrap()).await;
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(session.verdict().unwrap().passed());
    assert_eq!(session.live_work(), None, "its item is stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_grace_period_is_cut_and_handed_back() {
    let bench = Bench::new().await;
    let running = bench.run(&["--grace", "500ms"]);
    let session = bench.session();
    let calls =
        session.call(vec![CallRequest::tool("bash", json!({"command": "echo begun; sleep 100"}))]).unwrap();
    is_with_the_hand(&running, &calls[0]).await;
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(75), "{ended:?}");
    let resolved = session.wait_resolved(&calls[0], PATIENCE).await.unwrap();
    assert!(
        resolved.result.text().contains("the call was cancelled (the worker is shutting down)"),
        "{resolved:?}"
    );
    assert!(session.live_work().is_some(), "its item lapses to another worker");
    assert!(bench.emulator.log().of(Operation::Stop).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_aborts_and_the_next_start_finds_what_was_left() {
    let bench = Bench::new().await;
    let running = bench.run(&[]);
    let session = bench.session();
    let calls = session.call(vec![CallRequest::tool("bash", json!({"command": "sleep 100"}))]).unwrap();
    is_with_the_hand(&running, &calls[0]).await;
    let left = running.sandboxes();
    running.signal(Signal::TERM);
    running.signal(Signal::INT);
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert_eq!(left.len(), 1);
    assert!(left[0].join("sandbox.json").exists(), "it was left as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_on_one_state_directory_are_one_too_many() {
    let bench = Bench::new().await;
    let running = bench.run(&[]);
    until("it polls", || !bench.emulator.log().of(Operation::Poll).is_empty()).await;
    let second = finish(&mut bench.command(&[])).await;
    assert_eq!(second.code, Some(78));
    assert!(second.stderr.contains("is in use by another remuda"), "{}", second.stderr);
    assert_eq!(running.stop().await.code, Some(0));
}

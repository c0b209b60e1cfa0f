//! Brains: scenarios played against a worker made of a closure, their verdicts, and the shell.

use std::sync::Arc;
use std::time::Duration;

use remuda::emulator::scenario::{Mismatch, Outcome, Scenario, Verdict};
use remuda::emulator::{Event, Options, SessionHandle};
use serde_json::{Value, json};

use super::client::{PATIENCE, Stand, next, result};

/// Plays a scenario with a worker that answers each call with what `answer` returns for its command, and
/// posts nothing for none.
async fn play(yaml: &str, answer: impl Fn(&Value) -> Option<&'static str>) -> (Verdict, Vec<Arc<Event>>) {
    let scenario = Scenario::parse("test", yaml).unwrap();
    let stand = Stand::new(Options { scenarios: vec![scenario.clone()], ..Options::default() }).await;
    let agent = stand.emulator.create_agent("scripted").unwrap();
    let session = stand.emulator.create_scenario(&stand.environment.id, &agent, &scenario.name, &[]).unwrap();
    let mut stream = session.subscribe().unwrap();
    let path = format!("/v1/sessions/{}/events", session.id());
    let serve = async {
        while let Some(event) = next(&mut stream).await {
            let call = event.value();
            let command = &call["input"]["command"];
            let gated = call["evaluated_permission"] == "ask";
            if event.kind() == "user.tool_confirmation" && call["result"] == "allow" {
                stand
                    .post(stand.key(), &path, result(call["tool_use_id"].as_str().unwrap(), "allowed"))
                    .await;
            }
            if event.kind() == "agent.tool_use"
                && !gated
                && let Some(text) = answer(command)
            {
                stand.post(stand.key(), &path, result(event.id(), text)).await;
            }
        }
    };
    let verdict = tokio::select! {
        verdict = session.wait_verdict(PATIENCE) => verdict.unwrap_or_else(|| panic!("{:?}", session.verdict())),
        () = serve => session.wait_verdict(PATIENCE).await.expect("the stream ends with the session"),
    };
    (verdict, session.events())
}

fn failed(verdict: &Verdict) -> &Mismatch {
    match &verdict.outcome {
        Outcome::Failed(mismatch) => mismatch,
        other => panic!("{other:?}"),
    }
}

fn kinds(events: &[Arc<Event>]) -> Vec<&str> {
    events.iter().map(|event| event.kind()).collect()
}

#[tokio::test]
async fn a_turn_looks_like_the_services() {
    let yaml = "
name: one
turns:
  - message: go
    steps: [ { wait: 10ms }, { call: { tool: bash, input: { command: ls }, expect: { text: a } } }, { say: done } ]
";
    let (verdict, events) = play(yaml, |_| Some("a")).await;
    assert!(verdict.passed(), "{verdict:?}");
    let expected = [
        "user.message",
        "session.status_running",
        "span.model_request_start",
        "agent.tool_use",
        "span.model_request_end",
        "session.status_idle",
        "user.tool_result",
        "session.status_running",
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.status_idle",
    ];
    assert_eq!(kinds(&events), expected);
    let start = events[2].id();
    let end = events[4].value();
    assert_eq!(end["model_request_start_id"], start);
    assert!(end["model_usage"]["output_tokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn the_first_mismatch_is_the_verdict_and_ends_the_scenario() {
    let yaml = "
name: wrong
turns:
  - { message: go, steps: [ { say: hello } ] }
  - message: on
    steps:
      - call: { tool: bash, input: { command: one }, expect: { text: one } }
      - call: { tool: bash, input: { command: two }, expect: { text: two } }
      - call: { tool: bash, input: { command: three } }
";
    let (verdict, events) = play(yaml, |command| (command != "two").then_some("one").or(Some("2"))).await;
    let mismatch = failed(&verdict);
    assert_eq!((mismatch.turn, mismatch.call.as_deref()), (2, Some("step 2, bash")));
    assert_eq!(mismatch.expected, "the text \"two\"");
    assert!(mismatch.got.contains("\"2\""), "{mismatch:?}");
    assert!(!events.iter().any(|event| event.value()["input"]["command"] == "three"));
    assert_eq!(events.last().unwrap().value()["stop_reason"]["type"], "end_turn");
}

#[tokio::test]
async fn a_result_that_does_not_come_in_time_is_a_mismatch() {
    let yaml = "
name: late
turns: [ { message: go, steps: [ { call: { tool: bash, within: 100ms } } ] } ]
";
    let (verdict, _) = play(yaml, |_| None).await;
    let mismatch = failed(&verdict);
    assert_eq!((mismatch.expected.as_str(), mismatch.got.as_str()), ("a result within 100ms", "none"));
    assert_eq!(mismatch.call.as_deref(), Some("step 1, bash"));
}

#[tokio::test]
async fn confirmations_answers_and_threads_are_played_by_the_emulator_itself() {
    let yaml = "
name: clients
turns:
  - message: go
    steps:
      - open_thread: helper
      - calls:
          - { tool: bash, permission: ask, confirm: { result: allow, after: 20ms }, expect: { text: allowed } }
          - { tool: bash, permission: ask, confirm: { result: deny } }
          - { custom: order, answer: { text: shipped, after: 10ms }, expect: { text: shipped } }
          - { tool: web_search, answer: { by: server, text: sunny }, expect: { text: sunny } }
          - { tool: bash, thread: helper, expect: { text: mine } }
      - close_thread: helper
";
    let (verdict, events) = play(yaml, |_| Some("mine")).await;
    assert!(verdict.passed(), "{verdict:?}");
    let kinds = kinds(&events);
    for kind in ["user.custom_tool_result", "agent.tool_result", "session.thread_status_terminated"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
}

#[tokio::test]
async fn a_worker_that_answers_what_is_not_its_own_fails_the_scenario() {
    let held = "name: held\nturns: [ { message: go, steps: [ { call: { tool: bash, permission: ask, confirm: { result: allow, after: 300ms } } } ] } ]";
    let denied = "name: denied\nturns: [ { message: go, steps: [ { call: { tool: bash, permission: deny } }, { wait: 300ms } ] } ]";
    let foreign = "name: foreign\nturns: [ { message: go, steps: [ { call: { tool: other, answer: { text: x, after: 300ms } } } ] } ]";
    for (yaml, expected) in [
        (held, "no result for the call of bash before its confirmation"),
        (denied, "no result for the denied call of bash"),
        (foreign, "no answer of the worker to other, which it does not own"),
    ] {
        let scenario = Scenario::parse("test", yaml).unwrap();
        let stand = Stand::new(Options { scenarios: vec![scenario.clone()], ..Options::default() }).await;
        let agent = stand.emulator.create_agent("scripted").unwrap();
        let session =
            stand.emulator.create_scenario(&stand.environment.id, &agent, &scenario.name, &[]).unwrap();
        let mut stream = session.subscribe().unwrap();
        let path = format!("/v1/sessions/{}/events", session.id());
        let call = loop {
            let event = next(&mut stream).await.unwrap();
            if event.kind() == "agent.tool_use" {
                break event;
            }
        };
        stand.post(stand.key(), &path, result(call.id(), "too eager")).await;
        let verdict = session.wait_verdict(PATIENCE).await.unwrap();
        assert_eq!(failed(&verdict).expected, expected);
    }
}

#[tokio::test]
async fn turns_wake_queue_interrupt_and_end_as_planned() {
    let yaml = "
name: turns
turns:
  - { message: one, steps: [ { say: first } ] }
  - message: two
    after: 50ms
    steps:
      - call:
          tool: bash
          input: { command: stuck }
          meanwhile: [ { after: 10ms, do: { message: three } }, { after: 30ms, do: interrupt } ]
          expect: { resolution: interrupted }
      - say: never said
  - { steps: [ { say: third } ], end: refusal }
  - { message: four, steps: [], end: delete }
";
    let (verdict, events) = play(yaml, |_| None).await;
    assert!(verdict.passed(), "{verdict:?}");
    let texts: Vec<String> = events
        .iter()
        .filter_map(|event| event.value()["content"][0]["text"].as_str().map(str::to_owned))
        .collect();
    let expected = ["one", "first", "two", "The tool call was interrupted.", "three", "third", "four"];
    assert_eq!(texts, expected);
    assert_eq!(events.last().unwrap().kind(), "session.deleted");
}

#[tokio::test]
async fn an_interrupt_nobody_planned_fails_the_scenario() {
    let yaml = "
name: cut
turns:
  - { message: go, steps: [ { call: { tool: bash, meanwhile: [ { do: interrupt } ] } } ] }
";
    let (verdict, _) = play(yaml, |_| None).await;
    assert_eq!(failed(&verdict).got, "it was interrupted");
}

#[tokio::test]
async fn a_scenario_fails_with_a_session_that_ends_before_it() {
    let ends: [fn(&SessionHandle); 4] = [
        |session| session.terminate().unwrap(),
        |session| session.interrupt().unwrap(),
        |session| session.archive().unwrap(),
        |session| session.delete().unwrap(),
    ];
    let yaml = "name: long\nturns: [ { message: go, steps: [ { call: { tool: bash } } ] } ]";
    for (n, end) in ends.into_iter().enumerate() {
        let scenarios = vec![Scenario::parse("test", yaml).unwrap()];
        let stand = Stand::new(Options { scenarios, ..Options::default() }).await;
        let agent = stand.emulator.create_agent("scripted").unwrap();
        let session = stand.emulator.create_scenario(&stand.environment.id, &agent, "long", &[]).unwrap();
        let mut stream = session.subscribe().unwrap();
        // Paused, so that it can be archived and deleted.
        while next(&mut stream).await.unwrap().value()["stop_reason"]["type"] != "requires_action" {}
        end(&session);
        let verdict = session.wait_verdict(PATIENCE).await.unwrap();
        let how = ["terminated", "interrupted", "archived", "deleted"][n];
        assert!(failed(&verdict).got.ends_with(how), "{verdict:?}");
    }
}

#[tokio::test]
async fn the_verdict_can_be_asked_for_over_http_even_of_a_deleted_session() {
    let stand = Stand::new(Options::default()).await;
    let agent = stand.emulator.create_agent("scripted").unwrap();
    let session = stand.emulator.create_scenario(&stand.environment.id, &agent, "program", &[]).unwrap();
    let path = format!("/_emulator/sessions/{}", session.id());
    let told = stand.get(stand.api_key(), &path).await.json();
    assert_eq!(told["verdict"], json!({"scenario": "program", "outcome": "running", "turn": 1}));
    assert_eq!(told["live_work"], session.live_work().unwrap().as_str());
    session.interrupt().unwrap();
    session.delete().unwrap();
    let told = stand.get(stand.api_key(), &path).await.json();
    assert_eq!(told["verdict"]["outcome"], "failed");
    assert_eq!(stand.get(stand.api_key(), "/_emulator/sessions/sesn_none").await.status, 404);
}

#[tokio::test]
async fn the_shell_runs_each_line_and_replies_with_what_they_print() {
    let stand = Stand::new(Options::default()).await;
    let session: SessionHandle = stand.shell("echo one\n\necho two");
    let mut stream = session.subscribe().unwrap();
    let path = format!("/v1/sessions/{}/events", session.id());
    let mut seen: Vec<Value> = session.events().iter().map(|event| event.value()).collect();
    let mut answered = 0;
    loop {
        for call in seen.iter().filter(|event| event["type"] == "agent.tool_use").skip(answered) {
            answered += 1;
            let text = call["input"]["command"].as_str().unwrap().replace("echo ", "");
            let posted = stand.post(stand.key(), &path, result(call["id"].as_str().unwrap(), &text)).await;
            assert_eq!(posted.status, 200);
        }
        if seen.last().is_some_and(|event| event["stop_reason"]["type"] == "end_turn") {
            break;
        }
        let event = next(&mut stream).await.unwrap().value();
        if !seen.iter().any(|known| known["id"] == event["id"]) {
            seen.push(event);
        }
    }
    assert_eq!(answered, 2);
    let reply = seen.iter().find(|event| event["type"] == "agent.message").unwrap();
    assert_eq!(reply["content"][0]["text"], "one\ntwo");
    assert_eq!(session.wait_idle(Duration::ZERO).await, Some(()));
}

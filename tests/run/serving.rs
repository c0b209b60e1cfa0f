//! Sessions that are served, also when something odd comes along.

use remuda::emulator::{CallRequest, FaultAction, FaultRule, Injection, Operation, Options, StopReason};
use serde_json::json;

use crate::bench::{Bench, PATIENCE, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_served_from_its_message_to_its_stopped_item() {
    let bench = Bench::new().await;
    let running = bench.run(&["--max-idle", "300ms"]);
    let session =
        bench.emulator.create_session(&bench.environment.id, &bench.agent, "echo hello; id -un").unwrap();
    session.wait_idle(PATIENCE).await.expect("its turn ends");
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    let said = session.events().into_iter().filter(|event| event.kind() == "agent.message");
    let said: Vec<_> = said.map(|event| String::from_utf8(event.json().to_vec()).unwrap()).collect();
    assert!(said[0].contains("hello\\nagent"), "{said:?}");
    assert_eq!(running.sandboxes(), Vec::<std::path::PathBuf>::new(), "its sandbox is gone");
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_scenarios_pass() {
    let bench = Bench::new().await;
    let running = bench.run(&["--max-idle", "300ms", "--standby-after", "50ms"]);
    for session in ["program", "server", "permissions"].map(|scenario| bench.play(scenario)) {
        let verdict = session.wait_verdict(PATIENCE).await.expect("it comes to its end");
        assert!(verdict.passed(), "{verdict:?}");
    }
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_event_in_the_stream_costs_nothing() {
    let bench = Bench::new().await;
    let broken = "event: agent.tool_use\ndata: {\"id\": \"sevt_broken\", \"type\": \"agent.tool_u\n\n";
    let inject = FaultAction::Inject(Injection { after: 1, raw: broken.to_owned() });
    bench.emulator.faults().add(FaultRule::on(Operation::StreamEvents).times(1).then(inject)).unwrap();
    let running = bench.run(&["--max-idle", "300ms"]);
    let session = bench.play("program");
    let verdict = session.wait_verdict(PATIENCE).await.expect("it comes to its end");
    assert!(verdict.passed(), "{verdict:?}");
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("an event of the stream cannot be read; the history is read again"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_an_unknown_type_is_given_back_and_named() {
    let bench = Bench::new().await;
    bench.emulator.enqueue(&bench.environment.id, "healthcheck", "hc_1").unwrap();
    let running = bench.run(&[]);
    until("the item is stopped", || !bench.emulator.log().of(Operation::Stop).is_empty()).await;
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("work of type `healthcheck` is not known; expected `session`"),
        "{}",
        ended.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_told_to_the_agent() {
    let bench = Bench::new().await;
    let running = bench.run(&["--max-idle", "300ms"]);
    let session = bench.session();
    let calls = session
        .call(vec![
            CallRequest::tool("read", json!({"file_path": 5})),
            CallRequest::tool("bash", json!({"command": ["ls"]})),
            CallRequest::tool("edit", json!({"file_path": "x"})),
        ])
        .unwrap();
    let mut answers = Vec::new();
    for call in &calls {
        let resolved = session.wait_resolved(call, PATIENCE).await.expect("it is answered");
        assert!(resolved.result.is_error);
        answers.push(resolved.result.text());
    }
    assert!(answers[0].starts_with("read: ") && answers[0].contains("file_path"), "{answers:?}");
    assert!(answers[1].starts_with("bash: ") && answers[1].contains("command"), "{answers:?}");
    assert!(answers[2].starts_with("edit: ") && answers[2].contains("old_string"), "{answers:?}");
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_running_call_and_the_session_goes_on() {
    let bench = Bench::new().await;
    let running = bench.run(&["--max-idle", "300ms"]);
    let session = bench.session();
    let begun = std::time::Instant::now();
    let calls =
        session.call(vec![CallRequest::tool("bash", json!({"command": "echo started; sleep 100"}))]).unwrap();
    let folder = || running.sandboxes().pop();
    until("there is a sandbox", || folder().is_some()).await;
    until("the call is with the hand", || {
        let journal = folder().map(|folder| folder.join("files/calls")).into_iter();
        journal.flat_map(std::fs::read_dir).flatten().flatten().any(|file| {
            std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains(calls[0].as_str()))
        })
    })
    .await;
    session.interrupt().unwrap();
    let calls = session.call(vec![CallRequest::tool("bash", json!({"command": "echo again"}))]).unwrap();
    let resolved = session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered");
    assert!(resolved.result.text().ends_with("again"), "{resolved:?}");
    assert!(begun.elapsed().as_secs() < 60, "the first call was not waited for");
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_request_ends_the_session() {
    // The next beat brings the word, so the leases here ask for a quick one.
    let lease_ttl = std::time::Duration::from_secs(2);
    let bench = Bench::with(Options { lease_ttl, ..Options::default() }).await;
    let running = bench.run(&[]);
    let session = bench.session();
    let work = session.live_work().unwrap();
    until("it is held", || {
        bench.emulator.log().of(Operation::Heartbeat).iter().any(|beat| beat.status() == Some(200))
    })
    .await;
    let stop = format!("{}/v1/environments/{}/work/{work}/stop", bench.emulator.url(), bench.environment.id);
    let stop = reqwest::Client::new()
        .post(stop)
        .bearer_auth(bench.emulator.api_key())
        .body("{}")
        .send()
        .await
        .unwrap();
    assert!(stop.status().is_success());
    session.wait_released(PATIENCE).await.expect("it is stopped");
    let stops = bench.emulator.log().of(Operation::Stop);
    assert_eq!(stops.last().unwrap().json(), json!({"force": true}));
    assert_eq!(running.stop().await.code, Some(0));
}

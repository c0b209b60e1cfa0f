//! Sessions, as the client reads them and answers their calls.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use remuda::emulator::{CallRequest, FaultAction, FaultRule, Injection, Operation, Options};
use remuda_actors::event::{CallKind, Event};
use remuda_actors::fault::FaultClass;
use remuda_actors::ports::{Answer, ControlError, ControlPlane, EventStream, SessionStatus};
use remuda_actors::tool::{Block, Source, ToolResult};
use serde_json::json;

use crate::bench::Bench;

const PATIENCE: Duration = Duration::from_secs(20);

async fn next(stream: &mut EventStream) -> Option<Result<Event, ControlError>> {
    tokio::time::timeout(PATIENCE, stream.next()).await.expect("something comes")
}

fn call(command: &str) -> Vec<CallRequest> {
    vec![CallRequest::tool("bash", json!({ "command": command }))]
}

#[tokio::test]
async fn row_28_a_session_that_is_over_says_so() {
    let bench = Bench::new().await;
    let (session, item) = bench.held().await;
    assert_eq!(bench.client.session(&item).await.unwrap().status, SessionStatus::Live);
    session.terminate().unwrap();
    assert_eq!(bench.client.session(&item).await.unwrap().status, SessionStatus::Terminated);
}

#[tokio::test]
async fn row_31_the_history_is_read_to_its_last_page() {
    let bench = Bench::with(Options { max_page: 3, empty_pages: true, ..Options::default() }).await;
    let (session, item) = bench.held().await;
    for _ in 0..10 {
        session.say("hello").unwrap();
    }
    let calls = session.call(call("true")).unwrap();
    let history = bench.client.history(&item).await.unwrap();
    assert_eq!(history.len(), session.events().len());
    let asked = history.iter().filter_map(|event| match event {
        Event::Call(call) => Some(call.id.clone()),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), calls);
    let lists = bench.emulator.log().of(Operation::ListEvents);
    assert_eq!(lists[0].query, "limit=1000");
}

#[tokio::test]
async fn row_32_a_history_of_which_a_page_is_missing_is_none() {
    let bench = Bench::with(Options { max_page: 3, ..Options::default() }).await;
    let (session, item) = bench.held().await;
    for _ in 0..10 {
        session.say("hello").unwrap();
    }
    bench.emulator.faults().add(FaultRule::on(Operation::ListEvents).nth(3).answer(503)).unwrap();
    let failed = bench.client.history(&item).await.unwrap_err();
    assert_eq!(failed.class(), FaultClass::Transient);
}

#[tokio::test]
async fn row_30_what_happens_after_the_stream_is_open_comes_through_it() {
    let bench = Bench::new().await;
    let (session, item) = bench.held().await;
    let mut stream = bench.client.stream(&item).await.unwrap();
    let calls = session.call(call("echo 1")).unwrap();
    let seen = loop {
        match next(&mut stream).await.unwrap().unwrap() {
            Event::Call(call) => break call.id,
            _ => continue,
        }
    };
    assert_eq!(seen, calls[0]);
    session.delete().unwrap();
    let mut last = None;
    while let Some(Ok(event)) = next(&mut stream).await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Deleted)), "{last:?}");
}

#[tokio::test]
async fn row_44_a_cut_stream_ends() {
    let bench = Bench::new().await;
    let (session, item) = bench.held().await;
    let mut stream = bench.client.stream(&item).await.unwrap();
    session.cut_streams().unwrap();
    assert!(!matches!(next(&mut stream).await, Some(Ok(_))));
}

#[tokio::test]
async fn a_malformed_event_ends_the_stream_so_that_the_history_is_read_again() {
    let bench = Bench::new().await;
    for (raw, class) in [
        ("event: agent.tool_use\ndata: {\"id\": \"sevt_1\", \"type\": \"agent.to\n\n", FaultClass::Ambiguous),
        (
            "event: agent.tool_use\ndata: {\"type\": \"agent.tool_use\", \"name\": \"bash\"}\n\n",
            FaultClass::Ambiguous,
        ),
        ("data: []\n\n", FaultClass::Ambiguous),
        (
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n",
            FaultClass::Transient,
        ),
        (
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"m\"}}\n\n",
            FaultClass::Fatal,
        ),
    ] {
        let (_, item) = bench.held().await;
        let inject = FaultAction::Inject(Injection { after: 0, raw: raw.to_owned() });
        bench.emulator.faults().add(FaultRule::on(Operation::StreamEvents).times(1).then(inject)).unwrap();
        let mut stream = bench.client.stream(&item).await.unwrap();
        let error = next(&mut stream).await.unwrap().expect_err(raw);
        assert_eq!(error.class(), class, "{raw}: {error}");
        assert!(next(&mut stream).await.is_none());
    }
}

#[tokio::test]
async fn comments_pings_and_unknown_events_are_no_trouble() {
    let bench = Bench::with(Options { ping_interval: Duration::from_millis(20), ..Options::default() }).await;
    let (session, item) = bench.held().await;
    let raw = ": comment\n\nevent: brand.new\ndata: {\"type\":\"brand.new\",\"id\":{\"odd\":1}}\n\n";
    let inject = FaultAction::Inject(Injection { after: 0, raw: raw.to_owned() });
    bench.emulator.faults().add(FaultRule::on(Operation::StreamEvents).then(inject)).unwrap();
    let mut stream = bench.client.stream(&item).await.unwrap();
    assert!(matches!(next(&mut stream).await, Some(Ok(Event::Activity))));
    session.say("after some pings").unwrap();
    assert!(matches!(next(&mut stream).await, Some(Ok(Event::Generating | Event::Running))));
}

#[tokio::test]
async fn row_35_and_42_answers_have_their_kind_an_outcome_and_something_in_them() {
    let bench = Bench::new().await;
    let (session, item) = bench.held().await;
    let mut requests = call("true");
    requests.push(CallRequest::custom("get_order_status", json!({})));
    let calls = session.call(requests).unwrap();
    let empty = ToolResult { is_error: false, content: Vec::new() };
    let answer = Answer { call: calls[0].clone(), kind: CallKind::Toolset, result: Arc::new(empty) };
    bench.client.post(&item, &answer).await.unwrap();
    let source = Source::Base64 { media_type: "image/png".into(), data: "iVBO".into() };
    let picture = ToolResult { is_error: true, content: vec![Block::text(""), Block::Image { source }] };
    let answer = Answer { call: calls[1].clone(), kind: CallKind::Custom, result: Arc::new(picture) };
    bench.client.post(&item, &answer).await.unwrap();
    let posts = bench.emulator.log().of(Operation::PostEvents);
    let nothing = json!({"type": "text", "text": "(no output)"});
    assert_eq!(
        posts[0].json(),
        json!({"events": [{
            "type": "user.tool_result", "tool_use_id": calls[0], "is_error": false, "content": [nothing]
        }]})
    );
    let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBO"});
    assert_eq!(
        posts[1].json(),
        json!({"events": [{
            "type": "user.custom_tool_result", "custom_tool_use_id": calls[1], "is_error": true,
            "content": [nothing, {"type": "image", "source": source}]
        }]})
    );
    let again = bench.client.post(&item, &answer).await.unwrap_err();
    assert_eq!(again.class(), FaultClass::Permanent, "an answered call takes no other answer: {again}");
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let bench = Bench::new().await;
    let (session, item) = bench.held().await;
    let calls = session.call(call("true")).unwrap();
    let large = "é".repeat(4 << 20);
    let answer =
        Answer { call: calls[0].clone(), kind: CallKind::Toolset, result: Arc::new(ToolResult::ok(&*large)) };
    bench.client.post(&item, &answer).await.unwrap();
    let resolved = session.wait_resolved(&calls[0], PATIENCE).await.unwrap();
    assert_eq!(resolved.result.text().len(), large.len());
}

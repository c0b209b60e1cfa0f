//! Listings in pages: opaque cursors, empty pages, order and filters.

use remuda::emulator::{CallRequest, Options, StopReason};
use serde_json::{Value, json};

use super::client::Stand;

/// Follows `next_page` to the end; the items, and how many pages there were.
async fn follow(stand: &Stand, path: &str) -> (Vec<Value>, usize) {
    let (mut all, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let joint = if path.contains('?') { '&' } else { '?' };
        let page = stand.get(stand.api_key(), &format!("{path}{joint}page={cursor}")).await.json();
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        pages += 1;
        assert!(pages < 100, "the cursors run in a circle");
        match page["next_page"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return (all, pages),
        }
    }
}

#[tokio::test]
async fn pages_join_to_the_whole_with_and_without_empty_ones() {
    for (empty_pages, factor) in [(false, 1), (true, 2)] {
        let stand = Stand::new(Options { max_page: 2, empty_pages, ..Options::default() }).await;
        let sessions: Vec<_> = (0..5).map(|_| stand.session()).collect();
        for n in 0..5 {
            sessions[0].say(&n.to_string()).unwrap();
        }
        let events = format!("/v1/sessions/{}/events", sessions[0].id());
        for (path, count) in [
            ("/v1/sessions".to_owned(), 5),
            ("/v1/sessions?order=asc".to_owned(), 5),
            ("/v1/environments".to_owned(), 1),
            ("/v1/agents".to_owned(), 1),
            (stand.work(""), 5),
            (format!("{events}?limit=1000"), 5),
            (format!("{events}?order=desc"), 5),
        ] {
            let (items, pages) = follow(&stand, &path).await;
            assert_eq!(items.len(), count, "{path}");
            assert_eq!(pages, count.div_ceil(2) * factor, "{path}");
            let mut ids: Vec<&Value> = items.iter().map(|item| &item["id"]).collect();
            ids.sort_by_key(|id| id.to_string());
            ids.dedup();
            assert_eq!(ids.len(), count, "{path} repeats itself");
        }
        let (up, _) = follow(&stand, &events).await;
        let (down, _) = follow(&stand, &format!("{events}?order=desc")).await;
        assert_eq!(up, down.into_iter().rev().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn events_are_filtered_by_type_and_by_time() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    session.call(vec![CallRequest::tool("bash", json!({}))]).unwrap();
    session.say("hello").unwrap();
    session.rest(StopReason::EndTurn).unwrap();
    let path = format!("/v1/sessions/{}/events", session.id());
    let (two, _) = follow(&stand, &format!("{path}?types[]=agent.tool_use&types%5B%5D=agent.message")).await;
    let kinds: Vec<&str> = two.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["agent.tool_use", "agent.message"]);
    let (all, _) = follow(&stand, &path).await;
    let middle = all[2]["processed_at"].as_str().unwrap();
    let at = |event: &Value| event["processed_at"].as_str().unwrap().to_owned();
    let times = ["gt", "gte", "lt", "lte"].map(|bound| format!("{path}?created_at[{bound}]={middle}"));
    let wanted: [fn(&str, &str) -> bool; 4] = [|a, b| a > b, |a, b| a >= b, |a, b| a < b, |a, b| a <= b];
    for (path, wanted) in times.iter().zip(wanted) {
        let (some, _) = follow(&stand, path).await;
        let expected: Vec<&Value> = all.iter().filter(|event| wanted(&at(event), middle)).collect();
        assert_eq!(some.iter().collect::<Vec<_>>(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_message_that_waits_stands_last_and_has_no_time_yet() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    session.call(vec![CallRequest::tool("bash", json!({}))]).unwrap();
    session.message("later").unwrap();
    let path = format!("/v1/sessions/{}/events", session.id());
    let last = |events: Vec<Value>| events.into_iter().next_back().unwrap();
    let waiting = last(follow(&stand, &path).await.0);
    assert_eq!((&waiting["type"], &waiting["processed_at"]), (&json!("user.message"), &Value::Null));
    session.rest(StopReason::EndTurn).unwrap();
    let (events, _) = follow(&stand, &path).await;
    let taken = events.iter().find(|event| event["id"] == waiting["id"]).unwrap();
    assert!(taken["processed_at"].is_string(), "its turn has begun");
    assert_eq!(session.status(), Some("running"));
}

#[tokio::test]
async fn cursors_and_limits_nobody_gave_are_refused() {
    let stand = Stand::new(Options::default()).await;
    for query in ["page=nonsense", "page=aGVsbG8", "limit=0", "limit=many", "limit=-1"] {
        let answer = stand.get(stand.api_key(), &format!("/v1/sessions?{query}")).await;
        assert_eq!((answer.status, answer.error().0.as_str()), (400, "invalid_request_error"), "{query}");
    }
}

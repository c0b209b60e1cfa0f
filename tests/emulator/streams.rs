//! Event streams, byte by byte (row 11), and what happens between stream and list.

use std::time::Duration;

use remuda::emulator::{CallRequest, Options, StopReason};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{PATIENCE, Stand, next};

/// A stream as it comes over the socket.
struct Raw {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    async fn open(stand: &Stand, path: &str) -> Self {
        let url = stand.emulator.url();
        let address = url.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(address).await.unwrap();
        let key = stand.key();
        let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        Self { socket, read: Vec::new() }
    }

    /// Reads until `end` has come, and takes everything up to and with it.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            let mut buffer = [0; 4096];
            let count = timeout(PATIENCE, self.socket.read(&mut buffer)).await.expect("bytes come").unwrap();
            assert!(count > 0, "the stream ended before {end:?}: {:?}", String::from_utf8_lossy(&self.read));
            self.read.extend_from_slice(&buffer[..count]);
        }
    }
}

#[tokio::test]
async fn requirement_11_the_head_comes_at_once_and_each_event_is_one_named_chunk() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    session.say("before").unwrap();
    let mut raw = Raw::open(&stand, &format!("/v1/sessions/{}/events/stream", session.id())).await;
    let head = raw.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    // The head says that the subscription stands: what happens now is not lost, and nothing is replayed.
    assert_eq!(session.followers(), 1);
    let last = session.events().last().unwrap().id().to_owned();
    session.say("one\ntwo").unwrap();
    let size = raw.until("\r\n").await;
    let frame = raw.until("\r\n").await;
    let frame = frame.trim_end_matches("\r\n");
    assert_eq!(usize::from_str_radix(size.trim(), 16).unwrap(), frame.len(), "one chunk for one frame");
    let (name, data) = frame.split_once('\n').unwrap();
    assert_eq!(name, "event: agent.message");
    let data = data.strip_prefix("data: ").and_then(|data| data.strip_suffix("\n\n")).expect("one data line");
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&data["type"], &data["content"][0]["text"]), (&json!("agent.message"), &json!("one\ntwo")));
    assert_ne!(data["id"], last.as_str());
}

#[tokio::test]
async fn requirement_11_silence_is_filled_with_pings() {
    let options = Options { ping_interval: Duration::from_millis(50), ..Options::default() };
    let stand = Stand::new(options).await;
    let session = stand.session();
    let mut raw = Raw::open(&stand, &format!("/v1/sessions/{}/events/stream", session.id())).await;
    for _ in 0..2 {
        let text = raw.until("event: ping\ndata: {\"type\":\"ping\"}\n\n").await;
        assert!(!text.contains("event: agent."), "{text}");
    }
    assert!(session.events().is_empty(), "a ping is no event of the session");
}

#[tokio::test]
async fn no_event_falls_between_stream_and_list() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    // One task keeps talking while streams are opened; whatever a list right after the head lacks, the stream
    // must carry.
    for round in 0..20 {
        let talker = tokio::spawn({
            let session = session.clone();
            async move {
                for n in 0..20 {
                    session.say(&format!("{round}-{n}")).unwrap();
                    tokio::task::yield_now().await;
                }
                session.say(&format!("{round}-last")).unwrap();
            }
        });
        let mut raw = Raw::open(&stand, &format!("/v1/sessions/{}/events/stream", session.id())).await;
        raw.until("\r\n\r\n").await;
        let listed: Vec<String> = session.events().iter().map(|event| event.id().to_owned()).collect();
        talker.await.unwrap();
        session.say(&format!("{round}-end")).unwrap();
        let streamed = raw.until(&format!("{round}-end")).await + &raw.until("\n\n").await;
        for event in session.events() {
            let seen = listed.iter().any(|id| id == event.id()) || streamed.contains(event.id());
            assert!(seen, "{} is in neither", event.id());
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_forgotten() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    let path = format!("/v1/sessions/{}/events/stream", session.id());
    let streams = [Raw::open(&stand, &path).await, Raw::open(&stand, &path).await];
    session.wait_followers(2, PATIENCE).await.unwrap();
    drop(streams);
    session.wait_followers(0, PATIENCE).await.expect("its follower is taken out of the log");
}

#[tokio::test]
async fn a_slow_reader_is_cut_and_holds_up_nobody() {
    let options = Options { stream_buffer: 4, ..Options::default() };
    let stand = Stand::new(options).await;
    let session = stand.session();
    let mut slow = session.subscribe().unwrap();
    for n in 0..10 {
        session.say(&n.to_string()).unwrap();
    }
    assert_eq!(session.followers(), 0);
    for _ in 0..4 {
        assert!(next(&mut slow).await.is_some());
    }
    assert!(next(&mut slow).await.is_none(), "it is told by the end of its stream");
}

#[tokio::test]
async fn previews_come_only_to_those_who_ask() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    let path = format!("/v1/sessions/{}/events/stream", session.id());
    let mut plain = Raw::open(&stand, &path).await;
    let mut eager = Raw::open(&stand, &format!("{path}?event_deltas[]=agent.message")).await;
    session.wait_followers(2, PATIENCE).await.unwrap();
    session.say("hello").unwrap();
    let eager = eager.until("event: agent.message\n").await;
    assert!(eager.contains("event: event_start\n") && eager.contains("event: event_delta\n"), "{eager}");
    let plain = plain.until("event: agent.message\n").await;
    assert!(!plain.contains("event_start"), "{plain}");
}

#[tokio::test]
async fn threads_have_logs_of_their_own_and_cross_post_what_needs_a_client() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    let thread = session.open_thread("researcher").unwrap();
    let mut raw = Raw::open(&stand, &format!("/v1/sessions/{}/threads/{thread}/stream", session.id())).await;
    raw.until("\r\n\r\n").await;
    session.say_on(&thread, "thinking aloud").unwrap();
    let call = CallRequest { thread: Some(thread.clone()), ..CallRequest::tool("bash", json!({})) };
    let calls = session.call(vec![call]).unwrap();
    let streamed = raw.until("event: agent.tool_use\n").await + &raw.until("\n\n").await;
    assert!(streamed.contains("thinking aloud") && !streamed.contains("session_thread_id"), "{streamed}");

    let path = format!("/v1/sessions/{}", session.id());
    let events = stand.get(stand.key(), &format!("{path}/events")).await.json();
    let events = events["data"].as_array().unwrap();
    let posted =
        events.iter().find(|event| event["id"] == calls[0].as_str()).expect("calls are cross-posted");
    assert_eq!(posted["session_thread_id"], thread.as_str());
    assert!(!events.iter().any(|event| event["content"][0]["text"] == "thinking aloud"));
    let first =
        events.iter().find(|event| event["type"].as_str().unwrap().starts_with("session.thread_status"));
    let threads = stand.get(stand.key(), &format!("{path}/threads")).await.json();
    assert_eq!(first.unwrap()["session_thread_id"], threads["data"][0]["id"], "the first names the primary");
    assert_eq!(threads["data"][1]["id"], thread.as_str());
    assert_eq!(threads["data"][1]["parent_thread_id"], threads["data"][0]["id"]);

    let echo = stand
        .post(stand.key(), &format!("{path}/events"), super::client::result(calls[0].as_str(), "x"))
        .await;
    assert_eq!(echo.json()["data"][0]["session_thread_id"], thread.as_str(), "routed by id");
    let own =
        stand.get(stand.key(), &format!("{path}/threads/{thread}/events?types[]=user.tool_result")).await;
    assert_eq!(own.json()["data"].as_array().unwrap().len(), 1);
    session.rest(StopReason::EndTurn).unwrap();
    let missing =
        stand.request(Method::GET, &format!("{path}/threads/sthr_none/stream")).bearer_auth(stand.key());
    assert_eq!(missing.send().await.unwrap().status(), 404);
}

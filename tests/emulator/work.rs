//! The queue under several pollers: waking, reclaim, order, stats, and what queues work again.

use std::time::{Duration, Instant};

use remuda::emulator::{CallRequest, EmulatorError, Options, StopReason};
use serde_json::{Value, json};

use super::client::{PATIENCE, Stand};

#[tokio::test]
async fn a_held_poll_wakes_when_work_comes() {
    let stand = Stand::new(Options::default()).await;
    let held = stand.work("/poll?block_ms=999");
    let poll = stand.get(stand.key(), &held);
    let create = async {
        stand.emulator.log().wait_for(PATIENCE, |records| (!records.is_empty()).then_some(())).await.unwrap();
        let created = Instant::now();
        (stand.session(), created)
    };
    let (answer, (session, created)) = tokio::join!(poll, create);
    assert_eq!(answer.json()["data"]["id"], session.id().as_str());
    assert!(created.elapsed() < Duration::from_millis(500), "woken, not timed out");
}

#[tokio::test]
async fn many_held_polls_share_many_items_without_loss_or_double() {
    let stand = Stand::new(Options::default()).await;
    let held = stand.work("/poll?block_ms=999");
    let polls = futures_util::future::join_all((0..16).map(|_| stand.get(stand.key(), &held)));
    let create = async {
        let waiting = |records: &[_]| (records.len() == 16).then_some(());
        stand.emulator.log().wait_for(PATIENCE, waiting).await.unwrap();
        (0..16).map(|_| stand.session().id().to_string()).collect::<Vec<_>>()
    };
    let (answers, mut created) = tokio::join!(polls, create);
    let mut got: Vec<String> = answers
        .iter()
        .map(|answer| answer.json()["data"]["id"].as_str().expect("each gets one").to_owned())
        .collect();
    got.sort();
    created.sort();
    assert_eq!(got, created);
}

#[tokio::test]
async fn an_unacknowledged_offer_comes_back_after_the_age_the_poll_names() {
    let stand = Stand::new(Options::default()).await;
    let (first, second) = (stand.session(), stand.session());
    let offered = stand.poll().await;
    assert_eq!(offered["data"]["id"], first.id().as_str(), "oldest first");
    assert_eq!(stand.poll().await["data"]["id"], second.id().as_str());
    assert_eq!(stand.poll().await, Value::Null, "neither is old enough");
    // A held poll wakes when the age is reached.
    let path = stand.work("/poll?block_ms=999&reclaim_older_than_ms=200");
    let held = Instant::now();
    let again = stand.get(stand.key(), &path).await.json();
    assert_eq!(again["id"], offered["id"]);
    assert!(held.elapsed() < Duration::from_millis(800), "woken at that age, not at the end of the poll");
    assert_eq!(again["state"], "queued");
    let work = again["id"].as_str().unwrap();
    assert_eq!(stand.post(stand.key(), &stand.work(&format!("/{work}/ack")), json!({})).await.status, 200);
    let other = stand.get(stand.key(), &path).await.json();
    assert_eq!(other["data"]["id"], second.id().as_str(), "an acknowledged item is out of the queue");
}

#[tokio::test]
async fn stats_count_waiting_pending_and_polling() {
    let stand = Stand::new(Options::default()).await;
    let stats = || async { stand.get(stand.key(), &stand.work("/stats")).await.json() };
    let empty = json!({"type": "work_queue_stats", "depth": 0, "pending": 0, "oldest_queued_at": null,
        "workers_polling": 0});
    assert_eq!(stats().await, empty);
    for _ in 0..3 {
        stand.session();
    }
    for worker in ["a", "b", "a"] {
        let poll = stand.request(reqwest::Method::GET, &stand.work("/poll")).bearer_auth(stand.key());
        poll.header("Anthropic-Worker-ID", worker).send().await.unwrap();
    }
    let stats = stats().await;
    assert_eq!(
        (&stats["depth"], &stats["pending"], &stats["workers_polling"]),
        (&json!(0), &json!(3), &json!(2))
    );
    assert!(stats["oldest_queued_at"].is_string());
}

#[tokio::test]
async fn a_lapse_requeues_once_and_a_usurper_makes_the_holder_lose() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    let (work, token) = stand.claim().await;
    let beat = stand.beat(&token, &work, "NO_HEARTBEAT").await.json();
    let stamp = beat["last_heartbeat"].as_str().unwrap();
    session.usurp_lease().unwrap();
    assert_eq!(stand.beat(&token, &work, stamp).await.status, 412);
    let held = session.live_work().unwrap();
    let state = stand.get(stand.api_key(), &stand.work(&format!("/{held}"))).await.json()["state"].clone();
    assert_eq!(state, "active");
    session.revoke_lease().unwrap();
    assert_eq!(stand.poll().await["data"]["id"], session.id().as_str());
    assert_eq!(stand.poll().await, Value::Null, "queued once");
    let listed = stand.get(stand.key(), &stand.work("")).await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
}

#[tokio::test]
async fn what_wakes_a_dormant_session_queues_work_for_it() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    let call = || CallRequest::tool("bash", json!({}));
    let stop = || session.stop_work(true).unwrap();
    stop();
    assert_eq!(session.live_work(), None);
    session.message("hello").unwrap();
    assert!(session.live_work().is_some(), "a message");
    stop();
    assert!(session.live_work().is_none());
    let ids = session.call(vec![call()]).unwrap();
    assert!(session.live_work().is_some(), "a call that needs a worker");
    stop();
    assert_eq!(session.live_work(), None, "a failed item leaves the session waiting");
    session.interrupt().unwrap();
    assert!(session.live_work().is_some(), "an interrupt of a session that waits");
    assert!(session.wait_resolved(&ids[0], PATIENCE).await.is_some());
    stop();
    session.interrupt().unwrap();
    assert_eq!(session.live_work(), None, "nothing to interrupt, nothing to do");
    assert!(matches!(session.stop_work(true), Err(EmulatorError::Refused(_))));
    session.call(vec![CallRequest { for_client: true, ..call() }]).unwrap();
    assert_eq!(session.live_work(), None, "another client's call needs no worker");
    session.rest(StopReason::EndTurn).unwrap();
}

#[tokio::test]
async fn items_of_another_type_are_offered_like_any() {
    let stand = Stand::new(Options::default()).await;
    let id = stand.emulator.enqueue(&stand.environment.id, "healthcheck", "check_1").unwrap();
    let item = stand.poll().await;
    assert_eq!(item["id"], id.as_str());
    assert_eq!(item["data"], json!({"type": "healthcheck", "id": "check_1"}));
    let stop = stand.post(stand.key(), &stand.work(&format!("/{id}/stop")), json!({"force": true})).await;
    assert_eq!(stop.status, 204);
    assert_eq!(stand.poll().await, Value::Null);
}

#[tokio::test]
async fn metadata_of_an_item_merges() {
    let stand = Stand::new(Options::default()).await;
    stand.session();
    let path = stand.work(&format!("/{}", stand.poll().await["id"].as_str().unwrap()));
    stand.post(stand.api_key(), &path, json!({"metadata": {"a": "1", "b": "2"}})).await;
    let merged = stand.post(stand.api_key(), &path, json!({"metadata": {"a": null, "c": "3"}})).await.json();
    assert_eq!(merged["metadata"], json!({"b": "2", "c": "3"}));
}

#[tokio::test]
async fn timing_tells_when_work_was_picked_up_and_answered() {
    let stand = Stand::new(Options::default()).await;
    let session = stand.session();
    let calls = session.call(vec![CallRequest::tool("bash", json!({}))]).unwrap();
    let (work, token) = stand.claim().await;
    stand.beat(&token, &work, "NO_HEARTBEAT").await;
    let path = format!("/v1/sessions/{}/events", session.id());
    stand.post(&token, &path, super::client::result(calls[0].as_str(), "ok")).await;
    session.rest(StopReason::EndTurn).unwrap();
    session.stop_work(true).unwrap();
    let timing = session.timing().unwrap();
    let claim = &timing.claims[0];
    let order = [
        Some(timing.created_at),
        Some(claim.queued_at),
        claim.offered_at,
        claim.acked_at,
        claim.first_heartbeat_at,
        timing.calls[0].resolved_at,
        timing.ended_at,
        claim.released_at,
    ];
    assert!(order.iter().all(Option::is_some), "{timing:?}");
    assert!(order.windows(2).all(|pair| pair[0] <= pair[1]), "{timing:?}");
    assert!(timing.calls[0].emitted_at <= timing.calls[0].resolved_at.unwrap());
    let told = stand.get(stand.api_key(), &format!("/_emulator/sessions/{}", session.id())).await.json();
    assert_eq!(told["timing"]["claims"][0]["work"], work.as_str());
    assert!(
        told["timing"]["calls"][0]["resolved_us"].as_u64()
            >= told["timing"]["calls"][0]["emitted_us"].as_u64()
    );
}

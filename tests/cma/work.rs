//! The work queue, as the client asks it and understands it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use remuda::cma::MemoryView;
use remuda::emulator::{CredentialHeader, CredentialKind, Operation};
use remuda_actors::fault::FaultClass;
use remuda_actors::ports::{
    ControlError, ControlPlane, HeartbeatToken, ItemState, StopMode, Target, WorkItem,
};
use serde_json::json;

use crate::bench::{Bench, client};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn row_1_a_poll_asks_to_be_held_for_1_to_999_ms_or_not_at_all() {
    let bench = Bench::new().await;
    let environment = &bench.environment.id;
    for block in [0, 1, 50, 1_500] {
        let polled = bench.client.poll(environment, Duration::from_millis(block)).await;
        assert!(polled.unwrap().is_none());
    }
    let polls = bench.emulator.log().of(Operation::Poll);
    let queries: Vec<_> = polls.iter().map(|poll| poll.query.as_str()).collect();
    assert_eq!(queries, ["", "block_ms=1", "block_ms=50", "block_ms=999"]);
}

#[tokio::test]
async fn row_2_every_kind_of_nothing_is_an_empty_poll() {
    let bench = Bench::new().await;
    for (status, headers, body) in [
        (200, &[JSON][..], "null"),
        (204, &[], ""),
        (200, &[JSON], ""),
        (200, &[], ""),
        (200, &[JSON], "{}"),
        (200, &[JSON], r#"{"id": null}"#),
        (200, &[JSON], " \n"),
    ] {
        bench.answers(Operation::Poll, status, headers, body);
        assert!(bench.poll().await.is_none(), "{status} {body:?}");
    }
    bench.answers(Operation::Poll, 200, &[JSON], "{\"id\": \"wor");
    let broken = bench.client.poll(&bench.environment.id, Duration::ZERO).await.unwrap_err();
    assert!(matches!(broken, ControlError::Malformed { .. }), "{broken}");
}

#[tokio::test]
async fn row_4_a_poll_names_its_worker() {
    let bench = Bench::new().await;
    bench.poll().await;
    let polls = bench.emulator.log().of(Operation::Poll);
    assert_eq!(polls[0].header("anthropic-worker-id"), Some("worker-1"));
}

#[tokio::test]
async fn row_9_and_11_and_14_the_key_polls_and_acknowledges_and_the_token_does_the_rest() {
    let bench = Bench::new().await;
    let (_, item) = bench.held().await;
    bench.client.session(&item).await.unwrap();
    bench.client.history(&item).await.unwrap();
    drop(bench.client.stream(&item).await.unwrap());
    ControlPlane::stop(&bench.client, &item, StopMode::Force).await.unwrap();
    let records = bench.emulator.log().records();
    assert_eq!(records.len(), 7);
    for record in records {
        let expected = match record.operation {
            Operation::Poll | Operation::Ack => CredentialKind::EnvironmentKey,
            _ => CredentialKind::SessionsToken,
        };
        assert_eq!(record.credential, Some(expected), "{record:?}");
        assert_eq!(record.credential_header, CredentialHeader::Authorization, "{record:?}");
        assert_eq!(record.header("anthropic-beta"), Some("managed-agents-2026-04-01"));
        assert_eq!(record.header("anthropic-version"), Some("2026-10-21"));
    }
}

#[tokio::test]
async fn row_15_an_item_whose_secret_is_of_no_use_is_served_with_the_key() {
    let bench = Bench::new().await;
    let no_token = URL_SAFE_NO_PAD.encode(r#"{"sessions_token":""}"#);
    for secret in [json!(no_token), json!("???"), json!(null)] {
        let work = json!({"id": "work_1", "data": {"type": "session", "id": "sesn_1"}, "secret": secret});
        bench.answers(Operation::Poll, 200, &[JSON], &work.to_string());
        let item = bench.poll().await.unwrap();
        let credential = item.credential.unwrap();
        assert_eq!(credential.expose(), bench.environment.key);
    }
}

#[tokio::test]
async fn row_29_no_memory_is_asked_for_without_a_token() {
    let bench = Bench::new().await;
    let work = json!({"id": "work_1", "data": {"type": "session", "id": "sesn_1"}, "secret": null});
    bench.answers(Operation::Poll, 200, &[JSON], &work.to_string());
    let item = bench.poll().await.unwrap();
    let refused = bench.client.memory_page(&item, "memstore_1", MemoryView::Basic, None).await.unwrap_err();
    assert!(matches!(refused, ControlError::NoCredential), "{refused}");
    assert!(bench.emulator.log().of(Operation::ListMemories).is_empty());
}

#[tokio::test]
async fn row_16_without_any_credential_nothing_is_sent() {
    let bench = Bench::new().await;
    let item = WorkItem {
        id: "work_1".into(),
        environment: "env_unknown".into(),
        target: Target::Session("sesn_1".into()),
        credential: None,
    };
    let refused = [
        ControlPlane::ack(&bench.client, &item).await.unwrap_err(),
        ControlPlane::heartbeat(&bench.client, &item, None).await.unwrap_err(),
        ControlPlane::stop(&bench.client, &item, StopMode::Force).await.unwrap_err(),
        bench.client.session(&item).await.unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, ControlError::NoCredential), "{error}");
        assert_eq!(error.class(), FaultClass::Permanent);
    }
    assert_eq!(bench.emulator.log().seen(), 0);
}

#[tokio::test]
async fn row_8_an_unknown_type_of_work_is_known_as_that() {
    let bench = Bench::new().await;
    bench.emulator.enqueue(&bench.environment.id, "healthcheck", "hc_1").unwrap();
    let item = bench.poll().await.unwrap();
    assert_eq!(item.target, Target::Other("healthcheck".into()));
    for data in [json!({}), json!(null), json!({"type": "session"}), json!({"id": "x"})] {
        let work = json!({"id": "work_1", "data": data}).to_string();
        bench.answers(Operation::Poll, 200, &[JSON], &work);
        assert!(matches!(bench.poll().await.unwrap().target, Target::Other(_)), "{work}");
    }
}

#[tokio::test]
async fn row_18_each_beat_echoes_the_last_to_the_byte() {
    let bench = Bench::new().await;
    bench.session();
    let item = bench.poll().await.unwrap();
    ControlPlane::ack(&bench.client, &item).await.unwrap();
    let first = ControlPlane::heartbeat(&bench.client, &item, None).await.unwrap();
    let second = ControlPlane::heartbeat(&bench.client, &item, Some(&first.token)).await.unwrap();
    assert!(second.extended && second.ttl == Duration::from_secs(120) && second.state == ItemState::Live);
    let beats = bench.emulator.log().of(Operation::Heartbeat);
    assert_eq!(beats[0].query, "expected_last_heartbeat=NO_HEARTBEAT");
    let echoed = first.token.as_str().replace(':', "%3A");
    assert_eq!(beats[1].query, format!("expected_last_heartbeat={echoed}"));
    assert_eq!(beats[1].header("content-length"), Some("0"));
}

#[tokio::test]
async fn row_21_a_beat_that_is_not_the_next_one_fails_its_precondition() {
    let bench = Bench::new().await;
    let (session, item) = bench.held().await;
    let wrong = HeartbeatToken::new("hb-wrong");
    let refused = ControlPlane::heartbeat(&bench.client, &item, Some(&wrong)).await.unwrap_err();
    let ControlError::PreconditionFailed { current: Some(current) } = refused else { panic!("{refused}") };
    assert!(current.active && current.token.is_some());
    session.usurp_lease().unwrap();
    let refused = ControlPlane::heartbeat(&bench.client, &item, current.token.as_ref()).await.unwrap_err();
    assert!(matches!(refused, ControlError::PreconditionFailed { .. }), "{refused}");
}

#[tokio::test]
async fn row_23_a_stop_request_comes_with_the_next_beat() {
    let bench = Bench::new().await;
    let (_, item) = bench.held().await;
    ControlPlane::stop(&bench.client, &item, StopMode::Graceful).await.unwrap();
    let beat = ControlPlane::heartbeat(&bench.client, &item, None).await.unwrap();
    assert_eq!(beat.state, ItemState::Stopping);
    let stops = bench.emulator.log().of(Operation::Stop);
    assert_eq!(stops[0].json(), json!({}));
}

#[tokio::test]
async fn row_25_stopping_needs_no_body_and_no_first_time() {
    let bench = Bench::new().await;
    let (_, item) = bench.held().await;
    for (status, headers, body) in [
        (204, &[][..], ""),
        (204, &[JSON], ""),
        (200, &[JSON], ""),
        (409, &[JSON], "{}"),
        (404, &[JSON], "{}"),
        (409, &[JSON, ("x-should-retry", "false")], "{}"),
        (409, &[JSON, ("x-should-retry", "true")], "{}"),
        (404, &[JSON, ("x-should-retry", "true")], "{}"),
    ] {
        bench.answers(Operation::Stop, status, headers, body);
        let stopped = ControlPlane::stop(&bench.client, &item, StopMode::Force).await;
        assert!(stopped.is_ok(), "{status}: {stopped:?}");
    }
    ControlPlane::stop(&bench.client, &item, StopMode::Force).await.unwrap();
    ControlPlane::stop(&bench.client, &item, StopMode::Force).await.expect("stopped already");
    let stops = bench.emulator.log().of(Operation::Stop);
    assert_eq!(stops[0].json(), json!({"force": true}));
    bench.answers(Operation::Stop, 503, &[], "");
    assert!(ControlPlane::stop(&bench.client, &item, StopMode::Force).await.is_err());
}

#[tokio::test]
async fn row_6_and_7_refusals_are_told_from_what_may_pass() {
    let bench = Bench::new().await;
    for (status, class) in [
        (401, FaultClass::Fatal),
        (403, FaultClass::Fatal),
        (404, FaultClass::Permanent),
        (400, FaultClass::Permanent),
        (408, FaultClass::Transient),
        (409, FaultClass::Transient),
        (429, FaultClass::Throttled),
        (500, FaultClass::Transient),
        (529, FaultClass::Transient),
    ] {
        bench.answers(Operation::Poll, status, &[("retry-after-ms", "1500")], "<html>gateway</html>");
        let error = bench.client.poll(&bench.environment.id, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.class(), class, "{status}");
        let patience = matches!(class, FaultClass::Transient | FaultClass::Throttled) && status != 409;
        assert_eq!(error.fault().retry_after.is_some(), patience, "{status}");
    }
    let wrong = client(&bench.emulator.url(), &bench.environment.id, "sk-ant-oat01-wrong");
    let refused = wrong.poll(&bench.environment.id, Duration::ZERO).await.unwrap_err();
    assert!(matches!(refused, ControlError::Unauthorized { status: 401, .. }), "{refused}");
    // Nobody listens there any more.
    let url = bench.emulator.url();
    bench.emulator.shutdown().await;
    let gone = client(&url, &bench.environment.id, "sk-ant-oat01-x");
    let error = gone.poll(&bench.environment.id, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, ControlError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn no_redirect_is_followed_with_a_credential() {
    let bench = Bench::new().await;
    let elsewhere = format!("{}/v1/sessions/x", bench.emulator.url());
    bench.answers(Operation::Poll, 307, &[("location", &elsewhere)], "");
    let error = bench.client.poll(&bench.environment.id, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.class(), FaultClass::Permanent, "{error}");
    assert_eq!(bench.emulator.log().seen(), 1);
}

#[tokio::test]
async fn people_can_list_and_count_the_queue() {
    let bench =
        Bench::with(remuda::emulator::Options { max_page: 2, empty_pages: true, ..Default::default() }).await;
    let sessions: Vec<_> = (0..5).map(|_| bench.session()).collect();
    let item = bench.poll().await.unwrap();
    let stats = bench.client.stats(&bench.environment.id).await.unwrap();
    assert_eq!((stats.depth, stats.pending, stats.workers_polling), (4, 1, Some(1)));
    assert!(stats.oldest_queued_at.is_some());
    let (mut items, mut page, mut pages) = (Vec::new(), None, 0);
    loop {
        let read = bench.client.list(&bench.environment.id, page.as_deref()).await.unwrap();
        items.extend(read.items);
        pages += 1;
        match read.next_page {
            Some(next) => page = Some(next),
            None => break,
        }
    }
    assert!(pages > 3, "in pages of two, with empty ones between them");
    assert_eq!(items.len(), 5);
    assert!(items.iter().any(|listed| listed.id == item.id && listed.state == "queued"));
    for session in sessions {
        let target = Target::Session(session.id().clone());
        assert!(items.iter().any(|listed| listed.target == target));
    }
}

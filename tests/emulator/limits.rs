//! What is too much, and what is left when an emulator goes.

use std::time::Duration;

use remuda::emulator::{Emulator, EmulatorError, Options};
use serde_json::json;
use tokio::net::TcpStream;

use super::client::{PATIENCE, Stand};

#[tokio::test]
async fn bodies_sessions_and_histories_are_bounded() {
    let options = Options { max_body: 1000, max_sessions: 2, max_events: 5, ..Options::default() };
    let stand = Stand::new(options).await;
    let large = stand.post(stand.api_key(), "/v1/agents", json!({"name": "x".repeat(1000)})).await;
    assert_eq!((large.status, large.error().0.as_str()), (413, "request_too_large"));
    let session = stand.session();
    stand.session();
    let body = json!({"environment_id": stand.environment.id, "agent": stand.silent});
    let third = stand.post(stand.api_key(), "/v1/sessions", body.clone()).await;
    assert_eq!(third.status, 400);
    assert!(third.error().1.contains("at most 2 sessions"), "{third:?}");
    for n in 0..9 {
        session.say(&n.to_string()).unwrap();
    }
    let events = session.events();
    assert_eq!(events.len(), 5, "the oldest are forgotten");
    assert_eq!(events[0].value()["content"][0]["text"], "4");
    session.delete().unwrap();
    assert_eq!(stand.post(stand.api_key(), "/v1/sessions", body).await.status, 200);
}

#[tokio::test]
async fn what_a_session_is_made_of_is_checked() {
    let stand = Stand::new(Options::default()).await;
    let post = |body| stand.post(stand.api_key(), "/v1/sessions", body);
    let (environment, agent) = (&stand.environment.id, &stand.silent);
    let file = json!([{"type": "file", "file_id": "file_1"}]);
    let call = json!([{"type": "user.interrupt"}]);
    for (body, status, message) in [
        (json!({"agent": agent}), 400, "environment_id: required".to_owned()),
        (
            json!({"environment_id": "env_none", "agent": agent}),
            404,
            "there is no environment env_none".into(),
        ),
        (json!({"environment_id": environment, "agent": "agent_none"}), 404, "there is no agent".into()),
        (
            json!({"environment_id": environment, "agent": agent, "resources": file}),
            400,
            format!("environment {environment} is self-hosted, where `file` resources are unsupported"),
        ),
        (
            json!({"environment_id": environment, "agent": agent, "initial_events": call}),
            400,
            "initial_events".into(),
        ),
        (
            json!({"environment_id": environment, "agent": agent, "metadata": {"scenario": "nope"}}),
            400,
            "there is no scenario `nope`; known are `permissions`, `program`, `server`".into(),
        ),
        (
            json!({"environment_id": environment, "agent": agent, "metadata": {"scenario": "program", "var.NOPE": "1"}}),
            400,
            "the scenario has no variable NOPE".into(),
        ),
        (
            json!({"environment_id": environment, "agent": {"type": "agent", "id": agent, "version": 9}}),
            404,
            "version 9".into(),
        ),
    ] {
        let answer = post(body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.error().1.contains(&message), "{answer:?}");
    }
    for (body, message) in [
        (json!({"name": "a"}), "model: required"),
        (json!({"name": "a", "model": "m", "metadata": {"brain": "cat"}}), "there is no brain `cat`"),
        (json!({"name": "a", "model": "m", "metadata": {"scenario": "nope"}}), "there is no scenario `nope`"),
        (json!({"name": "a", "model": "m", "tools": [{"type": "custom", "name": "bash"}]}), "tools.0.name"),
        (json!({"name": "a", "model": "m", "tools": [{"type": "browser"}]}), "tools.0.type"),
    ] {
        let answer = stand.post(stand.api_key(), "/v1/agents", body).await;
        assert_eq!(answer.status, 400);
        assert!(answer.error().1.contains(message), "{answer:?}");
    }
}

#[tokio::test]
async fn archived_environments_take_nothing_new() {
    let stand = Stand::new(Options::default()).await;
    let path = format!("/v1/environments/{}", stand.environment.id);
    let typed = stand.post(stand.api_key(), &path, json!({"config": {"type": "cloud"}})).await;
    assert_eq!(typed.json()["error"]["details"]["error_code"], "invalid_config_type_change");
    stand.session();
    assert_eq!(stand.delete(stand.api_key(), &path).await.status, 409, "it has work");
    assert!(
        stand.post(stand.api_key(), &format!("{path}/archive"), json!({})).await.json()["archived_at"]
            .is_string()
    );
    let body = json!({"environment_id": stand.environment.id, "agent": stand.silent});
    for answer in [
        stand.post(stand.api_key(), "/v1/sessions", body).await,
        stand.post(stand.api_key(), &path, json!({"name": "new"})).await,
    ] {
        assert_eq!(answer.json()["error"]["details"]["error_code"], "environment_archived");
    }
    assert!(stand.poll().await.is_object(), "what is queued can still be worked off");
}

#[tokio::test]
async fn nothing_is_left_of_an_emulator_that_is_shut_down_or_dropped() {
    for orderly in [true, false] {
        let stand = Stand::new(Options::default()).await;
        let session = stand.shell("sleep 1000");
        let address = stand.emulator.url().strip_prefix("http://").unwrap().to_owned();
        let path = format!("/v1/sessions/{}/events/stream", session.id());
        let stream =
            stand.request(reqwest::Method::GET, &path).bearer_auth(stand.key()).send().await.unwrap();
        let Stand { emulator, .. } = stand;
        if orderly {
            tokio::time::timeout(PATIENCE, emulator.shutdown()).await.expect("everything stops");
        } else {
            drop(emulator);
        }
        assert!(stream.bytes().await.is_err(), "the stream breaks off");
        let refused = async {
            while TcpStream::connect(&address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("nobody listens any more");
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let emulator = Emulator::start(Options::default()).await.unwrap();
    let listen = emulator.url().strip_prefix("http://").unwrap().parse().unwrap();
    let error = Emulator::start(Options { listen, ..Options::default() }).await.unwrap_err();
    assert!(matches!(error, EmulatorError::Listen { address, .. } if address == listen), "{error}");
}

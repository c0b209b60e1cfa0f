//! Every action of the fault rules, as a client sees it.

use std::time::{Duration, Instant};

use remuda::emulator::{FaultAction, FaultRule, Injection, Operation, Options};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Stand, result};

async fn stand() -> Stand {
    Stand::new(Options::default()).await
}

#[tokio::test]
async fn answers_replace_the_call_and_it_takes_no_effect() {
    let stand = stand().await;
    stand.session();
    let html = [("content-type", "text/html")];
    let json = [("content-type", "application/json")];
    for (status, headers, body) in [
        (204, &[][..], ""),
        (200, &json[..], ""),
        (200, &json[..], "{}"),
        (502, &html[..], "<h1>Bad Gateway</h1>"),
        (200, &json[..], "{\"id\": \"wor"),
        (429, &[("retry-after-ms", "5")][..], ""),
    ] {
        let rule = FaultRule::on(Operation::Poll).answer_raw(status, headers, body).times(1);
        let rule = stand.emulator.faults().add(rule).unwrap();
        let answer = stand.get(stand.key(), &stand.work("/poll")).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, body));
        assert_eq!(
            answer.content_type.as_deref(),
            headers.iter().find(|(k, _)| *k == "content-type").map(|(_, v)| *v)
        );
        assert_eq!(stand.emulator.faults().fired(rule), 1);
        stand.emulator.faults().remove(rule);
    }
    assert!(stand.poll().await.is_object(), "the item was never offered");
    let statuses: Vec<_> =
        stand.emulator.log().of(Operation::Poll).iter().map(|record| record.status()).collect();
    assert_eq!(statuses, [204, 200, 200, 502, 200, 429, 200].map(Some), "the log tells what was sent");
}

#[tokio::test]
async fn delays_come_before_the_effect_or_after_it() {
    let stand = stand().await;
    let time = Duration::from_millis(150);
    let session = stand.session();
    let path = format!("/v1/sessions/{}/events", session.id());
    for before in [true, false] {
        let calls = session.call(vec![remuda::emulator::CallRequest::tool("bash", json!({}))]).unwrap();
        let action = FaultRule::on(Operation::PostEvents).times(1);
        let action = match before {
            true => action.delay(time),
            false => action.then(FaultAction::DelayAnswer(remuda::emulator::scenario::Pause(time))),
        };
        stand.emulator.faults().add(action).unwrap();
        let sent = Instant::now();
        let post = stand.post(stand.key(), &path, result(calls[0].as_str(), "ok"));
        let effect = async {
            session.wait_resolved(&calls[0], Duration::from_secs(10)).await.unwrap();
            sent.elapsed()
        };
        let (answer, effect) = tokio::join!(post, effect);
        assert_eq!(answer.status, 200);
        assert!(sent.elapsed() >= time);
        assert_eq!(effect >= time, before, "{effect:?}");
    }
}

#[tokio::test]
async fn connections_drop_before_the_effect_or_instead_of_the_answer() {
    let stand = stand().await;
    let session = stand.session();
    let path = format!("/v1/sessions/{}/events", session.id());
    for (action, effect) in [(FaultAction::Drop, false), (FaultAction::DropAnswer, true)] {
        let calls = session.call(vec![remuda::emulator::CallRequest::tool("bash", json!({}))]).unwrap();
        let rule = FaultRule::on(Operation::PostEvents).session(session.id()).times(1).then(action);
        stand.emulator.faults().add(rule).unwrap();
        let body = result(calls[0].as_str(), "ok");
        let request = stand.request(Method::POST, &path).bearer_auth(stand.key()).json(&body);
        let error = request.send().await.expect_err("no answer comes");
        assert!(error.is_request(), "{error:?}");
        let again = stand.post(stand.key(), &path, body).await;
        assert_eq!(again.status == 400, effect, "answered before, if the first one took effect");
    }
}

#[tokio::test]
async fn a_hung_call_is_never_answered() {
    let stand = stand().await;
    stand.session();
    let rule = FaultRule::on(Operation::Poll).then(FaultAction::Hang).times(1);
    stand.emulator.faults().add(rule).unwrap();
    let request = stand.request(Method::GET, &stand.work("/poll")).bearer_auth(stand.key());
    let error = request.timeout(Duration::from_millis(200)).send().await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(stand.emulator.log().of(Operation::Poll)[0].answer, None);
    assert!(stand.poll().await.is_object());
}

#[tokio::test]
async fn leases_are_taken_just_before_a_heartbeat() {
    for (action, queued_again) in [(FaultAction::RevokeLease, true), (FaultAction::UsurpLease, false)] {
        let stand = stand().await;
        stand.session();
        let (work, token) = stand.claim().await;
        let first = stand.beat(&token, &work, "NO_HEARTBEAT").await.json();
        stand.emulator.faults().add(FaultRule::on(Operation::Heartbeat).nth(1).then(action)).unwrap();
        let lost = stand.beat(&token, &work, first["last_heartbeat"].as_str().unwrap()).await;
        assert_eq!(lost.status, 412);
        assert_eq!(stand.poll().await.is_object(), queued_again);
    }
}

#[tokio::test]
async fn streams_are_cut_doubled_and_sprinkled_with_nonsense() {
    let stand = stand().await;
    let session = stand.session();
    let rule = FaultRule::on(Operation::StreamEvents)
        .then(FaultAction::DuplicateFrames)
        .then(FaultAction::Inject(Injection { after: 0, raw: "data: {\"type\":\"nameless\"}\n\n".into() }))
        .then(FaultAction::Inject(Injection {
            after: 1,
            raw: "event: agent.message\ndata: {\"cut\n\n".into(),
        }))
        .then(FaultAction::CutStream(2));
    stand.emulator.faults().add(rule).unwrap();
    let path = format!("/v1/sessions/{}/events/stream", session.id());
    let stream = stand.request(Method::GET, &path).bearer_auth(stand.key()).send().await.unwrap();
    for n in 0..3 {
        session.say(&n.to_string()).unwrap();
    }
    let text = stream.text().await.unwrap();
    let frames: Vec<&str> = text.split_terminator("\n\n").collect();
    assert_eq!(frames.len(), 6, "{frames:#?}");
    assert_eq!(frames[0], "data: {\"type\":\"nameless\"}");
    assert_eq!(frames[1], frames[2]);
    assert_eq!(frames[3], "event: agent.message\ndata: {\"cut");
    assert_eq!(frames[4], frames[5]);
    assert_ne!(frames[1], frames[4]);
}

#[tokio::test]
async fn a_test_can_cut_and_spoil_the_streams_of_one_session() {
    let stand = stand().await;
    let session = stand.session();
    let path = format!("/v1/sessions/{}/events/stream", session.id());
    let stream = stand.request(Method::GET, &path).bearer_auth(stand.key()).send().await.unwrap();
    session.inject(": nonsense\n\n").unwrap();
    session.cut_streams().unwrap();
    assert_eq!(stream.text().await.unwrap(), ": nonsense\n\n");
    assert_eq!(session.followers(), 0);
}

#[tokio::test]
async fn a_rule_without_action_or_with_odd_numbers_is_refused() {
    let stand = stand().await;
    let none = FaultRule::on(Operation::Poll);
    let zeroth = FaultRule::on(Operation::Poll).nth(0).answer(500);
    let likely = FaultRule::on(Operation::Poll).probability(1.5).answer(500);
    for rule in [none, zeroth, likely] {
        let error = stand.emulator.faults().add(rule).unwrap_err();
        assert!(error.to_string().starts_with("fault rule: "), "{error}");
    }
    assert_eq!(stand.poll().await, Value::Null);
}

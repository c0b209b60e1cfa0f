//! What every client depends on, a test for each row of the list the emulator was built from.

use std::time::{Duration, Instant};

use remuda::emulator::{
    CallRequest, EnvironmentHandle, Lapse, Operation, Options, Permission, SkillUpload, StopReason,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{PATIENCE, Stand, next, read, result, token_of};

async fn stand() -> Stand {
    Stand::new(Options::default()).await
}

fn bash(command: &str) -> CallRequest {
    CallRequest::tool("bash", json!({"command": command}))
}

#[tokio::test]
async fn requirement_01_an_empty_poll_is_the_literal_null_and_is_held_for_block_ms() {
    let stand = stand().await;
    for path in ["/poll", "/poll?block_ms=150"] {
        let before = Instant::now();
        let answer = stand.get(stand.key(), &stand.work(path)).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "null"));
        assert_eq!(answer.content_type.as_deref(), Some("application/json"));
        let held = before.elapsed() >= Duration::from_millis(150);
        assert_eq!(held, path.contains("block_ms"), "{path}");
    }
    for wrong in ["0", "1000", "soon"] {
        let answer = stand.get(stand.key(), &stand.work(&format!("/poll?block_ms={wrong}"))).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert_eq!(answer.error().0, "invalid_request_error");
    }
}

#[tokio::test]
async fn requirement_02_unknown_queries_headers_versions_and_accepts_do_not_matter() {
    let stand = stand().await;
    let session = stand.session();
    for (version, accept) in
        [("2023-06-01", "text/event-stream"), ("2026-10-21", "application/json"), ("", "x/y")]
    {
        let path = format!("/v1/sessions/{}?beta=true&who=cares", session.id());
        let mut request = stand.request(Method::GET, &path).bearer_auth(stand.key()).header("accept", accept);
        request = request.header("x-unheard-of", "1");
        if !version.is_empty() {
            request = request.header("anthropic-version", version);
        }
        assert_eq!(read(request.send().await.unwrap()).await.status, 200);
    }
}

#[tokio::test]
async fn requirement_03_credentials_go_by_value_in_either_header_and_foreign_ones_are_refused() {
    let stand = stand().await;
    let session = stand.session();
    let path = format!("/v1/sessions/{}", session.id());
    for credential in [stand.api_key(), stand.key()] {
        let bearer = stand.request(Method::GET, &path).bearer_auth(credential);
        let header = stand.request(Method::GET, &path).header("x-api-key", credential);
        for request in [bearer, header] {
            assert_eq!(request.send().await.unwrap().status(), 200);
        }
    }
    let both = stand.request(Method::GET, &path).bearer_auth(stand.key()).header("x-api-key", stand.key());
    let none = stand.request(Method::GET, &path);
    let unknown = stand.request(Method::GET, &path).bearer_auth("sk-ant-oat01-unknown");
    let basic = stand.request(Method::GET, &path).basic_auth("user", Some(stand.key()));
    for request in [both, none, unknown, basic] {
        let answer = read(request.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.error().0.as_str()), (401, "authentication_error"));
    }
    let other: EnvironmentHandle = stand.emulator.create_environment("other").unwrap();
    for path in [path.clone(), stand.work("/poll"), stand.work("/stats")] {
        let answer = stand.get(&other.key, &path).await;
        assert_eq!((answer.status, answer.error().0.as_str()), (403, "permission_error"), "{path}");
    }
    let second = stand.emulator.issue_key(&stand.environment.id).unwrap();
    assert_eq!(stand.get(&second, &path).await.status, 200);
    assert!(stand.emulator.revoke(&second));
    assert_eq!(stand.get(&second, &path).await.status, 401, "effective on the next request");
    assert_eq!(stand.get(stand.key(), &path).await.status, 200);
}

#[tokio::test]
async fn requirement_04_work_objects_are_complete_and_only_a_poll_shows_the_secret() {
    let stand = stand().await;
    let session = stand.session();
    let item = stand.poll().await;
    let fields = [
        "id",
        "type",
        "environment_id",
        "data",
        "state",
        "created_at",
        "acknowledged_at",
        "started_at",
        "latest_heartbeat_at",
        "stop_requested_at",
        "stopped_at",
        "metadata",
        "secret",
    ];
    let keys: Vec<&String> = item.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), fields.len(), "{keys:?}");
    assert!(fields.iter().all(|field| item.get(*field).is_some()), "{item}");
    assert_eq!(item["type"], "work");
    assert_eq!(item["state"], "queued");
    assert_eq!(item["environment_id"], stand.environment.id.as_str());
    assert_eq!(item["data"], json!({"type": "session", "id": session.id()}));
    assert_eq!(item["metadata"], json!({}));

    let (id, token) = (item["id"].as_str().unwrap(), token_of(&item));
    let acked = stand.post(stand.key(), &stand.work(&format!("/{id}/ack")), json!({})).await.json();
    let listed = stand.get(stand.key(), &stand.work("")).await.json();
    let got = stand.get(stand.api_key(), &stand.work(&format!("/{id}"))).await.json();
    for other in [&acked, &listed["data"][0], &got] {
        assert_eq!((&other["id"], &other["secret"]), (&item["id"], &Value::Null));
        assert_eq!(other["state"], "starting");
        assert!(other["acknowledged_at"].is_string());
    }

    let beat = stand.beat(&token, id, "NO_HEARTBEAT").await;
    assert_eq!(beat.status, 200);
    let upload = SkillUpload::new("greet", "", &[("SKILL.md", b"hi")]);
    let version = stand.emulator.add_skill("skill_1", upload);
    for path in [
        format!("/v1/sessions/{}", session.id()),
        format!("/v1/sessions/{}/events", session.id()),
        format!("/v1/skills/skill_1/versions/{version}"),
    ] {
        assert_eq!(stand.get(&token, &path).await.status, 200, "{path}");
    }
    let store = stand.post(stand.api_key(), "/v1/memory_stores", json!({"name": "s"})).await.json();
    let memories = format!("/v1/memory_stores/{}/memories", store["id"].as_str().unwrap());
    assert_eq!(stand.get(stand.key(), &memories).await.status, 403, "no environment key on memory");
    assert_eq!(stand.get(&token, &memories).await.status, 403, "the store is not attached");
    assert_eq!(
        stand.post(&token, &stand.work(&format!("/{id}/stop")), json!({"force": true})).await.status,
        204
    );
}

#[tokio::test]
async fn requirement_05_ack_takes_any_body_and_no_answer_is_empty_json() {
    let stand = stand().await;
    for n in 0..3 {
        stand.session();
        let id = stand.poll().await["id"].as_str().unwrap().to_owned();
        let request =
            stand.request(Method::POST, &stand.work(&format!("/{id}/ack"))).bearer_auth(stand.key());
        let request = match n {
            0 => request,
            1 => request.header("content-type", "application/json").header("content-length", "0"),
            _ => request.json(&json!({})),
        };
        let answer = read(request.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.json()["id"].as_str()), (200, Some(id.as_str())));
        let again = stand.post(stand.key(), &stand.work(&format!("/{id}/ack")), json!({})).await;
        assert_eq!(again.status, 200, "its answer may have been lost");
        let stop = stand.post(stand.key(), &stand.work(&format!("/{id}/stop")), json!({})).await;
        assert_eq!((stop.text.as_str(), stop.content_type), ("", None));
    }
}

#[tokio::test]
async fn requirement_06_heartbeats_change_compare_exactly_and_tell_who_holds() {
    let stand = stand().await;
    stand.session();
    let (work, token) = stand.claim().await;
    let first = stand.beat(&token, &work, "NO_HEARTBEAT").await.json();
    assert_eq!(first["type"], "work_heartbeat");
    assert_eq!(first["state"], "active");
    assert_eq!((&first["lease_extended"], &first["ttl_seconds"]), (&json!(true), &json!(120)));
    let stamp = first["last_heartbeat"].as_str().unwrap().to_owned();
    assert!(stamp.contains(':'), "colons arrive percent-encoded and are compared decoded");
    let second = stand.beat(&token, &work, &stamp).await.json();
    assert_ne!(second["last_heartbeat"], first["last_heartbeat"]);

    for wrong in ["NO_HEARTBEAT", &stamp, "", &stamp.to_lowercase()] {
        let answer = stand.beat(&token, &work, wrong).await;
        assert_eq!(answer.status, 412, "{wrong}");
        let (kind, message) = answer.error();
        assert_eq!(kind, "invalid_request_error");
        assert!(
            message.starts_with(&format!("Heartbeat precondition failed: expected {wrong}, actual was "))
        );
        let details = &answer.json()["error"]["details"];
        assert_eq!(details["error_code"], "heartbeat_precondition_failed");
        assert_eq!(details["current_state"]["last_heartbeat"], second["last_heartbeat"]);
        assert_eq!(details["current_state"]["lease_extended"], false);
        assert_eq!(details["current_state"]["state"], "active");
    }

    assert_eq!(stand.post(stand.key(), &stand.work(&format!("/{work}/stop")), json!({})).await.status, 204);
    let stopping = stand.beat(&token, &work, "anything").await.json();
    assert_eq!((&stopping["state"], &stopping["lease_extended"]), (&json!("stopping"), &json!(false)));
    let force = json!({"force": true});
    assert_eq!(stand.post(stand.key(), &stand.work(&format!("/{work}/stop")), force).await.status, 204);
    let stopped = stand.beat(&token, &work, "anything").await.json();
    assert_eq!((&stopped["state"], &stopped["lease_extended"]), (&json!("stopped"), &json!(false)));
    let missing = stand.post(&token, &stand.work(&format!("/{work}/heartbeat")), json!({})).await;
    assert_eq!(missing.status, 400, "the parameter is required");
}

#[tokio::test]
async fn requirement_07_a_lapsed_lease_goes_back_to_the_queue_and_the_old_holder_learns_by_412() {
    for lapse in [Lapse::NewItem, Lapse::SameItem] {
        let options = Options { lapse, lease_ttl: Duration::from_secs(2), ..Options::default() };
        let stand = Stand::new(options).await;
        let session = stand.session();
        let (work, token) = stand.claim().await;
        let beat = stand.beat(&token, &work, "NO_HEARTBEAT").await.json();
        // Nobody beats again: the next poll that is held long enough gets it.
        let again = async {
            loop {
                let item = stand.get(stand.key(), &stand.work("/poll?block_ms=999")).await.json();
                if !item.is_null() {
                    return item;
                }
            }
        };
        let again = tokio::time::timeout(PATIENCE, again).await.expect("the lease lapses");
        assert_eq!(again["data"]["id"], session.id().as_str());
        assert_eq!(again["id"] == work.as_str(), lapse == Lapse::SameItem);
        assert_eq!((&again["state"], &again["acknowledged_at"]), (&json!("queued"), &Value::Null));
        let late = stand.beat(&token, &work, beat["last_heartbeat"].as_str().unwrap()).await;
        assert_eq!(late.status, 412);
        let current = &late.json()["error"]["details"]["current_state"];
        assert_eq!((&current["state"], &current["last_heartbeat"]), (&json!("queued"), &Value::Null));
    }
    let short = Options { lease_ttl: Duration::from_secs(1), ..Options::default() };
    let refused = remuda::emulator::Emulator::start(short).await.unwrap_err();
    assert_eq!(refused.to_string(), "option `lease_ttl` is 1s, expected whole seconds, 2 or more");
}

#[tokio::test]
async fn requirement_08_stop_is_204_without_content_type_and_409_once_it_is_over() {
    let stand = stand().await;
    stand.session();
    let (work, token) = stand.claim().await;
    stand.beat(&token, &work, "NO_HEARTBEAT").await;
    let stop = |body: Value| stand.post(&token, stand.work(&format!("/{work}/stop")).leak(), body);
    let graceful = stop(json!({})).await;
    assert_eq!((graceful.status, graceful.content_type, graceful.text.as_str()), (204, None, ""));
    assert_eq!(stop(json!({"force": false})).await.status, 409, "it is stopping already");
    assert_eq!(stop(json!({"force": true})).await.status, 204);
    for _ in 0..3 {
        let answer = stop(json!({"force": true})).await;
        assert_eq!((answer.status, answer.error().0.as_str()), (409, "conflict_error"));
    }
    assert_eq!(stop(json!({"force": "yes"})).await.status, 400);
    assert_eq!(stand.emulator.log().of(Operation::Stop).len(), 7);
}

#[tokio::test]
async fn requirement_09_a_session_always_has_status_skills_and_resources() {
    let stand = stand().await;
    let session = stand.session();
    let got = stand.get(stand.key(), &format!("/v1/sessions/{}", session.id())).await.json();
    assert_eq!(got["status"], "idle");
    assert_eq!(got["agent"]["skills"], json!([]));
    assert_eq!(got["resources"], json!([]));
    session.call(vec![bash("ls")]).unwrap();
    assert_eq!(session.status(), Some("idle"), "it waits for an action");
    session.rest(StopReason::EndTurn).unwrap();
    session.archive().unwrap();
    let got = stand.get(stand.key(), &format!("/v1/sessions/{}", session.id())).await.json();
    assert_eq!(got["status"], "terminated", "archived sessions read as terminated");
    assert!(got["archived_at"].is_string());
}

#[tokio::test]
async fn requirement_10_events_are_listed_ascending_a_thousand_at_a_time() {
    let stand = stand().await;
    let session = stand.session();
    for n in 0..1100 {
        session.say(&n.to_string()).unwrap();
    }
    session.call(vec![CallRequest { name: "bash".into(), ..CallRequest::tool("", json!({})) }]).unwrap();
    let path = format!("/v1/sessions/{}/events?limit=1000", session.id());
    let first = stand.get(stand.key(), &path).await.json();
    assert_eq!(first["data"].as_array().unwrap().len(), 1000);
    let next = first["next_page"].as_str().unwrap();
    let last = stand.get(stand.key(), &format!("{path}&page={next}")).await.json();
    assert_eq!(last["next_page"], Value::Null);
    let all: Vec<&Value> = [&first, &last].iter().flat_map(|page| page["data"].as_array().unwrap()).collect();
    let said: Vec<&str> = all.iter().filter_map(|event| event["content"][0]["text"].as_str()).collect();
    assert!(said.iter().enumerate().all(|(n, text)| *text == n.to_string()), "in order");
    assert!(all.iter().all(|event| event["id"].is_string() && event["type"].is_string()));
    assert!(all.windows(2).all(|pair| pair[0]["processed_at"].as_str() <= pair[1]["processed_at"].as_str()));
    let call = all.iter().find(|event| event["type"] == "agent.tool_use").unwrap();
    assert!(call["input"].is_object());
}

#[tokio::test]
async fn requirement_12_a_permission_is_never_null_and_custom_calls_have_none() {
    let stand = stand().await;
    let session = stand.session();
    let ask = CallRequest { permission: Some(Permission::Ask), ..bash("ls") };
    session.call(vec![bash("ls"), ask, CallRequest::custom("order", json!({}))]).unwrap();
    let events: Vec<Value> = session.events().iter().map(|event| event.value()).collect();
    let permission = |name: &str, n: usize| {
        let calls: Vec<&Value> = events.iter().filter(|event| event["name"] == name).collect();
        calls[n].get("evaluated_permission").cloned()
    };
    assert_eq!(permission("bash", 0), None, "the agent has no toolset, so no policy applied");
    assert_eq!(permission("bash", 1), Some(json!("ask")));
    assert_eq!(permission("order", 0), None);
    assert!(!events.iter().any(|event| event.get("evaluated_permission") == Some(&Value::Null)));
}

#[tokio::test]
async fn requirement_13_results_are_echoed_stored_streamed_and_the_rest_is_announced() {
    let stand = stand().await;
    let session = stand.session();
    let calls = session.call(vec![bash("a"), bash("b"), CallRequest::custom("c", json!({}))]).unwrap();
    let ids: Vec<&str> = calls.iter().map(remuda_actors::ids::CallId::as_str).collect();
    let mut stream = session.subscribe().unwrap();
    let path = format!("/v1/sessions/{}/events", session.id());

    let echo = stand.post(stand.key(), &path, result(ids[1], "two")).await;
    assert_eq!(echo.status, 200, "{echo:?}");
    let echo = echo.json()["data"][0].clone();
    assert_eq!((&echo["type"], &echo["tool_use_id"]), (&json!("user.tool_result"), &json!(ids[1])));
    assert!(echo["id"].as_str().unwrap().starts_with("sevt_") && echo["processed_at"].is_string());
    assert_eq!(next(&mut stream).await.unwrap().value(), echo);
    let idle = next(&mut stream).await.unwrap().value();
    assert_eq!(idle["stop_reason"], json!({"type": "requires_action", "event_ids": [ids[0], ids[2]]}));
    assert_eq!(idle["stop_details"], Value::Null);

    let custom = json!({"events": [{"type": "user.custom_tool_result", "custom_tool_use_id": ids[2],
        "content": [{"type": "text", "text": "three"}]}]});
    assert_eq!(stand.post(stand.key(), &path, custom).await.status, 200);
    assert_eq!(stand.post(stand.key(), &path, result(ids[0], "one")).await.status, 200);
    let mut rest = Vec::new();
    while rest.last().is_none_or(|kind| kind != "session.status_running") {
        rest.push(next(&mut stream).await.unwrap().kind().to_owned());
    }
    let expected =
        ["user.custom_tool_result", "session.status_idle", "user.tool_result", "session.status_running"];
    assert_eq!(rest, expected);
    assert_eq!(session.status(), Some("running"));

    for (what, body) in [
        ("answered before", result(ids[0], "again")),
        ("unknown", result("sevt_none", "x")),
        ("no events", json!({"events": []})),
        ("not a client's", json!({"events": [{"type": "agent.message", "content": []}]})),
        ("empty text", result(ids[0], "")),
    ] {
        let answer = stand.post(stand.key(), &path, body).await;
        assert_eq!((answer.status, answer.error().0.as_str()), (400, "invalid_request_error"), "{what}");
    }
    let more = session.call(vec![bash("d"), CallRequest::custom("e", json!({}))]).unwrap();
    let wrong_kind = stand.post(stand.key(), &path, result(more[1].as_str(), "x")).await;
    assert!(wrong_kind.error().1.contains("user.custom_tool_result"), "{wrong_kind:?}");
    // All or nothing: the good one of the two did not take effect.
    let mut both = result(more[0].as_str(), "x");
    both["events"].as_array_mut().unwrap().push(result("sevt_none", "x")["events"][0].clone());
    assert_eq!(stand.post(stand.key(), &path, both).await.status, 400);
    assert_eq!(stand.post(stand.key(), &path, result(more[0].as_str(), "x")).await.status, 200);
}

#[tokio::test]
async fn requirement_14_a_turn_ends_idle_or_the_session_ends() {
    let stand = stand().await;
    let last = |session: &remuda::emulator::SessionHandle| session.events().last().unwrap().value();
    let session = stand.session();
    for (reason, name) in [
        (StopReason::EndTurn, "end_turn"),
        (StopReason::RetriesExhausted, "retries_exhausted"),
        (StopReason::BudgetReached, "budget_reached"),
        (StopReason::Refusal, "refusal"),
    ] {
        session.call(vec![bash("ls")]).unwrap();
        session.rest(reason).unwrap();
        assert_eq!(last(&session)["type"], "session.status_idle");
        assert_eq!(last(&session)["stop_reason"], json!({"type": name}));
        assert_eq!(last(&session)["stop_details"].is_null(), reason != StopReason::Refusal);
    }
    session.terminate().unwrap();
    assert_eq!(last(&session)["type"], "session.status_terminated");
    let deleted = stand.session();
    let mut stream = deleted.subscribe().unwrap();
    deleted.delete().unwrap();
    assert_eq!(next(&mut stream).await.unwrap().kind(), "session.deleted");
    assert!(next(&mut stream).await.is_none(), "the stream ends with the session");
    assert_eq!(stand.get(stand.api_key(), &format!("/v1/sessions/{}", deleted.id())).await.status, 404);
}

#[tokio::test]
async fn requirement_15_denials_are_resolved_by_the_server_and_their_results_refused() {
    let stand = stand().await;
    let session = stand.session();
    let ask = || CallRequest { permission: Some(Permission::Ask), ..bash("rm") };
    let deny = CallRequest { permission: Some(Permission::Deny), ..bash("rm -r /") };
    let path = format!("/v1/sessions/{}/events", session.id());
    let calls = session.call(vec![ask(), deny, ask()]).unwrap();
    let ids: Vec<&str> = calls.iter().map(remuda_actors::ids::CallId::as_str).collect();
    let resolved_by_server = |id: &str| {
        let events: Vec<Value> = session.events().iter().map(|event| event.value()).collect();
        events.into_iter().find(|event| event["type"] == "agent.tool_result" && event["tool_use_id"] == id)
    };
    assert!(resolved_by_server(ids[1]).is_some_and(|result| result["is_error"] == true), "denied by policy");
    let idle = session.events().last().unwrap().value();
    assert_eq!(idle["stop_reason"]["event_ids"], json!([ids[0], ids[2]]));

    assert_eq!(
        stand.post(stand.key(), &path, result(ids[0], "early")).await.status,
        400,
        "not confirmed yet"
    );
    let confirm = |id: &str, result: &str| json!({"events": [{"type": "user.tool_confirmation", "tool_use_id": id, "result": result}]});
    let mut with_reason = confirm(ids[0], "deny");
    with_reason["events"][0]["deny_message"] = json!("not today");
    assert_eq!(stand.post(stand.api_key(), &path, with_reason).await.status, 200);
    let denied = resolved_by_server(ids[0]).expect("the server answers for a denied call");
    assert!(denied["content"][0]["text"].as_str().unwrap().contains("not today"));
    for id in [ids[0], ids[1]] {
        assert_eq!(stand.post(stand.key(), &path, result(id, "late")).await.status, 400);
    }
    assert_eq!(stand.post(stand.api_key(), &path, confirm(ids[2], "allow")).await.status, 200);
    assert_eq!(stand.post(stand.api_key(), &path, confirm(ids[2], "deny")).await.status, 400, "once only");
    assert_eq!(stand.post(stand.key(), &path, result(ids[2], "ok")).await.status, 200);
    assert_eq!(session.status(), Some("running"));
}

#[tokio::test]
async fn requirement_16_skills_resolve_latest_and_download_by_id() {
    let stand = stand().await;
    let upload = |text: &'static [u8]| SkillUpload::new("greet", "says hello", &[("SKILL.md", text)]);
    let old = stand.emulator.add_skill("skill_1", upload(b"old"));
    let new = stand.emulator.add_skill("skill_1", upload(b"new"));
    let latest = stand.get(stand.key(), "/v1/skills/skill_1/versions/latest").await.json();
    assert_eq!((latest["id"].as_str(), &latest["name"]), (Some(new.as_str()), &json!("greet")));
    assert_eq!((&latest["type"], &latest["skill_id"]), (&json!("skill_version"), &json!("skill_1")));
    for (version, text) in [(&old, b"old".as_slice()), (&new, b"new")] {
        let path = format!("/v1/skills/skill_1/versions/{version}/content");
        let request = stand.request(Method::GET, &path).bearer_auth(stand.key());
        let archive =
            request.header("accept", "application/binary").send().await.unwrap().bytes().await.unwrap();
        assert!(archive.starts_with(b"PK\x03\x04"));
        assert!(archive.windows(text.len()).any(|window| window == text));
    }
    for path in ["/skill_1/versions/latest/content", "/skill_1/versions/none", "/skill_2/versions/latest"] {
        assert_eq!(stand.get(stand.key(), &format!("/v1/skills{path}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn requirement_17_memory_has_views_pages_preconditions_and_mount_paths() {
    let stand = stand().await;
    let key = stand.api_key();
    let mut stores = Vec::new();
    for _ in 0..2 {
        let store = stand.post(key, "/v1/memory_stores", json!({"name": "User Preferences"})).await.json();
        stores.push(store["id"].as_str().unwrap().to_owned());
    }
    let resource = |store: &str, access: &str| json!({"type": "memory_store", "memory_store_id": store, "access": access});
    let resources = json!([resource(&stores[0], "read_write"), resource(&stores[1], "read_only")]);
    let body = json!({"environment_id": stand.environment.id, "agent": stand.silent, "resources": resources});
    let session = stand.post(key, "/v1/sessions", body).await.json();
    let mounts: Vec<&str> = session["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["mount_path"].as_str().unwrap())
        .collect();
    assert_eq!(mounts, ["/mnt/memory/user-preferences", "/mnt/memory/user-preferences-2"]);
    let (_, token) = stand.claim().await;

    let memories = format!("/v1/memory_stores/{}/memories", stores[0]);
    for n in 0..25 {
        let made =
            stand.post(&token, &memories, json!({"path": format!("/d/{n:02}.md"), "content": "abc"})).await;
        assert_eq!(made.status, 200);
        let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(made.json()["content_sha256"], sha);
    }
    for (query, count, content) in
        [("", 20, Value::Null), ("?limit=100", 25, Value::Null), ("?view=full&limit=100", 20, json!("abc"))]
    {
        let page = stand.get(&token, &format!("{memories}{query}")).await.json();
        let data = page["data"].as_array().unwrap();
        assert_eq!((data.len(), &data[0]["content"]), (count, &content), "{query}");
        assert_eq!(page["next_page"].is_string(), count < 25);
    }
    let grouped = stand.get(&token, &format!("{memories}?depth=1")).await.json();
    assert_eq!(grouped["data"], json!([{"type": "memory_prefix", "path": "/d/"}]));

    let first = stand.get(&token, &memories).await.json()["data"][0].clone();
    let one = format!("{memories}/{}", first["id"].as_str().unwrap());
    let guarded = |sha: &Value| json!({"content": "new", "precondition": {"type": "content_sha256", "content_sha256": sha}});
    assert_eq!(stand.post(&token, &one, guarded(&first["content_sha256"])).await.status, 200);
    let stale = stand.post(&token, &one, guarded(&first["content_sha256"])).await;
    assert_eq!((stale.status, stale.error().0.as_str()), (409, "memory_precondition_failed_error"));
    let taken = stand.post(&token, &memories, json!({"path": "/d", "content": ""})).await;
    assert_eq!((taken.status, taken.error().0.as_str()), (409, "memory_path_conflict_error"));
    assert_eq!(taken.json()["error"]["conflicting_path"], "/d/00.md");
    let stale = format!("{one}?expected_content_sha256={}", first["content_sha256"].as_str().unwrap());
    assert_eq!(stand.delete(&token, &stale).await.status, 409);
    assert_eq!(stand.delete(&token, &one).await.json()["type"], "memory_deleted");
    assert_eq!(stand.get(&token, &one).await.status, 404);

    let read_only = format!("/v1/memory_stores/{}/memories", stores[1]);
    assert_eq!(stand.get(&token, &read_only).await.status, 200);
    assert_eq!(stand.post(&token, &read_only, json!({"path": "/a", "content": ""})).await.status, 403);
    let betas = "agent-memory-2026-07-22,managed-agents-2026-04-01";
    let both = stand.request(Method::GET, &memories).bearer_auth(&token).header("anthropic-beta", betas);
    assert_eq!(both.send().await.unwrap().status(), 400, "one beta or the other, not both");
}

#[tokio::test]
async fn requirement_18_old_holders_may_post_late_and_stop_what_is_no_longer_theirs() {
    let stand = stand().await;
    let session = stand.session();
    let calls = session.call(vec![bash("ls")]).unwrap();
    let (work, token) = stand.claim().await;
    stand.beat(&token, &work, "NO_HEARTBEAT").await;
    session.revoke_lease().unwrap();
    // Session calls are not fenced by the lease.
    let path = format!("/v1/sessions/{}/events", session.id());
    assert_eq!(stand.post(&token, &path, result(calls[0].as_str(), "late")).await.status, 200);
    // A force-stop of the old item neither succeeds nor touches the new one.
    let stop = stand.post(&token, &stand.work(&format!("/{work}/stop")), json!({"force": true})).await;
    assert_eq!(stop.status, 409);
    let live = session.live_work().unwrap();
    assert_ne!(live.as_str(), work);
    assert_eq!(stand.poll().await["id"], live.as_str());
}

#[tokio::test]
async fn requirement_19_one_client_streams_beats_lists_and_posts_at_once() {
    let stand = stand().await;
    let session = stand.session();
    let (work, token) = stand.claim().await;
    let calls = session.call(vec![bash("ls")]).unwrap();
    let path = format!("/v1/sessions/{}/events", session.id());
    let mut stream =
        stand.request(Method::GET, &format!("{path}/stream")).bearer_auth(&token).send().await.unwrap();
    session.wait_followers(1, PATIENCE).await.unwrap();
    let (beat, list, posted) = tokio::join!(
        stand.beat(&token, &work, "NO_HEARTBEAT"),
        stand.get(&token, &path),
        stand.post(&token, &path, result(calls[0].as_str(), "ok")),
    );
    assert_eq!((beat.status, list.status, posted.status), (200, 200, 200));
    let chunk = stream.chunk().await.unwrap().unwrap();
    assert!(chunk.starts_with(b"event: user.tool_result\n"), "{chunk:?}");
}

#[tokio::test]
async fn requirement_20_a_token_serves_its_session_and_no_other() {
    let stand = stand().await;
    let (one, other) = (stand.session(), stand.session());
    let (work, token) = stand.claim().await;
    let (other_work, _) = stand.claim().await;
    assert_eq!(stand.beat(&token, &work, "NO_HEARTBEAT").await.status, 200);
    assert_eq!(stand.get(&token, &format!("/v1/sessions/{}", one.id())).await.status, 200);
    assert_eq!(stand.get(&token, &format!("/v1/sessions/{}", other.id())).await.status, 403);
    assert_eq!(stand.beat(&token, &other_work, "NO_HEARTBEAT").await.status, 403);
    let stop = stand.post(&token, &stand.work(&format!("/{other_work}/stop")), json!({})).await;
    assert_eq!(stop.status, 403);
}

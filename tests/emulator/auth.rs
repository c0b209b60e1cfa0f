//! Who may call what: every operation with every kind of credential.

use remuda::emulator::{CredentialKind, Operation, Options, SkillUpload};
use serde_json::json;

use super::client::{Stand, read};

/// Which of API key, environment key and sessions token each operation accepts, written down apart from the
/// emulator's own table.
fn accepts(operation: Operation) -> [bool; 3] {
    use Operation as O;
    match operation {
        O::Poll => [false, true, false],
        O::Ack | O::Heartbeat => [false, true, true],
        O::Stop => [true, true, true],
        O::WorkStats | O::ListWork => [true, true, false],
        O::GetSession
        | O::ListEvents
        | O::PostEvents
        | O::StreamEvents
        | O::ListThreads
        | O::GetThread
        | O::ListThreadEvents
        | O::StreamThread
        | O::GetSkillVersion
        | O::DownloadSkill => [true, true, true],
        O::GetMemoryStore
        | O::ListMemories
        | O::CreateMemory
        | O::GetMemory
        | O::UpdateMemory
        | O::DeleteMemory => [true, false, true],
        O::GetWork
        | O::UpdateWork
        | O::CreateEnvironment
        | O::ListEnvironments
        | O::GetEnvironment
        | O::UpdateEnvironment
        | O::ArchiveEnvironment
        | O::DeleteEnvironment
        | O::CreateAgent
        | O::ListAgents
        | O::GetAgent
        | O::UpdateAgent
        | O::ArchiveAgent
        | O::ListAgentVersions
        | O::CreateSession
        | O::ListSessions
        | O::UpdateSession
        | O::ArchiveSession
        | O::DeleteSession
        | O::CreateMemoryStore
        | O::ListMemoryStores
        | O::UpdateMemoryStore
        | O::ArchiveMemoryStore
        | O::DeleteMemoryStore
        | O::Inspect => [true, false, false],
    }
}

/// One of everything, and the credentials of three workers: this session's, that of another session, and
/// that of another environment.
struct Full {
    stand: Stand,
    path: Box<dyn Fn(Operation) -> String>,
    token: String,
    other_token: String,
    other_key: String,
}

async fn full() -> Full {
    let stand = Stand::new(Options::default()).await;
    let store = stand.post(stand.api_key(), "/v1/memory_stores", json!({"name": "s"})).await.json();
    let store = store["id"].as_str().unwrap().to_owned();
    let memories = format!("/v1/memory_stores/{store}/memories");
    let memory = stand.post(stand.api_key(), &memories, json!({"path": "/a", "content": "x"})).await.json();
    let body = json!({
        "environment_id": stand.environment.id,
        "agent": stand.silent,
        "resources": [{"type": "memory_store", "memory_store_id": store}],
    });
    let session = stand.emulator.create_session_with(&body).unwrap();
    let thread = session.open_thread("t").unwrap();
    let version = stand.emulator.add_skill("skill_1", SkillUpload::new("s", "", &[]));
    let (work, token) = stand.claim().await;
    stand.session();
    let (_, other_token) = stand.claim().await;
    let other_key = stand.emulator.create_environment("other").unwrap().key;
    let parameters = [
        ("{environment}", stand.environment.id.to_string()),
        ("{work}", work),
        ("{agent}", stand.silent.clone()),
        ("{session}", session.id().to_string()),
        ("{thread}", thread.to_string()),
        ("{skill}", "skill_1".to_owned()),
        ("{version}", version),
        ("{store}", store),
        ("{memory}", memory["id"].as_str().unwrap().to_owned()),
    ];
    let path = move |operation: Operation| {
        let fill = |path: String, (name, value): &(&str, String)| path.replace(name, value);
        parameters.iter().fold(operation.path().to_owned(), fill)
    };
    Full { stand, path: Box::new(path), token, other_token, other_key }
}

#[tokio::test]
async fn every_operation_accepts_the_kinds_it_should_and_no_other() {
    for operation in Operation::ALL {
        for (n, accepted) in accepts(*operation).into_iter().enumerate() {
            // Anew each time, since some of these calls delete what the next one needs.
            let Full { stand, path, token, .. } = full().await;
            let credential = [stand.api_key(), stand.key(), &token][n];
            let request = stand.request(operation.method(), &path(*operation)).bearer_auth(credential);
            let response = request.json(&json!({})).send().await.unwrap();
            if accepted {
                assert!(!matches!(response.status().as_u16(), 401 | 403), "{operation:?} refuses kind {n}");
            } else {
                let answer = read(response).await;
                assert_eq!(answer.status, 403, "{operation:?} accepts kind {n}: {answer:?}");
                assert_eq!(answer.error().0, "permission_error");
            }
        }
    }
}

#[tokio::test]
async fn no_operation_lets_a_worker_reach_into_another_environment_or_session() {
    let Full { stand, path, other_token, other_key, .. } = full().await;
    for operation in Operation::ALL {
        let [_, environment_key, sessions_token] = accepts(*operation);
        // Skills belong to the organisation.
        let owned = |parameters: &[&str]| parameters.iter().any(|name| operation.path().contains(name));
        let foreign = [
            (environment_key && owned(&["{environment}", "{session}"]), &other_key),
            (sessions_token && owned(&["{work}", "{session}", "{store}"]), &other_token),
        ];
        for (matters, credential) in foreign {
            if matters {
                // What some of them require, so that nothing but the credential can be refused.
                let path = format!("{}?expected_last_heartbeat=NO_HEARTBEAT", path(*operation));
                let request = stand.request(operation.method(), &path).bearer_auth(credential);
                let response = request.json(&json!({"path": "/b", "content": ""})).send().await.unwrap();
                assert_eq!(response.status(), 403, "{operation:?}");
            }
        }
    }
}

#[tokio::test]
async fn listing_work_with_an_api_key_can_be_made_strict() {
    let stand = Stand::new(Options { strict_work_list: true, ..Options::default() }).await;
    assert_eq!(stand.get(stand.api_key(), &stand.work("")).await.status, 403);
    assert_eq!(stand.get(stand.key(), &stand.work("")).await.status, 200);
}

#[tokio::test]
async fn the_log_tells_the_kind_and_never_the_value() {
    let stand = Stand::new(Options::default()).await;
    stand.poll().await;
    stand.get("sk-ant-oat01-unknown", &stand.work("/poll")).await;
    let polls = stand.emulator.log().of(Operation::Poll);
    let kinds: Vec<_> = polls.iter().map(|record| (record.credential, record.status())).collect();
    assert_eq!(kinds, [(Some(CredentialKind::EnvironmentKey), Some(200)), (None, Some(401))]);
    let text = format!("{:?} {:?} {:?}", polls, stand.environment, stand.emulator.log());
    for secret in [stand.key(), "sk-ant-oat01-unknown"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_get_an_envelope() {
    let stand = Stand::new(Options::default()).await;
    let answer = stand.get(stand.api_key(), "/v1/nothing").await;
    assert_eq!((answer.status, answer.error().0.as_str()), (404, "not_found_error"));
    let answer = stand.delete(stand.api_key(), "/v1/sessions").await;
    assert_eq!((answer.status, answer.error().0.as_str()), (405, "invalid_request_error"));
    let answer = stand.request(reqwest::Method::POST, "/v1/agents").bearer_auth(stand.api_key()).body("{");
    assert_eq!(read(answer.send().await.unwrap()).await.status, 400);
}

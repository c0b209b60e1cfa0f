//! Skills and memory stores, downloaded, used and written back by the official workers, and by remuda to the same effect.

use std::time::Duration;

use remuda::emulator::scenario::Scenario;
use remuda::emulator::{Emulator, Event, Operation, Options, SkillUpload};
use serde_json::{Value, json};

use super::workers::{Mode, Worker};

const PATIENCE: Duration = Duration::from_secs(60);

/// Reads two skills and a memory, changes memories, adds one, and deletes one as soon as it may.
const SCENARIO: &str = "
name: resources
variables: { MEMORY: none }
turns:
  - message: go
    steps:
      - call: { tool: bash, input: { command: cat skills/greet/SKILL.md }, expect: { text: \"# Greet people\" } }
      - call: { tool: bash, input: { command: cat skills/part/lib/words.txt }, expect: { text: farewell } }
      - call: { tool: read, input: { file_path: \"${MEMORY}/preferences/notes/todo.md\" }, expect: { text: buy milk } }
      - call: { tool: write, input: { file_path: \"${MEMORY}/preferences/notes/todo.md\", content: milk bought } }
      - call: { tool: write, input: { file_path: \"${MEMORY}/preferences/new.md\", content: made here } }
      - call: { tool: write, input: { file_path: \"${MEMORY}/preferences/both.md\", content: ours } }
      - call: { tool: write, input: { file_path: \"${MEMORY}/rules/law.md\", content: no }, expect: { is_error: true } }
      - call: { tool: bash, input: { command: \"rm ${MEMORY}/preferences/old.md\" }, permission: ask }
      - say: done
";

#[tokio::test(flavor = "multi_thread")]
async fn workers_bring_skills_and_keep_memories() {
    for worker in Worker::ALL {
        let home = tempfile::tempdir().unwrap();
        let memory_root = match worker {
            // In a sandbox of its own it can be where it always is.
            Worker::Remuda => "/mnt/memory".to_owned(),
            Worker::Python | Worker::TypeScript => home.path().join("memory").to_str().unwrap().to_owned(),
        };
        let scenario = Scenario::parse("resources", SCENARIO).unwrap();
        let options =
            Options { scenarios: vec![scenario], memory_root: memory_root.clone(), ..Options::default() };
        let emulator = Emulator::start(options).await.unwrap();
        let environment = emulator.create_environment("resources").unwrap();
        emulator.add_skill("skill_1", SkillUpload::new("greet", "", &[("SKILL.md", b"# Greet people")]));
        let part: &[(&str, &[u8])] = &[("SKILL.md", b"# Part"), ("lib/words.txt", b"farewell")];
        emulator.add_skill("skill_2", SkillUpload::new("part", "", part));
        let agent = emulator
            .create_agent_with(&json!({
                "name": "skilled",
                "model": "claude-opus-5-5",
                "tools": [{"type": "agent_toolset_20260401"}],
                "skills": [
                    {"type": "custom", "skill_id": "skill_1", "version": "latest"},
                    {"type": "custom", "skill_id": "skill_2", "version": "latest"},
                ],
            }))
            .unwrap();

        let http = reqwest::Client::new();
        let call = async |path: String, body: Option<Value>| -> Value {
            let url = format!("{}{path}", emulator.url());
            let request = match body {
                Some(body) => http.post(url).json(&body),
                None => http.get(url),
            };
            request.bearer_auth(emulator.api_key()).send().await.unwrap().json().await.unwrap()
        };
        let mut stores = Vec::new();
        let (both, old) = (("/both.md", "old"), ("/old.md", "old"));
        let texts: [(&str, &[(&str, &str)]); 2] = [
            ("Preferences", &[("/notes/todo.md", "buy milk"), both, old]),
            ("Rules", &[("/law.md", "be kind")]),
        ];
        for (name, texts) in texts {
            let store = call("/v1/memory_stores".into(), Some(json!({"name": name}))).await;
            let memories = format!("/v1/memory_stores/{}/memories", store["id"].as_str().unwrap());
            let mut ids = Vec::new();
            for (path, content) in texts {
                let memory = call(memories.clone(), Some(json!({"path": path, "content": content}))).await;
                ids.push(memory["id"].as_str().unwrap().to_owned());
            }
            stores.push((store["id"].clone(), memories, ids));
        }
        let session = emulator
            .create_session_with(&json!({
                "environment_id": environment.id,
                "agent": agent,
                "metadata": {"scenario": "resources", "var.MEMORY": memory_root},
                "resources": [
                    {"type": "memory_store", "memory_store_id": stores[0].0},
                    {"type": "memory_store", "memory_store_id": stores[1].0, "access": "read_only"},
                ],
            }))
            .unwrap();

        let workdir = home.path().join("work");
        std::fs::create_dir(&workdir).unwrap();
        let process = worker.start(
            Mode::Poll,
            &workdir,
            &[
                ("ANTHROPIC_BASE_URL", &emulator.url()),
                ("ANTHROPIC_ENVIRONMENT_ID", environment.id.as_str()),
                ("ANTHROPIC_ENVIRONMENT_KEY", &environment.key),
            ],
        );
        // While it waits for permission, somebody else changes what it has changed, too.
        let mut events = session.subscribe().unwrap();
        let asks = |event: &Event| {
            let event: Value = serde_json::from_slice(event.json()).unwrap();
            (event["evaluated_permission"] == "ask").then(|| event["id"].as_str().unwrap().to_owned())
        };
        let asked = async {
            loop {
                let event = events.next().await.expect("the session goes on");
                if let Some(call) = asks(&event) {
                    return call;
                }
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await.expect("it asks");
        call(format!("{}/{}", stores[0].1, stores[0].2[1]), Some(json!({"content": "theirs"}))).await;
        session.allow(&asked.as_str().into()).unwrap();
        let verdict = session.wait_verdict(PATIENCE).await.expect("the scenario ends");
        assert!(verdict.passed(), "{worker:?}: {verdict:?}");
        // The last sync comes before the item is stopped.
        session.wait_released(PATIENCE).await.expect("the worker lets go");
        let kept = call(format!("{}?view=full", stores[0].1), None).await;
        let kept: Vec<(&str, &str)> = kept["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|memory| (memory["path"].as_str().unwrap(), memory["content"].as_str().unwrap()))
            .collect();
        let expected = [("/both.md", "theirs"), ("/new.md", "made here"), ("/notes/todo.md", "milk bought")];
        assert_eq!(kept, expected, "{worker:?}");
        let law = call(format!("{}?view=full", stores[1].1), None).await;
        assert_eq!(law["data"][0]["content"], "be kind");
        assert_eq!(emulator.log().of(Operation::DownloadSkill).len(), 2);
        process.end().await;
        emulator.shutdown().await;
    }
}

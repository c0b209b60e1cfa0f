//! Declared tools that servers of the official packages run: on standard input and output, and over streamable HTTP.

use std::process::Stdio;
use std::time::Duration;

use remuda::emulator::{CallRequest, Emulator, Options, StopReason};
use remuda_actors::tool::ToolResult;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::workers::{Mode, Worker, script};

const PATIENCE: Duration = Duration::from_secs(120);

/// How the configuration file says where a server is.
fn command(language: Worker) -> String {
    let command = script(language, "mcp_server", &["stdio"]);
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    format!("command = {words:?}")
}

/// Has every tool of a server called through `remuda run`; `name` is what the server says of itself.
async fn served(place: &str, name: &str) {
    let emulator = Emulator::start(Options::default()).await.unwrap();
    let environment = emulator.create_environment("servers").unwrap();
    let agent = json!({"name": "silent", "model": "m", "metadata": {"brain": "silent"}, "tools": []});
    let agent = emulator.create_agent_with(&agent).unwrap();
    let body = json!({"environment_id": environment.id, "agent": agent});
    let session = emulator.create_session_with(&body).unwrap();
    let workdir = tempfile::tempdir().unwrap();
    let tools = ["add", "picture", "fail", "slow", "die"].map(|tool| {
        let limit = if tool == "slow" { "500ms" } else { "60s" };
        format!("[[tool]]\nname = {tool:?}\nserver = \"official\"\ntimeout = {limit:?}\n")
    });
    let config = format!("{}[[mcp-server]]\nname = \"official\"\n{place}\n", tools.concat());
    let path = workdir.path().join("remuda.toml");
    std::fs::write(&path, config).unwrap();
    let process = Worker::Remuda.start(
        Mode::Poll,
        workdir.path(),
        &[
            ("ANTHROPIC_BASE_URL", &emulator.url()),
            ("ANTHROPIC_ENVIRONMENT_ID", environment.id.as_str()),
            ("ANTHROPIC_ENVIRONMENT_KEY", &environment.key),
            ("REMUDA_CONFIG", path.to_str().unwrap()),
            ("OFFICIAL_NODE", super::install::folder().join("node").to_str().unwrap()),
        ],
    );
    let call = async |tool: &str, input: Value| -> ToolResult {
        let calls = session.call(vec![CallRequest::custom(tool, input)]).unwrap();
        session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered").result
    };
    assert_eq!(call("add", json!({"a": 2, "b": 3})).await, ToolResult::ok(format!("5 by {name}")));
    let picture = serde_json::to_value(call("picture", json!({})).await.content).unwrap();
    assert_eq!(
        (&picture[0]["type"], &picture[0]["source"]["media_type"]),
        (&json!("image"), &json!("image/png"))
    );
    let failed = call("fail", json!({})).await;
    assert!(failed.is_error && !failed.text().is_empty(), "{failed:?}");
    let wrong = call("add", json!({"a": "x"})).await;
    assert!(wrong.is_error, "{wrong:?}");
    let slow = call("slow", json!({})).await;
    assert_eq!(slow.text(), "slow: timed out after 0.5s; nobody knows how far the call came");
    assert_eq!(call("add", json!({"a": 1, "b": 1})).await, ToolResult::ok(format!("2 by {name}")));
    let died = call("die", json!({})).await;
    assert!(died.is_error && died.text().contains("`official`"), "{died:?}");
    if place.starts_with("command") {
        assert_eq!(call("add", json!({"a": 4, "b": 4})).await, ToolResult::ok(format!("8 by {name}")));
    }
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    process.end().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_both_packages_run_tools_on_standard_input_and_output() {
    served(&command(Worker::Python), "python").await;
    served(&command(Worker::TypeScript), "typescript").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_python_package_runs_tools_over_streamable_http() {
    let mut server = script(Worker::Python, "mcp_server", &["http"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port =
        tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it comes up").unwrap().unwrap();
    served(&format!("url = \"http://127.0.0.1:{port}/mcp\""), "python").await;
    assert!(server.wait().await.unwrap().code() == Some(3), "its last call ended it");
}

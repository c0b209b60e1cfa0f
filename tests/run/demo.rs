//! The demonstrations, and the emulator as a program.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::bench::{PATIENCE, finish, remuda, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_passes_and_shows_its_figures() {
    let ended = finish(&mut remuda(&["demo"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout.matches(" passed ").count(), 3, "{}", ended.stdout);
    for shown in
        ["sandbox standby", "the server is up", "denied", "9 words in poem.txt", "tool overhead p50 / max"]
    {
        assert!(ended.stdout.contains(shown), "{shown}: {}", ended.stdout);
    }
    assert_eq!(ended.stderr, "");
    assert!(!ended.stdout.contains('\u{1b}'), "no colours for a pipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_lines_run_in_one_sandbox() {
    let mut child = remuda(&["demo", "--interactive"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"X=5; cd /tmp\n\necho $X; pwd\nexit 3\necho back\n").await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("5\n/tmp\n"), "{said}");
    assert!(said.contains("the previous one exited with status 3") && said.ends_with("back\n"), "{said}");
}

/// Where the processes are that stand in a folder.
fn at_work_in(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    // A launcher stands in its sandbox's folder.
    let places = processes.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
    places.filter(|place| place.starts_with(folder)).map(|place| place.display().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_it_leaves_nothing_behind() {
    for (arguments, signals, code) in [
        (&["demo", "--interactive"][..], &[Signal::INT][..], 0),
        (&["demo", "--interactive"], &[Signal::HUP], 0),
        // The second one while what was typed still runs.
        (&["demo", "--interactive"], &[Signal::INT, Signal::INT], 0),
        (&["demo"], &[Signal::TERM], 1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = remuda(arguments);
        let mut child = command.env("TMPDIR", dir.path()).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The input stays open, as a terminal does.
        stdin.write_all(b"sleep 600\n").await.unwrap();
        until("a sandbox is there", || !at_work_in(dir.path()).is_empty()).await;
        let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        for signal in signals {
            kill_process(pid, *signal).unwrap();
            // Two that come at once are one.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(
            (ended.status.code(), &*String::from_utf8_lossy(&ended.stderr)),
            (Some(code), ""),
            "{arguments:?}"
        );
        assert_eq!(at_work_in(dir.path()), Vec::<String>::new(), "{arguments:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{arguments:?}");
        drop(stdin);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulator_of_its_own_process_is_served() {
    let mut emulator = remuda(&["emulator", "--environment", "one"]).spawn().unwrap();
    let mut lines = BufReader::new(emulator.stdout.take().unwrap()).lines();
    let mut exports = Vec::new();
    while exports.len() < 4 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        if let Some(export) = line.strip_prefix("export ") {
            let (name, value) = export.split_once('=').unwrap();
            exports.push((name.to_owned(), value.to_owned()));
        }
    }
    let of = |name: &str| exports.iter().find(|(known, _)| known == name).unwrap().1.clone();
    let dir = tempfile::tempdir().unwrap();
    let mut run = remuda(&["run", "--max-idle", "300ms", "--state-dir"]);
    run.arg(dir.path()).envs(exports.iter().filter(|(name, _)| name != "ANTHROPIC_API_KEY").cloned());
    let run = run.spawn().unwrap();

    let http = reqwest::Client::new();
    let ask = async |path: &str, body: serde_json::Value| -> serde_json::Value {
        let request =
            http.post(format!("{}{path}", of("ANTHROPIC_BASE_URL"))).bearer_auth(of("ANTHROPIC_API_KEY"));
        request.json(&body).send().await.unwrap().json().await.unwrap()
    };
    let tools = serde_json::json!([{"type": "agent_toolset_20260401"}]);
    let agent = ask("/v1/agents", serde_json::json!({"name": "a", "model": "m", "tools": tools})).await;
    let message =
        serde_json::json!({"type": "user.message", "content": [{"type": "text", "text": "echo $((6 * 7))"}]});
    let body = serde_json::json!({
        "agent": agent["id"], "environment_id": of("ANTHROPIC_ENVIRONMENT_ID"), "initial_events": [message],
    });
    let session = ask("/v1/sessions", body).await;
    let events =
        format!("{}/v1/sessions/{}/events", of("ANTHROPIC_BASE_URL"), session["id"].as_str().unwrap());
    let answered = async {
        loop {
            let page = http
                .get(&events)
                .bearer_auth(of("ANTHROPIC_API_KEY"))
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap();
            if page.contains("agent.message") {
                return page;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let page = tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert!(page.contains("\"text\":\"42\""), "{page}");
    let pid = rustix::process::Pid::from_raw(run.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = tokio::time::timeout(PATIENCE, run.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0));
    emulator.kill().await.unwrap();
}

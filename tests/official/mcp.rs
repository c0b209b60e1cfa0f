//! The official clients of MCP in sandboxes: over streamable HTTP, and by `remuda sandboxes mcp` on their standard
//! input and output. All of them see what `transcripts/mcp.txt` says.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::install::root;
use super::workers::{Worker, script};

const PATIENCE: Duration = Duration::from_secs(120);

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A hand on TCP, and where it listens.
async fn hand(folder: &Path) -> (Child, String) {
    let (workdir, state, token) = (folder.join("w"), folder.join("s"), folder.join("token"));
    std::fs::create_dir(&workdir).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::fs::write(&token, TOKEN).unwrap();
    let mut hand = Command::new(env!("CARGO_BIN_EXE_remuda-hand"))
        .args(["serve", "--listen", "tcp:127.0.0.1:0"])
        .args([Path::new("--workdir"), &workdir, Path::new("--state-dir"), &state])
        .args([Path::new("--token-file"), &token])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(hand.stdout.take().unwrap()).lines();
    let ready =
        tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it comes up").unwrap().unwrap();
    let address = ready.strip_prefix("ready tcp:").unwrap_or_else(|| panic!("{ready}"));
    (hand, format!("http://{address}/mcp"))
}

async fn sees(language: Worker, variables: &[(&str, &str)]) {
    let client = script(language, "mcp_client", &[])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output =
        tokio::time::timeout(PATIENCE, client.wait_with_output()).await.expect("the client ends").unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{language:?}: {said}{errors}");
    let expected = std::fs::read_to_string(root().join("tests/official/transcripts/mcp.txt")).unwrap();
    assert_eq!(said, expected, "{language:?}: {errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_use_a_sandbox_over_streamable_http() {
    for language in Worker::OFFICIAL {
        let folder = tempfile::tempdir().unwrap();
        let (mut hand, url) = hand(folder.path()).await;
        let workdir = folder.path().canonicalize().unwrap().join("w");
        let variables = [("MCP_URL", &*url), ("MCP_TOKEN", TOKEN), ("WORKDIR", workdir.to_str().unwrap())];
        sees(language, &variables).await;
        hand.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_use_a_new_sandbox_by_one_line_of_configuration() {
    let command = concat!(env!("CARGO_BIN_EXE_remuda"), " sandboxes mcp --new");
    for language in Worker::OFFICIAL {
        sees(language, &[("MCP_COMMAND", command), ("WORKDIR", "/workspace")]).await;
    }
}

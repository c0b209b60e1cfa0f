//! `remuda sandboxes`: looking at sandboxes that another process keeps, and working in them by MCP.

use std::path::Path;

use remuda::emulator::{CallRequest, SessionHandle};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::bench::{Bench, PATIENCE, finish, remuda, until};

/// A client of a bridge.
struct Client {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    asked: u64,
}

impl Client {
    fn start(arguments: &[&str]) -> Self {
        let mut command = remuda(&["sandboxes", "mcp"]);
        command.args(arguments).stdin(std::process::Stdio::piped());
        if let Some(folder) = std::env::var_os("TMPDIR") {
            command.env("TMPDIR", folder);
        }
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output).lines(), asked: 0 }
    }

    async fn send(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn receive(&mut self) -> Value {
        let line = timeout(PATIENCE, self.output.next_line()).await.expect("it answers").unwrap();
        serde_json::from_str(&line.expect("it lives")).unwrap()
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params});
        self.send(&message.to_string()).await;
        let answer = self.receive().await;
        assert_eq!(answer["id"], json!(self.asked));
        answer
    }

    async fn bash(&mut self, command: &str) -> String {
        let answer = self.ask("tools/call", json!({"name": "bash", "arguments": {"command": command}})).await;
        answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Goes, as clients do.
    async fn end(mut self) -> Option<i32> {
        drop(self.input);
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

async fn run(session: &SessionHandle, command: &str) -> String {
    let calls = session.call(vec![CallRequest::tool("bash", json!({"command": command}))]).unwrap();
    session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered").result.text()
}

fn state(bench: &Bench) -> String {
    bench.dir.path().join("state").display().to_string()
}

async fn listed(state: &str) -> String {
    let ended = finish(&mut remuda(&["sandboxes", "list", "--state-dir", state])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_works_in_a_sessions_sandbox_also_while_that_stands_by() {
    let bench = Bench::new().await;
    let state = state(&bench);
    assert!(listed(&state).await.starts_with("sandbox"), "nothing is there yet, which is no mistake");
    let running = bench.run(&["--standby-after", "0s"]);
    let session = bench.session();
    assert_eq!(run(&session, "echo from the session > file; cd /tmp; pwd").await, "/tmp");
    let name = session.id().to_string();
    let stands_by = async || {
        while !listed(&state).await.contains("standby") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, stands_by()).await.expect("it stands by");
    let list = listed(&state).await;
    assert!(list.contains(&format!("{name}.1")) && !list.contains("(blank)"), "{list}");

    let mut client = Client::start(&[&name, "--state-dir", &state]);
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    assert_eq!(client.ask("initialize", hello).await["result"]["serverInfo"]["name"], "remuda-hand");
    client.send(r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#).await;
    assert_eq!(client.bash("cat file; pwd").await, "from the session\n/workspace");
    // Nothing of the session's runs, and yet the sandbox is not frozen under the client's call.
    assert_eq!(client.bash("sleep 3; echo slept").await, "slept");
    assert_eq!(run(&session, "pwd").await, "/tmp", "the session's shell is its own");
    client.send("nonsense").await;
    assert_eq!(client.receive().await["error"]["code"], -32700);
    assert_eq!(client.end().await, Some(0));

    let mut other = Client::start(&[&format!("{name}.1"), "--state-dir", &state]);
    assert_eq!(other.bash("echo well").await, "well");
    running.kill().await;
    assert_eq!(
        other.bash("echo still well").await,
        "still well",
        "sandboxes outlive the process that keeps them"
    );
    assert_eq!(other.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sandbox_is_for_one_client_and_goes_with_it() {
    let bench = Bench::new().await;
    let mut client = Client::start(&["--new"]);
    assert_eq!(client.bash("id -un; pwd; echo 1 > file").await, "agent\n/workspace");
    let folder = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten().map(|entry| entry.path());
    let ours = folder.filter(|path| path.to_string_lossy().contains("remuda-mcp-"));
    let folders: Vec<_> = ours.filter(|path| path.join("sandboxes/mcp.1").exists()).collect();
    assert!(!folders.is_empty());
    assert_eq!(client.end().await, Some(0));
    // Others of this test's kind may come and go.
    until("its folder is gone", || folders.iter().any(|folder| !Path::exists(folder))).await;
    drop(bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_named() {
    let bench = Bench::new().await;
    let state = state(&bench);
    let refused = finish(&mut remuda(&["sandboxes", "mcp", "sesn_none", "--state-dir", &state])).await;
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(
        refused.stderr.contains("there is no sandbox `sesn_none`") && refused.stderr.contains("--new"),
        "{refused:?}"
    );
    let running = bench.start(bench.keeping(&["--warm", "1"]));
    let blank = async || {
        loop {
            let list = listed(&state).await;
            if let Some(line) = list.lines().find(|line| line.contains("(blank)")) {
                return line.split_whitespace().next().unwrap().to_owned();
            }
        }
    };
    let blank = timeout(PATIENCE, blank()).await.expect("one is made ahead");
    let refused = finish(&mut remuda(&["sandboxes", "mcp", &blank, "--state-dir", &state])).await;
    assert!(refused.code == Some(64) && refused.stderr.contains("is blank"), "{refused:?}");
    running.kill().await;
    let nothing = finish(&mut remuda(&["sandboxes", "mcp"])).await;
    assert_eq!(nothing.code, Some(64), "{nothing:?}");
}

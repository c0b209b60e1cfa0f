//! The sandbox as an MCP server, spoken to in its own words.

use std::time::Duration;

use remuda::hand::client::HandClient;
use serde_json::{Value, json};

use crate::fixture::{Hand, bounded};

/// A client with a session of its own.
struct Client(HandClient);

impl Client {
    fn of(hand: &Hand) -> Self {
        Self(hand.client.clone().with_mcp_session())
    }

    async fn ask(&self, id: u64, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let answer = bounded(self.0.mcp(message.to_string())).await.unwrap().expect("it has an answer");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(id)));
        answer
    }

    /// What a tool answers: its text, and whether that is an error.
    async fn tool(&self, name: &str, arguments: Value) -> (String, bool) {
        let answer = self.ask(7, "tools/call", json!({"name": name, "arguments": arguments})).await;
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        (text, result["isError"].as_bool().unwrap())
    }

    async fn ok(&self, name: &str, arguments: Value) -> String {
        let (text, is_error) = self.tool(name, arguments).await;
        assert!(!is_error, "{text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_hello_in_the_clients_version_and_lists_its_tools() {
    let hand = Hand::start();
    let client = Client::of(&hand);
    for (asked, answered) in
        [("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")]
    {
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let hello = client.ask(1, "initialize", params).await;
        assert_eq!(hello["result"]["protocolVersion"], answered);
        assert_eq!(hello["result"]["capabilities"], json!({"tools": {}}));
    }
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(client.0.mcp(initialized.to_string()).await.unwrap(), None);
    assert_eq!(client.ask(2, "ping", json!({})).await["result"], json!({}));
    let tools = client.ask(3, "tools/list", json!({})).await;
    let names: Vec<_> =
        tools["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names.len(), 11, "{names:?}");
    assert_eq!(client.ask(4, "prompts/list", json!({})).await["error"]["code"], -32601);
    let unknown = client.ask(5, "tools/call", json!({"name": "custom", "arguments": {}})).await;
    assert_eq!(
        unknown["error"]["code"], -32602,
        "what operators declare is not for these clients: {unknown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_six_tools_work_and_each_session_has_a_shell_of_its_own() {
    let hand = Hand::start();
    let (one, other) = (Client::of(&hand), Client::of(&hand));
    assert_eq!(
        one.ok("write", json!({"file_path": "a.txt", "content": "hello\nworld\n"})).await,
        "wrote 12 bytes to a.txt"
    );
    one.ok("edit", json!({"file_path": "a.txt", "old_string": "world", "new_string": "there"})).await;
    assert_eq!(one.ok("read", json!({"file_path": "a.txt"})).await, "hello\nthere\n");
    assert!(one.ok("glob", json!({"pattern": "*.txt"})).await.ends_with("/a.txt"));
    assert!(one.ok("grep", json!({"pattern": "the.e"})).await.contains("a.txt:2:there"));
    one.ok("bash", json!({"command": "mkdir d; cd d; x=1"})).await;
    assert_eq!(one.ok("bash", json!({"command": "echo ${PWD##*/} $x"})).await, "d 1");
    assert_eq!(other.ok("bash", json!({"command": "echo ${PWD##*/} $x"})).await, "w");
    // That of the hand's own primary thread is another one again.
    assert_eq!(hand.output("echo ${PWD##*/} $x").await, "w");
    assert_eq!(one.tool("bash", json!({"command": "echo no; exit 3"})).await, ("no".to_owned(), true));
    let (text, is_error) = one.tool("read", json!({"path": 5})).await;
    assert!(is_error && text.starts_with("read: unknown argument"), "{text}");
    hand.write("p.png", [0x89, b'P', b'N', b'G', 13, 10, 26, 10]);
    let picture =
        one.ask(1, "tools/call", json!({"name": "read", "arguments": {"file_path": "p.png"}})).await;
    let block = &picture["result"]["content"][0];
    assert_eq!((&block["type"], &block["mimeType"]), (&json!("image"), &json!("image/png")), "{picture}");
    // A session that is over may be gone on with, and its shell is a new one.
    one.0.end_mcp_session().await.unwrap();
    assert!(one.ok("bash", json!({"command": "echo ${PWD##*/} $x"})).await.ends_with('w'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_ends() {
    let hand = Hand::start();
    let client = Client::of(&hand);
    let slow = json!({"name": "bash", "arguments": {"command": "touch begun; sleep 300"}});
    let cancel = async {
        hand.eventually("[ -e begun ]").await;
        // Another client's cancellation of the same number is about another call.
        let params = json!({"requestId": 9, "reason": "no more\nneeded"});
        let message =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string();
        Client::of(&hand).0.mcp(message.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(hand.client.health().await.unwrap().running.len(), 1);
        client.0.mcp(message).await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.ask(9, "tools/call", slow), cancel);
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("(no moreneeded)") && answer["result"]["isError"] == true, "{answer}");
    assert_eq!(hand.client.health().await.unwrap().running.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_run_on_and_hold_standby_off() {
    let hand = Hand::start();
    let client = Client::of(&hand);
    assert_eq!(client.ok("process_list", json!({})).await, "no command was started");
    let command = "echo up; echo $PWD >&2; trap 'echo bye; exit 4' TERM; while :; do sleep 0.05; done";
    assert_eq!(client.ok("process_start", json!({"command": command})).await, "started p1");
    assert_eq!(client.ok("process_start", json!({"command": "exit 3"})).await, "started p2");
    let mut logs = String::new();
    while !logs.contains("/w") {
        logs = client.ok("process_logs", json!({"name": "p1"})).await;
    }
    assert_eq!(logs, format!("up\n{}", hand.workdir.display()));
    assert!(hand.client.health().await.unwrap().background > 0);
    let mut list = String::new();
    while !list.contains("p2  exited with status 3") {
        list = client.ok("process_list", json!({})).await;
    }
    assert!(list.starts_with("p1  running  started 0s ago  echo up;"), "{list}");
    // They belong to the sandbox, and not to the session.
    let stopped = Client::of(&hand).ok("process_stop", json!({"name": "p1"})).await;
    assert!(stopped.ends_with("bye\nexited with status 4"), "{stopped}");
    assert_eq!(hand.client.health().await.unwrap().background, 0);
    let (unknown, is_error) = client.tool("process_logs", json!({"name": "p9"})).await;
    assert!(is_error && unknown.contains("there is no command \"p9\""), "{unknown}");
    for _ in 0..40 {
        client.ok("process_start", json!({"command": "true"})).await;
        hand.output("sleep 0.02").await;
    }
    let list = client.ok("process_list", json!({})).await;
    assert!(list.lines().count() <= 32 && list.contains("p42") && !list.contains("p2 "), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_listed_within_the_sandbox() {
    let hand = Hand::start();
    let client = Client::of(&hand);
    assert_eq!(client.ok("list_files", json!({})).await, "the folder is empty");
    hand.write("a/b/c.txt", "12345");
    hand.write("d.txt", "");
    std::os::unix::fs::symlink("/etc", hand.path("e")).unwrap();
    assert_eq!(client.ok("list_files", json!({})).await, "a/\nd.txt  0 bytes\ne  (a link)");
    assert_eq!(
        client.ok("list_files", json!({"depth": 3})).await,
        "a/\nd.txt  0 bytes\ne  (a link)\na/b/\na/b/c.txt  5 bytes"
    );
    assert_eq!(client.ok("list_files", json!({"path": "a/b"})).await, "c.txt  5 bytes");
    let (text, is_error) = client.tool("list_files", json!({"path": "e"})).await;
    assert!(is_error && text.contains("outside the session's working directory"), "{text}");
    for n in 0..1_100 {
        hand.write(&format!("many/{n}"), "");
    }
    let many = client.ok("list_files", json!({"path": "many"})).await;
    assert!(
        many.lines().count() == 1_001
            && many.ends_with("[there is more; list a folder below, or fewer levels]")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_and_costs_nothing() {
    let hand = Hand::start();
    let socket = hand.dir.path().canonicalize().unwrap().join("s");
    let post = async |method: &str, body: &str| {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} /mcp HTTP/1.1\r\nhost: hand\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        bounded(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    for (body, code) in
        [("nonsense", -32700), ("[]", -32600), ("{}", -32600), (r#"{"id": {}, "method": "ping"}"#, -32600)]
    {
        let answer = post("POST", body).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains(&format!("\"code\":{code}")),
            "{body}: {answer}"
        );
    }
    assert!(post("GET", "").await.starts_with("HTTP/1.1 405"));
    assert!(post("DELETE", "").await.starts_with("HTTP/1.1 405"), "of no session");
    let hello = post("POST", r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#).await;
    assert!(hello.contains("\r\nmcp-session-id: mcp-"), "{hello}");
    let ping = post("POST", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    assert!(ping.contains("\r\nmcp-session-id: mcp\r\n"), "{ping}");
    assert_eq!(hand.output("echo well").await, "well");
}

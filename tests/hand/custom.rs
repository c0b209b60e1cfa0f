//! Tools of the operator's that run in the sandbox.

use std::time::{Duration, Instant};

use remuda::hand::wire::{CallRequest, CallStatus};
use remuda_actors::ids::CallId;
use remuda_actors::tool::{Block, ToolResult};
use serde_json::{Value, json};

use crate::fixture::{Hand, bounded};

fn sh(script: &str) -> Value {
    json!({"name": "order", "argv": ["/bin/bash", "-c", script], "input": {"id": 42}})
}

/// A server that speaks MCP and answers each request with the line that `answers` makes of its id.
fn server(answers: &str) -> Value {
    let script = format!(
        r#"reply() {{ printf '{{"jsonrpc":"2.0","id":%s,"result":%s}}\n' "$1" "$2"; }}
        id() {{ [[ $1 =~ \"id\":([0-9]+) ]] && echo "${{BASH_REMATCH[1]}}"; }}
        while read -r line; do case $line in
            *initialize\"*) reply "$(id "$line")" '{{"protocolVersion":"2025-06-18","capabilities":{{}},"serverInfo":{{"name":"s","version":"1"}}}}' ;;
            *tools/call*) {answers} ;;
        esac; done"#
    );
    json!({"name": "order", "argv": ["/bin/bash", "-c", script], "input": {"id": 42}, "mcp": "order_status"})
}

async fn timed(hand: &Hand, input: Value, limit: Duration) -> ToolResult {
    let request = CallRequest {
        tool: "custom".to_owned(),
        input,
        thread: None,
        again: false,
        timeout_ms: Some(u64::try_from(limit.as_millis()).unwrap()),
    };
    bounded(hand.client.call(&CallId::from("timed"), &request)).await.unwrap().result
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_go_in_and_text_or_blocks_come_out() {
    let hand = Hand::start();
    let run = async |script: &str| hand.tool("custom", sh(script)).await;
    assert_eq!(run("cat; pwd >&2").await, ToolResult::ok(r#"{"id":42}"#));
    assert_eq!(run("pwd").await, ToolResult::ok(hand.workdir.display().to_string()));
    assert_eq!(run("exec <&-; echo '{\"content\": \"shipped\"}'").await, ToolResult::ok("shipped"));
    assert_eq!(run("echo '{\"content\": \"none\", \"is_error\": true}'").await, ToolResult::error("none"));
    let png = r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"}}"#;
    let pdf = r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"aa"},"title":"t"}"#;
    let result = run(&format!("echo '{{\"content\": [{png}, {pdf}]}}'")).await;
    assert!(matches!(result.content[..], [Block::Image { .. }, Block::Document { .. }]), "{result:?}");
    // What it leaves running holds its output open, and does not keep the agent waiting.
    let begun = Instant::now();
    assert_eq!(run("sleep 300 & echo done").await, ToolResult::ok("done"));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(hand.client.health().await.unwrap().background, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told() {
    let hand = Hand::start();
    let run = async |script: &str| hand.tool("custom", sh(script)).await;
    let result = run("echo why >&2; exit 3").await;
    assert_eq!(result, ToolResult::error("order: it exited with status 3\nwhy"));
    let result = run("echo some; kill -9 $$").await;
    assert!(result.is_error && result.text() == "some\norder: it was killed by signal 9", "{result:?}");
    let result = run("echo '{\"content\": [{\"type\": \"sound\"}]}'").await;
    assert!(result.is_error && result.text().starts_with("order: its answer cannot be read"), "{result:?}");
    let result = hand.tool("custom", json!({"name": "order", "argv": ["/no/such"], "input": {}})).await;
    let missing = "order: /no/such could not be started in the sandbox: no such file or directory";
    assert_eq!(result, ToolResult::error(missing));
    let result = run("head -c 300000 /dev/zero | tr '\\0' x").await;
    assert!(!result.is_error && result.text().ends_with("x\n[output truncated]"));
    assert!(result.text().len() < 110_000, "{}", result.text().len());
    let result = run("yes").await;
    assert_eq!(result, ToolResult::error("order: it printed more than 16777216 bytes"));
    let result = timed(&hand, sh("echo begun >&2; sleep 300"), Duration::from_millis(300)).await;
    assert_eq!(result, ToolResult::error("order: timed out after 0.3s\nbegun"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_ends_it_with_all_it_started_and_it_never_runs_again() {
    let hand = Hand::start();
    let request = CallRequest {
        tool: "custom".to_owned(),
        input: sh("echo > begun; sleep 300 & wait"),
        thread: None,
        again: false,
        timeout_ms: None,
    };
    let id = CallId::from("call");
    let running = tokio::spawn({
        let (client, id, request) = (hand.client.clone(), id.clone(), request.clone());
        async move { client.call(&id, &request).await }
    });
    hand.eventually("[ -e begun ]").await;
    let CallStatus::Finished { result, .. } = hand.client.cancel(&id, "enough").await.unwrap() else {
        panic!()
    };
    assert_eq!(result, ToolResult::error("order: the call was cancelled (enough)"));
    assert_eq!(running.await.unwrap().unwrap().result, result);
    std::fs::remove_file(hand.path("begun")).unwrap();
    assert_eq!(hand.client.call(&id, &request).await.unwrap().result, result);
    assert!(!hand.path("begun").exists());
    assert_eq!(hand.client.health().await.unwrap().background, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_server_is_started_asked_and_ended() {
    let hand = Hand::start();
    let input = server(
        r#"[[ $line == *order_status* ]] && echo "$line" > asked; reply "$(id "$line")" '{"content":[{"type":"text","text":"shipped"},{"type":"image","mimeType":"image/png","data":"iVBO"}]}'"#,
    );
    let result = hand.tool("custom", input).await;
    assert!(
        matches!(&result.content[..], [Block::Text { text }, Block::Image { .. }] if text == "shipped"),
        "{result:?}"
    );
    let asked: Value = serde_json::from_str(&hand.read("asked")).unwrap();
    assert_eq!(asked["params"], json!({"name": "order_status", "arguments": {"id": 42}}));
    assert_eq!(hand.client.health().await.unwrap().background, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_mcp_server_costs_the_call_and_no_more() {
    let hand = Hand::start();
    for (answers, expected) in [
        ("echo nonsense", "order: its MCP server said what is no message of MCP's: nonsense"),
        ("echo sorry >&2; exit 1", "order: its MCP server ended before it answered `tools/call`\nsorry"),
        (
            r#"printf '{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"no such tool"}}\n'"#,
            "order: its MCP server refused `tools/call`: no such tool",
        ),
        (
            r#"reply 7 null; reply 2 '{"content":5}'"#,
            "order: the answer of its MCP server cannot be read: invalid type: integer `5`, expected a sequence",
        ),
    ] {
        assert_eq!(hand.tool("custom", server(answers)).await, ToolResult::error(expected), "{answers}");
    }
    let result = timed(&hand, server("sleep 300"), Duration::from_millis(500)).await;
    assert_eq!(result, ToolResult::error("order: timed out after 0.5s"));
    assert_eq!(hand.output("echo well").await, "well");
}

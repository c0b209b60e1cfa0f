//! Speaks to an MCP server that was started for one call: says hello, asks once, and hears the answer.
//!
//! ```text
//! initialize ──► its answer ──► notifications/initialized, tools/call ──► its answer ──► standard input closed
//! ```
//!
//! Lines are JSON-RPC messages. Whatever a server says beside its answers is not for us: notifications are passed
//! over, and what it asks of a client is refused, for this one offers nothing.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::Said;
use crate::custom::answer::{self, MAX_ANSWER_BYTES};
use crate::custom::mcp::{METHOD_NOT_FOUND, PROTOCOL_VERSION, described};
use crate::hand::tools::custom::Custom;

/// A server's standard input and output.
struct Server {
    input: Sender,
    output: BufReader<Receiver>,
}

/// Has the server run `tool` with the call's arguments.
pub(super) async fn converse(custom: &Custom, tool: &str, input: Sender, output: Receiver) -> Said {
    let mut server = Server { input, output: BufReader::new(output) };
    let hello = json!({
        "protocolVersion": PROTOCOL_VERSION,
        "capabilities": {},
        "clientInfo": {"name": "remuda", "version": env!("CARGO_PKG_VERSION")},
    });
    let asked = async {
        server.ask(1, "initialize", hello).await?;
        server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        server.ask(2, "tools/call", json!({"name": tool, "arguments": custom.input})).await
    };
    match asked.await {
        Ok(answer) => Said::Answer(answer::from_mcp(&custom.name, answer)),
        Err(what) => Said::Wrong(what),
    }
}

impl Server {
    /// Makes a request and waits for its result.
    async fn ask(&mut self, id: u64, method: &str, params: Value) -> Result<Value, String> {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        loop {
            let mut message = self.receive(method).await?;
            let is_request = message.get("method").is_some();
            match message.get("id") {
                Some(of) if !is_request && *of == json!(id) => {
                    return match message.get("error") {
                        Some(error) => {
                            Err(format!("its MCP server refused `{method}`: {}", described(error)))
                        }
                        None => Ok(message.get_mut("result").map(Value::take).unwrap_or_default()),
                    };
                }
                Some(of) if is_request => {
                    let error = json!({"code": METHOD_NOT_FOUND, "message": "this client offers nothing"});
                    self.send(&json!({"jsonrpc": "2.0", "id": of, "error": error})).await?;
                }
                _ => {}
            }
        }
    }

    async fn send(&mut self, message: &Value) -> Result<(), String> {
        let line = format!("{message}\n");
        let sent = self.input.write_all(line.as_bytes()).await;
        sent.map_err(|_| "its MCP server ended before it answered".to_owned())
    }

    /// The next message of the server's, while it owes the result of `method`.
    async fn receive(&mut self, method: &str) -> Result<Value, String> {
        let mut line = Vec::new();
        let read = (&mut self.output).take(MAX_ANSWER_BYTES as u64 + 1).read_until(b'\n', &mut line).await;
        match read {
            Ok(0) | Err(_) => Err(format!("its MCP server ended before it answered `{method}`")),
            Ok(count) if count > MAX_ANSWER_BYTES => {
                Err(format!("its MCP server answered with more than {MAX_ANSWER_BYTES} bytes"))
            }
            Ok(_) => serde_json::from_slice(&line).map_err(|_| {
                let said: String = String::from_utf8_lossy(&line).trim_end().chars().take(200).collect();
                format!("its MCP server said what is no message of MCP's: {said}")
            }),
        }
    }
}

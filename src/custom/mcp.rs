//! The few words of MCP that the hand speaks by itself, as a client and as a server.

use serde_json::Value;

/// The versions that are spoken, newest first. What is used of them is the same in all.
pub(crate) const PROTOCOL_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The one that a client offers.
pub(crate) const PROTOCOL_VERSION: &str = PROTOCOL_VERSIONS[0];

/// JSON-RPC's codes.
pub(crate) const PARSE_ERROR: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;

/// What an error of JSON-RPC's says.
pub(crate) fn described(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).unwrap_or("it did not say why");
    message.chars().take(1_000).collect()
}

//! The few words of MCP that both sides of a sandbox's wall speak.

use serde_json::Value;

/// The version that is offered, and spoken unless the other side wants an older one: the first one with streamable
/// HTTP as it is now. What is used of it has been the same in all versions.
pub(crate) const PROTOCOL_VERSION: &str = "2025-06-18";

/// JSON-RPC's code for a method there is not.
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;

/// What an error of JSON-RPC's says.
pub(crate) fn described(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).unwrap_or("it did not say why");
    message.chars().take(1_000).collect()
}

//! What a custom tool has said, as an answer that agents can be given.
//!
//! An executable prints text, or one JSON object: `{"content": "text"}`, or `{"content": [blocks], "is_error": true}`
//! with blocks as the control plane has them. An MCP server answers in blocks of its own. Of both only what holds its
//! contents in itself goes on, and only so much of it.

use remuda_actors::tool::{Block, Source, ToolResult};
use serde::Deserialize;
use serde_json::Value;

/// Text of one answer that is kept, in bytes; what is beyond it would fill the agent's context. As much as `bash` keeps.
pub(crate) const MAX_TEXT_BYTES: usize = 100 << 10;

/// Output of an executable, or line of an MCP server, that is taken in, in bytes: pictures and documents in base64.
pub(crate) const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Blocks of one answer.
const MAX_BLOCKS: usize = 32;

/// What stands at the end of a text that was cut.
const TRUNCATED: &str = "\n[output truncated]";

/// An object that an executable may print.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    content: Value,
    #[serde(default)]
    is_error: bool,
}

/// What an executable has printed.
pub(crate) fn printed(name: &str, output: &[u8]) -> ToolResult {
    let Some(Printed { content, is_error }) = serde_json::from_slice(output).ok() else {
        return bounded(ToolResult::ok(String::from_utf8_lossy(output).trim_end_matches('\n')));
    };
    let content = match content {
        Value::String(text) => Ok(vec![Block::text(text)]),
        blocks => serde_json::from_value(blocks),
    };
    match content {
        Ok(content) => bounded(ToolResult { is_error, content }),
        Err(error) => ToolResult::error(format!(
            "{name}: its answer cannot be read: {error}; expected {{\"content\": …}} with a text or a list of blocks"
        )),
    }
}

/// The answer of an MCP server to `tools/call`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    #[serde(default)]
    content: Vec<Value>,
    structured_content: Option<Value>,
    #[serde(default)]
    is_error: bool,
}

/// What an MCP server has answered.
pub(crate) fn from_mcp(name: &str, answer: Value) -> ToolResult {
    let answered: Answered = match serde_json::from_value(answer) {
        Ok(answered) => answered,
        Err(error) => {
            let what = format!("{name}: the answer of its MCP server cannot be read: {error}");
            return ToolResult::error(what);
        }
    };
    let Answered { content, structured_content, is_error } = answered;
    let mut content: Vec<Block> = content.into_iter().map(block).collect();
    if content.is_empty() {
        content.extend(structured_content.map(|value| Block::text(value.to_string())));
    }
    bounded(ToolResult { is_error, content })
}

/// A block of MCP's. Of those that agents cannot be shown they are told.
fn block(block: Value) -> Block {
    let text = |key: &str| block.get(key).and_then(Value::as_str);
    match (text("type"), text("text"), text("data"), text("mimeType")) {
        (Some("text"), Some(text), ..) => Block::text(text),
        (Some("image"), _, Some(data), Some(kind)) => binary(data, kind, "an image"),
        (Some("audio"), _, Some(_), kind) => {
            Block::text(format!("[audio of type {}, left out]", kind.unwrap_or("unknown")))
        }
        (Some("resource"), ..) => match block.get("resource") {
            Some(resource) => embedded(resource),
            None => Block::text(block.to_string()),
        },
        _ => Block::text(block.to_string()),
    }
}

/// A resource inside a block.
fn embedded(resource: &Value) -> Block {
    let text = |key: &str| resource.get(key).and_then(Value::as_str);
    match (text("text"), text("blob")) {
        (Some(text), _) => Block::text(text),
        (None, Some(blob)) => {
            let kind = text("mimeType").unwrap_or("application/octet-stream");
            binary(blob, kind, &format!("the resource {}", text("uri").unwrap_or("without a name")))
        }
        (None, None) => Block::text(resource.to_string()),
    }
}

fn binary(data: &str, kind: &str, what: &str) -> Block {
    let source = || Source::Base64 { media_type: kind.to_owned(), data: data.to_owned() };
    match kind {
        "image/gif" | "image/jpeg" | "image/png" | "image/webp" => Block::Image { source: source() },
        "application/pdf" => Block::Document { source: source(), title: None, context: None },
        kind => Block::text(format!("[{what} of type {kind}, left out]")),
    }
}

/// The same, but no more of it than an agent is to be given: the beginning of the texts, and no block beyond the
/// first ones.
pub(crate) fn bounded(mut result: ToolResult) -> ToolResult {
    if result.content.len() > MAX_BLOCKS {
        let left_out = result.content.len() - MAX_BLOCKS;
        result.content.truncate(MAX_BLOCKS);
        result.content.push(Block::text(format!("[{left_out} more blocks, left out]")));
    }
    let (mut texts, mut bytes) = (MAX_TEXT_BYTES, MAX_ANSWER_BYTES);
    for block in &mut result.content {
        match block {
            Block::Text { text } => {
                if cut(text, texts) {
                    text.push_str(TRUNCATED);
                }
                texts = texts.saturating_sub(text.len());
            }
            Block::Image { source: Source::Base64 { data, .. } }
            | Block::Document { source: Source::Base64 { data, .. }, .. } => {
                match bytes.checked_sub(data.len()) {
                    Some(left) => bytes = left,
                    None => *block = Block::text("[more than can be passed on, left out]"),
                }
            }
            Block::Image { .. } | Block::Document { .. } | Block::SearchResult { .. } => {}
        }
    }
    result
}

/// Leaves `most` bytes of a text, without a part of a character at the end. Whether there was more.
pub(crate) fn cut(text: &mut String, most: usize) -> bool {
    let is_longer = text.len() > most;
    if is_longer {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    is_longer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_text_even_if_it_is_json_of_its_own() {
        for text in
            ["plain", "{\"a\": 1}", "[1, 2]", "{\"content\": \"x\", \"of\": \"a file\"}", "{\"content\": "]
        {
            assert_eq!(printed("t", text.as_bytes()), ToolResult::ok(text));
        }
        assert_eq!(printed("t", b"a\n\n"), ToolResult::ok("a"));
        assert_eq!(printed("t", b"\xff"), ToolResult::ok("\u{fffd}"));
    }

    #[test]
    fn an_object_with_content_is_the_answer_itself() {
        assert_eq!(printed("t", br#" {"content": "x"} "#), ToolResult::ok("x"));
        assert_eq!(printed("t", br#"{"content": "x", "is_error": true}"#), ToolResult::error("x"));
        let png =
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}});
        let answer = json!({"content": [{"type": "text", "text": "x"}, png]}).to_string();
        let result = printed("t", answer.as_bytes());
        assert!(!result.is_error && matches!(result.content[..], [Block::Text { .. }, Block::Image { .. }]));
        for wrong in
            [r#"{"content": 5}"#, r#"{"content": [{"type": "sound"}]}"#, r#"{"content": [{"text": "x"}]}"#]
        {
            let result = printed("t", wrong.as_bytes());
            assert!(
                result.is_error && result.text().starts_with("t: its answer cannot be read: "),
                "{result:?}"
            );
        }
    }

    #[test]
    fn blocks_of_mcp_become_those_of_the_control_plane() {
        let result = from_mcp(
            "t",
            json!({"content": [
                {"type": "text", "text": "a"},
                {"type": "image", "data": "aa", "mimeType": "image/png"},
                {"type": "image", "data": "aa", "mimeType": "image/tiff"},
                {"type": "audio", "data": "aa", "mimeType": "audio/wav"},
                {"type": "resource", "resource": {"uri": "file:///a", "text": "b"}},
                {"type": "resource", "resource": {"uri": "file:///b", "mimeType": "application/pdf", "blob": "aa"}},
                {"type": "resource", "resource": {"uri": "file:///c", "blob": "aa"}},
                {"type": "resource_link", "uri": "file:///d", "name": "d"},
            ], "isError": true}),
        );
        assert!(result.is_error);
        let source = |kind: &str| Source::Base64 { media_type: kind.to_owned(), data: "aa".to_owned() };
        assert_eq!(
            result.content,
            [
                Block::text("a"),
                Block::Image { source: source("image/png") },
                Block::text("[an image of type image/tiff, left out]"),
                Block::text("[audio of type audio/wav, left out]"),
                Block::text("b"),
                Block::Document { source: source("application/pdf"), title: None, context: None },
                Block::text("[the resource file:///c of type application/octet-stream, left out]"),
                Block::text(r#"{"name":"d","type":"resource_link","uri":"file:///d"}"#),
            ]
        );
        assert_eq!(from_mcp("t", json!({"structuredContent": {"a": 1}})), ToolResult::ok(r#"{"a":1}"#));
        assert!(from_mcp("t", json!("nonsense")).is_error);
        assert!(from_mcp("t", json!({"content": "nonsense"})).text().contains("cannot be read"));
    }

    #[test]
    fn there_is_an_end_to_it() {
        let long =
            bounded(ToolResult { is_error: false, content: vec![Block::text("é".repeat(80_000)); 50] });
        assert_eq!(long.content.len(), MAX_BLOCKS + 1);
        let kept = MAX_TEXT_BYTES + (MAX_BLOCKS + 1) * (TRUNCATED.len() + 2);
        assert!(long.text().len() <= kept && long.text().len() >= MAX_TEXT_BYTES, "{}", long.text().len());
        let source =
            Source::Base64 { media_type: "image/png".into(), data: "a".repeat(MAX_ANSWER_BYTES - 10) };
        let images = vec![Block::Image { source }; 2];
        let images = bounded(ToolResult { is_error: false, content: images });
        assert!(matches!(images.content[..], [Block::Image { .. }, Block::Text { .. }]));
    }
}

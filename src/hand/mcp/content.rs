//! Results in MCP's shape.

use remuda_actors::tool::{Block, Source, ToolResult};
use serde_json::{Value, json};

/// A result as the answer to `tools/call`.
pub(super) fn to_mcp(result: &ToolResult) -> Value {
    let content: Vec<Value> = result.postable().content.iter().map(block).collect();
    json!({"content": content, "isError": result.is_error})
}

fn block(block: &Block) -> Value {
    match block {
        Block::Text { text } => json!({"type": "text", "text": text}),
        Block::Image { source: Source::Base64 { media_type, data } } => {
            json!({"type": "image", "mimeType": media_type, "data": data})
        }
        Block::Document { source: Source::Base64 { media_type, data }, title, .. } => {
            let uri = format!("document:///{}", title.as_deref().unwrap_or("read"));
            json!({"type": "resource", "resource": {"uri": uri, "mimeType": media_type, "blob": data}})
        }
        // No tool of a sandbox makes these.
        other => json!({"type": "text", "text": serde_json::to_string(other).unwrap_or_default()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_the_shape_of_mcp() {
        let source = |kind: &str| Source::Base64 { media_type: kind.into(), data: "aa".into() };
        let image = Block::Image { source: source("image/png") };
        let document = Block::Document { source: source("application/pdf"), title: None, context: None };
        let result = ToolResult { is_error: true, content: vec![Block::text(""), image, document] };
        let resource = json!({"uri": "document:///read", "mimeType": "application/pdf", "blob": "aa"});
        assert_eq!(
            to_mcp(&result),
            json!({"isError": true, "content": [
                {"type": "text", "text": "(no output)"},
                {"type": "image", "mimeType": "image/png", "data": "aa"},
                {"type": "resource", "resource": resource},
            ]})
        );
    }
}

//! What of a hand's answer may go on to the control plane.
//!
//! A hand lives beside what the agent runs, and its answers are taken for no better than that. The control plane
//! acts on some blocks: it fetches an address, or reads a file of its own store, with rights that nothing in a
//! sandbox has. So only what carries its contents in itself goes on, of the kinds that the tools make.

use remuda_actors::tool::{Block, Source, ToolResult};

/// The kinds of pictures that agents can be shown.
const PICTURES: [&str; 4] = ["image/gif", "image/jpeg", "image/png", "image/webp"];

/// The kinds of documents.
const DOCUMENTS: [&str; 1] = ["application/pdf"];

/// Blocks in one answer. The tools make two at most.
const MAX_BLOCKS: usize = 64;

/// The result, or an error in its place that says what is wrong with it.
pub(super) fn checked(result: ToolResult) -> ToolResult {
    let refuse = |what: String| ToolResult::error(format!("the sandbox's answer was not passed on: {what}"));
    let blocks = result.content.len();
    if blocks > MAX_BLOCKS {
        return refuse(format!("it has {blocks} blocks, and {MAX_BLOCKS} are the most"));
    }
    match result.content.iter().find_map(problem) {
        Some(what) => refuse(what),
        None => result,
    }
}

/// Why a block does not go on; none if it does.
fn problem(block: &Block) -> Option<String> {
    let (what, source, known) = match block {
        Block::Text { .. } => return None,
        Block::Image { source } => ("an image", source, &PICTURES[..]),
        Block::Document { source, .. } => ("a document", source, &DOCUMENTS[..]),
        Block::SearchResult { .. } => {
            return Some("it has a search result in it, which no tool makes".to_owned());
        }
    };
    match source {
        Source::Base64 { media_type, .. } if known.contains(&media_type.as_str()) => None,
        Source::Base64 { .. } => Some(format!("it has {what} in it that is none of {}", known.join(", "))),
        Source::Text { .. } | Source::Url { .. } | Source::File { .. } => {
            Some(format!("it has {what} in it that does not hold its contents in base64"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(block: serde_json::Value) -> ToolResult {
        serde_json::from_value(json!({"is_error": false, "content": [{"type": "text", "text": "a"}, block]}))
            .unwrap()
    }

    #[test]
    fn what_the_tools_make_goes_on_as_it_is() {
        for block in [
            json!({"type": "text", "text": ""}),
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}}),
            json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aa"}}),
        ] {
            let result = with(block);
            assert_eq!(checked(result.clone()), result);
        }
    }

    #[test]
    fn what_the_control_plane_would_act_upon_does_not() {
        let address = json!({"type": "url", "url": "https://attacker.example/?secret"});
        let of_its_store = json!({"type": "file", "file_id": "file_1"});
        let base64 = |kind: &str| json!({"type": "base64", "media_type": kind, "data": "aa"});
        for block in [
            json!({"type": "image", "source": address}),
            json!({"type": "document", "source": address}),
            json!({"type": "image", "source": of_its_store}),
            json!({"type": "document", "source": of_its_store}),
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}),
            json!({"type": "image", "source": base64("image/svg+xml")}),
            json!({"type": "image", "source": base64("application/pdf")}),
            json!({"type": "document", "source": base64("text/html")}),
            json!({"type": "search_result", "source": "https://attacker.example", "title": "t", "content": [],
                   "citations": {"enabled": false}}),
        ] {
            let result = checked(with(block.clone()));
            assert!(result.is_error && result.content.len() == 1, "{block}");
            assert!(
                result.text().starts_with("the sandbox's answer was not passed on: it has "),
                "{result:?}"
            );
            assert!(!result.text().contains("attacker"), "{result:?}");
        }
        let many = ToolResult { is_error: false, content: vec![Block::text("x"); MAX_BLOCKS + 1] };
        assert!(checked(many).is_error);
    }
}

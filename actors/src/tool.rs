//! What a tool call asks for and what it answers.
//!
//! The shapes are those of the control plane's content blocks, so that a result made in a sandbox travels
//! to the agent without being rewritten on the way.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The text sent in place of a result that has none; the control plane refuses empty content.
pub const NO_OUTPUT: &str = "(no output)";

/// What a tool call answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// Whether the agent should read the content as a failure.
    pub is_error: bool,
    /// May be empty here; the wire sends [`NO_OUTPUT`] instead.
    pub content: Vec<Block>,
}

impl ToolResult {
    /// A success with one block of text.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { is_error: false, content: vec![Block::text(text)] }
    }

    /// A failure with one block of text.
    pub fn error(text: impl Into<String>) -> Self {
        Self { is_error: true, content: vec![Block::text(text)] }
    }

    /// The text blocks, joined; what a person would read of it.
    pub fn text(&self) -> String {
        let texts = self.content.iter().filter_map(|block| match block {
            Block::Text { text } => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// The same result in the form the control plane accepts: at least one block, no empty text.
    pub fn postable(&self) -> Cow<'_, Self> {
        let is_empty = |block: &Block| matches!(block, Block::Text { text } if text.is_empty());
        if !self.content.is_empty() && !self.content.iter().any(is_empty) {
            return Cow::Borrowed(self);
        }
        let mut result = self.clone();
        for block in result.content.iter_mut().filter(|block| is_empty(block)) {
            *block = Block::text(NO_OUTPUT);
        }
        if result.content.is_empty() {
            result.content.push(Block::text(NO_OUTPUT));
        }
        Cow::Owned(result)
    }
}

/// One block of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Plain text.
    Text {
        /// The text; may be empty until [`ToolResult::postable`].
        text: String,
    },
    /// A picture.
    Image {
        /// Where its bytes are.
        source: Source,
    },
    /// A document, such as a PDF.
    Document {
        /// Where its bytes are.
        source: Source,
        /// Its title, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// What the agent should know about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// A search hit with citations.
    SearchResult {
        /// The address of the hit.
        source: String,
        /// Its title.
        title: String,
        /// Text blocks.
        content: Vec<Block>,
        /// Whether the agent may cite it.
        citations: Citations,
    },
}

impl Block {
    /// A block of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// Where the bytes of a block are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// In the block itself.
    Base64 {
        /// For example `image/png`.
        media_type: String,
        /// The bytes, in standard base64.
        data: String,
    },
    /// In the block itself, as text.
    Text {
        /// For example `text/plain`.
        media_type: String,
        /// The text.
        data: String,
    },
    /// At an address the control plane fetches.
    Url {
        /// The address.
        url: String,
    },
    /// In the control plane's file store.
    File {
        /// The file's id there.
        file_id: String,
    },
}

/// Whether a search hit may be cited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Citations {
    /// The switch.
    pub enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_42_nothing_empty_is_ever_posted() {
        let nothing = ToolResult { is_error: true, content: Vec::new() };
        assert_eq!(*nothing.postable(), ToolResult::error(NO_OUTPUT));
        assert_eq!(*ToolResult::ok("").postable(), ToolResult::ok(NO_OUTPUT));
        let mixed = ToolResult { is_error: false, content: vec![Block::text("a"), Block::text("")] };
        assert_eq!(mixed.postable().text(), "a\n(no output)");
        let full = ToolResult::ok("x");
        assert!(matches!(full.postable(), Cow::Borrowed(_)), "what needs no change is not copied");
    }

    #[test]
    fn blocks_have_the_shape_of_the_wire() {
        let source = Source::Base64 { media_type: "image/png".into(), data: "iVBO".into() };
        let json = serde_json::to_value(Block::Image { source }).unwrap();
        let source = serde_json::json!({"type": "base64", "media_type": "image/png", "data": "iVBO"});
        assert_eq!(json, serde_json::json!({"type": "image", "source": source}));
        assert_eq!(
            serde_json::to_value(Block::text("x")).unwrap(),
            serde_json::json!({"type": "text", "text": "x"})
        );
    }
}

//! What a tool call asks for and what it answers.
//!
//! The shapes are those of the control plane's content blocks, so that a result made in a sandbox travels
//! to the agent without being rewritten on the way.

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
    #[must_use]
    pub fn into_postable(mut self) -> Self {
        for block in &mut self.content {
            if let Block::Text { text } = block
                && text.is_empty()
            {
                NO_OUTPUT.clone_into(text);
            }
        }
        if self.content.is_empty() {
            self.content.push(Block::text(NO_OUTPUT));
        }
        self
    }
}

/// One block of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Plain text.
    Text {
        /// The text; may be empty until [`ToolResult::into_postable`].
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

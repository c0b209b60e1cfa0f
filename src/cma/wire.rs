//! The JSON of the control plane, as much of it as is read or sent here.
//!
//! Everything that may be absent is optional, unknown fields are ignored, and nothing outside this module's
//! siblings sees these types.

use std::borrow::Cow;
use std::collections::BTreeMap;

use remuda_actors::tool::Block;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A work item.
#[derive(Debug, Deserialize)]
pub(super) struct Work {
    pub(super) id: Option<String>,
    pub(super) data: Option<WorkData>,
    pub(super) state: Option<String>,
    pub(super) created_at: Option<String>,
    pub(super) secret: Option<String>,
}

/// What a work item asks for.
#[derive(Debug, Deserialize)]
pub(super) struct WorkData {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) id: Option<String>,
}

/// The answer to a heartbeat.
#[derive(Debug, Deserialize)]
pub(super) struct Heartbeat {
    pub(super) state: Option<String>,
    pub(super) last_heartbeat: Option<String>,
    pub(super) lease_extended: Option<bool>,
    pub(super) ttl_seconds: Option<f64>,
}

/// A page of anything.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    pub(super) next_page: Option<String>,
}

/// A session.
#[derive(Debug, Deserialize)]
pub(super) struct Session {
    pub(super) id: Option<String>,
    pub(super) status: Option<String>,
    pub(super) agent: Option<Agent>,
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

/// The agent of a session.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Agent {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
}

/// The body of an error.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorEnvelope {
    pub(super) error: Option<ErrorBody>,
}

/// What an error says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) message: Option<String>,
    pub(super) details: Option<ErrorDetails>,
}

/// What an error says to programs.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorDetails {
    pub(super) current_state: Option<CurrentState>,
}

/// Where a lease stands that has moved on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CurrentState {
    pub(super) state: Option<String>,
    pub(super) last_heartbeat: Option<String>,
}

/// The type of an event, which says how to read the rest.
#[derive(Debug, Deserialize)]
pub(super) struct EventType<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
}

/// A field of an event in whatever type it came: one that is not what it should be must not cost the event.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Field<'a>(#[serde(borrow)] Option<&'a RawValue>);

impl<'a> Field<'a> {
    /// The field as it is written; none if it is absent or null.
    pub(super) fn raw(self) -> Option<&'a RawValue> {
        self.0
    }

    /// Its text; none if it is absent or null.
    ///
    /// # Errors
    /// What it is instead, if it is no text.
    pub(super) fn text(self) -> Result<Option<Cow<'a, str>>, &'static str> {
        let Some(raw) = self.0 else { return Ok(None) };
        let text: Result<Text<'a>, _> = serde_json::from_str(raw.get());
        text.map(|Text(text)| Some(text)).map_err(|_| kind(raw))
    }

    /// Its text, or none.
    pub(super) fn text_if_any(self) -> Option<Cow<'a, str>> {
        self.text().ok().flatten()
    }
}

/// A text that is borrowed where it can be.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What a value is, for people.
pub(super) fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

/// A tool call.
#[derive(Debug, Deserialize)]
pub(super) struct CallEvent<'a> {
    pub(super) id: String,
    #[serde(borrow, default)]
    pub(super) name: Field<'a>,
    #[serde(borrow, default)]
    pub(super) input: Field<'a>,
    #[serde(borrow, default)]
    pub(super) evaluated_permission: Field<'a>,
    #[serde(borrow, default)]
    pub(super) session_thread_id: Field<'a>,
}

/// The answer of a call, by whichever of its two names the call goes, or both.
#[derive(Debug, Deserialize)]
pub(super) struct ResultEvent<'a> {
    #[serde(borrow, default)]
    pub(super) tool_use_id: Field<'a>,
    #[serde(borrow, default)]
    pub(super) custom_tool_use_id: Field<'a>,
}

/// A decision about a call.
#[derive(Debug, Deserialize)]
pub(super) struct ConfirmationEvent<'a> {
    pub(super) tool_use_id: String,
    #[serde(borrow, default)]
    pub(super) result: Field<'a>,
}

/// Something about a thread, or about all.
#[derive(Debug, Deserialize)]
pub(super) struct ThreadEvent<'a> {
    #[serde(borrow, default)]
    pub(super) session_thread_id: Field<'a>,
}

/// The user interrupted one thread, or all.
#[derive(Debug, Deserialize)]
pub(super) struct InterruptEvent<'a> {
    #[serde(borrow, default)]
    pub(super) id: Field<'a>,
}

/// The agent stopped.
#[derive(Debug, Deserialize)]
pub(super) struct IdleEvent<'a> {
    #[serde(borrow, default)]
    pub(super) stop_reason: Field<'a>,
}

/// Why it did.
#[derive(Debug, Deserialize)]
pub(super) struct StopReason<'a> {
    #[serde(rename = "type", borrow, default)]
    pub(super) kind: Field<'a>,
}

/// The body by which events are sent; one at a time.
#[derive(Debug, Serialize)]
pub(super) struct SendEvents<'a> {
    pub(super) events: [ResultToSend<'a>; 1],
}

/// The answer of a call.
#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(super) enum ResultToSend<'a> {
    #[serde(rename = "user.tool_result")]
    Toolset { tool_use_id: &'a str, is_error: bool, content: &'a [Block] },
    #[serde(rename = "user.custom_tool_result")]
    Custom { custom_tool_use_id: &'a str, is_error: bool, content: &'a [Block] },
}

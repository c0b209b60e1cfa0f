//! The JSON of the control plane, as much of it as is read or sent here.
//!
//! Everything that may be absent is optional, unknown fields are ignored, and nothing outside this module's
//! siblings sees these types.

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
    pub(super) kind: std::borrow::Cow<'a, str>,
}

/// A tool call. Fields that may be anything are looked at one by one.
#[derive(Debug, Deserialize)]
pub(super) struct CallEvent<'a> {
    pub(super) id: String,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    pub(super) evaluated_permission: Option<String>,
    pub(super) session_thread_id: Option<String>,
}

/// The answer of a call, by whichever of its two names the call goes.
#[derive(Debug, Deserialize)]
pub(super) struct ResultEvent {
    #[serde(alias = "custom_tool_use_id")]
    pub(super) tool_use_id: String,
}

/// A decision about a call.
#[derive(Debug, Deserialize)]
pub(super) struct ConfirmationEvent {
    pub(super) tool_use_id: String,
    pub(super) result: Option<String>,
}

/// Something about a thread, or about all.
#[derive(Debug, Deserialize)]
pub(super) struct ThreadEvent {
    pub(super) session_thread_id: Option<String>,
}

/// The agent stopped.
#[derive(Debug, Deserialize)]
pub(super) struct IdleEvent {
    pub(super) stop_reason: Option<StopReason>,
}

/// Why it did.
#[derive(Debug, Deserialize)]
pub(super) struct StopReason {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
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

//! What clients send to a session: read, checked as a whole, then applied in order.
//!
//! A request is all or nothing. If one of its events is refused, none took effect.

use std::collections::HashMap;
use std::sync::Arc;

use remuda_actors::ids::{CallId, ThreadId};
use remuda_actors::tool::{Block, ToolResult};
use serde_json::{Map, Value};

use super::call::{Gate, Resolution, Resolved};
use super::state::{Moment, Session, Status, StopReason};
use crate::emulator::auth::Kind;
use crate::emulator::events::Event;
use crate::emulator::http::ApiError;

/// Events accepted in one request.
const MAX_EVENTS: usize = 100;

/// One event a client sent, read but not yet checked against a session.
#[derive(Debug)]
pub(in crate::emulator) struct ClientEvent {
    kind: &'static str,
    fields: Map<String, Value>,
    deed: Deed,
}

#[derive(Debug)]
enum Deed {
    Message,
    Interrupt { thread: Option<ThreadId> },
    Confirm { call: CallId, allow: bool, message: Option<String> },
    Result { call: CallId, custom: bool, result: ToolResult },
}

/// What a request did.
#[derive(Debug)]
pub(in crate::emulator) struct Posted {
    /// The events as stored, in order.
    pub(in crate::emulator) events: Vec<Arc<Event>>,
    /// Whether a dormant session must be given to a worker again.
    pub(in crate::emulator) wants_work: bool,
}

impl ClientEvent {
    /// Whether it may stand in a session's `initial_events`.
    pub(in crate::emulator) fn may_be_initial(&self) -> bool {
        matches!(self.kind, "user.message" | "user.define_outcome")
    }
}

/// Reads the `events` of a request.
pub(in crate::emulator) fn parse(events: &Value) -> Result<Vec<ClientEvent>, ApiError> {
    let Some(events) = events.as_array().filter(|events| !events.is_empty()) else {
        return Err(ApiError::invalid("events: expected an array of at least one event"));
    };
    if events.len() > MAX_EVENTS {
        let message = format!("events: {} events, at most {MAX_EVENTS} fit one request", events.len());
        return Err(ApiError::invalid(message));
    }
    let numbered = events.iter().enumerate();
    numbered
        .map(|(n, event)| read(event).map_err(|what| ApiError::invalid(format!("events.{n}: {what}"))))
        .collect()
}

fn read(event: &Value) -> Result<ClientEvent, String> {
    let fields = event.as_object().ok_or("expected an object")?;
    let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
    let call = |key: &str| {
        let id = text(key).filter(|id| !id.is_empty());
        id.map(CallId::from).ok_or_else(|| format!("{key}: expected the id of a tool call's event"))
    };
    let (kind, deed) = match text("type").as_deref() {
        Some("user.message") => {
            blocks(fields.get("content"))?;
            ("user.message", Deed::Message)
        }
        Some("user.define_outcome") => ("user.define_outcome", Deed::Message),
        Some("system.message") => {
            blocks(fields.get("content"))?;
            ("system.message", Deed::Message)
        }
        Some("user.interrupt") => {
            ("user.interrupt", Deed::Interrupt { thread: text("session_thread_id").map(ThreadId::from) })
        }
        Some("user.tool_confirmation") => {
            let allow = match text("result").as_deref() {
                Some("allow") => true,
                Some("deny") => false,
                _ => return Err("result: expected `allow` or `deny`".into()),
            };
            let message = text("deny_message");
            if allow && message.is_some() {
                return Err("deny_message: only allowed with result `deny`".into());
            }
            ("user.tool_confirmation", Deed::Confirm { call: call("tool_use_id")?, allow, message })
        }
        Some("user.tool_result") => (
            "user.tool_result",
            Deed::Result { call: call("tool_use_id")?, custom: false, result: result(fields)? },
        ),
        Some("user.custom_tool_result") => {
            let call = call("custom_tool_use_id")?;
            ("user.custom_tool_result", Deed::Result { call, custom: true, result: result(fields)? })
        }
        Some(other) => return Err(format!("type: clients cannot send `{other}`")),
        None => return Err("type: missing".into()),
    };
    Ok(ClientEvent { kind, fields: fields.clone(), deed })
}

fn result(fields: &Map<String, Value>) -> Result<ToolResult, String> {
    let is_error = match fields.get("is_error") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_error)) => *is_error,
        Some(_) => return Err("is_error: expected a boolean".into()),
    };
    let content = match fields.get("content") {
        None => Vec::new(),
        content => blocks(content)?,
    };
    Ok(ToolResult { is_error, content })
}

/// Content blocks: at least one, and no empty text.
fn blocks(content: Option<&Value>) -> Result<Vec<Block>, String> {
    let items = content.and_then(Value::as_array).filter(|items| !items.is_empty());
    let items = items.ok_or("content: expected a non-empty array of content blocks")?;
    let numbered = items.iter().enumerate();
    let block = |(n, item): (usize, &Value)| {
        let block: Block =
            serde_json::from_value(item.clone()).map_err(|error| format!("content.{n}: {error}"))?;
        match &block {
            Block::Text { text } if text.is_empty() => Err(format!("content.{n}.text: must not be empty")),
            _ => Ok(block),
        }
    };
    numbered.map(block).collect()
}

/// What a call looks like to the events later in the same request.
#[derive(Clone, Copy)]
enum View {
    Pending(Gate),
    Done,
}

impl Session {
    /// Checks `events` as a whole and applies them in order. `sender` is the kind of credential they came
    /// with, none for the emulator's own client.
    pub(in crate::emulator) fn post(
        &mut self,
        at: &mut Moment<'_>,
        sender: Option<Kind>,
        events: Vec<ClientEvent>,
    ) -> Result<Posted, ApiError> {
        if self.is_terminated() {
            let message = format!("session {} is terminated and accepts no events", self.id);
            return Err(ApiError::invalid(message));
        }
        self.check(&events)?;
        let mut posted = Posted { events: Vec::with_capacity(events.len()), wants_work: false };
        let mut resolved = false;
        for ClientEvent { kind, fields, deed } in events {
            let thread = match &deed {
                Deed::Confirm { call, .. } | Deed::Result { call, .. } => {
                    self.calls.iter().find(|known| known.id == *call).and_then(|known| known.thread.clone())
                }
                Deed::Message | Deed::Interrupt { .. } => None,
            };
            if matches!(deed, Deed::Message) {
                posted.wants_work = true;
                posted.events.push(self.enqueue(at, kind, fields));
                continue;
            }
            posted.events.push(self.accept(at, kind, thread.as_ref(), fields));
            match deed {
                Deed::Message => {}
                Deed::Interrupt { thread: Some(thread) } if thread != self.primary.id => {
                    posted.wants_work = true;
                    self.close_pending(at, Some(&thread));
                    self.rest_thread(at, &thread);
                    resolved = true;
                }
                Deed::Interrupt { .. } => {
                    if matches!(self.status, Status::Running | Status::Paused) {
                        posted.wants_work = true;
                        self.brain.interrupted();
                        self.rest(at, StopReason::EndTurn);
                    }
                }
                Deed::Confirm { call, allow: true, .. } => {
                    posted.wants_work = true;
                    if let Some(call) = self.calls.iter_mut().find(|known| known.id == call) {
                        call.gate = Gate::Open;
                    }
                }
                Deed::Confirm { call, allow: false, message } => {
                    let text = match message {
                        Some(message) => format!("The user denied this tool call: {message}"),
                        None => "The user denied this tool call.".to_owned(),
                    };
                    self.resolve_here(at, &call, Resolution::Denied, ToolResult::error(text));
                    resolved = true;
                }
                Deed::Result { call, result, .. } => {
                    self.note_trespass(&call, sender);
                    let how = Resolution::Answered(sender);
                    self.resolve(at, &call, Resolved { how, result });
                    resolved = true;
                }
            }
        }
        if resolved {
            self.after_resolutions(at);
        }
        Ok(posted)
    }

    fn check(&mut self, events: &[ClientEvent]) -> Result<(), ApiError> {
        let mut views: HashMap<CallId, View> = HashMap::new();
        let mut interrupted = false;
        for (n, event) in events.iter().enumerate() {
            let refuse = |what: String| Err(ApiError::invalid(format!("events.{n}: {what}")));
            let (id, verdict, custom) = match &event.deed {
                Deed::Message => continue,
                Deed::Interrupt { thread } => {
                    if let Some(thread) = thread
                        && self.thread(thread).is_none()
                    {
                        return refuse(format!("session_thread_id: this session has no thread {thread}"));
                    }
                    interrupted |= thread.is_none();
                    continue;
                }
                Deed::Confirm { call, allow, .. } => (call, Some(*allow), false),
                Deed::Result { call, custom, .. } => (call, None, *custom),
            };
            let Some(call) = self.calls.iter().rev().find(|known| known.id == *id) else {
                return refuse(format!("no call {id} waits for this: it is unknown or its turn is over"));
            };
            let view = match (views.get(id), &call.resolved) {
                _ if interrupted => View::Done,
                (Some(view), _) => *view,
                (None, Some(_)) => View::Done,
                (None, None) => View::Pending(call.gate),
            };
            let next = match (view, verdict) {
                (View::Done, _) => {
                    let (denied, name) = (
                        call.resolved.as_ref().is_some_and(|done| done.how == Resolution::Denied),
                        call.name.clone(),
                    );
                    if denied && verdict.is_none() {
                        self.trespass(
                            format!("no result for the denied call of {name}"),
                            "a result was posted",
                        );
                    }
                    return refuse(format!("call {id} of {name} was resolved before"));
                }
                (View::Pending(_), None) if call.custom != custom => {
                    let right = if call.custom { "user.custom_tool_result" } else { "user.tool_result" };
                    return refuse(format!("call {id} is to be answered with a {right}"));
                }
                (View::Pending(Gate::Asked), None) => {
                    let name = call.name.clone();
                    self.trespass(
                        format!("no result for the call of {name} before its confirmation"),
                        "a result was posted",
                    );
                    return refuse(format!("call {id} of {name} waits for a confirmation"));
                }
                (View::Pending(Gate::Open), Some(_)) => {
                    return refuse(format!("call {id} does not wait for a confirmation"));
                }
                (View::Pending(Gate::Asked), Some(true)) => View::Pending(Gate::Open),
                (View::Pending(_), _) => View::Done,
            };
            views.insert(id.clone(), next);
        }
        Ok(())
    }

    /// A worker must leave alone what another client is to answer.
    fn note_trespass(&mut self, id: &CallId, sender: Option<Kind>) {
        let foreign = matches!(sender, Some(Kind::EnvironmentKey | Kind::SessionsToken));
        let found = self.calls.iter().find(|call| call.id == *id && call.for_client && foreign);
        if let Some(name) = found.map(|call| call.name.clone()) {
            self.trespass(format!("no answer of the worker to {name}, which it does not own"), "it answered");
        }
    }

    fn trespass(&mut self, expected: String, got: &str) {
        self.brain.fail(expected, got.to_owned());
        self.changed.notify_waiters();
    }
}

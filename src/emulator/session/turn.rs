//! The turns of a session and the calls in them.
//!
//! ```text
//!              message                    calls emitted
//!  Resting ───────────────▶ Running ───────────────────────▶ Paused (idle, requires_action)
//!     ▲                      │   ▲                             │ │
//!     │ rest, interrupt      │   └── last call resolved ───────┘ │ interrupt
//!     └──────────────────────┴───────────────────────────────────┘
//!  any ──terminate, archive──▶ Terminated
//! ```
//!
//! # Invariants
//! - At most one turn runs; messages that arrive meanwhile wait and start the next one together.
//! - `Paused` has at least one pending call, and no pending call survives the turn it belongs to.

use std::sync::Arc;

use remuda_actors::ids::{CallId, ThreadId};
use remuda_actors::tool::ToolResult;
use serde_json::{Map, Value, json};

use super::call::{Call, CallRequest, Gate, Permission, Resolution, Resolved, permission_fields};
use super::state::{Moment, Session, Status, StopReason, Turn, as_object};

impl Session {
    /// Starts a turn if messages wait and none runs.
    pub(in crate::emulator) fn begin_turn(&mut self, at: &mut Moment<'_>) -> Option<Turn> {
        if self.status != Status::Resting || self.queued.is_empty() {
            return None;
        }
        let mut messages = Vec::new();
        for event in std::mem::take(&mut self.queued) {
            let event = Arc::new(event.processed(at.wall));
            self.primary.log.append(Arc::clone(&event));
            messages.push(event);
        }
        self.count_turn();
        self.timing.ended_at = None;
        self.run(at);
        Some(Turn { number: self.turns, messages })
    }

    /// Forgets old calls. Those of the turn just over stay: its brain may not have looked at them yet.
    fn count_turn(&mut self) {
        self.turns += 1;
        let last = self.turns - 1;
        self.calls.retain(|call| call.turn >= last);
    }

    /// Whether turn `number` still runs.
    pub(in crate::emulator) fn in_turn(&self, number: u64) -> bool {
        self.turns == number && matches!(self.status, Status::Running | Status::Paused)
    }

    fn run(&mut self, at: &mut Moment<'_>) {
        self.status = Status::Running;
        self.emit(at, "session.status_running", json!({}));
        self.name_primary(at, "running", None);
    }

    /// Emits a call, and resolves it at once if it needs no client.
    ///
    /// A session at rest starts a turn for it: that is how a test plays the model.
    pub(in crate::emulator) fn call(&mut self, at: &mut Moment<'_>, request: CallRequest) -> CallId {
        if self.status == Status::Resting {
            self.count_turn();
            self.run(at);
        }
        let id = at.mint.id("sevt");
        let call_id = CallId::from(id.as_str());
        let kind = if request.custom { "agent.custom_tool_use" } else { "agent.tool_use" };
        let (permission, mut fields) = if request.custom {
            (Permission::Allow, Map::new())
        } else {
            permission_fields(request.permission, &self.agent, &request.name)
        };
        fields.insert("name".into(), Value::from(&*request.name));
        fields.insert("input".into(), Value::Object(request.input));
        self.emitted += 1;
        self.timing.emitted(call_id.clone(), &request.name, at.now);
        self.calls.push(Call {
            id: call_id.clone(),
            name: request.name.clone(),
            custom: request.custom,
            thread: request.thread.clone(),
            gate: if permission == Permission::Ask { Gate::Asked } else { Gate::Open },
            for_client: request.for_client,
            turn: self.turns,
            resolved: None,
        });
        self.append(at, id, kind, request.thread.as_ref(), fields);
        let own = match (permission, request.server_result) {
            (Permission::Deny, _) => {
                let text = format!("The permission policy denied the use of {}.", request.name);
                Some((Resolution::Denied, ToolResult::error(text)))
            }
            (_, result) => result.map(|result| (Resolution::Server, result)),
        };
        if let Some((how, result)) = own {
            self.resolve_here(at, &call_id, how, result);
        }
        call_id
    }

    /// Pauses the turn if calls wait for clients.
    pub(in crate::emulator) fn pause(&mut self, at: &mut Moment<'_>) {
        if self.status == Status::Running && self.calls.iter().any(Call::is_pending) {
            self.announce_pause(at);
        }
    }

    fn announce_pause(&mut self, at: &mut Moment<'_>) {
        self.status = Status::Paused;
        let pending = self.calls.iter().filter(|call| call.is_pending());
        let ids: Vec<&CallId> = pending.map(|call| &call.id).collect();
        let reason = json!({"type": "requires_action", "event_ids": ids});
        self.name_primary(at, "idle", Some(&reason));
        self.emit(at, "session.status_idle", json!({"stop_details": null, "stop_reason": reason}));
    }

    /// After calls were resolved by a client: goes on, or says what still waits.
    pub(super) fn after_resolutions(&mut self, at: &mut Moment<'_>) {
        if self.status != Status::Paused {
            return;
        }
        if self.calls.iter().any(Call::is_pending) {
            self.announce_pause(at);
        } else {
            self.run(at);
        }
    }

    /// Ends the turn. Calls that still wait are closed first.
    pub(in crate::emulator) fn rest(&mut self, at: &mut Moment<'_>, reason: StopReason) {
        if matches!(self.status, Status::Terminated | Status::Resting) {
            return;
        }
        self.close_pending(at, None);
        self.status = Status::Resting;
        self.timing.ended_at = Some(at.now);
        let stop = json!({"type": reason.name()});
        let details = match reason {
            StopReason::Refusal => json!({"type": "refusal", "category": null, "explanation": null}),
            _ => Value::Null,
        };
        // The thread's event goes first: workers start their idle clock at the session's and stop it at any
        // other.
        self.name_primary(at, "idle", Some(&stop));
        self.emit(at, "session.status_idle", json!({"stop_details": details, "stop_reason": stop}));
    }

    /// Ends the session for good.
    pub(in crate::emulator) fn terminate(&mut self, at: &mut Moment<'_>) {
        if self.is_terminated() {
            return;
        }
        self.brain.session_over("terminated");
        self.close_pending(at, None);
        self.status = Status::Terminated;
        self.timing.ended_at = Some(at.now);
        self.emit(at, "session.status_terminated", json!({}));
    }

    /// Resolves pending calls, those of one thread or all, with an error result of the server.
    pub(in crate::emulator) fn close_pending(&mut self, at: &mut Moment<'_>, thread: Option<&ThreadId>) {
        let wanted = |call: &&Call| {
            call.is_pending() && thread.is_none_or(|thread| call.thread.as_ref() == Some(thread))
        };
        let ids: Vec<CallId> = self.calls.iter().filter(wanted).map(|call| call.id.clone()).collect();
        for id in ids {
            let result = ToolResult::error("The tool call was interrupted.");
            self.resolve_here(at, &id, Resolution::Interrupted, result);
        }
    }

    /// Resolves a call on the server's side, with an `agent.tool_result` of its own.
    pub(super) fn resolve_here(
        &mut self,
        at: &mut Moment<'_>,
        id: &CallId,
        how: Resolution,
        result: ToolResult,
    ) {
        let thread = self.calls.iter().find(|call| call.id == *id).and_then(|call| call.thread.clone());
        let content = serde_json::to_value(&result.content).unwrap_or_default();
        let fields = json!({"tool_use_id": id, "is_error": result.is_error, "content": content});
        let event_id = at.mint.id("sevt");
        self.append(at, event_id, "agent.tool_result", thread.as_ref(), as_object(fields));
        self.resolve(at, id, Resolved { how, result });
    }

    /// Notes what became of a call.
    pub(super) fn resolve(&mut self, at: &Moment<'_>, id: &CallId, resolved: Resolved) {
        self.timing.resolved(id, at.now);
        if let Some(call) = self.calls.iter_mut().rev().find(|call| call.id == *id) {
            call.resolved.get_or_insert(resolved);
        }
        self.changed.notify_waiters();
    }

    /// Counts what the made-up model used.
    pub(in crate::emulator) fn count_usage(&mut self, input: u64, output: u64) {
        self.usage.0 += input;
        self.usage.1 += output;
    }
}

//! The threads of a session: the primary one, and the children the agent starts.
//!
//! A child has a log of its own. What needs a client is posted to the primary log too, under the same id and
//! with the child's name on it; results are routed back by id alone.

use std::sync::Arc;

use jiff::Timestamp;
use remuda_actors::ids::ThreadId;
use serde_json::{Value, json};

use super::state::{Moment, Session, as_object};
use crate::emulator::clock::rfc3339;
use crate::emulator::events::{Event, EventLog};

/// Threads a session may have.
const MAX_THREADS: usize = 256;

/// One thread of a session.
#[derive(Debug)]
pub(in crate::emulator) struct Thread {
    pub(in crate::emulator) id: ThreadId,
    pub(in crate::emulator) name: String,
    pub(in crate::emulator) log: EventLog,
    pub(super) status: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Session {
    /// Makes a child thread. None if there are too many.
    pub(in crate::emulator) fn create_thread(&mut self, at: &mut Moment<'_>, name: &str) -> Option<ThreadId> {
        if self.children.len() >= MAX_THREADS {
            return None;
        }
        if self.children.is_empty() {
            // The first status of any thread names the primary one.
            let fields = json!({"session_thread_id": self.primary.id, "agent_name": self.primary.name});
            self.emit(at, "session.thread_status_running", fields);
        }
        let id = ThreadId::from(at.mint.id("sthr"));
        self.children.push(Thread::new(id.clone(), name.to_owned(), self.max_events, at.wall));
        self.emit(
            at,
            "session.thread_created",
            json!({"session_thread_id": id, "agent_name": name, "workflow_run_id": null}),
        );
        self.set_thread_status(at, &id, "running", "session.thread_status_running");
        Some(id)
    }

    /// Ends a child thread. Its pending calls are closed: nobody answers for it any more.
    pub(in crate::emulator) fn terminate_thread(&mut self, at: &mut Moment<'_>, id: &ThreadId) {
        self.set_thread_status(at, id, "terminated", "session.thread_status_terminated");
        self.close_pending(at, Some(id));
        self.after_resolutions(at);
    }

    /// Lets a child thread rest.
    pub(in crate::emulator) fn rest_thread(&mut self, at: &mut Moment<'_>, id: &ThreadId) {
        self.set_thread_status(at, id, "idle", "session.thread_status_idle");
    }

    fn set_thread_status(
        &mut self,
        at: &mut Moment<'_>,
        id: &ThreadId,
        status: &'static str,
        kind: &'static str,
    ) {
        let Some(thread) = self.child_mut(id) else { return };
        thread.status = status;
        thread.updated_at = at.wall;
        let mut fields = json!({"session_thread_id": id, "agent_name": thread.name});
        if status == "idle" {
            fields["stop_reason"] = json!({"type": "end_turn"});
            fields["stop_details"] = Value::Null;
        }
        let event = Arc::new(Event::new(at.mint.id("sevt"), kind, Some(at.wall), as_object(fields)));
        thread.log.append(Arc::clone(&event));
        self.primary.log.append(event);
        self.changed.notify_waiters();
    }

    /// In a session with child threads, says what the primary one does.
    pub(super) fn name_primary(
        &mut self,
        at: &mut Moment<'_>,
        status: &'static str,
        stop_reason: Option<&Value>,
    ) {
        self.primary.status = status;
        self.primary.updated_at = at.wall;
        if self.children.is_empty() {
            return;
        }
        let mut fields = json!({"session_thread_id": self.primary.id, "agent_name": self.primary.name});
        let kind = match stop_reason {
            None => "session.thread_status_running",
            Some(reason) => {
                fields["stop_reason"] = reason.clone();
                fields["stop_details"] = Value::Null;
                "session.thread_status_idle"
            }
        };
        self.emit(at, kind, fields);
    }
}

impl Thread {
    pub(super) fn new(id: ThreadId, name: String, max_events: usize, at: Timestamp) -> Self {
        let log = EventLog::new(max_events);
        Self { id, name, log, status: "idle", created_at: at, updated_at: at }
    }

    /// The thread object.
    pub(in crate::emulator) fn wire(&self, session: &Session) -> Value {
        let parent = (self.id != session.primary.id).then_some(&session.primary.id);
        json!({
            "id": self.id,
            "type": "session_thread",
            "session_id": session.id,
            "parent_thread_id": parent,
            "agent": session.agent,
            "status": if session.is_terminated() { "terminated" } else { self.status },
            "stats": null,
            "usage": null,
            "workflow_run_id": null,
            "archived_at": null,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
        })
    }
}

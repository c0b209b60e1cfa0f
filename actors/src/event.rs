//! A session's events, reduced to what the session has to react to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{CallId, ThreadId};

/// One event of a session's log or live stream.
#[derive(Clone, Debug)]
pub enum Event {
    /// The agent wants a tool run.
    Call(Call),
    /// A call has its answer, whoever gave it: a client's result or one the server made itself.
    Answered {
        /// The call.
        call: CallId,
    },
    /// A person or program decided about a call that asked for permission.
    Confirmed {
        /// The call.
        call: CallId,
        /// The decision.
        verdict: Verdict,
    },
    /// The user interrupted the agent.
    Interrupted {
        /// Names the interrupt, so that one that both history and stream tell of counts once.
        id: Arc<str>,
        /// Only this thread; none means all of them.
        thread: Option<ThreadId>,
    },
    /// A thread ended for good; nobody waits for its calls any more.
    ThreadTerminated {
        /// The thread.
        thread: ThreadId,
    },
    /// A thread changed its status. The first of a log names the primary thread.
    ThreadStatus {
        /// The thread.
        thread: ThreadId,
    },
    /// The agent stopped and waits.
    Idle {
        /// What for.
        reason: IdleReason,
    },
    /// The agent works again.
    Running,
    /// The agent writes or thinks, and may be about to use a tool.
    Generating,
    /// The session ended for good.
    Terminated,
    /// The session was deleted.
    Deleted,
    /// Anything else: only a sign of life.
    Activity,
}

/// A tool call as the agent made it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The id of the event, under which the answer is sent.
    pub id: CallId,
    /// Which of the two families it belongs to.
    pub kind: CallKind,
    /// The tool's name.
    pub name: Arc<str>,
    /// Its arguments.
    pub input: Input,
    /// Whether it may run.
    pub permission: Permission,
    /// The thread that made it; none for the primary one.
    pub thread: Option<ThreadId>,
}

/// The family of a call, which decides how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// A tool of the agent toolset: `agent.tool_use`, answered by `user.tool_result`.
    Toolset,
    /// A custom tool: `agent.custom_tool_use`, answered by `user.custom_tool_result`.
    Custom,
}

/// The arguments of a call. Only the tool itself looks inside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A JSON object, as it came.
    Json(Arc<RawValue>),
    /// The event carried something else; this says what. The call is answered with it and never run.
    Malformed(Arc<str>),
}

/// What the server evaluated about a call before it sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// No gate: the field was `allow`, absent, or null.
    Allow,
    /// Somebody must confirm it first. Unknown values count as this, so that a new kind of gate holds.
    Ask,
    /// It never runs, not even with a confirmation.
    Deny,
}

/// A decision about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run it.
    Allow,
    /// Do not run it. Every value but `allow` counts as this.
    Deny,
}

/// Why a session is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleReason {
    /// It waits for results or confirmations of calls.
    RequiresAction,
    /// The turn is over, for whatever reason: end of turn, budget, refusal, retries, or one we do not know.
    TurnEnded,
}

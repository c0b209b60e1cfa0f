//! What can happen to a session, and what somebody must then do.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::end::End;
use super::lease;
use super::run::Cancellation;
use crate::event::{self, Call};
use crate::fault::Fault;
use crate::ids::CallId;
use crate::ports::{Answer, SessionStatus};
use crate::sandbox::signals::Release;
use crate::tool::ToolResult;

/// What can happen to a session.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something about its lease.
    Lease(lease::Event),
    /// The session was retrieved.
    Retrieved(SessionStatus),
    /// It could not be.
    RetrieveFailed {
        /// Which attempt.
        attempt: u32,
        /// Why.
        fault: Fault,
    },
    /// The wait before the next attempt is over.
    RetrieveDue {
        /// The attempt that had failed.
        attempt: u32,
    },
    /// The stream is open and the whole history was read.
    History {
        /// The connection.
        number: u32,
        /// Oldest first.
        events: Vec<event::Event>,
    },
    /// A live event came.
    Live {
        /// The connection.
        number: u32,
        /// The event.
        event: event::Event,
    },
    /// The stream ended or could not be opened, or the history could not be read whole.
    StreamFailed {
        /// The connection.
        number: u32,
        /// Why.
        fault: Fault,
    },
    /// The wait before the stream is opened again is over.
    StreamDue {
        /// The connection to open.
        number: u32,
    },
    /// The sandbox is done with a call.
    Finished {
        /// The call.
        call: CallId,
        /// What it answered.
        result: Arc<ToolResult>,
    },
    /// The sandbox cannot be had at all any more.
    SandboxFailed(Fault),
    /// The sandbox is gone.
    SandboxGone,
    /// An answer was accepted.
    Posted {
        /// Its call.
        call: CallId,
    },
    /// An answer was not accepted.
    PostFailed {
        /// Its call.
        call: CallId,
        /// Why.
        fault: Fault,
    },
    /// The wait before the answer is posted again is over.
    PostDue {
        /// Its call.
        call: CallId,
        /// The attempt that had failed.
        attempt: u32,
    },
    /// The idle clock ran out.
    IdleDue {
        /// Which clock.
        number: u32,
    },
    /// The settling has taken as long as it may.
    SettleDue,
    /// Nothing may have happened for as long as that may be.
    SilenceDue {
        /// The signs of life when the timer was set.
        signs: u64,
    },
    /// Leave everything to the next process as soon as no call runs and every answer is delivered.
    Leave,
    /// Leave everything to the next process as it is.
    LeaveNow,
    /// Take up no new turn.
    Drain,
    /// Hand the item back now.
    HandBack,
    /// The same session came under another item.
    Supersede,
}

impl Event {
    /// One word, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lease(event) => event.name(),
            Self::Retrieved(_) => "retrieved",
            Self::RetrieveFailed { .. } => "retrieve_failed",
            Self::RetrieveDue { .. } => "retrieve_due",
            Self::History { .. } => "history",
            Self::Live { .. } => "live",
            Self::StreamFailed { .. } => "stream_failed",
            Self::StreamDue { .. } => "stream_due",
            Self::Finished { .. } => "finished",
            Self::SandboxFailed(_) => "sandbox_failed",
            Self::SandboxGone => "sandbox_gone",
            Self::Posted { .. } => "posted",
            Self::PostFailed { .. } => "post_failed",
            Self::PostDue { .. } => "post_due",
            Self::IdleDue { .. } => "idle_due",
            Self::SettleDue => "settle_due",
            Self::SilenceDue { .. } => "silence_due",
            Self::Leave => "leave",
            Self::LeaveNow => "leave_now",
            Self::Drain => "drain",
            Self::HandBack => "hand_back",
            Self::Supersede => "supersede",
        }
    }
}

/// What somebody must now do about a session.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Something about its lease.
    Lease(lease::Effect),
    /// Fetch the session.
    Retrieve {
        /// Counted from 1.
        attempt: u32,
    },
    /// Send [`Event::RetrieveDue`] after the backoff of the failed attempt.
    ArmRetrieve {
        /// The attempt that failed.
        attempt: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Open the stream, then read the history, then pass the live events on.
    Attach {
        /// The connection.
        number: u32,
    },
    /// Send [`Event::StreamDue`] after the backoff of this many failures.
    ArmStream {
        /// The connection to open.
        number: u32,
        /// Connections that failed in a row.
        failures: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Close the stream.
    Detach,
    /// Get a sandbox ready.
    Provision,
    /// Run a call, or attach to it if an earlier incarnation gave it to the sandbox already.
    Dispatch(Call),
    /// Tell the sandbox that a call is likely to come.
    ExpectCall,
    /// Cut a running call short.
    Cancel {
        /// The call.
        call: CallId,
        /// What the agent shall read.
        why: Cancellation,
    },
    /// Send an answer.
    Post(Answer),
    /// Send [`Event::PostDue`] after the backoff of the failed attempt.
    ArmPost {
        /// Its call.
        call: CallId,
        /// The attempt that failed.
        attempt: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Send no answer any more, not even one that is on its way: the item may be another's.
    Withhold,
    /// Forget a call: it has its answer, or nobody wants one.
    Forget {
        /// The call.
        call: CallId,
    },
    /// Tell people that an answer will never arrive.
    PostRefused {
        /// Its call.
        call: CallId,
        /// Why.
        fault: Fault,
    },
    /// Tell people that a call is left alone.
    NotRun {
        /// The call.
        call: CallId,
        /// Its tool.
        tool: Arc<str>,
        /// Why.
        why: NotRun,
    },
    /// Send [`Event::IdleDue`] after this time.
    ArmIdle {
        /// Which clock.
        number: u32,
        /// How long it runs.
        after: Duration,
    },
    /// Send [`Event::SettleDue`] after this time.
    ArmSettle {
        /// How long it may take.
        after: Duration,
    },
    /// Send [`Event::SilenceDue`] after this time.
    ArmSilence {
        /// The signs of life so far.
        signs: u64,
        /// How long.
        after: Duration,
    },
    /// Let go of the sandbox, and then send [`Event::SandboxGone`].
    ReleaseSandbox(Release),
    /// The session is done; the last effect there is.
    Done(End),
}

/// Why a call was not run and will not be answered by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRun {
    /// It was refused, by policy or by a person.
    Denied,
    /// The tool is another client's.
    Unowned,
    /// Its thread has ended.
    ThreadEnded,
}

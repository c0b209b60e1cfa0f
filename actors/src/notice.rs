//! What people and programs may want to see of the tree, as it happens.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::ids::{CallId, EnvironmentId, SandboxId, SessionId, WorkId};
use crate::session::end::Outcome;
use crate::session::signals::NotRun;
use crate::supervision::ActorKind;

/// Notices a subscriber may fall behind by; older ones are then lost to it, and it is told how many.
pub const BACKLOG: usize = 4096;

/// Something happened in the tree.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice {
    /// A poller changed its state.
    Poller {
        /// Its queue.
        environment: EnvironmentId,
        /// The state it left.
        from: &'static str,
        /// The state it is in.
        to: &'static str,
    },
    /// A queue will not be asked any more.
    QueueRefused {
        /// The queue.
        environment: EnvironmentId,
        /// Why.
        reason: Arc<str>,
    },
    /// A work item was claimed.
    Claimed {
        /// The item.
        work: WorkId,
        /// Its queue.
        environment: EnvironmentId,
        /// The session it is for; none if it is for something we do not know.
        session: Option<SessionId>,
    },
    /// A session changed its state.
    Session {
        /// Its item.
        work: WorkId,
        /// The session.
        session: SessionId,
        /// The state it left.
        from: &'static str,
        /// The state it is in.
        to: &'static str,
    },
    /// A sandbox changed its state.
    Sandbox {
        /// The session it belongs to.
        session: SessionId,
        /// The sandbox.
        sandbox: SandboxId,
        /// The state it left.
        from: &'static str,
        /// The state it is in.
        to: &'static str,
        /// How long it was in the state it left.
        took: Duration,
    },
    /// A call was given to a sandbox.
    CallStarted {
        /// The session.
        session: SessionId,
        /// The call.
        call: CallId,
        /// Its tool.
        tool: Arc<str>,
    },
    /// A call has its answer, from a sandbox or, if there was none, from us.
    CallFinished {
        /// The session.
        session: SessionId,
        /// The call.
        call: CallId,
        /// Its tool.
        tool: Arc<str>,
        /// Whether the agent will read a failure.
        is_error: bool,
        /// How long the tool ran, where it ran.
        run: Option<Duration>,
        /// Time since the call was given to the sandbox.
        took: Duration,
    },
    /// A call is left alone.
    CallLeft {
        /// The session.
        session: SessionId,
        /// The call.
        call: CallId,
        /// Its tool.
        tool: Arc<str>,
        /// Why.
        why: NotRun,
    },
    /// The control plane has an answer.
    Posted {
        /// The session.
        session: SessionId,
        /// Its call.
        call: CallId,
        /// How long the last attempt took.
        took: Duration,
    },
    /// The control plane will never have an answer.
    PostRefused {
        /// The session.
        session: SessionId,
        /// Its call.
        call: CallId,
        /// Why.
        reason: Arc<str>,
    },
    /// A session has ended for us.
    Ended {
        /// Its item.
        work: WorkId,
        /// The session, if it was one.
        session: Option<SessionId>,
        /// How.
        outcome: Outcome,
        /// Why, for people.
        reason: Arc<str>,
    },
    /// A sandbox could not be deleted, or belongs to nobody.
    Orphan {
        /// The sandbox.
        sandbox: SandboxId,
        /// Why, for people.
        reason: Arc<str>,
    },
    /// An actor failed.
    Failed {
        /// Which kind.
        actor: ActorKind,
        /// Whether it is started again.
        restarted: bool,
        /// Why it failed.
        cause: Arc<str>,
    },
    /// A machine met an event it cannot take: a bug.
    Illegal {
        /// What happened.
        what: Arc<str>,
    },
}

/// Where notices are published.
#[derive(Clone, Debug)]
pub(crate) struct Notices(broadcast::Sender<Notice>);

impl Notices {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn publish(&self, notice: Notice) {
        // Without subscribers there is nobody to tell.
        let _ = self.0.send(notice);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.subscribe()
    }
}

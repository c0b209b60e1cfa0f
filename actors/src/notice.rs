//! What people and programs may want to see of the tree, as it happens.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::herd::shelf::Eviction;
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
    /// A queue answered, for the first time or after it had failed.
    QueueReached {
        /// The queue.
        environment: EnvironmentId,
    },
    /// A queue did not answer; it is asked again.
    QueueFailed {
        /// The queue.
        environment: EnvironmentId,
        /// How often in a row.
        failures: u32,
        /// Why.
        reason: Arc<str>,
    },
    /// A queue will not be asked any more.
    QueueRefused {
        /// The queue.
        environment: EnvironmentId,
        /// Why.
        reason: Arc<str>,
    },
    /// Nothing more is claimed while the host is short of memory; what runs goes on.
    AdmissionPaused {
        /// What is short.
        reason: Arc<str>,
    },
    /// Work is claimed again.
    AdmissionResumed,
    /// The control plane asked for patience, and is left alone.
    Throttled {
        /// The class of requests that it answered so; the less urgent ones wait, too.
        class: &'static str,
        /// For how long.
        pause: Duration,
    },
    /// A circuit to the sandbox provider changed its state.
    Circuit {
        /// The provider.
        provider: &'static str,
        /// What passes through it: `create` or `resume`.
        operation: &'static str,
        /// The image it is about; none if it is about all.
        image: Option<Arc<str>>,
        /// The state it left.
        from: &'static str,
        /// The state it is in.
        to: &'static str,
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
    /// It is decided how a session is served.
    Routed {
        /// The session.
        session: SessionId,
        /// The rule that says so; none if none does, and the defaults hold.
        rule: Option<Arc<str>>,
        /// By whom: `brokered`, `worker` or `command`.
        execution: &'static str,
    },
    /// A session's own worker ended.
    WorkerEnded {
        /// The session.
        session: SessionId,
        /// Which start of it, counted from 1.
        number: u32,
        /// Whether it failed.
        failed: bool,
        /// The end of what it printed.
        output: Arc<str>,
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
    /// No sandbox could be had for a session; its calls are answered with that.
    SandboxUnavailable {
        /// The session.
        session: SessionId,
        /// Why.
        reason: Arc<str>,
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
    /// A blank sandbox could not be made; it is tried again.
    NotMade {
        /// The one that was to be.
        sandbox: SandboxId,
        /// Why.
        reason: Arc<str>,
    },
    /// A sandbox that waited for a session is deleted.
    Evicted {
        /// The sandbox.
        sandbox: SandboxId,
        /// Why.
        why: Eviction,
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

impl Notice {
    /// Writes one line per notice, from this one place. Warnings are what we recovered from, errors what
    /// somebody must act on.
    fn log(&self) {
        match self {
            Self::Poller { environment, from, to } => {
                tracing::debug!(remuda.environment.id = %environment, from, to, "poller changed its state");
            }
            Self::QueueReached { environment } => {
                tracing::info!(remuda.environment.id = %environment, "the queue answers");
            }
            Self::QueueFailed { environment, failures, reason } => tracing::warn!(
                remuda.environment.id = %environment, failures, error = %reason,
                "the queue does not answer and is asked again"
            ),
            Self::QueueRefused { environment, reason } => tracing::error!(
                remuda.environment.id = %environment, error = %reason,
                "the queue refuses us, so it is not asked any more: check the environment's id and key"
            ),
            Self::AdmissionPaused { reason } => {
                tracing::warn!(reason = %reason, "the host is short of memory, so nothing more is claimed");
            }
            Self::AdmissionResumed => tracing::info!("the host has memory again, so work is claimed again"),
            Self::Throttled { class, pause } => tracing::warn!(
                class, pause = ?pause, "the control plane asked for patience, and is left alone"
            ),
            Self::Circuit { provider, operation, image, from, to: "open", reason } => tracing::warn!(
                provider, operation, image = image.as_deref(), from, error = %reason,
                "the sandbox provider keeps failing, so it is not asked for a while"
            ),
            Self::Circuit { provider, operation, image, from, to, reason } => tracing::info!(
                provider, operation, image = image.as_deref(), from, to, reason = %reason,
                "a circuit to the sandbox provider changed its state"
            ),
            Self::Claimed { work, environment, session } => tracing::info!(
                remuda.work.id = %work, remuda.environment.id = %environment, remuda.session.id = %name(session),
                "claimed a work item"
            ),
            Self::Session { work, session, from, to } => tracing::debug!(
                remuda.work.id = %work, remuda.session.id = %session, from, to, "session changed its state"
            ),
            Self::Routed { session, rule, execution } => tracing::info!(
                remuda.session.id = %session, rule = rule.as_deref().unwrap_or("none"), execution,
                "it is decided how a session is served"
            ),
            Self::WorkerEnded { session, number, failed: true, output } => tracing::warn!(
                remuda.session.id = %session, start = number, output = end_of(output), "a session's worker failed"
            ),
            Self::WorkerEnded { session, number, failed: false, output } => {
                tracing::info!(remuda.session.id = %session, start = number, "a session's worker ended");
                tracing::debug!(remuda.session.id = %session, output = end_of(output), "what it printed last");
            }
            Self::Sandbox { session, sandbox, from, to, took } => tracing::debug!(
                remuda.session.id = %session, remuda.sandbox.id = %sandbox, from, to, took = ?took,
                "sandbox changed its state"
            ),
            Self::SandboxUnavailable { session, reason } => {
                tracing::error!(remuda.session.id = %session, error = %reason, "could not start a sandbox");
            }
            Self::CallStarted { session, call, tool } => tracing::debug!(
                remuda.session.id = %session, remuda.call.id = %call, tool = %tool, "started a call"
            ),
            Self::CallFinished { session, call, tool, is_error, run, took } => tracing::info!(
                remuda.session.id = %session, remuda.call.id = %call, tool = %tool, is_error, run = ?run,
                took = ?took, "a call has its answer"
            ),
            Self::CallLeft { session, call, tool, why } => tracing::info!(
                remuda.session.id = %session, remuda.call.id = %call, tool = %tool, why = ?why,
                "a call is left alone"
            ),
            Self::Posted { session, call, took } => tracing::debug!(
                remuda.session.id = %session, remuda.call.id = %call, took = ?took, "posted an answer"
            ),
            Self::PostRefused { session, call, reason } => tracing::warn!(
                remuda.session.id = %session, remuda.call.id = %call, error = %reason,
                "the control plane does not take an answer"
            ),
            Self::Ended { work, session, outcome, reason } => tracing::info!(
                remuda.work.id = %work, remuda.session.id = %name(session), outcome = ?outcome, reason = %reason,
                "a session ended"
            ),
            Self::NotMade { sandbox, reason } => tracing::warn!(
                remuda.sandbox.id = %sandbox, error = %reason,
                "could not make a blank sandbox ahead; it is tried again"
            ),
            Self::Evicted { sandbox, why } => {
                tracing::info!(remuda.sandbox.id = %sandbox, why = ?why, "a waiting sandbox is deleted");
            }
            Self::Orphan { sandbox, reason } => {
                tracing::warn!(remuda.sandbox.id = %sandbox, reason = %reason, "a sandbox without an owner");
            }
            Self::Failed { actor, restarted: true, cause } => {
                tracing::warn!(actor = actor.name(), error = %cause, "an actor failed and is started again");
            }
            Self::Failed { actor, restarted: false, cause } => {
                tracing::error!(actor = actor.name(), error = %cause, "an actor failed too often");
            }
            Self::Illegal { what } => {
                tracing::error!(error = %what, "a machine met an event it cannot take: please report this");
            }
        }
    }
}

/// Bytes of a worker's output that a log line holds.
const LOGGED: usize = 2 << 10;

/// The end of a long text.
fn end_of(text: &str) -> &str {
    let mut from = text.len().saturating_sub(LOGGED);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

fn name(session: &Option<SessionId>) -> &str {
    session.as_ref().map_or("", SessionId::as_str)
}

/// Where notices are published.
#[derive(Clone, Debug)]
pub(crate) struct Notices(broadcast::Sender<Notice>);

impl Notices {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn publish(&self, notice: Notice) {
        notice.log();
        // Without subscribers there is nobody to tell.
        let _ = self.0.send(notice);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.subscribe()
    }
}

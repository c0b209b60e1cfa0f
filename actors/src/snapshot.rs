//! A picture of the tree, for people and programs.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::context::Context;
use crate::ids::{EnvironmentId, SandboxId, SessionId, WorkId};
use crate::{admission, breaker, governor, herd};

/// What a tree holds at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Sessions that could be taken on right now.
    pub free_slots: usize,
    /// Who holds the others, and whether more are granted.
    pub admission: admission::View,
    /// Requests to the control plane that wait for their turn.
    pub governor: governor::View,
    /// The circuits to the sandbox provider.
    pub circuits: Vec<breaker::View>,
    /// The sandboxes that belong to no work item.
    pub herd: herd::View,
    /// Retries that the tree may make at once.
    pub retries_left: u32,
    /// The work items held, in the order of their ids.
    pub sessions: Vec<SessionView>,
}

/// One work item as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionView {
    /// The item.
    pub work: WorkId,
    /// Its queue.
    pub environment: EnvironmentId,
    /// The session; none if the item is for something we do not know.
    pub session: Option<SessionId>,
    /// Where the session stands, in one word.
    pub state: &'static str,
    /// Where its lease stands, in one word.
    pub lease: &'static str,
    /// Its sandbox; none before the first was intended.
    pub sandbox: Option<SandboxId>,
    /// Where that stands, in one word.
    pub sandbox_state: &'static str,
    /// Calls given to it so far.
    pub calls: u64,
    /// How often its actor failed and was started again.
    pub restarts: u32,
    /// Time since it was claimed.
    pub age: Duration,
}

impl Snapshot {
    pub(crate) fn take(context: &Context) -> Self {
        let sessions = context.ledger.all().into_iter().map(|entry| {
            let view = entry.view();
            SessionView {
                work: entry.item.id.clone(),
                environment: entry.item.environment.clone(),
                session: entry.item.session().cloned(),
                state: view.session,
                lease: view.lease,
                sandbox: entry.sandbox().map(|(_, sandbox)| sandbox),
                sandbox_state: view.sandbox,
                calls: view.calls,
                restarts: view.restarts,
                age: view.since.elapsed(),
            }
        });
        Self {
            free_slots: context.admission.free(),
            admission: context.admission.view(),
            governor: context.governor.view(),
            circuits: context.guarded.view(),
            herd: context.herd.shelf().view(Instant::now()),
            retries_left: context.retries.left(),
            sessions: sessions.collect(),
        }
    }
}

//! Looks for sandboxes that nobody owns, at the start and every minute, and deletes them.
//!
//! Events make the tree fast; this makes it right: whatever a crash left behind is found here. When the
//! listing fails nothing at all is done: unknown is not empty.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::plan::{Policy, orphans, unfit};
use crate::context::{Context, provider};
use crate::effects::{Crashed, Tasks};
use crate::ids::SandboxId;
use crate::notice::Notice;

/// What the reaper is told.
pub(crate) enum ReaperMsg {
    /// Look now.
    Sweep,
    /// A sweep is done.
    Swept,
    /// A task panicked.
    Crashed(String),
}

impl Crashed for ReaperMsg {
    fn crashed(what: String) -> Self {
        Self::Crashed(what)
    }
}

/// Looks for sandboxes that nobody owns.
pub(crate) struct Reaper {
    pub(crate) context: Arc<Context>,
}

/// The tasks it may have.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// A sweep, or the wait before the next one.
    Sweep,
}

impl Actor for Reaper {
    type Msg = ReaperMsg;
    type State = Tasks<Slot>;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<ReaperMsg>, (): ()) -> Result<Tasks<Slot>, ActorProcessingErr> {
        me.cast(ReaperMsg::Sweep)?;
        Ok(Tasks::new())
    }

    async fn handle(
        &self,
        me: ActorRef<ReaperMsg>,
        msg: ReaperMsg,
        tasks: &mut Tasks<Slot>,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            ReaperMsg::Sweep => {
                #[cfg(any(test, feature = "test-util"))]
                self.context.strike(crate::supervision::ActorKind::Reaper, "sweep")?;
                let (context, to) = (Arc::clone(&self.context), me.clone());
                tasks.start(Slot::Sweep, &me, async move {
                    sweep(&context).await;
                    let _ = to.cast(ReaperMsg::Swept);
                });
            }
            ReaperMsg::Swept => {
                tasks.arm(Slot::Sweep, &me, self.context.settings.reaper.interval, ReaperMsg::Sweep);
            }
            ReaperMsg::Crashed(what) => return Err(what.into()),
        }
        Ok(())
    }
}

async fn sweep(context: &Context) {
    let within = context.settings.deadlines.provider;
    let owner = &context.settings.owner;
    // Before the listing: what comes to wait while it is made need not be in it.
    let waiting = context.herd.shelf().waiting().cloned().collect();
    let listing = match provider(within, context.ports.provider.list(owner)).await {
        Ok(listing) => listing,
        Err(error) => {
            tracing::warn!(error = %error.fault(), "could not list the sandboxes, so none is reaped");
            return;
        }
    };
    for (sandbox, why) in unfit(&listing, &waiting, context.settings.herd.max_age) {
        context.herd.evict(&sandbox, why);
    }
    let owned = context.owned();
    for sandbox in orphans(&listing, owner, |id| owned.contains(id), &context.settings.reaper) {
        // It may have found an owner while another was being deleted.
        if !context.owns(&sandbox) {
            delete(context, sandbox).await;
        }
    }
}

async fn delete(context: &Context, sandbox: SandboxId) {
    let deleted = context.ports.provider.delete(&sandbox);
    let reason = match provider(context.settings.deadlines.provider, deleted).await {
        Ok(()) => "deleted: nobody owned it".into(),
        Err(error) => error.fault().message,
    };
    context.notices.publish(Notice::Orphan { sandbox, reason });
}

/// Deletes every sandbox of ours that had no owner, when nothing is left that could become one. No age protects
/// any: what an earlier process was about to write down when it was killed is nobody's now.
pub(crate) async fn clear(context: &Context, owned: &HashSet<SandboxId>) {
    let settings = &context.settings;
    let listing = provider(settings.deadlines.provider, context.ports.provider.list(&settings.owner)).await;
    let listing = listing.unwrap_or_else(|error| {
        tracing::warn!(error = %error.fault(), "could not list the sandboxes, so some may be left");
        Vec::new()
    });
    let everything = Policy { grace: Duration::ZERO, deletions: usize::MAX, ..settings.reaper.clone() };
    let left = orphans(&listing, &settings.owner, |id| owned.contains(id), &everything);
    let left = futures_util::stream::iter(left);
    left.for_each_concurrent(settings.herd.leaving.max(1), |sandbox| delete(context, sandbox)).await;
}

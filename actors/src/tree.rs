//! The handle by which a host starts, watches and drains a tree.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::context::Context;
use crate::ids::EnvironmentId;
use crate::notice::Notice;
use crate::ports::{JournalError, Replay};
use crate::root::{Root, RootMsg};
use crate::settings::{Ports, Settings};
use crate::snapshot::Snapshot;

/// A running tree. Dropping it kills every actor at once, without draining.
///
/// Several trees may run side by side in one process: they share nothing.
pub struct Tree {
    root: ActorRef<RootMsg>,
    context: Arc<Context>,
    ended: watch::Receiver<Option<Ended>>,
}

/// How a tree ended.
type Ended = Result<(), TreeError>;

/// What a drain came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Sessions that were handed back in the middle of a turn when the grace period was over.
    pub handed_back: usize,
    /// Sessions that were left to the next process.
    pub left: usize,
    /// Sessions that did not even manage that in time and were killed.
    pub killed: usize,
}

/// Why a tree could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no queue to serve.
    #[error("no environment is given; name at least one to serve")]
    NoEnvironment,
    /// There is no room for a single session.
    #[error("`max_sessions` is 0; expected at least 1")]
    NoSlots,
    /// A queue is named twice.
    #[error("environment `{id}` is given twice; name each once, with the weight it is to have")]
    DuplicateEnvironment {
        /// The queue.
        id: EnvironmentId,
    },
    /// What an earlier process left could not be read.
    #[error("could not take up where the last process ended")]
    Journal(#[source] JournalError),
    /// The root actor could not be started.
    #[error("could not start the root supervisor: {0}")]
    Root(String),
}

/// Why a tree ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A part of it failed more often than its budget allows, or it was killed.
    #[error("the tree gave up: {cause}")]
    GaveUp {
        /// What failed last.
        cause: String,
    },
}

impl Tree {
    /// Starts a tree on the current tokio runtime, and takes up the work that the journal tells of.
    ///
    /// # Errors
    /// [`StartError`] if the settings make no sense or the journal cannot be read; nothing runs then.
    ///
    /// # Cancel safety
    /// If this is dropped, whatever was started is killed.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StartError> {
        Self::launch(Context::new(ports, settings)).await
    }

    /// The same, with actors that fail on purpose.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    #[cfg(any(test, feature = "test-util"))]
    pub async fn start_sabotaged(
        ports: Ports,
        settings: Settings,
        sabotage: crate::testing::Sabotage,
    ) -> Result<Self, StartError> {
        Self::launch(Context { sabotage: Some(sabotage), ..Context::new(ports, settings) }).await
    }

    async fn launch(context: Context) -> Result<Self, StartError> {
        if context.settings.environments.is_empty() {
            return Err(StartError::NoEnvironment);
        }
        if context.settings.max_sessions == 0 {
            return Err(StartError::NoSlots);
        }
        let mut named = BTreeSet::new();
        if let Some(twice) =
            context.settings.environments.iter().find(|environment| !named.insert(&environment.id))
        {
            return Err(StartError::DuplicateEnvironment { id: twice.id.clone() });
        }
        let context = Arc::new(context);
        let Replay { work, shelf } = context.ports.journal.replay().await.map_err(StartError::Journal)?;
        for entry in context.ledger.restore(work, Instant::now()) {
            // What was claimed is served, even if it is more than there are slots.
            entry.take_slot(context.admission.occupy(entry.item.environment.clone()));
        }
        context.herd.restore(shelf, &context.ledger);
        let (tell, ended) = watch::channel(None);
        let guardian = Guardian { tell };
        let (guardian, _) =
            Actor::spawn(None, guardian, ()).await.map_err(|error| StartError::Root(error.to_string()))?;
        let root = Root { context: Arc::clone(&context) };
        let (root, _) = guardian
            .get_cell()
            .spawn_linked(None, root, ())
            .await
            .map_err(|error| StartError::Root(error.to_string()))?;
        Ok(Self { root, context, ended })
    }

    /// What the tree holds right now. Asks no actor, so it answers even when one is stuck.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.context)
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.context.notices.subscribe()
    }

    /// A hint that a queue, or any of them, may have work.
    pub fn wake(&self, environment: Option<EnvironmentId>) {
        let _ = self.root.cast(RootMsg::Wake(environment));
    }

    /// Ends the tree in order: claims nothing more, lets sessions come to an end within `grace` in the way
    /// [`Settings::on_drain`] says, and does not wait for the rest. Returns when nothing of the tree runs any
    /// more.
    ///
    /// # Cancel safety
    /// The drain goes on if this is dropped, until the handle is.
    pub async fn drain(&self, grace: Duration) -> Drained {
        let asked = self.root.call(|reply| RootMsg::Drain { grace, reply }, None).await;
        let report = match asked {
            Ok(CallResult::Success(report)) => report,
            // It has ended already, or gave up on the way; `ended` says which.
            _ => Drained::default(),
        };
        let _ = self.ended().await;
        report
    }

    /// Waits until the tree has ended.
    ///
    /// # Errors
    /// [`TreeError`] if it ended otherwise than by [`drain`](Self::drain).
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn ended(&self) -> Result<(), TreeError> {
        let mut ended = self.ended.clone();
        let told = ended.wait_for(Option::is_some).await.map(|told| told.clone());
        told.ok().flatten().unwrap_or_else(|| Err(TreeError::GaveUp { cause: "its guardian is gone".into() }))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.root.kill();
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("environments", &self.context.settings.environments)
            .finish_non_exhaustive()
    }
}

/// Supervises the root, so that its end is not silent.
struct Guardian {
    tell: watch::Sender<Option<Ended>>,
}

impl Actor for Guardian {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let ended = match event {
            SupervisionEvent::ActorFailed(_, error) => Err(TreeError::GaveUp { cause: error.to_string() }),
            SupervisionEvent::ActorTerminated(_, _, reason) => match reason.as_deref() {
                Some("drained") => Ok(()),
                reason => Err(TreeError::GaveUp { cause: reason.unwrap_or("stopped").to_owned() }),
            },
            _ => return Ok(()),
        };
        self.tell.send_replace(Some(ended));
        me.stop(None);
        Ok(())
    }
}

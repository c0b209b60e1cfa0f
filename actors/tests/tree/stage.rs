//! What every test of the tree needs: the fakes, a tree on them, and ways to wait for what happens.

use std::sync::Arc;
use std::time::Duration;

use remuda_actors::notice::Notice;
use remuda_actors::ports::OwnerId;
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{FakeControl, FakeJournal, FakeProvider, Sabotage};
use remuda_actors::{Ports, Settings, Tree};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

pub(crate) const ENVIRONMENT: &str = "env_1";

/// Longer than anything a test waits for; the clock is paused, so nobody waits.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(crate) struct World {
    pub(crate) control: Arc<FakeControl>,
    pub(crate) provider: Arc<FakeProvider>,
    pub(crate) journal: Arc<FakeJournal>,
    pub(crate) settings: Settings,
}

impl World {
    /// In which sandboxes are made when they are needed and deleted when they are not.
    pub(crate) fn new() -> Self {
        let mut world = Self::with_herd();
        (world.settings.herd.warm, world.settings.herd.park_for) = (0, Duration::ZERO);
        world
    }

    /// In which sandboxes are made ahead and wait for their sessions.
    pub(crate) fn with_herd() -> Self {
        Self {
            control: Arc::new(FakeControl::new(Duration::from_secs(120))),
            provider: Arc::new(FakeProvider::new()),
            journal: Arc::new(FakeJournal::new()),
            settings: Settings::new(OwnerId::new("test"), [ENVIRONMENT.into()]),
        }
    }

    pub(crate) fn ports(&self) -> Ports {
        Ports {
            control: Arc::clone(&self.control) as _,
            provider: Arc::clone(&self.provider) as _,
            journal: Arc::clone(&self.journal) as _,
        }
    }

    pub(crate) async fn tree(&self) -> Tree {
        Tree::start(self.ports(), self.settings.clone()).await.expect("the tree starts")
    }

    pub(crate) async fn sabotaged(&self, sabotage: Sabotage) -> Tree {
        Tree::start_sabotaged(self.ports(), self.settings.clone(), sabotage).await.expect("the tree starts")
    }

    /// Nothing may be left once a session has ended.
    pub(crate) fn assert_clean(&self, tree: &Tree) {
        assert_eq!(self.provider.sandboxes(), [], "a sandbox is left");
        let snapshot = tree.snapshot();
        assert!(snapshot.sessions.is_empty(), "{snapshot:?}");
        let taken = self.settings.max_sessions - snapshot.free_slots;
        assert!(taken <= self.settings.environments.len(), "{taken} slots are taken, more than pollers hold");
    }
}

/// The next notice that `pick` picks.
pub(crate) async fn next<T>(notices: &mut Receiver<Notice>, pick: impl Fn(&Notice) -> Option<T>) -> T {
    let found = async {
        loop {
            match notices.recv().await {
                Ok(Notice::Illegal { what }) => panic!("{what}"),
                Ok(notice) => {
                    if let Some(found) = pick(&notice) {
                        return found;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("the tree is gone"),
            }
        }
    };
    timeout(PATIENCE, found).await.expect("it never happened")
}

/// How the next session that ends does so.
pub(crate) async fn ended(notices: &mut Receiver<Notice>) -> (Outcome, String) {
    next(notices, |notice| match notice {
        Notice::Ended { outcome, reason, .. } => Some((*outcome, reason.to_string())),
        _ => None,
    })
    .await
}

/// Waits until a call was given to a sandbox.
pub(crate) async fn call_started(notices: &mut Receiver<Notice>, id: &str) {
    next(notices, |notice| match notice {
        Notice::CallStarted { call, .. } if call.as_str() == id => Some(()),
        _ => None,
    })
    .await;
}

/// Lets everything that is due happen.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

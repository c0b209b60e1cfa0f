//! What both kinds of demonstration stand on: an emulator, a tree, and sandboxes, all of this process's own.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{HandHealth, OwnerId, SandboxProvider, Volatile};
use remuda_actors::secret::Secret;
use remuda_actors::{Ports, Settings, Tree};
use tempfile::TempDir;

use super::run::{SandboxArguments, local_provider};
use crate::cma;
use crate::emulator::{Emulator, EnvironmentHandle, Options};
use crate::providers::local::LocalProvider;
use crate::report::{Exit, Failure};
use crate::shutdown::Signals;
use crate::state_dir::StateDir;

/// How long sessions may take to end when a demonstration is over.
const GRACE: Duration = Duration::from_secs(5);

/// How long a hand may take to say how it is.
const LOOK: Duration = Duration::from_secs(1);

/// An emulator, a tree, and sandboxes.
pub(super) struct Stage {
    pub(super) emulator: Emulator,
    pub(super) environment: EnvironmentHandle,
    pub(super) agent: String,
    pub(super) tree: Tree,
    provider: Arc<LocalProvider>,
    state_dir: StateDir,
    /// Removed last, with everything in it.
    _folder: TempDir,
}

impl Stage {
    /// Sets everything up; `change` has the last word on the settings.
    pub(super) async fn set(
        sandbox: &SandboxArguments,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Self, Failure> {
        let failed = |error: anyhow::Error| Failure::new(Exit::Configuration, error);
        let folder = tempfile::Builder::new().prefix("remuda-demo-").tempdir();
        let folder =
            folder.map_err(|error| failed(anyhow::Error::new(error).context("could not make a folder")))?;
        let state_dir = StateDir::open(folder.path()).map_err(|error| failed(error.into()))?;
        let provider = Arc::new(local_provider(&state_dir, sandbox)?);

        let emulator = Emulator::start(Options::default()).await.map_err(|error| failed(error.into()))?;
        let environment = emulator.create_environment("demo").map_err(|error| failed(error.into()))?;
        let agent = emulator.create_agent("demo").map_err(|error| failed(error.into()))?;

        let key = Secret::new(environment.key.as_str());
        let client = cma::Client::new(cma::Options {
            base_url: emulator.url(),
            worker_id: "demo".to_owned(),
            queues: vec![cma::Queue { environment: environment.id.clone(), key }],
        });
        let ports = Ports {
            control: Arc::new(client.map_err(|error| failed(error.into()))?),
            provider: Arc::clone(&provider) as _,
            journal: Arc::new(Volatile),
        };
        let mut settings = Settings::new(state_dir.owner().clone(), [environment.id.clone()]);
        settings.seed = rand::rng().random();
        // Nobody comes back for anything.
        (settings.herd.warm, settings.herd.park_for) = (0, Duration::ZERO);
        change(&mut settings);
        let tree = Tree::start(ports, settings).await.map_err(|error| failed(error.into()))?;
        Ok(Self { emulator, environment, agent, tree, provider, state_dir, _folder: folder })
    }

    /// How the hand of a sandbox is; none if it does not say so in time.
    pub(super) fn look(
        &self,
        sandbox: &SandboxId,
    ) -> impl Future<Output = Option<HandHealth>> + Send + use<> {
        let hand = self.provider.hand(sandbox);
        async move { tokio::time::timeout(LOOK, hand.health()).await.ok()?.ok() }
    }

    /// Ends the tree, then every sandbox that is left, then the emulator. A signal cuts the sessions short.
    pub(super) async fn strike(self, signals: &mut Signals) {
        tokio::select! {
            biased;
            () = signals.next() => {}
            _ = self.tree.drain(GRACE) => {}
        }
        // It makes no more of them.
        drop(self.tree);
        if tokio::time::timeout(GRACE, clear(&*self.provider, self.state_dir.owner())).await.is_err() {
            tracing::error!("some sandboxes could not be ended in time");
        }
        self.emulator.shutdown().await;
    }
}

/// Deletes every sandbox there is.
async fn clear(provider: &impl SandboxProvider, owner: &OwnerId) {
    let sandboxes = provider.list(owner).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the sandboxes that are left are not known");
        Vec::new()
    });
    let deleting = sandboxes.into_iter().map(async |sandbox| {
        if let Err(error) = provider.delete(&sandbox.id).await {
            tracing::error!(%error, sandbox = %sandbox.id, "a sandbox could not be deleted");
        }
    });
    futures_util::future::join_all(deleting).await;
}

//! What all actors of one tree share.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::fault::{Fault, FaultClass};
use crate::ids::{SandboxId, WorkId};
use crate::ledger::{Entry, Ledger};
use crate::machine::IllegalEvent;
use crate::notice::{Notice, Notices};
use crate::ports::{ControlError, HandError, ProviderError, Record};
use crate::settings::{Ports, Settings};

/// What all actors of one tree share.
pub(crate) struct Context {
    pub(crate) ports: Ports,
    pub(crate) settings: Settings,
    pub(crate) ledger: Ledger,
    pub(crate) notices: Notices,
    pub(crate) slots: Arc<Semaphore>,
    /// Sessions that ended by being handed back.
    pub(crate) handed_back: AtomicUsize,
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) sabotage: Option<crate::testing::Sabotage>,
}

impl Context {
    pub(crate) fn new(ports: Ports, settings: Settings) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(settings.max_sessions)),
            ports,
            settings,
            ledger: Ledger::default(),
            notices: Notices::new(),
            handed_back: AtomicUsize::new(0),
            #[cfg(any(test, feature = "test-util"))]
            sabotage: None,
        }
    }

    /// A generator of its own for each actor, so that one's draws do not depend on another's.
    pub(crate) fn rng(&self, of: impl Hash) -> SmallRng {
        let mut hasher = DefaultHasher::new();
        (self.settings.seed, of).hash(&mut hasher);
        SmallRng::seed_from_u64(hasher.finish())
    }

    /// Appends to the journal, within its deadline.
    pub(crate) async fn record(&self, work: &WorkId, record: Record) -> Result<(), Fault> {
        let waited = self.settings.deadlines.journal;
        match timeout(waited, self.ports.journal.append(work, record)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::of(FaultClass::Transient, &error)),
            Err(_) => {
                Err(Fault::new(FaultClass::Ambiguous, format!("the journal did not answer in {waited:?}")))
            }
        }
    }

    /// Appends what already happened; if that fails people are told, and the other side's memory must do.
    pub(crate) async fn note(&self, work: &WorkId, record: Record) {
        if let Err(fault) = self.record(work, record).await {
            tracing::error!(error = %fault, remuda.work.id = %work, "could not write the journal");
        }
    }

    /// Says that a machine met an event it cannot take.
    pub(crate) fn illegal(&self, illegal: IllegalEvent) {
        self.notices.publish(Notice::Illegal { what: illegal.to_string().into() });
    }

    /// Fails the calling actor if a test asked for it.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn strike(&self, actor: crate::supervision::ActorKind, event: &str) -> Result<(), String> {
        self.sabotage.as_ref().map_or(Ok(()), |sabotage| sabotage.strike(actor, event))
    }

    /// Whether a sandbox belongs to a work item we hold.
    pub(crate) fn owns(&self, sandbox: &SandboxId) -> bool {
        let belongs = |entry: &Arc<Entry>| entry.sandbox().is_some_and(|(_, id)| id == *sandbox);
        self.ledger.all().iter().any(belongs)
    }
}

/// Cuts a request to the control plane off after `within`.
pub(crate) async fn control<T>(
    within: Duration,
    request: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    timeout(within, request).await.unwrap_or(Err(ControlError::TimedOut { waited: within }))
}

/// Cuts a request to the provider off after `within`.
pub(crate) async fn provider<T>(
    within: Duration,
    request: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    timeout(within, request).await.unwrap_or(Err(ProviderError::TimedOut { waited: within }))
}

/// Cuts a request to a hand off after `within`.
pub(crate) async fn hand<T>(
    within: Duration,
    request: impl Future<Output = Result<T, HandError>>,
) -> Result<T, HandError> {
    timeout(within, request).await.unwrap_or(Err(HandError::TimedOut { waited: within }))
}

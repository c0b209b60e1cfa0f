//! What all actors of one tree share.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::time::timeout;

use crate::admission::Admission;
use crate::breaker::Guarded;
use crate::fault::{Fault, FaultClass};
use crate::governor::{Governed, Governor};
use crate::herd::Inventory;
use crate::ids::{SandboxId, SessionId, WorkId};
use crate::ledger::{Entry, Ledger};
use crate::machine::IllegalEvent;
use crate::notice::{Notice, Notices};
use crate::ports::{
    ControlError, HandError, JournalError, ProviderError, Record, Sandbox, SandboxSpec, Session, Shelved,
};
use crate::retry_budget::RetryBudget;
use crate::settings::{Ports, Settings};

/// What all actors of one tree share.
pub(crate) struct Context {
    /// The host's ports; requests to the control plane are governed, and the provider is guarded.
    pub(crate) ports: Ports,
    pub(crate) settings: Settings,
    pub(crate) ledger: Ledger,
    pub(crate) herd: Inventory,
    pub(crate) notices: Notices,
    pub(crate) admission: Arc<Admission>,
    pub(crate) governor: Arc<Governor>,
    pub(crate) guarded: Arc<Guarded>,
    /// What all machines draw on that repeat something.
    pub(crate) retries: RetryBudget,
    /// Sessions that ended by being handed back.
    pub(crate) handed_back: AtomicUsize,
    /// Sessions that were left to the next process.
    pub(crate) left: AtomicUsize,
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) sabotage: Option<crate::testing::Sabotage>,
}

impl Context {
    pub(crate) fn new(ports: Ports, settings: Settings) -> Self {
        let notices = Notices::new();
        let (slots, environments) = (settings.max_sessions, &settings.environments);
        let admission = Admission::new(slots, environments, settings.admission.clone(), notices.clone());
        let governor = Arc::new(Governor::new(settings.governor, notices.clone()));
        let guarded = Arc::new(Guarded::new(
            ports.provider,
            settings.breaker,
            settings.deadlines.clone(),
            notices.clone(),
            rng(settings.seed, "breaker"),
        ));
        let control = Arc::new(Governed::new(ports.control, Arc::clone(&governor)));
        Self {
            ports: Ports { control, provider: Arc::clone(&guarded) as _, ..ports },
            admission: Arc::new(admission),
            governor,
            guarded,
            retries: RetryBudget::new(&settings.retries),
            settings,
            ledger: Ledger::default(),
            herd: Inventory::default(),
            notices,
            handed_back: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            #[cfg(any(test, feature = "test-util"))]
            sabotage: None,
        }
    }

    /// A generator of its own for each actor, so that one's draws do not depend on another's.
    pub(crate) fn rng(&self, of: impl Hash) -> SmallRng {
        rng(self.settings.seed, of)
    }

    /// Creates a sandbox, within its deadline, once it may be started. The wait for that is not bounded by
    /// time: those who are in front of it are bounded in number, and each by its deadline.
    pub(crate) async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError> {
        let _start = self.admission.start().await;
        provider(self.settings.deadlines.create, self.ports.provider.create(spec)).await
    }

    /// Appends to the journal, within its deadline.
    pub(crate) async fn record(&self, work: &WorkId, record: Record) -> Result<(), Fault> {
        self.journal(self.ports.journal.append(work, record)).await
    }

    /// Puts a sandbox on the journal's shelf.
    pub(crate) async fn shelve(&self, shelved: &Shelved) -> Result<(), Fault> {
        self.journal(self.ports.journal.shelve(shelved)).await
    }

    /// Takes a sandbox off the journal's shelf.
    pub(crate) async fn unshelve(&self, sandbox: &SandboxId) -> Result<(), Fault> {
        self.journal(self.ports.journal.unshelve(sandbox)).await
    }

    async fn journal(&self, write: impl Future<Output = Result<(), JournalError>>) -> Result<(), Fault> {
        let waited = self.settings.deadlines.journal;
        match timeout(waited, write).await {
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

    /// Decides how the item's session is served, once and for all.
    pub(crate) fn route(&self, entry: &Entry, session: &Session) {
        let Some(router) = &self.settings.router else { return };
        let route = router.route(&entry.item.environment, session);
        if entry.set_route(&route) {
            let (session, rule) = (session.id.clone(), route.rule.clone());
            self.notices.publish(Notice::Routed { session, rule, execution: route.execution.name() });
        }
    }

    /// Writes down that an item is not ours any more, and what its session may still ask about.
    pub(crate) async fn end(&self, entry: &Entry) {
        let left = entry.left().map(|(session, calls)| Record::Left { session, calls });
        self.note(&entry.item.id, left.unwrap_or(Record::Ended)).await;
        // What they left is this one's, and has an answer or is written down with it.
        for work in entry.heir_of() {
            self.note(&work, Record::Ended).await;
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

    /// Every sandbox that belongs to a work item we hold, or waits for one. Nothing is put on the shelf or taken
    /// from it meanwhile, so what moves between the two is found in one of them.
    pub(crate) fn owned(&self) -> HashSet<SandboxId> {
        let shelf = self.herd.shelf();
        let mut owned: HashSet<_> = shelf.all().cloned().collect();
        owned.extend(self.ledger.all().iter().flat_map(|entry| entry.sandboxes()));
        owned
    }

    /// Whether a sandbox belongs to a work item we hold, or waits for one; as above.
    pub(crate) fn owns(&self, sandbox: &SandboxId) -> bool {
        let shelf = self.herd.shelf();
        let belongs = |entry: &Arc<Entry>| entry.sandboxes().any(|id| id == *sandbox);
        shelf.all().any(|held| held == sandbox) || self.ledger.all().iter().any(belongs)
    }

    /// Deletes a sandbox that was made under a name of ours, unless another's has that name.
    pub(crate) async fn delete(
        &self,
        sandbox: &SandboxId,
        session: Option<&SessionId>,
    ) -> Result<(), ProviderError> {
        let within = self.settings.deadlines.provider;
        let found = provider(within, self.ports.provider.find(sandbox)).await?;
        if found.is_some_and(|found| !self.may_use(&found, session)) {
            return Ok(());
        }
        provider(within, self.ports.provider.delete(sandbox)).await
    }

    /// Whether a sandbox is one of ours that was made for this session, or blank.
    pub(crate) fn may_use(&self, found: &Sandbox, session: Option<&SessionId>) -> bool {
        found.owner == self.settings.owner && (found.session.is_none() || found.session.as_ref() == session)
    }
}

fn rng(seed: u64, of: impl Hash) -> SmallRng {
    let mut hasher = DefaultHasher::new();
    (seed, of).hash(&mut hasher);
    SmallRng::seed_from_u64(hasher.finish())
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

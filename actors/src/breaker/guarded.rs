//! A provider behind circuits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::SmallRng;
use serde::Serialize;
use tokio::time::Instant;

use super::{Change, Circuit, Circuits, Outcome, Passes, Policy, Refused, Request, State};
use crate::ids::SandboxId;
use crate::notice::{Notice, Notices};
use crate::ports::{
    Capabilities, Hand, OwnerId, ProviderError, Sandbox, SandboxProvider, SandboxSpec, Usage,
};
use crate::settings::Deadlines;

/// A provider whose creates and resumes pass only while its circuits are closed.
///
/// A request counts as failed if the provider was not able to do it: it is unavailable or unusable, or did
/// not answer. One that it refused, or whose sandbox is there already or not there, tells nothing about it.
///
/// Deadlines are set by the callers, who drop a request that takes too long. So one that is dropped after
/// more than half of its deadline has failed, and one that is dropped sooner was not wanted any more.
///
/// # Cancel safety
/// As the port itself; a probe that is dropped makes room for the next.
pub(crate) struct Guarded {
    inner: Arc<dyn SandboxProvider>,
    policy: Policy,
    deadlines: Deadlines,
    notices: Notices,
    state: Mutex<Inner>,
}

struct Inner {
    circuits: Circuits,
    rng: SmallRng,
}

/// How a circuit stands.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// What passes through it: `create` or `resume`.
    pub operation: &'static str,
    /// The image it is about; none if it is about all.
    pub image: Option<Arc<str>>,
    /// Its state, in one word.
    pub state: &'static str,
    /// Failures in a row that have not opened it yet.
    pub failures: u32,
    /// How long it has not been closed, if it is not.
    pub open_for: Option<Duration>,
    /// The failure that opened it, if it is not closed.
    pub reason: Option<Arc<str>>,
}

impl Guarded {
    pub(crate) fn new(
        inner: Arc<dyn SandboxProvider>,
        policy: Policy,
        deadlines: Deadlines,
        notices: Notices,
        rng: SmallRng,
    ) -> Self {
        let state = Mutex::new(Inner { circuits: Circuits::default(), rng });
        Self { inner, policy, deadlines, notices, state }
    }

    /// How the circuits stand: those of the provider, and of images that have failed since they last worked.
    pub(crate) fn view(&self) -> Vec<View> {
        let (state, now) = (self.state(), Instant::now());
        let views = state.circuits.all().map(|(circuit, breaker)| View {
            operation: circuit.operation(),
            image: circuit.image().cloned(),
            state: breaker.name(),
            failures: match breaker.state() {
                State::Closed { failures } => *failures,
                State::Open { .. } | State::HalfOpen { .. } => 0,
            },
            open_for: breaker.outage().map(|outage| now - outage.since),
            reason: breaker.outage().map(|outage| Arc::clone(&outage.reason)),
        });
        views.collect()
    }

    /// Makes a request if the circuits let it pass, and tells them what came of it.
    async fn watch<T>(
        &self,
        request: Request<'_>,
        deadline: Duration,
        answer: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        let mut changes = Vec::new();
        let passed = self.state().circuits.pass(request, Instant::now(), &self.policy, &mut changes);
        self.tell(changes, "the wait is over, so one request is let through");
        let passes = passed.map_err(|refused| self.refusal(&refused))?;
        let mut flight = Flight { guarded: self, passes: Some(passes), sent: Instant::now(), deadline };
        let answer = answer.await;
        flight.land(&match &answer {
            Ok(_) => Outcome::Succeeded,
            Err(error) if is_failure(error) => Outcome::Failed(error.fault().message),
            Err(_) => Outcome::Neither,
        });
        answer
    }

    fn refusal(&self, refused: &Refused) -> ProviderError {
        let Refused { circuit, retry_after, open_for, reason } = refused;
        let provider = self.inner.name();
        let what = match circuit {
            Circuit::Create => "to start sandboxes".to_owned(),
            Circuit::Image(image) => format!("to start sandboxes of image `{image}`"),
            Circuit::Resume => "to wake sandboxes".to_owned(),
        };
        let what = format!(
            "the provider `{provider}` was given up {open_for:.0?} ago as unable {what}, and is tried again in \
             {retry_after:.1?}: {reason}"
        );
        ProviderError::CircuitOpen { what, retry_after: *retry_after }
    }

    fn tell(&self, changes: Vec<Change>, reason: &str) {
        for Change { circuit, from, to } in changes {
            self.notices.publish(Notice::Circuit {
                provider: self.inner.name(),
                operation: circuit.operation(),
                image: circuit.image().cloned(),
                from,
                to,
                reason: reason.into(),
            });
        }
    }

    /// Nothing in a critical section here can panic half-way.
    fn state(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it speaks against the provider, and not against what was asked of it.
fn is_failure(error: &ProviderError) -> bool {
    match error {
        ProviderError::TimedOut { .. }
        | ProviderError::Unavailable { .. }
        | ProviderError::Unusable { .. } => true,
        ProviderError::AlreadyExists { .. }
        | ProviderError::NotFound { .. }
        | ProviderError::Refused { .. }
        | ProviderError::CircuitOpen { .. } => false,
    }
}

/// A request on its way.
struct Flight<'a> {
    guarded: &'a Guarded,
    passes: Option<Passes>,
    sent: Instant,
    deadline: Duration,
}

impl Flight<'_> {
    fn land(&mut self, outcome: &Outcome) {
        let Some(passes) = self.passes.take() else { return };
        let policy = &self.guarded.policy;
        let mut changes = Vec::new();
        {
            let mut state = self.guarded.state();
            let Inner { circuits, rng } = &mut *state;
            let draw = |trips| policy.open.delay(trips, None, rng);
            circuits.finish(passes, outcome, Instant::now(), policy, draw, &mut changes);
        }
        let reason = match outcome {
            Outcome::Succeeded => "it works again",
            Outcome::Failed(reason) => reason,
            Outcome::Neither => "the request that was let through told nothing",
        };
        self.guarded.tell(changes, reason);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let waited = self.sent.elapsed();
        self.land(&if waited >= self.deadline / 2 {
            Outcome::Failed(ProviderError::TimedOut { waited }.to_string().into())
        } else {
            Outcome::Neither
        });
    }
}

#[async_trait]
impl SandboxProvider for Guarded {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError> {
        let request = Request::Create { image: spec.image.as_ref() };
        self.watch(request, self.deadlines.create, self.inner.create(spec)).await
    }

    async fn find(&self, id: &SandboxId) -> Result<Option<Sandbox>, ProviderError> {
        self.inner.find(id).await
    }

    async fn list(&self, owner: &OwnerId) -> Result<Vec<Sandbox>, ProviderError> {
        self.inner.list(owner).await
    }

    fn hand(&self, id: &SandboxId) -> Arc<dyn Hand> {
        self.inner.hand(id)
    }

    async fn standby(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.inner.standby(id).await
    }

    async fn resume(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.watch(Request::Resume, self.deadlines.provider, self.inner.resume(id)).await
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, ProviderError> {
        self.inner.usage(id).await
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.inner.delete(id).await
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use tokio::sync::broadcast::Receiver;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::fault::FaultClass;
    use crate::testing::{FakeProvider, Strike};

    const SECOND: Duration = Duration::from_secs(1);

    struct Stage {
        provider: Arc<FakeProvider>,
        guarded: Guarded,
        notices: Receiver<Notice>,
        made: std::cell::Cell<u32>,
    }

    impl Stage {
        fn new() -> Self {
            let (provider, notices) = (Arc::new(FakeProvider::new()), Notices::new());
            let subscribed = notices.subscribe();
            let (policy, deadlines) = (Policy::default(), Deadlines::default());
            let rng = SmallRng::seed_from_u64(1);
            let guarded = Guarded::new(Arc::clone(&provider) as _, policy, deadlines, notices, rng);
            Self { provider, guarded, notices: subscribed, made: 0.into() }
        }

        fn fails(&self, operation: &'static str, times: usize) {
            for _ in 0..times {
                let error = ProviderError::Unavailable { what: "no".to_owned(), source: "down".into() };
                self.provider.faults.next(operation, Strike::Fail(error));
            }
        }

        async fn create(&self, image: Option<&str>) -> Result<Sandbox, ProviderError> {
            self.made.set(self.made.get() + 1);
            let spec = SandboxSpec {
                id: format!("sandbox-{}", self.made.get()).into(),
                owner: OwnerId::new("test"),
                session: None,
                image: image.map(Arc::from),
                limits: Default::default(),
                files_of: None,
            };
            self.guarded.create(&spec).await
        }

        /// The changes told so far, as operation, image and state.
        fn told(&mut self) -> Vec<String> {
            let told =
                std::iter::from_fn(|| self.notices.try_recv().ok()).filter_map(|notice| match notice {
                    Notice::Circuit { operation, image, to, .. } => {
                        Some(format!("{operation} {} {to}", image.as_deref().unwrap_or("all")))
                    }
                    _ => None,
                });
            told.collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_cannot_be_started_costs_no_other_image_anything() {
        let mut stage = Stage::new();
        stage.fails("create", 5);
        for _ in 0..5 {
            stage.create(Some("bad")).await.unwrap_err();
        }
        let refused = stage.create(Some("bad")).await.unwrap_err();
        assert!(matches!(refused, ProviderError::CircuitOpen { .. }), "{refused}");
        let fault = refused.fault();
        assert_eq!(fault.class, FaultClass::Throttled);
        assert!(fault.retry_after.is_some_and(|after| (SECOND / 2..=SECOND).contains(&after)), "{fault:?}");
        assert!(fault.message.contains("to start sandboxes of image `bad`"), "{fault}");
        stage.create(Some("good")).await.unwrap();
        stage.create(None).await.unwrap();
        assert_eq!(stage.provider.count("create"), 7);
        sleep(SECOND).await;
        stage.create(Some("bad")).await.unwrap();
        assert_eq!(stage.told(), ["create bad open", "create bad half_open", "create bad closed"]);
        assert_eq!(stage.guarded.view().len(), 2, "one that works is not watched any more");
    }

    #[tokio::test(start_paused = true)]
    async fn everything_but_creates_and_resumes_passes() {
        let mut stage = Stage::new();
        let sandbox = stage.create(None).await.unwrap();
        stage.fails("create", 5);
        stage.fails("resume", 5);
        for _ in 0..5 {
            stage.create(None).await.unwrap_err();
            stage.guarded.resume(&sandbox.id).await.unwrap_err();
        }
        assert_eq!(stage.told(), ["create all open", "resume all open"]);
        let refused = stage.guarded.resume(&sandbox.id).await.unwrap_err();
        assert!(matches!(refused, ProviderError::CircuitOpen { .. }), "{refused}");
        stage.guarded.standby(&sandbox.id).await.unwrap();
        stage.guarded.usage(&sandbox.id).await.unwrap();
        assert!(stage.guarded.find(&sandbox.id).await.unwrap().is_some());
        assert_eq!(stage.guarded.list(&OwnerId::new("test")).await.unwrap().len(), 1);
        stage.guarded.delete(&sandbox.id).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_has_failed_only_if_it_was_given_long_enough() {
        let mut stage = Stage::new();
        for patience in [1, 1, 1, 1, 1, 29] {
            stage.provider.faults.next("create", Strike::Hang);
            timeout(SECOND * patience, stage.create(None)).await.unwrap_err();
        }
        assert_eq!((stage.told(), stage.guarded.view()[0].failures), (vec![], 0));
        for _ in 0..5 {
            stage.provider.faults.next("create", Strike::Hang);
            timeout(SECOND * 60, stage.create(None)).await.unwrap_err();
        }
        assert_eq!(stage.told(), ["create all open"]);
        sleep(SECOND).await;
        stage.provider.faults.next("create", Strike::Hang);
        timeout(SECOND, stage.create(None)).await.unwrap_err();
        stage.create(None).await.unwrap();
        let expected = ["half_open", "open", "half_open", "closed"].map(|to| format!("create all {to}"));
        assert_eq!(stage.told(), expected, "a probe that nobody waits for makes room for the next");
    }
}

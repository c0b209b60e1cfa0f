//! Requests to the control plane on behalf of one sandbox: in their turn, and again if they fail in passing.

use std::future::Future;
use std::time::Duration;

use remuda_actors::backoff::Backoff;
use remuda_actors::fault::FaultClass;
use remuda_actors::ports::{ControlError, Outfit, WorkItem};
use tokio::time::{sleep, timeout};

/// Attempts at one request.
const ATTEMPTS: u32 = 4;

/// Time between them.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(4));

/// How long one answer may take, the body of the largest archive included.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks on behalf of one sandbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patient<'a>(&'a Outfit);

impl<'a> Patient<'a> {
    pub(super) fn new(outfit: &'a Outfit) -> Self {
        Self(outfit)
    }

    /// On whose credential.
    pub(super) fn item(&self) -> &'a WorkItem {
        &self.0.item
    }

    /// Asks for something, again if it fails in a way that may pass.
    pub(super) async fn ask<T, F>(&self, request: impl Fn() -> F) -> Result<T, ControlError>
    where
        F: Future<Output = Result<T, ControlError>>,
    {
        self.repeat(request, FaultClass::is_retryable).await
    }

    /// Has something changed, again only if the first request certainly changed nothing.
    pub(super) async fn tell<T, F>(&self, request: impl Fn() -> F) -> Result<T, ControlError>
    where
        F: Future<Output = Result<T, ControlError>>,
    {
        self.repeat(request, |class| matches!(class, FaultClass::Throttled)).await
    }

    async fn repeat<T, F>(
        &self,
        request: impl Fn() -> F,
        again: impl Fn(FaultClass) -> bool,
    ) -> Result<T, ControlError>
    where
        F: Future<Output = Result<T, ControlError>>,
    {
        for attempt in 1.. {
            let asked = async {
                self.0.turns.turn().await?;
                timeout(DEADLINE, request()).await.unwrap_or(Err(ControlError::TimedOut { waited: DEADLINE }))
            };
            let error = match asked.await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let fault = error.fault();
            if fault.class == FaultClass::Throttled {
                self.0.turns.throttled(fault.retry_after);
            }
            let settled = matches!(error, ControlError::Conflict { .. }) || !again(fault.class);
            if settled || attempt == ATTEMPTS {
                return Err(error);
            }
            let delay = BACKOFF.delay(attempt, fault.retry_after, &mut rand::rng());
            sleep(delay).await;
        }
        unreachable!("the last attempt returns")
    }
}

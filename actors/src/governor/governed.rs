//! A control plane whose every request waits for its turn.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Class, Governor};
use crate::event::Event;
use crate::ids::EnvironmentId;
use crate::ports::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, Session, Standing, StopMode,
    WorkItem,
};

/// Events on a page of a history: what the official workers ask for, and what each page is counted as.
const PAGE: usize = 1_000;

/// A control plane whose every request waits for its turn.
///
/// A poll takes its turn before it is made, for how old an offer may be counts from when it was asked for. Each
/// other call of the port counts as one request, with one exception: a history is read in pages, so when it
/// has come, its further pages are charged afterwards. Pages of a history that failed half-way are not
/// counted, nor is what an adapter does of its own accord.
///
/// # Cancel safety
/// As the port itself: a request that is dropped while it waits was not made, and gives its turn back.
pub(crate) struct Governed {
    inner: Arc<dyn ControlPlane>,
    governor: Arc<Governor>,
}

impl Governed {
    pub(crate) fn new(inner: Arc<dyn ControlPlane>, governor: Arc<Governor>) -> Self {
        Self { inner, governor }
    }

    async fn request<T>(
        &self,
        class: Class,
        request: impl Future<Output = Result<T, ControlError>> + Send,
    ) -> Result<T, ControlError> {
        self.governor.turn(class).await?;
        let answer = request.await;
        self.heed(class, &answer);
        answer
    }

    fn heed<T>(&self, class: Class, answer: &Result<T, ControlError>) {
        if let Err(ControlError::Throttled { retry_after }) = answer {
            self.governor.throttled(class, *retry_after);
        }
    }
}

#[async_trait]
impl ControlPlane for Governed {
    async fn poll(
        &self,
        environment: &EnvironmentId,
        block: Duration,
    ) -> Result<Option<WorkItem>, ControlError> {
        let answer = self.inner.poll(environment, block).await;
        self.heed(Class::Poll, &answer);
        answer
    }

    async fn ack(&self, item: &WorkItem) -> Result<(), ControlError> {
        self.request(Class::Lease, self.inner.ack(item)).await
    }

    async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        self.request(Class::Lease, self.inner.heartbeat(item, expected)).await
    }

    async fn stop(&self, item: &WorkItem, mode: StopMode) -> Result<(), ControlError> {
        self.request(Class::Result, self.inner.stop(item, mode)).await
    }

    async fn session(&self, item: &WorkItem) -> Result<Session, ControlError> {
        self.request(Class::Attach, self.inner.session(item)).await
    }

    async fn stream(&self, item: &WorkItem) -> Result<EventStream, ControlError> {
        self.request(Class::Attach, self.inner.stream(item)).await
    }

    async fn history(&self, item: &WorkItem) -> Result<Vec<Event>, ControlError> {
        let history = self.request(Class::Attach, self.inner.history(item)).await?;
        let further = history.len().saturating_sub(1) / PAGE;
        self.governor.charge(u32::try_from(further).unwrap_or(u32::MAX));
        Ok(history)
    }

    async fn post(&self, item: &WorkItem, answer: &Answer) -> Result<(), ControlError> {
        self.request(Class::Result, self.inner.post(item, answer)).await
    }

    async fn standing(&self, item: &WorkItem) -> Result<Standing, ControlError> {
        self.request(Class::Attach, self.inner.standing(item)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governor::Policy;
    use crate::notice::Notices;
    use crate::testing::{Brain, FakeControl};

    #[tokio::test(start_paused = true)]
    async fn a_history_is_charged_by_its_pages_and_everything_else_as_one() {
        let control = Arc::new(FakeControl::new(Duration::from_secs(120)));
        control.queue("env_1", "sesn_1", "work_1", Brain::new());
        // Two events are there already: this makes three pages.
        for _ in 0..2_500 {
            control.emit("sesn_1", Event::Activity);
        }
        let governor = Arc::new(Governor::new(Policy::default(), Notices::new()));
        let governed = Governed::new(control, Arc::clone(&governor));
        let left = || governor.view().tokens.unwrap();
        let full = left();
        governor.turn(Class::Poll).await.unwrap();
        let item = governed.poll(&"env_1".into(), Duration::ZERO).await.unwrap().unwrap();
        governed.ack(&item).await.unwrap();
        governed.heartbeat(&item, None).await.unwrap();
        governed.session(&item).await.unwrap();
        let _stream = governed.stream(&item).await.unwrap();
        assert_eq!(full - left(), 5);
        assert_eq!(governed.history(&item).await.unwrap().len(), 2_502);
        assert_eq!(full - left(), 5 + 3);
        governed.stop(&item, StopMode::Force).await.unwrap();
        assert_eq!(full - left(), 5 + 3 + 1);
    }
}

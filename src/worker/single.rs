//! A queue of one item, which somebody else has claimed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use remuda_actors::event::Event;
use remuda_actors::ids::EnvironmentId;
use remuda_actors::ports::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, Session, StopMode, WorkItem,
};

/// A control plane whose queue has one item, acknowledged by whoever polled it. Everything else goes to the real one.
#[derive(Debug)]
pub struct SingleItem<C> {
    inner: C,
    item: WorkItem,
    is_taken: AtomicBool,
}

impl<C> SingleItem<C> {
    /// A queue of this item.
    pub fn new(inner: C, item: WorkItem) -> Self {
        Self { inner, item, is_taken: AtomicBool::new(false) }
    }
}

#[async_trait]
impl<C: ControlPlane> ControlPlane for SingleItem<C> {
    async fn poll(&self, _: &EnvironmentId, block: Duration) -> Result<Option<WorkItem>, ControlError> {
        if !self.is_taken.swap(true, Ordering::AcqRel) {
            return Ok(Some(self.item.clone()));
        }
        tokio::time::sleep(block).await;
        Ok(None)
    }

    async fn ack(&self, _: &WorkItem) -> Result<(), ControlError> {
        Ok(())
    }

    async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        self.inner.heartbeat(item, expected).await
    }

    async fn stop(&self, item: &WorkItem, mode: StopMode) -> Result<(), ControlError> {
        self.inner.stop(item, mode).await
    }

    async fn session(&self, item: &WorkItem) -> Result<Session, ControlError> {
        self.inner.session(item).await
    }

    async fn stream(&self, item: &WorkItem) -> Result<EventStream, ControlError> {
        self.inner.stream(item).await
    }

    async fn history(&self, item: &WorkItem) -> Result<Vec<Event>, ControlError> {
        self.inner.history(item).await
    }

    async fn post(&self, item: &WorkItem, answer: &Answer) -> Result<(), ControlError> {
        self.inner.post(item, answer).await
    }
}

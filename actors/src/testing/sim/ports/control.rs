//! The control plane as one process reaches it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::stream;
use crate::event::Event;
use crate::ids::EnvironmentId;
use crate::ports::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, Session, StopMode, WorkItem,
};
use crate::testing::sim::Operation;
use crate::testing::sim::fate::{Failure, Fate};
use crate::testing::sim::life::{About, Life};
use crate::testing::sim::trace::Weight;
use crate::testing::{FakeControl, Stage};

pub(super) struct Control(pub(super) Arc<Life>);

impl Control {
    async fn ask<T, F>(
        &self,
        operation: Operation,
        item: &WorkItem,
        effect: impl Fn(Arc<FakeControl>, WorkItem) -> F,
    ) -> Result<T, ControlError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        let about = About { operation, subject: item.id.as_str(), call: None };
        let control = &self.0.world.control;
        self.0.ask(about, Failure::control, || effect(Arc::clone(control), item.clone())).await
    }
}

#[async_trait]
impl ControlPlane for Control {
    async fn poll(
        &self,
        environment: &EnvironmentId,
        block: Duration,
    ) -> Result<Option<WorkItem>, ControlError> {
        let life = &self.0;
        life.alive().await;
        let about = About { operation: Operation::Poll, subject: "", call: None };
        let decided = life.decide(about);
        // One that has ended is gone.
        let is_live = |item: &WorkItem| {
            life.world.control.stage(item.id.as_str()).is_some_and(|stage| stage != Stage::Stopped)
        };
        let again = if decided.fate == Fate::Repeat { life.offered().filter(is_live) } else { None };
        let polled = life.undergo(about, decided, Failure::control, || {
            let (control, environment) = (Arc::clone(&life.world.control), environment.clone());
            let again = again.clone();
            async move {
                match again {
                    Some(item) => Ok(Some(item)),
                    None => control.poll(&environment, block).await,
                }
            }
        });
        let item = polled.await?;
        if let Some(item) = &item {
            life.offer(item.clone());
            life.world.note(Weight::Step, Some(life.host.index), format_args!("is offered {}", item.id));
        }
        Ok(item)
    }

    async fn ack(&self, item: &WorkItem) -> Result<(), ControlError> {
        self.ask(Operation::Ack, item, |control, item| async move { control.ack(&item).await }).await?;
        let life = &self.0;
        let until = Instant::now() + life.world.setup.settings.session.lease.initial_ttl;
        life.world.watch(|watch, _| watch.acked(life.host.index, item, until));
        Ok(())
    }

    async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        let (life, sent) = (&self.0, Instant::now());
        let (host, number) = (life.host.index, life.number);
        let unanswered = life.world.watch(|watch, _| watch.beating(host, number, &item.id));
        let beat = self.ask(Operation::Heartbeat, item, |control, item| {
            let (world, expected) = (Arc::clone(&life.world), expected.cloned());
            async move {
                let beat = control.heartbeat(&item, expected.as_ref()).await?;
                if beat.extended {
                    world.watch(|watch, _| watch.extended(host, &item.id));
                }
                Ok(beat)
            }
        });
        let beat = beat.await;
        life.world.watch(|watch, _| match &beat {
            Ok(beat) => {
                watch.beat_heard(host, number, &item.id);
                if beat.extended {
                    watch.beaten(host, item, sent + beat.ttl);
                }
            }
            Err(ControlError::PreconditionFailed { .. }) => {
                watch.beat_heard(host, number, &item.id);
                watch.told_lost(host, &item.id, unanswered);
            }
            Err(_) => {}
        });
        beat
    }

    async fn stop(&self, item: &WorkItem, mode: StopMode) -> Result<(), ControlError> {
        let life = &self.0;
        life.alive().await;
        let session = item.session().map_or("", crate::ids::SessionId::as_str);
        let awaited = life.world.control.awaited(session);
        life.world.watch(|watch, findings| {
            watch.acts(life.host.index, item, "stops it", findings);
            watch.ends(life.host.index, item, &awaited, findings);
        });
        let host = life.host.index;
        let stopped = self.ask(Operation::Stop, item, |control, item| {
            let life = Arc::clone(life);
            async move {
                life.world.watch(|watch, _| watch.stopping(host, &item.id, life.is_dead()));
                control.stop(&item, mode).await
            }
        });
        let stopped = stopped.await;
        if stopped.is_ok() {
            life.world.note(Weight::Step, Some(life.host.index), format_args!("has stopped {}", item.id));
        }
        stopped
    }

    async fn session(&self, item: &WorkItem) -> Result<Session, ControlError> {
        self.ask(Operation::Session, item, |control, item| async move { control.session(&item).await }).await
    }

    async fn stream(&self, item: &WorkItem) -> Result<EventStream, ControlError> {
        let opened =
            self.ask(Operation::Stream, item, |control, item| async move { control.stream(&item).await });
        Ok(stream::rough(Arc::clone(&self.0), item.id.clone(), opened.await?))
    }

    async fn history(&self, item: &WorkItem) -> Result<Vec<Event>, ControlError> {
        self.ask(Operation::History, item, |control, item| async move { control.history(&item).await }).await
    }

    async fn post(&self, item: &WorkItem, answer: &Answer) -> Result<(), ControlError> {
        let life = &self.0;
        life.alive().await;
        let (host, number) = (life.host.index, life.number);
        life.world.watch(|watch, findings| {
            watch.acts(host, item, &format!("answers {}", answer.call), findings);
            watch.posting((host, number), answer, findings);
        });
        let about = About { operation: Operation::Post, subject: item.id.as_str(), call: Some(&answer.call) };
        let posted = life.ask(about, Failure::control, || {
            let (control, item, answer) = (Arc::clone(&life.world.control), item.clone(), answer.clone());
            async move { control.post(&item, &answer).await }
        });
        let posted = posted.await;
        life.world.watch(|watch, _| watch.posted((host, number), &answer.call, &posted));
        posted
    }
}

/// The item that was offered last.
#[derive(Debug, Default)]
pub(in crate::testing::sim) struct Offered(Mutex<Option<WorkItem>>);

impl Life {
    fn offer(&self, item: WorkItem) {
        *self.offered.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(item);
    }

    fn offered(&self) -> Option<WorkItem> {
        self.offered.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

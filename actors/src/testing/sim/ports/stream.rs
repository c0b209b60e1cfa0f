//! A session's live events on a bad line.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};

use crate::event::Event;
use crate::ids::WorkId;
use crate::ports::{ControlError, EventStream};
use crate::testing::sim::Operation;
use crate::testing::sim::fate::Fate;
use crate::testing::sim::life::{About, Life};

struct Line {
    life: Arc<Life>,
    work: WorkId,
    inner: EventStream,
    /// Events that are here already.
    ready: VecDeque<Event>,
    /// One that comes after the next.
    held: Option<Event>,
    broken: bool,
}

/// The same events, of which some come twice, late or never, after which the stream breaks.
pub(super) fn rough(life: Arc<Life>, work: WorkId, inner: EventStream) -> EventStream {
    let line = Line { life, work, inner, ready: VecDeque::new(), held: None, broken: false };
    Box::pin(futures_util::stream::unfold(line, |mut line| async move {
        let next = line.next().await?;
        Some((next, line))
    }))
}

impl Line {
    async fn next(&mut self) -> Option<Result<Event, ControlError>> {
        loop {
            self.life.alive().await;
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.broken {
                return None;
            }
            // What is held back waits for the next event, but not for ever.
            let event = match self.held.take() {
                None => self.inner.next().await,
                Some(held) => {
                    match self.inner.next().now_or_never() {
                        Some(Some(Ok(next))) => self.ready.extend([next, held]),
                        Some(_) => (self.broken, self.ready) = (true, VecDeque::from([held])),
                        None => self.ready.push_back(held),
                    }
                    continue;
                }
            };
            self.life.alive().await;
            let event = match event {
                Some(Ok(event)) => event,
                other => {
                    self.broken = true;
                    return other;
                }
            };
            if !self.life.heard().await {
                self.broken = true;
                return Some(Err(ControlError::Broken("the line was down".into())));
            }
            let about = About { operation: Operation::Event, subject: self.work.as_str(), call: None };
            match self.life.decide(about).fate {
                Fate::Repeat => self.ready.extend([event.clone(), event]),
                Fate::Swap => self.held = Some(event),
                Fate::Cut => {
                    self.broken = true;
                    return Some(Err(ControlError::Broken("injected".into())));
                }
                Fate::Slow(time) => {
                    tokio::time::sleep(time).await;
                    self.ready.push_back(event);
                }
                _ => self.ready.push_back(event),
            }
        }
    }
}

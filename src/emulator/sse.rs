//! The body of an event stream: frames as they come, pings in silence, and what fault rules do to it.
//!
//! The follower is registered before the response exists, so an event between the head and a client's first
//! listing is in one of the two. A stream ends when its session is deleted, when it lags too far behind, or
//! when a rule cuts it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use remuda_actors::ids::{SessionId, ThreadId};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::events::Item;
use super::world::Shared;

/// A named frame that clients drop.
const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// What a rule does to one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Tampering {
    /// Ends the stream after this many frames, pings not counted.
    pub(super) cut_after: Option<usize>,
    /// Bytes to send once this many frames went out.
    pub(super) inject: Vec<(usize, Bytes)>,
    /// How often each frame is sent.
    pub(super) copies: Copies,
}

/// How often each frame is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Copies {
    /// Once.
    #[default]
    One,
    /// Twice.
    Two,
}

/// Takes a follower out of its log when its stream is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) shared: Arc<Shared>,
    pub(super) session: SessionId,
    pub(super) thread: Option<ThreadId>,
    pub(super) follower: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.with(|world| {
            if let Some(session) = world.sessions.get_mut(&self.session) {
                session.unfollow(self.thread.as_ref(), self.follower);
            }
        });
    }
}

/// The body of one stream.
#[derive(Debug)]
pub(super) struct EventStream {
    items: mpsc::Receiver<Item>,
    ping: Interval,
    tampering: Tampering,
    /// Frames of the log sent so far.
    sent: usize,
    /// Frames to send before the next item.
    queued: VecDeque<Bytes>,
    _registration: Registration,
}

impl EventStream {
    pub(super) fn new(
        items: mpsc::Receiver<Item>,
        ping: Duration,
        tampering: Tampering,
        registration: Registration,
    ) -> Self {
        let mut ping = interval_at(tokio::time::Instant::now() + ping, ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stream =
            Self { items, ping, tampering, sent: 0, queued: VecDeque::new(), _registration: registration };
        stream.inject();
        stream
    }

    /// Queues what a rule wants sent at this point.
    fn inject(&mut self) {
        let due = self.tampering.inject.iter().filter(|(after, _)| *after == self.sent);
        self.queued.extend(due.map(|(_, bytes)| bytes.clone()));
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if let Some(bytes) = this.queued.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if this.tampering.cut_after == Some(this.sent) {
            return Poll::Ready(None);
        }
        match this.items.poll_recv(context) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Item::Raw(bytes))) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(Some(Item::Event(event))) => {
                this.sent += 1;
                if this.tampering.copies == Copies::Two {
                    this.queued.push_back(event.frame().clone());
                }
                this.inject();
                this.ping.reset();
                return Poll::Ready(Some(Ok(Frame::data(event.frame().clone()))));
            }
            Poll::Pending => {}
        }
        match this.ping.poll_tick(context) {
            Poll::Ready(_) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PING))))),
            Poll::Pending => Poll::Pending,
        }
    }
}

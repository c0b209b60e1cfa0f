//! Events, the log that keeps them, and those who follow it.
//!
//! An event is rendered once, as the frame a stream sends; its JSON is a slice of that frame, and everybody
//! who reads it shares the bytes. Appending costs one bounded, non-blocking send per follower of that log and
//! nothing per follower of any other.
//!
//! # Invariants
//! - A log holds at most its capacity; the oldest events go first, and positions stay what they were.
//! - A follower that lags further behind than its buffer is cut off. It is told by the end of its stream.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::clock::rfc3339;

/// One event as it was sent and stored.
#[derive(Clone, Debug)]
pub struct Event {
    id: Arc<str>,
    kind: Cow<'static, str>,
    processed_at: Option<Timestamp>,
    frame: Bytes,
}

impl Event {
    /// Renders an event. `fields` are those beside `id`, `type` and `processed_at`.
    pub(super) fn new(
        id: impl Into<Arc<str>>,
        kind: impl Into<Cow<'static, str>>,
        processed_at: Option<Timestamp>,
        mut fields: Map<String, Value>,
    ) -> Self {
        let (id, kind) = (id.into(), kind.into());
        fields.insert("id".into(), Value::from(&*id));
        fields.insert("type".into(), Value::from(&*kind));
        fields.insert("processed_at".into(), processed_at.map(rfc3339).into());
        let frame = frame(&kind, &Value::Object(fields));
        Self { id, kind, processed_at, frame }
    }

    /// Its id, `sevt_…`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its type, such as `agent.tool_use`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its JSON text.
    pub fn json(&self) -> &[u8] {
        let start = "event: ".len() + self.kind.len() + "\ndata: ".len();
        &self.frame[start..self.frame.len() - "\n\n".len()]
    }

    /// Its JSON, parsed.
    pub fn value(&self) -> Value {
        serde_json::from_slice(self.json()).unwrap_or_default()
    }

    /// When the agent took notice of it; none while it is queued.
    pub(super) fn processed_at(&self) -> Option<Timestamp> {
        self.processed_at
    }

    /// The frame a stream sends for it.
    pub(super) fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The same event once the agent has taken notice of it.
    pub(super) fn processed(&self, at: Timestamp) -> Self {
        let fields = match self.value() {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Self::new(Arc::clone(&self.id), self.kind.clone(), Some(at), fields)
    }
}

/// A server-sent event: its name and one line of JSON, which never contains a line break.
fn frame(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// What a follower receives.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// An event of the log.
    Event(Arc<Event>),
    /// Bytes to send as they are: previews, and what fault rules make up.
    Raw(Bytes),
}

/// Someone who follows a log.
#[derive(Debug)]
struct Follower {
    id: u64,
    sender: mpsc::Sender<Item>,
    previews: Previews,
}

/// Whether a stream asked for `event_start` and `event_delta` frames of agent messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Previews {
    /// It did not.
    Off,
    /// It did.
    Messages,
}

/// The events of one thread, and its followers.
#[derive(Debug)]
pub(super) struct EventLog {
    events: VecDeque<Arc<Event>>,
    /// Events forgotten so far: the position of the oldest one kept.
    forgotten: usize,
    capacity: usize,
    followers: Vec<Follower>,
    next_follower: u64,
}

impl EventLog {
    pub(super) fn new(capacity: usize) -> Self {
        let (events, followers) = (VecDeque::new(), Vec::new());
        Self { events, forgotten: 0, capacity, followers, next_follower: 0 }
    }

    /// Appends `event` and hands it to every follower.
    pub(super) fn append(&mut self, event: Arc<Event>) {
        if self.events.len() == self.capacity {
            self.events.pop_front();
            self.forgotten += 1;
        }
        self.events.push_back(Arc::clone(&event));
        let mut previews = None;
        self.followers.retain(|follower| {
            if follower.previews == Previews::Messages && event.kind == "agent.message" {
                let previews = previews.get_or_insert_with(|| preview(&event));
                for frame in previews.iter() {
                    if follower.sender.try_send(Item::Raw(frame.clone())).is_err() {
                        return false;
                    }
                }
            }
            follower.sender.try_send(Item::Event(Arc::clone(&event))).is_ok()
        });
    }

    /// Sends bytes to every follower without keeping them.
    pub(super) fn send_raw(&mut self, bytes: &Bytes) {
        self.followers.retain(|follower| follower.sender.try_send(Item::Raw(bytes.clone())).is_ok());
    }

    /// Ends every stream.
    pub(super) fn cut(&mut self) {
        self.followers.clear();
    }

    /// Follows the log from its next event on, at most `buffer` items behind.
    pub(super) fn follow(&mut self, buffer: usize, previews: Previews) -> (u64, mpsc::Receiver<Item>) {
        let (sender, receiver) = mpsc::channel(buffer);
        let id = self.next_follower;
        self.next_follower += 1;
        self.followers.push(Follower { id, sender, previews });
        (id, receiver)
    }

    /// Ends one follower's stream.
    pub(super) fn unfollow(&mut self, id: u64) {
        self.followers.retain(|follower| follower.id != id);
    }

    /// How many follow it now.
    pub(super) fn followers(&self) -> usize {
        self.followers.len()
    }

    /// Every event kept, oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        self.events.iter()
    }

    /// The event at an absolute position, and the first and last positions there are.
    pub(super) fn get(&self, position: usize) -> Option<&Arc<Event>> {
        self.events.get(position.checked_sub(self.forgotten)?)
    }

    /// Positions kept: from the first, up to but without the last.
    pub(super) fn positions(&self) -> std::ops::Range<usize> {
        self.forgotten..self.forgotten + self.events.len()
    }
}

/// The frames that announce an agent message to those who asked for previews: a start, and one delta for
/// each block. They have no id and no time of their own.
fn preview(event: &Event) -> Vec<Bytes> {
    let start = json!({"type": "event_start", "event": {"type": event.kind(), "id": event.id()}});
    let mut frames = vec![frame("event_start", &start)];
    let value = event.value();
    for (index, block) in value["content"].as_array().into_iter().flatten().enumerate() {
        let delta = json!({
            "type": "event_delta",
            "event_id": event.id(),
            "delta": {"type": "content_delta", "index": index, "content": block},
        });
        frames.push(frame("event_delta", &delta));
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize) -> Arc<Event> {
        let fields = Map::from_iter([("content".to_owned(), json!([{"type": "text", "text": "a\nb"}]))]);
        Arc::new(Event::new(format!("sevt_{n}"), "agent.message", Some(Timestamp::UNIX_EPOCH), fields))
    }

    #[test]
    fn a_frame_is_named_and_its_json_is_one_line() {
        let event = event(1);
        let frame = std::str::from_utf8(event.frame()).unwrap();
        let lines: Vec<&str> = frame.split('\n').collect();
        assert_eq!(lines[0], "event: agent.message");
        assert!(lines[1].starts_with("data: {"), "{frame}");
        assert_eq!(lines[2..], ["", ""]);
        assert_eq!(event.value()["content"][0]["text"], "a\nb");
        assert_eq!(event.value()["processed_at"], "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_full_log_forgets_its_oldest_events_and_keeps_positions() {
        let mut log = EventLog::new(2);
        for n in 0..5 {
            log.append(event(n));
        }
        assert_eq!(log.positions(), 3..5);
        assert!(log.get(2).is_none());
        assert_eq!(log.get(3).unwrap().id(), "sevt_3");
    }

    #[test]
    fn a_follower_that_lags_too_far_behind_is_cut() {
        let mut log = EventLog::new(10);
        let (_, mut slow) = log.follow(2, Previews::Off);
        for n in 0..3 {
            log.append(event(n));
        }
        assert_eq!(log.followers(), 0);
        let received = std::iter::from_fn(|| slow.try_recv().ok()).count();
        assert_eq!(received, 2);
    }

    #[test]
    fn previews_come_before_the_message_and_only_to_those_who_asked() {
        let mut log = EventLog::new(10);
        let (_, mut plain) = log.follow(9, Previews::Off);
        let (_, mut eager) = log.follow(9, Previews::Messages);
        log.append(event(1));
        assert!(matches!(plain.try_recv(), Ok(Item::Event(_))));
        for name in ["event_start", "event_delta"] {
            let Ok(Item::Raw(frame)) = eager.try_recv() else { panic!("no {name}") };
            assert!(frame.starts_with(format!("event: {name}\n").as_bytes()), "{frame:?}");
        }
        assert!(matches!(eager.try_recv(), Ok(Item::Event(_))));
    }
}

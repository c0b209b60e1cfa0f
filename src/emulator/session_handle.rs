//! A session as an in-process test holds it: look at it, wait for it, play the model or a client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use remuda_actors::ids::{CallId, EnvironmentId, SessionId, ThreadId, WorkId};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::EmulatorError;
use super::events::{Event, Item, Previews};
use super::http::ApiError;
use super::scenario::Verdict;
use super::session::{CallRequest, Moment, Resolved, Session, Status, StopReason, Timing, parse};
use super::transcript::{Entry, transcript};
use super::world::{Shared, World};

/// One session. Cheap to clone; it does not keep the session alive.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    shared: Arc<Shared>,
    id: SessionId,
}

/// The events of a session from one moment on.
#[derive(Debug)]
pub struct Subscription(mpsc::Receiver<Item>);

impl Subscription {
    /// The next event. None once the session is deleted, its streams are cut, or this lags too far behind.
    ///
    /// # Cancel safety
    /// Safe; no event is lost.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            if let Item::Event(event) = self.0.recv().await? {
                return Some(event);
            }
        }
    }
}

impl SessionHandle {
    pub(super) fn new(shared: Arc<Shared>, id: SessionId) -> Self {
        Self { shared, id }
    }

    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Its status on the wire; none if it is deleted.
    pub fn status(&self) -> Option<&'static str> {
        self.look(|session| session.status.name())
    }

    /// Its work item, if one is queued or held.
    pub fn live_work(&self) -> Option<WorkId> {
        self.look(|session| session.live_work.clone()).flatten()
    }

    /// How many streams follow its primary thread.
    pub fn followers(&self) -> usize {
        self.look(|session| session.primary.log.followers()).unwrap_or_default()
    }

    /// When what happened to it; none if it never existed.
    pub fn timing(&self) -> Option<Timing> {
        self.look_anywhere(|session| session.timing.clone())
    }

    /// How its scenario goes; none if it has none.
    pub fn verdict(&self) -> Option<Verdict> {
        self.look_anywhere(|session| session.brain.verdict().cloned()).flatten()
    }

    /// Its events so far, oldest first.
    pub fn events(&self) -> Vec<Arc<Event>> {
        self.look_anywhere(|session| session.primary.log.iter().cloned().collect()).unwrap_or_default()
    }

    /// What was said and done, without ids, times and statuses, so that two workers can be compared.
    /// `replace` is put in for texts that differ by nature, such as the working directory.
    pub fn transcript(&self, replace: &[(&str, &str)]) -> Vec<Entry> {
        transcript(&self.events(), replace)
    }

    /// Follows its events from now on.
    pub fn subscribe(&self) -> Option<Subscription> {
        let buffer = self.shared.options.stream_buffer;
        self.shared.with(|world| {
            let session = world.sessions.get_mut(&self.id)?;
            Some(Subscription(session.follow(None, buffer, Previews::Off)?.1))
        })
    }

    /// Waits until its scenario has come to its end. None after `within`.
    ///
    /// # Cancel safety
    /// Safe, as every wait of a handle is: waiting changes nothing.
    pub async fn wait_verdict(&self, within: Duration) -> Option<Verdict> {
        self.wait(within, |session| session.brain.verdict().filter(|verdict| verdict.is_final()).cloned())
            .await
    }

    /// Waits until its turn is over and no message waits. None after `within`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_idle(&self, within: Duration) -> Option<()> {
        let idle = |session: &Session| {
            let over = matches!(session.status, Status::Resting | Status::Terminated);
            (over && session.queued.is_empty() && session.turns > 0).then_some(())
        };
        self.wait(within, idle).await
    }

    /// Waits until a call is resolved. None after `within`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_resolved(&self, call: &CallId, within: Duration) -> Option<Resolved> {
        let found =
            |session: &Session| session.calls.iter().find(|known| known.id == *call)?.resolved.clone();
        self.wait(within, found).await
    }

    /// Waits until exactly `count` streams follow it. None after `within`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_followers(&self, count: usize, within: Duration) -> Option<()> {
        self.wait(within, |session| (session.primary.log.followers() == count).then_some(())).await
    }

    /// Waits until it has no work item, queued or held. None after `within`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_released(&self, within: Duration) -> Option<()> {
        self.wait(within, |session| session.live_work.is_none().then_some(())).await
    }

    /// Sends events as a client would.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] as the request would be.
    pub fn post(&self, events: &Value) -> Result<Vec<Arc<Event>>, EmulatorError> {
        let events = parse(events)?;
        Ok(self.shared.with(|world| world.post(&self.id, None, events))?)
    }

    /// Sends a `user.message`.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] as the request would be.
    pub fn message(&self, text: &str) -> Result<(), EmulatorError> {
        self.post(&json!([{"type": "user.message", "content": [{"type": "text", "text": text}]}])).map(drop)
    }

    /// Sends a `user.interrupt`.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] as the request would be.
    pub fn interrupt(&self) -> Result<(), EmulatorError> {
        self.post(&json!([{"type": "user.interrupt"}])).map(drop)
    }

    /// Confirms a call that asks.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] as the request would be.
    pub fn allow(&self, call: &CallId) -> Result<(), EmulatorError> {
        self.post(&json!([{"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"}]))
            .map(drop)
    }

    /// Denies a call that asks.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] as the request would be.
    pub fn deny(&self, call: &CallId) -> Result<(), EmulatorError> {
        self.post(&json!([{"type": "user.tool_confirmation", "tool_use_id": call, "result": "deny"}]))
            .map(drop)
    }

    /// Plays the model: says something.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn say(&self, text: &str) -> Result<(), EmulatorError> {
        let content = json!([{"type": "text", "text": text}]);
        self.act(|session, at| drop(session.emit(at, "agent.message", json!({"content": content}))))
    }

    /// Plays the model: appends any event.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn emit(&self, kind: &'static str, fields: Value) -> Result<String, EmulatorError> {
        self.act(|session, at| session.emit(at, kind, fields).id().to_owned())
    }

    /// Plays the model: makes calls at one moment and pauses if any of them waits for a client. Starts a turn
    /// if none runs.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn call(&self, requests: Vec<CallRequest>) -> Result<Vec<CallId>, EmulatorError> {
        self.act(|session, at| {
            let ids = requests.into_iter().map(|request| session.call(at, request)).collect();
            session.pause(at);
            ids
        })
    }

    /// Plays the model: ends the turn.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn rest(&self, reason: StopReason) -> Result<(), EmulatorError> {
        self.act(|session, at| session.rest(at, reason))
    }

    /// Plays the model: starts a child thread.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone or has too many threads.
    pub fn open_thread(&self, name: &str) -> Result<ThreadId, EmulatorError> {
        let id = self.act(|session, at| session.create_thread(at, name))?;
        id.ok_or_else(|| EmulatorError::Refused("the session has too many threads".into()))
    }

    /// Plays the model: says something on a child thread.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn say_on(&self, thread: &ThreadId, text: &str) -> Result<(), EmulatorError> {
        let content = json!([{"type": "text", "text": text}]);
        self.act(|session, at| session.emit_on(at, thread, "agent.message", json!({"content": content})))
    }

    /// Plays the model: terminates a child thread.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn close_thread(&self, thread: &ThreadId) -> Result<(), EmulatorError> {
        self.act(|session, at| session.terminate_thread(at, thread))
    }

    /// Terminates the session.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn terminate(&self) -> Result<(), EmulatorError> {
        self.act(|session, at| session.terminate(at))
    }

    /// Archives the session, as the request would.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if it is running or gone.
    pub fn archive(&self) -> Result<(), EmulatorError> {
        Ok(self.shared.with(|world| world.archive_session(&self.id)).map(drop)?)
    }

    /// Deletes the session, as the request would.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if it is running or gone.
    pub fn delete(&self) -> Result<(), EmulatorError> {
        Ok(self.shared.with(|world| world.delete_session(&self.id)).map(drop)?)
    }

    /// Stops its work item; its holder may finish unless `force`.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if it has none, or it is being stopped already.
    pub fn stop_work(&self, force: bool) -> Result<(), EmulatorError> {
        self.with_work(|world, environment, work| world.stop(environment, work, force))
    }

    /// Lapses the lease of its work item now.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if it has no work item.
    pub fn revoke_lease(&self) -> Result<(), EmulatorError> {
        self.with_work(World::revoke_lease)
    }

    /// Lets somebody else take over its work, who never beats again.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if it has no work item, or one nobody holds.
    pub fn usurp_lease(&self) -> Result<(), EmulatorError> {
        self.with_work(World::usurp)
    }

    /// Ends every stream that follows it.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn cut_streams(&self) -> Result<(), EmulatorError> {
        self.act(|session, _| session.primary.log.cut())
    }

    /// Sends bytes down every stream that follows it, as they are.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the session is gone.
    pub fn inject(&self, raw: impl Into<Bytes>) -> Result<(), EmulatorError> {
        let raw = raw.into();
        self.act(|session, _| session.primary.log.send_raw(&raw))
    }

    fn gone(&self) -> EmulatorError {
        EmulatorError::Refused(format!("there is no session {}", self.id))
    }

    fn act<R>(&self, deed: impl FnOnce(&mut Session, &mut Moment<'_>) -> R) -> Result<R, EmulatorError> {
        self.shared.with(|world| world.in_session(&self.id, deed)).ok_or_else(|| self.gone())
    }

    fn with_work(
        &self,
        deed: impl FnOnce(&mut World, &EnvironmentId, &WorkId) -> Result<(), ApiError>,
    ) -> Result<(), EmulatorError> {
        self.shared.with(|world| {
            let session = world.sessions.get(&self.id).ok_or_else(|| self.gone())?;
            let missing = || EmulatorError::Refused(format!("session {} has no work item", self.id));
            let (environment, work) =
                (session.environment.clone(), session.live_work.clone().ok_or_else(missing)?);
            Ok(deed(world, &environment, &work)?)
        })
    }

    fn look<R>(&self, probe: impl FnOnce(&Session) -> R) -> Option<R> {
        self.shared.with(|world| world.sessions.get(&self.id).map(probe))
    }

    fn look_anywhere<R>(&self, probe: impl FnOnce(&Session) -> R) -> Option<R> {
        self.shared.with(|world| world.session_or_buried(&self.id).map(probe))
    }

    async fn wait<R>(&self, within: Duration, probe: impl Fn(&Session) -> Option<R>) -> Option<R> {
        let until = Instant::now() + within;
        let changed = self.look_anywhere(|session| Arc::clone(&session.changed))?;
        loop {
            let mut notified = std::pin::pin!(changed.notified());
            // Registered before the look, so that no change falls between the two.
            notified.as_mut().enable();
            if let Some(found) = self.look_anywhere(&probe).flatten() {
                return Some(found);
            }
            timeout_at(until, notified).await.ok()?;
        }
    }
}

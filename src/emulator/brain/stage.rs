//! What a brain can do to its session during one turn.
//!
//! Every deed is refused with [`TurnOver`] once the turn is over, however it ended, so a brain that comes late
//! cannot reach into the next one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use remuda_actors::ids::{CallId, SessionId};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use crate::emulator::session::{Call, CallRequest, Moment, Resolved, Session, StopReason};
use crate::emulator::world::{Shared, World};

/// Input tokens claimed for each made-up model request.
const INPUT_TOKENS: u64 = 1200;

/// Characters a call counts for in the made-up usage.
const CALL_CHARACTERS: usize = 200;

/// The turn was interrupted, or the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TurnOver;

/// Why results did not all come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The turn is over.
    TurnOver,
    /// Time is up.
    TimedOut,
}

/// A brain's access to its session.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    shared: Arc<Shared>,
    session: SessionId,
    turn: u64,
    /// The open `span.model_request_start`, and the characters said since.
    span: Option<(String, usize)>,
}

impl Stage {
    pub(super) fn new(shared: Arc<Shared>, session: SessionId, turn: u64) -> Self {
        Self { shared, session, turn, span: None }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn session(&self) -> &SessionId {
        &self.session
    }

    /// Does something to the session at one moment, if the turn still runs.
    pub(super) fn act<R>(
        &self,
        deed: impl FnOnce(&mut Session, &mut Moment<'_>) -> R,
    ) -> Result<R, TurnOver> {
        let turn = self.turn;
        self.shared
            .with(|world| {
                world
                    .in_session(&self.session, |session, at| session.in_turn(turn).then(|| deed(session, at)))
            })
            .flatten()
            .ok_or(TurnOver)
    }

    /// Opens a model request if none is open.
    pub(super) fn think(&mut self) -> Result<(), TurnOver> {
        if self.span.is_none() {
            let start = self.act(|session, at| session.emit(at, "span.model_request_start", json!({})))?;
            self.span = Some((start.id().to_owned(), 0));
        }
        Ok(())
    }

    /// Closes the open model request.
    fn stop_thinking(span: Option<(String, usize)>, session: &mut Session, at: &mut Moment<'_>) {
        let Some((start, said)) = span else { return };
        // Four characters make a token, near enough.
        let output = said as u64 / 4 + 1;
        session.count_usage(INPUT_TOKENS, output);
        let usage = json!({
            "input_tokens": INPUT_TOKENS,
            "output_tokens": output,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0,
        });
        let fields = json!({"model_request_start_id": start, "is_error": false, "model_usage": usage});
        session.emit(at, "span.model_request_end", fields);
    }

    /// Says something.
    pub(super) fn say(&mut self, text: &str) -> Result<(), TurnOver> {
        self.think()?;
        if let Some((_, said)) = &mut self.span {
            *said += text.len();
        }
        let content = json!([{"type": "text", "text": text}]);
        self.act(|session, at| session.emit(at, "agent.message", json!({"content": content})))?;
        Ok(())
    }

    /// Lets time pass, or less if the turn ends before.
    pub(super) async fn wait(&self, time: Duration) -> Result<(), TurnOver> {
        let over = |session: &Session| (!session.in_turn(self.turn)).then_some(());
        match self.changes(Instant::now() + time, over).await {
            Err(Missing::TimedOut) => Ok(()),
            Ok(()) | Err(Missing::TurnOver) => Err(TurnOver),
        }
    }

    /// Emits calls at one moment and pauses the turn if any of them waits for a client.
    pub(super) fn call(&mut self, requests: Vec<CallRequest>) -> Result<Vec<CallId>, TurnOver> {
        self.think()?;
        if let Some((_, said)) = &mut self.span {
            *said += requests.len() * CALL_CHARACTERS;
        }
        let span = self.span.take();
        let ids = self.act(|session, at| {
            let ids: Vec<CallId> = requests.into_iter().map(|request| session.call(at, request)).collect();
            Self::stop_thinking(span, session, at);
            session.pause(at);
            ids
        })?;
        Ok(ids)
    }

    /// Waits until every call of `ids` is resolved.
    pub(super) async fn resolved(&self, ids: &[CallId], within: Duration) -> Result<Vec<Resolved>, Missing> {
        let all = |session: &Session| {
            let of = |id: &CallId| session.calls.iter().find(|call| call.id == *id)?.resolved.clone();
            let all: Option<Vec<Resolved>> = ids.iter().map(of).collect();
            match all {
                Some(all) => Some(Ok(all)),
                None if session.in_turn(self.turn) => None,
                None => Some(Err(Missing::TurnOver)),
            }
        };
        self.changes(Instant::now() + within, all).await?
    }

    /// The ids of calls that still wait.
    pub(super) fn pending(&self) -> Vec<CallId> {
        let pending = |session: &mut Session, _: &mut Moment<'_>| {
            session.calls.iter().filter(|call| Call::is_pending(call)).map(|call| call.id.clone()).collect()
        };
        self.act(pending).unwrap_or_default()
    }

    /// Ends the turn; `before` happens at the same moment, so that nobody sees one without the other.
    pub(super) fn rest(
        &mut self,
        reason: StopReason,
        before: impl FnOnce(&mut Session),
    ) -> Result<(), TurnOver> {
        let span = self.span.take();
        self.act(|session, at| {
            Self::stop_thinking(span, session, at);
            before(session);
            session.rest(at, reason);
        })
    }

    /// Lets time pass whatever becomes of the turn.
    pub(super) async fn sleep(&self, time: Duration) {
        if !time.is_zero() {
            sleep(time).await;
        }
    }

    /// Looks at the session now and after each change, until `probe` finds what it looks for.
    async fn changes<R>(&self, until: Instant, probe: impl Fn(&Session) -> Option<R>) -> Result<R, Missing> {
        let changed =
            |world: &mut World| world.sessions.get(&self.session).map(|found| Arc::clone(&found.changed));
        let changed = self.shared.with(changed).ok_or(Missing::TurnOver)?;
        loop {
            let mut notified = pin!(changed.notified());
            // Registered before the look, so that no change falls between the two.
            notified.as_mut().enable();
            match self.shared.with(|world| world.sessions.get(&self.session).map(&probe)) {
                None => return Err(Missing::TurnOver),
                Some(Some(found)) => return Ok(found),
                Some(None) => {}
            }
            if timeout_at(until, notified).await.is_err() {
                return Err(Missing::TimedOut);
            }
        }
    }
}

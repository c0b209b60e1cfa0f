//! The supervisor of all sessions.
//!
//! Starts one session actor per work item, starts it again on the same ledger entry when it fails, and gives
//! the item up when that happens too often. A supervisor that fails itself takes the sessions up again from
//! the ledger. It never lets one session's failures count against another's.
//!
//! # Invariants
//! - At most one incarnation of a session runs: a new one waits until the actors of the old one have stopped.
//! - At most one work item of a session is served: a newer one supersedes an older one and waits for its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, ActorStatus, RpcReplyPort, SupervisionEvent};
use rand::rngs::SmallRng;
use tokio::time::Instant;

use crate::context::{Context, control};
use crate::effects::{Crashed, Tasks};
use crate::event::CallKind;
use crate::fault::{Fault, FaultClass};
use crate::ids::{SessionId, WorkId};
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::ports::{Answer, Record, StopMode};
use crate::session::actor::{SessionActor, SessionMsg};
use crate::session::end::{End, Outcome};
use crate::session::signals;
use crate::supervision::{ActorKind, Budget, Verdict};
use crate::tool::ToolResult;
use crate::worker;
use crate::worker::actor::{BROKERED, WorkerActor, WorkerMsg, forget_workers, number_of};

/// What the supervisor of all sessions is told.
pub(crate) enum SessionsMsg {
    /// Serve this item, which has an entry in the ledger.
    Admit(WorkId),
    /// Start the item's session, or start it again.
    Start(WorkId),
    /// A given-up item has been let go of.
    LetGo(WorkId),
    /// Bring every session to an end; answered when none is left.
    End { how: Ending, reply: RpcReplyPort<()> },
    /// A task panicked.
    Crashed(String),
}

impl Crashed for SessionsMsg {
    fn crashed(what: String) -> Self {
        Self::Crashed(what)
    }
}

/// How sessions are brought to an end, from the gentlest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With the turn they are in.
    Drain,
    /// Now, and their items lapse to other workers.
    HandBack,
    /// With the calls that run, and the next process goes on.
    Leave,
    /// Now, and the next process goes on.
    LeaveNow,
}

impl Ending {
    fn event(self) -> signals::Event {
        match self {
            Self::Drain => signals::Event::Drain,
            Self::HandBack => signals::Event::HandBack,
            Self::Leave => signals::Event::Leave,
            Self::LeaveNow => signals::Event::LeaveNow,
        }
    }

    fn event_of_worker(self) -> worker::signals::Event {
        use worker::signals::Event;
        match self {
            Self::Drain => Event::Drain,
            Self::HandBack => Event::HandBack,
            Self::Leave => Event::Leave,
            Self::LeaveNow => Event::LeaveNow,
        }
    }
}

/// The supervisor of all sessions.
pub(crate) struct Sessions {
    pub(crate) context: Arc<Context>,
}

/// What it holds while it lives.
pub(crate) struct State {
    kids: BTreeMap<WorkId, Kid>,
    ids: BTreeMap<ActorId, WorkId>,
    tasks: Tasks<WorkId>,
    rng: SmallRng,
    ending: Option<Ending>,
    /// Who wants to know when no session is left.
    waiting: Vec<RpcReplyPort<()>>,
}

/// One item's session.
struct Kid {
    entry: Arc<Entry>,
    budget: Budget,
    actor: Option<Server>,
}

/// The actor that serves an item.
enum Server {
    /// The tree serves the session itself.
    Session(ActorRef<SessionMsg>),
    /// A worker of its own does, or it is being found out.
    Worker(ActorRef<WorkerMsg>),
}

impl Server {
    fn end(&self, how: Ending) {
        match self {
            Self::Session(actor) => drop(actor.cast(SessionMsg::Event(how.event()))),
            Self::Worker(actor) => drop(actor.cast(WorkerMsg::Event(how.event_of_worker()))),
        }
    }

    fn supersede(&self) {
        match self {
            Self::Session(actor) => drop(actor.cast(SessionMsg::Event(signals::Event::Supersede))),
            Self::Worker(actor) => drop(actor.cast(WorkerMsg::Event(worker::signals::Event::Supersede))),
        }
    }
}

impl Actor for Sessions {
    type Msg = SessionsMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<SessionsMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        for entry in self.context.ledger.all() {
            me.cast(SessionsMsg::Admit(entry.item.id.clone()))?;
        }
        Ok(State {
            kids: BTreeMap::new(),
            ids: BTreeMap::new(),
            tasks: Tasks::new(),
            rng: self.context.rng("sessions"),
            ending: None,
            waiting: Vec::new(),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<SessionsMsg>,
        msg: SessionsMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        #[cfg(any(test, feature = "test-util"))]
        self.context.strike(ActorKind::Sessions, msg.name())?;
        match msg {
            SessionsMsg::Admit(work) => self.admit(&me, work, state)?,
            SessionsMsg::Start(work) => Box::pin(self.start(&me, work, state)).await,
            SessionsMsg::LetGo(work) => self.forget(&me, &work, state),
            SessionsMsg::End { how, reply } => {
                state.ending = Some(how);
                state.waiting.push(reply);
                for actor in state.kids.values().filter_map(|kid| kid.actor.as_ref()) {
                    actor.end(how);
                }
                answer(state);
            }
            SessionsMsg::Crashed(what) => return Err(what.into()),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<SessionsMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (id, failure) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell.get_id(), Some(error.to_string())),
            SupervisionEvent::ActorTerminated(cell, _, reason) => (
                cell.get_id(),
                // A session stops by itself only when it is done.
                reason.filter(|reason| reason != "done"),
            ),
            _ => return Ok(()),
        };
        // One that is not known any more has a successor already.
        let Some(work) = state.ids.remove(&id) else { return Ok(()) };
        match failure {
            // The item is acknowledged, and a session's actor goes on from there.
            Some(cause) if cause == BROKERED => {
                if let Some(kid) = state.kids.get_mut(&work) {
                    kid.actor = None;
                    me.cast(SessionsMsg::Start(work))?;
                }
            }
            None => self.forget(&me, &work, state),
            Some(cause) => self.failed(&me, work, &cause, state),
        }
        Ok(())
    }
}

impl SessionsMsg {
    /// One word, for logs.
    #[cfg(any(test, feature = "test-util"))]
    fn name(&self) -> &'static str {
        match self {
            Self::Admit(_) => "admit",
            Self::Start(_) => "start",
            Self::LetGo(_) => "let_go",
            Self::End { .. } => "end",
            Self::Crashed(_) => "crashed",
        }
    }
}

impl Sessions {
    fn admit(
        &self,
        me: &ActorRef<SessionsMsg>,
        work: WorkId,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(entry) = self.context.ledger.get(&work) else { return Ok(()) };
        if state.kids.contains_key(&work) {
            return Ok(());
        }
        let (environment, session) = (entry.item.environment.clone(), entry.item.session().cloned());
        self.context.notices.publish(Notice::Claimed {
            work: work.clone(),
            environment,
            session: session.clone(),
        });
        let older = same_session(state, session.as_ref());
        let waits = !older.is_empty();
        let budget = Budget::new(self.context.settings.supervision.session);
        state.kids.insert(work.clone(), Kid { entry, budget, actor: None });
        if !waits {
            me.cast(SessionsMsg::Start(work))?;
        }
        // Otherwise it is started when the last older one has ended.
        for kid in older.iter().filter_map(|older| state.kids.get(older)) {
            match &kid.actor {
                Some(actor) => actor.supersede(),
                // It finds out when it is started again.
                None => kid.entry.set_end(End::Superseded),
            }
        }
        Ok(())
    }

    /// Starts the next incarnation, once the actors of the one before have stopped.
    async fn start(&self, me: &ActorRef<SessionsMsg>, work: WorkId, state: &mut State) {
        let Some(kid) = state.kids.get_mut(&work).filter(|kid| kid.actor.is_none()) else { return };
        state.tasks.clear(&work);
        let mut old = kid.entry.take_cells();
        old.retain(|cell| cell.get_status() != ActorStatus::Stopped);
        if !old.is_empty() {
            let (to, again, within) = (me.clone(), work.clone(), self.context.settings.supervision.kill);
            state.tasks.start(work, me, async move {
                for cell in old {
                    let _ = cell.kill_and_wait(Some(within)).await;
                }
                let _ = to.cast(SessionsMsg::Start(again));
            });
            return;
        }
        self.context.ledger.inherit(&kid.entry);
        let (context, entry, cell) = (Arc::clone(&self.context), Arc::clone(&kid.entry), me.get_cell());
        let started = match self.may_be_delegated(&kid.entry) {
            Some(session) => {
                let started = cell.spawn_linked(None, WorkerActor { context, entry, session }, ()).await;
                started.map(|(actor, _)| (actor.get_cell(), Server::Worker(actor)))
            }
            None => {
                let started = cell.spawn_linked(None, SessionActor { context, entry }, ()).await;
                started.map(|(actor, _)| (actor.get_cell(), Server::Session(actor)))
            }
        };
        match started {
            Ok((cell, server)) => {
                state.ids.insert(cell.get_id(), work);
                kid.entry.add_cell(cell);
                if let Some(how) = state.ending {
                    server.end(how);
                }
                kid.actor = Some(server);
            }
            Err(error) => self.failed(me, work, &error.to_string(), state),
        }
    }

    /// The session of an item that a worker of its own may have to serve.
    fn may_be_delegated(&self, entry: &Entry) -> Option<SessionId> {
        let router = self.context.settings.router.as_ref()?;
        let may_be = !entry.is_brokered() && router.may_delegate(&entry.item.environment);
        entry.item.session().filter(|_| may_be).cloned()
    }

    /// A session failed: start it again, or give its item up.
    fn failed(&self, me: &ActorRef<SessionsMsg>, work: WorkId, cause: &str, state: &mut State) {
        let Some(kid) = state.kids.get_mut(&work) else { return };
        let actor = match kid.actor.take() {
            Some(Server::Worker(_)) => ActorKind::Worker,
            Some(Server::Session(_)) | None => ActorKind::Session,
        };
        kid.entry.show(|view| view.restarts += 1);
        let verdict = kid.budget.spend(Instant::now());
        let restarted = matches!(verdict, Verdict::Restart(_));
        self.context.notices.publish(Notice::Failed { actor, restarted, cause: cause.into() });
        let policy = &self.context.settings.supervision;
        match verdict {
            Verdict::Restart(failures) => {
                let after = policy.backoff.delay(failures, None, &mut state.rng);
                state.tasks.arm(work.clone(), me, after, SessionsMsg::Start(work));
            }
            Verdict::GiveUp => {
                let message = format!("its actor failed too often: {cause}");
                kid.entry.set_end(End::Failed(Fault::new(FaultClass::Permanent, message)));
                let letting_go =
                    let_go(Arc::clone(&self.context), Arc::clone(&kid.entry), me.clone(), policy.kill);
                state.tasks.start(work, me, letting_go);
            }
        }
    }

    /// Nothing of an item is ours any more.
    fn forget(&self, me: &ActorRef<SessionsMsg>, work: &WorkId, state: &mut State) {
        let Some(kid) = state.kids.remove(work) else { return };
        state.tasks.clear(work);
        for forgotten in self.context.ledger.remove(work) {
            let (context, work) = (Arc::clone(&self.context), forgotten.clone());
            let ended = async move { context.note(&work, Record::Ended).await };
            state.tasks.start(forgotten, me, ended);
        }
        let session = kid.entry.item.session().cloned();
        let end = kid.entry.end();
        let outcome = end.as_ref().map_or(Outcome::Failed, End::outcome);
        match outcome {
            Outcome::HandedBack => drop(self.context.handed_back.fetch_add(1, Ordering::Relaxed)),
            Outcome::Left => drop(self.context.left.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        self.context.notices.publish(Notice::Ended {
            work: work.clone(),
            session: session.clone(),
            outcome,
            reason: end.map_or_else(|| "it left without a word".into(), |end| end.to_string().into()),
        });
        let waiting = same_session(state, session.as_ref());
        let idle = |work: &WorkId| state.kids.get(work).is_some_and(|kid| kid.actor.is_none());
        if waiting.iter().all(idle)
            && let Some(next) = waiting.into_iter().next()
        {
            let _ = me.cast(SessionsMsg::Start(next));
        }
        answer(state);
    }
}

/// The items of a session that are held now, in the order in which they came.
fn same_session(state: &State, session: Option<&SessionId>) -> Vec<WorkId> {
    let Some(session) = session else { return Vec::new() };
    let same = state.kids.values().filter(|kid| kid.entry.item.session() == Some(session));
    let mut same: Vec<_> = same.map(|kid| &kid.entry).collect();
    same.sort_by_key(|entry| entry.number);
    same.into_iter().map(|entry| entry.item.id.clone()).collect()
}

/// Answers who wants to know, once no session is left.
fn answer(state: &mut State) {
    if state.kids.is_empty() {
        for reply in state.waiting.drain(..) {
            let _ = reply.send(());
        }
    }
}

/// Lets go of an item whose session cannot be kept alive: once nothing of it runs any more, its calls are
/// answered and it is stopped, if it is still ours. What cannot be deleted here is left to the reaper.
async fn let_go(context: Arc<Context>, entry: Arc<Entry>, to: ActorRef<SessionsMsg>, within: Duration) {
    for cell in entry.take_cells() {
        let _ = cell.kill_and_wait(Some(within)).await;
    }
    let deadlines = &context.settings.deadlines;
    for sandbox in entry.sandboxes() {
        if let Err(error) = context.delete(&sandbox, entry.item.session()).await {
            let reason = error.fault().message;
            context.notices.publish(Notice::Orphan { sandbox, reason });
        }
    }
    if entry.holds_lease(Instant::now()) {
        let unknown = "the worker failed while this call ran, and gave the session up. Nobody knows how far \
                       the call came; it was not run again.";
        let calls = entry.open_calls().into_iter();
        for (call, result) in calls.filter(|(call, _)| number_of(&entry.item.id, call).is_none()) {
            let result = result.unwrap_or_else(|| Arc::new(ToolResult::error(unknown)));
            let answer = Answer { call, kind: CallKind::Toolset, result };
            let posted = control(deadlines.control, context.ports.control.post(&entry.item, &answer)).await;
            match posted {
                Ok(()) => entry.close_call(&answer.call),
                Err(error) => tracing::warn!(
                    error = %error.fault(), remuda.call.id = %answer.call, "could not answer a given-up call"
                ),
            }
        }
        let stopped = control(deadlines.control, context.ports.control.stop(&entry.item, StopMode::Force));
        if let Err(error) = stopped.await {
            tracing::warn!(error = %error.fault(), remuda.work.id = %entry.item.id, "could not stop a given-up item");
        }
    }
    forget_workers(&context, &entry).await;
    context.end(&entry).await;
    let _ = to.cast(SessionsMsg::LetGo(entry.item.id.clone()));
}

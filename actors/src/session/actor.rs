//! The shell around one session's [machine].
//!
//! Owns the session's requests, timers and event stream as tasks that answer with messages, and supervises
//! its sandbox actor. It keeps nothing that its successor would miss: that is in the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use rand::rngs::SmallRng;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tracing::Span;

use super::end::End;
use super::lease;
use super::machine::{self, Machine};
use super::outside;
use super::requests;
use super::run::Cancellation;
use super::signals::{Effect, Event};
use crate::context::{Context, control};
use crate::effects::{Crashed, Tasks};
use crate::event::Call;
use crate::ids::{CallId, SessionId};
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::ports::{CallRequest, ControlError, CustomPlace, OutsideTool, Standby, StopMode};
use crate::sandbox::actor::{SandboxActor, SandboxMsg};
use crate::sandbox::signals::Release;
use crate::supervision::{ActorKind, Budget, Verdict};

/// What a session's actor is told.
pub(crate) enum SessionMsg {
    /// What a machine wants that has just been started.
    Start(Vec<Effect>),
    /// Something for its machine.
    Event(Event),
    /// A live event, which gives its place in the read-ahead back when it is handled.
    Live(Event, OwnedSemaphorePermit),
    /// The wait before the sandbox actor is started again is over.
    RestartSandbox,
    /// The end has been written down.
    Close,
    /// A task panicked.
    Crashed(String),
}

impl Crashed for SessionMsg {
    fn crashed(what: String) -> Self {
        Self::Crashed(what)
    }
}

/// The shell of one session.
pub(crate) struct SessionActor {
    pub(crate) context: Arc<Context>,
    pub(crate) entry: Arc<Entry>,
}

/// What it holds while it lives.
pub(crate) struct State {
    machine: Machine,
    tasks: Tasks<Slot>,
    rng: SmallRng,
    span: Span,
    /// Calls that the sandbox has not answered, so that a new sandbox actor can be given them again.
    given: BTreeMap<CallId, (Call, Option<Cancellation>)>,
    /// Calls that run outside, with the way to cut them short.
    outside: BTreeMap<CallId, oneshot::Sender<Cancellation>>,
    sandbox: Link,
    budget: Budget,
}

/// The way to the sandbox actor.
enum Link {
    /// There is none, and none is needed.
    Absent,
    /// It is to be started as soon as this handler can.
    Due,
    /// It failed and will be started again.
    BackingOff,
    /// It runs.
    Up(ActorRef<SandboxMsg>),
}

/// The tasks a session may have, one each.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// Acknowledging, or waiting to.
    Ack,
    /// Beating, or waiting to.
    Beat,
    Expiry,
    Stop,
    Retrieve,
    Stream,
    Idle,
    Silence,
    Settle,
    RestartSandbox,
    Close,
    Post(CallId),
    /// A call that runs outside.
    Outside(CallId),
}

impl Actor for SessionActor {
    type Msg = SessionMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<SessionMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        let item = &self.entry.item;
        let session = item.session().map_or("", SessionId::as_str);
        let span = tracing::info_span!(parent: None, "session", remuda.work.id = %item.id, remuda.session.id = session);
        let mut effects = Vec::new();
        let inheritance = self.entry.inheritance(Instant::now());
        let machine = Machine::start(item.target.clone(), inheritance, &mut effects);
        me.cast(SessionMsg::Start(effects))?;
        Ok(State {
            machine,
            tasks: Tasks::new(),
            rng: self.context.rng((&item.id, self.entry.view().restarts)),
            span,
            given: BTreeMap::new(),
            outside: BTreeMap::new(),
            sandbox: Link::Absent,
            budget: Budget::new(self.context.settings.supervision.sandbox),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<SessionMsg>,
        msg: SessionMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            SessionMsg::Start(effects) => state.span.clone().in_scope(|| {
                for effect in effects {
                    self.perform(&me, effect, state);
                }
                self.show(state);
            }),
            SessionMsg::Event(event) => self.advance(&me, event, state)?,
            SessionMsg::Live(event, place) => {
                self.advance(&me, event, state)?;
                drop(place);
            }
            SessionMsg::RestartSandbox => state.sandbox = Link::Due,
            SessionMsg::Close => me.stop(Some("done".into())),
            SessionMsg::Crashed(what) => return Err(what.into()),
        }
        if matches!(state.sandbox, Link::Due) {
            Box::pin(self.start_sandbox(&me, state)).await?;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<SessionMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let cause = match event {
            SupervisionEvent::ActorFailed(_, error) => error.to_string(),
            SupervisionEvent::ActorTerminated(_, _, reason) => match reason.as_deref() {
                Some(killed @ ("killed" | "actor_task_cancelled")) => killed.to_owned(),
                // It said that the sandbox is gone, and left.
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        state.sandbox = Link::BackingOff;
        let verdict = state.budget.spend(Instant::now());
        let restarted = matches!(verdict, Verdict::Restart(_));
        let actor = ActorKind::Sandbox;
        self.context.notices.publish(Notice::Failed { actor, restarted, cause: cause.as_str().into() });
        match verdict {
            Verdict::Restart(failures) => {
                let backoff = self.context.settings.supervision.backoff;
                let after = backoff.delay(failures, None, &mut state.rng);
                state.tasks.arm(Slot::RestartSandbox, &me, after, SessionMsg::RestartSandbox);
                Ok(())
            }
            Verdict::GiveUp => Err(format!("its sandbox actor failed too often: {cause}").into()),
        }
    }
}

impl SessionActor {
    /// Lets the machine take an event, and does what it wants.
    fn advance(
        &self,
        me: &ActorRef<SessionMsg>,
        event: Event,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        #[cfg(any(test, feature = "test-util"))]
        self.context.strike(ActorKind::Session, event.name())?;
        state.span.clone().in_scope(|| {
            // When this process or its host stood still, the timer of the lease comes as late as everything that
            // happened meanwhile, and perhaps after it. So before anything is done the clock is asked.
            if self.entry.has_expired(Instant::now()) {
                self.take(me, Event::Lease(lease::Event::Expired { number: 0 }), state);
            }
            self.take(me, event, state);
        });
        Ok(())
    }

    fn take(&self, me: &ActorRef<SessionMsg>, event: Event, state: &mut State) {
        if let Event::Finished { call, result } = &event {
            state.given.remove(call);
            state.outside.remove(call);
            self.entry.finish_call(call, Arc::clone(result));
        }
        let (from, mut effects) = (state.machine.state().name(), Vec::new());
        if let Err(illegal) = state.machine.step(event, &self.context.settings.session, &mut effects) {
            self.context.illegal(illegal);
        }
        let to = state.machine.state().name();
        if from != to
            && let Some(session) = self.entry.item.session().cloned()
        {
            let work = self.entry.item.id.clone();
            self.context.notices.publish(Notice::Session { work, session, from, to });
        }
        if let machine::State::Deleting { end } | machine::State::Releasing { end } = state.machine.state() {
            self.entry.set_end(end.clone());
        }
        for effect in effects {
            self.perform(me, effect, state);
        }
        self.show(state);
    }

    fn show(&self, state: &State) {
        let (session, lease) = (state.machine.state().name(), state.machine.lease().name());
        self.entry.show(|view| (view.session, view.lease) = (session, lease));
    }

    fn perform(&self, me: &ActorRef<SessionMsg>, effect: Effect, state: &mut State) {
        let settings = &self.context.settings;
        match effect {
            Effect::Lease(effect) => self.perform_on_lease(me, effect, state),
            Effect::Retrieve { attempt } => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Retrieve, me, async move {
                    let within = context.settings.deadlines.control;
                    let event = match control(within, context.ports.control.session(&entry.item)).await {
                        Ok(session) => {
                            entry.set_document(session.document);
                            Event::Retrieved(session.status)
                        }
                        Err(error) => Event::RetrieveFailed { attempt, fault: error.fault() },
                    };
                    let _ = to.cast(SessionMsg::Event(event));
                });
            }
            Effect::ArmRetrieve { attempt, retry_after } => {
                let after = settings.backoffs.retrieve.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Retrieve, after, Event::RetrieveDue { attempt });
            }
            Effect::Attach { number } => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Stream, me, requests::attach(context, entry, to, number));
            }
            Effect::ArmStream { number, failures, retry_after } => {
                let after = settings.backoffs.stream.delay(failures, retry_after, &mut state.rng);
                arm(me, state, Slot::Stream, after, Event::StreamDue { number });
            }
            Effect::Detach => state.tasks.clear(&Slot::Stream),
            Effect::Provision => state.sandbox = Link::Due,
            Effect::Dispatch(call) if let Some(tool) = self.outside(&call) => {
                let (cut, is_cut) = oneshot::channel();
                state.outside.insert(call.id.clone(), cut);
                let (context, entry, to) = self.parts(me);
                let (slot, request) = (Slot::Outside(call.id.clone()), self.request(call));
                state.tasks.start(slot, me, outside::call(context, entry, to, tool, request, is_cut));
            }
            Effect::Dispatch(call) => {
                state.given.insert(call.id.clone(), (call.clone(), None));
                if let Link::Up(sandbox) = &state.sandbox {
                    self.give(sandbox, call);
                }
            }
            Effect::ExpectCall => {
                if let Link::Up(sandbox) = &state.sandbox {
                    let _ = sandbox.cast(SandboxMsg::expect_call());
                }
            }
            Effect::Cancel { call, why } => {
                if let Some(cut) = state.outside.remove(&call) {
                    // It may have ended just now.
                    let _ = cut.send(why);
                }
                if let Some((_, cut)) = state.given.get_mut(&call) {
                    *cut = Some(why);
                }
                if let Link::Up(sandbox) = &state.sandbox {
                    let _ = sandbox.cast(SandboxMsg::cancel(call, why));
                }
            }
            Effect::Post(answer) => {
                let (context, entry, to) = self.parts(me);
                let slot = Slot::Post(answer.call.clone());
                state.tasks.start(slot, me, requests::post(context, entry, to, answer));
            }
            Effect::ArmPost { call, attempt, retry_after } => {
                let after = settings.backoffs.post.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Post(call.clone()), after, Event::PostDue { call, attempt });
            }
            Effect::Withhold => state.tasks.clear_all(|slot| matches!(slot, Slot::Post(_))),
            Effect::Forget { call } => self.entry.close_call(&call),
            Effect::PostRefused { call, fault } => {
                if let Some(session) = self.entry.item.session().cloned() {
                    let reason = fault.message;
                    self.context.notices.publish(Notice::PostRefused { session, call, reason });
                }
            }
            Effect::NotRun { call, tool, why } => {
                if let Some(session) = self.entry.item.session().cloned() {
                    self.context.notices.publish(Notice::CallLeft { session, call, tool, why });
                }
            }
            Effect::ArmIdle { number, after } => arm(me, state, Slot::Idle, after, Event::IdleDue { number }),
            Effect::ArmSettle { after } => arm(me, state, Slot::Settle, after, Event::SettleDue),
            Effect::ArmSilence { signs, after } => {
                arm(me, state, Slot::Silence, after, Event::SilenceDue { signs });
            }
            Effect::ReleaseSandbox(how) => {
                // Whatever still runs outside has nobody to answer to.
                state.tasks.clear_all(|slot| matches!(slot, Slot::Outside(_)));
                self.release_sandbox(me, how, state);
            }
            Effect::Done(end) => self.finish(me, end, state),
        }
    }

    fn release_sandbox(&self, me: &ActorRef<SessionMsg>, how: Release, state: &mut State) {
        match &state.sandbox {
            Link::Up(sandbox) => drop(sandbox.cast(SandboxMsg::release(self.able(how)))),
            // One that is left is left as it is.
            Link::Absent | Link::Due | Link::BackingOff if how == Release::Leave => {
                state.sandbox = Link::Absent;
                let _ = me.cast(SessionMsg::Event(Event::SandboxGone));
            }
            // One that an earlier incarnation made is adopted in order to be let go of.
            Link::Absent if self.entry.sandbox().is_some() => state.sandbox = Link::Due,
            Link::Absent => drop(me.cast(SessionMsg::Event(Event::SandboxGone))),
            Link::Due | Link::BackingOff => {}
        }
    }

    fn perform_on_lease(&self, me: &ActorRef<SessionMsg>, effect: lease::Effect, state: &mut State) {
        use lease::{Effect as E, Event as L};
        let settings = &self.context.settings;
        match effect {
            E::Ack => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Ack, me, requests::acknowledge(context, entry, to));
            }
            E::ArmAckRetry { attempt, retry_after } => {
                let after = settings.backoffs.ack.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Ack, after, Event::Lease(L::AckRetryDue { attempt }));
            }
            E::Beat { number, token, within } => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Beat, me, requests::beat(context, entry, to, number, token, within));
            }
            E::ArmBeat { number, after } => {
                arm(me, state, Slot::Beat, after, Event::Lease(L::BeatDue { number }))
            }
            E::ArmBeatRetry { number, failures, at_most, retry_after } => {
                let after = settings.backoffs.beat.delay(failures, retry_after, &mut state.rng).min(at_most);
                arm(me, state, Slot::Beat, after, Event::Lease(L::BeatDue { number }));
            }
            E::ArmExpiry { number, after } => {
                arm(me, state, Slot::Expiry, after, Event::Lease(L::Expired { number }));
            }
            E::Stop => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Stop, me, async move {
                    let within = context.settings.deadlines.control;
                    let request = context.ports.control.stop(&entry.item, StopMode::Force);
                    let event = match control(within, request).await {
                        Ok(()) | Err(ControlError::Conflict { .. }) => L::Stopped,
                        Err(error) => L::StopFailed(error.fault()),
                    };
                    let _ = to.cast(SessionMsg::Event(Event::Lease(event)));
                });
            }
            E::ArmStopRetry { attempt, retry_after } => {
                let after = settings.backoffs.stop.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Stop, after, Event::Lease(L::StopRetryDue { attempt }));
            }
            E::Keep { token, ttl, ago } => {
                let now = Instant::now();
                self.entry.keep_lease(token, ttl, now.checked_sub(ago).unwrap_or(now));
            }
            // The machine has acted on these.
            E::Acknowledged | E::Held | E::Ended(_) | E::Over => {}
        }
    }

    /// What a task needs of us.
    fn parts(&self, me: &ActorRef<SessionMsg>) -> (Arc<Context>, Arc<Entry>, ActorRef<SessionMsg>) {
        (Arc::clone(&self.context), Arc::clone(&self.entry), me.clone())
    }

    /// Gives a call to the sandbox actor.
    fn give(&self, sandbox: &ActorRef<SandboxMsg>, call: Call) {
        let _ = sandbox.cast(SandboxMsg::Call(self.request(call)));
    }

    fn request(&self, call: Call) -> CallRequest {
        let settings = &self.context.settings;
        let custom = settings.session.custom.get(&call.name);
        let timeout = custom.and_then(|tool| tool.timeout).unwrap_or(settings.deadlines.call);
        let again = settings.session.rerun.contains(&call.name);
        let Call { id, name, input, thread, .. } = call;
        CallRequest { call: id, tool: name, input, thread, again, timeout }
    }

    /// The tool of the operator's that runs a call, if that is done outside.
    fn outside(&self, call: &Call) -> Option<Arc<dyn OutsideTool>> {
        match &self.context.settings.session.custom.get(&call.name)?.place {
            CustomPlace::Outside(tool) => Some(Arc::clone(tool)),
            CustomPlace::Inside(_) => None,
        }
    }

    /// What can be done instead of what is wished: only what can stand by can be parked.
    fn able(&self, how: Release) -> Release {
        let parks = self.context.ports.provider.capabilities().standby != Standby::None
            && !self.context.settings.herd.park_for.is_zero();
        match how {
            Release::Park | Release::HandOver if !parks => Release::Delete,
            how => how,
        }
    }

    /// Starts the sandbox actor, which adopts what an earlier one had, and tells it what it must know.
    async fn start_sandbox(
        &self,
        me: &ActorRef<SessionMsg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(session) = self.entry.item.session().cloned() else { return Ok(()) };
        let (context, entry, to) = self.parts(me);
        let actor = SandboxActor { context, entry, session, owner: to };
        let (sandbox, _) = me.get_cell().spawn_linked(None, actor, ()).await?;
        self.entry.add_cell(sandbox.get_cell());
        for (call, cut) in state.given.values() {
            self.give(&sandbox, call.clone());
            if let Some(why) = cut {
                let _ = sandbox.cast(SandboxMsg::cancel(call.id.clone(), *why));
            }
        }
        if let machine::State::Deleting { end } = state.machine.state() {
            let _ = sandbox.cast(SandboxMsg::release(self.able(end.release())));
        }
        state.sandbox = Link::Up(sandbox);
        Ok(())
    }

    /// Writes the end down, if there is one, and then leaves.
    fn finish(&self, me: &ActorRef<SessionMsg>, end: End, state: &mut State) {
        let goes_on = end == End::Left;
        self.entry.set_end(end);
        let (context, entry, to) = self.parts(me);
        state.tasks.start(Slot::Close, me, async move {
            if !goes_on {
                context.end(&entry).await;
            }
            let _ = to.cast(SessionMsg::Close);
        });
    }
}

fn arm(me: &ActorRef<SessionMsg>, state: &mut State, slot: Slot, after: Duration, event: Event) {
    state.tasks.arm(slot, me, after, SessionMsg::Event(event));
}

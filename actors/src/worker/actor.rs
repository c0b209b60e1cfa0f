//! The shell around one [worker's machine](super::machine).
//!
//! Owns the item's requests, timers, and the command on this host if it is one, as tasks that answer with messages, and
//! supervises the sandbox actor. The worker in a sandbox is a call to its hand: journaled there and here, attached to by
//! a successor, and, like every call that runs, what keeps the sandbox out of standby.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use rand::rngs::SmallRng;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use super::machine::{Inheritance, Machine, Place, State as Stage, Verdict};
use super::signals::{Effect, Event};
use crate::context::{Context, control};
use crate::effects::{Crashed, Tasks};
use crate::ids::{CallId, SessionId, WorkId};
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::ports::{
    CallRequest, ControlError, Errand, Execution, Record, SessionStatus, Standby, Standing, StopMode,
};
use crate::sandbox::actor::{Owner, SandboxActor, SandboxMsg};
use crate::sandbox::signals::Release;
use crate::session::end::End;
use crate::session::requests;
use crate::session::run::Cancellation;
use crate::session::signals;
use crate::supervision::{ActorKind, Budget, Verdict as Restart};
use crate::tool::ToolResult;

/// Why an actor says that it left because the tree serves the session itself.
pub(crate) const BROKERED: &str = "brokered";

/// The limit of the call that a worker is: none that a session lives to see.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The name of an item's worker among its sandbox's calls.
pub(crate) fn call_id(work: &WorkId, number: u32) -> CallId {
    CallId::from(format!("{work}.worker.{number}"))
}

/// Which start of the item's worker a call is; none if it is a tool call.
pub(crate) fn number_of(work: &WorkId, call: &CallId) -> Option<u32> {
    call.as_str().strip_prefix(work.as_str())?.strip_prefix(".worker.")?.parse().ok()
}

/// What a worker's actor is told.
pub(crate) enum WorkerMsg {
    /// What a machine wants that has just been started.
    Start(Vec<Effect>),
    /// Something for its machine.
    Event(Event),
    /// Its sandbox has something to say.
    Sandbox(signals::Event),
    /// A command on this host ended.
    Ran { number: u32, result: ToolResult },
    /// The wait before the sandbox actor is started again is over.
    RestartSandbox,
    /// The end has been written down.
    Close,
    /// A task panicked.
    Crashed(String),
}

impl Crashed for WorkerMsg {
    fn crashed(what: String) -> Self {
        Self::Crashed(what)
    }
}

/// The shell of one item that a worker serves.
pub(crate) struct WorkerActor {
    pub(crate) context: Arc<Context>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) session: SessionId,
}

/// What it holds while it lives.
pub(crate) struct State {
    machine: Machine,
    tasks: Tasks<Slot>,
    rng: SmallRng,
    span: Span,
    /// The worker that the sandbox was given and has not answered, so that a new sandbox actor can be given it again.
    given: Option<(CallRequest, Option<Cancellation>)>,
    /// Lets a command on this host run, until it is dropped.
    errand: Option<oneshot::Sender<()>>,
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

/// The tasks it may have, one each.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Ack,
    Route,
    Start,
    Look,
    Cut,
    /// A command on this host; ended with its task.
    Errand,
    RestartSandbox,
    Stop,
    Close,
}

impl Actor for WorkerActor {
    type Msg = WorkerMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<WorkerMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        let item = &self.entry.item;
        let span = tracing::info_span!(
            parent: None, "worker", remuda.work.id = %item.id, remuda.session.id = %self.session
        );
        let mut effects = Vec::new();
        let calls = self.entry.open_calls();
        let inherited = Inheritance {
            acked: self.entry.lease_ttl().is_some(),
            number: calls.iter().filter_map(|(call, _)| number_of(&item.id, call)).max(),
            end: self.entry.end(),
        };
        let machine = Machine::start(inherited, &mut effects);
        me.cast(WorkerMsg::Start(effects))?;
        Ok(State {
            machine,
            tasks: Tasks::new(),
            rng: self.context.rng((&item.id, self.entry.view().restarts, "worker")),
            span,
            given: None,
            errand: None,
            sandbox: Link::Absent,
            budget: Budget::new(self.context.settings.supervision.sandbox),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<WorkerMsg>,
        msg: WorkerMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            WorkerMsg::Start(effects) => state.span.clone().in_scope(|| {
                for effect in effects {
                    self.perform(&me, effect, state);
                }
                self.show(state);
            }),
            WorkerMsg::Event(event) => {
                #[cfg(any(test, feature = "test-util"))]
                self.context.strike(ActorKind::Worker, event.name())?;
                self.advance(&me, event, state);
            }
            WorkerMsg::Sandbox(event) => self.hear(&me, event, state),
            WorkerMsg::Ran { number, result } => self.exited(&me, number, &result, state),
            WorkerMsg::RestartSandbox => state.sandbox = Link::Due,
            WorkerMsg::Close => me.stop(Some("done".into())),
            WorkerMsg::Crashed(what) => return Err(what.into()),
        }
        if matches!(state.sandbox, Link::Due) {
            Box::pin(self.start_sandbox(&me, state)).await?;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<WorkerMsg>,
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
        let (actor, restarted) = (ActorKind::Sandbox, matches!(verdict, Restart::Restart(_)));
        self.context.notices.publish(Notice::Failed { actor, restarted, cause: cause.as_str().into() });
        match verdict {
            Restart::Restart(failures) => {
                let after = self.context.settings.supervision.backoff.delay(failures, None, &mut state.rng);
                state.tasks.arm(Slot::RestartSandbox, &me, after, WorkerMsg::RestartSandbox);
                Ok(())
            }
            Restart::GiveUp => Err(format!("its sandbox actor failed too often: {cause}").into()),
        }
    }
}

impl WorkerActor {
    /// Lets the machine take an event, and does what it wants.
    fn advance(&self, me: &ActorRef<WorkerMsg>, event: Event, state: &mut State) {
        state.span.clone().in_scope(|| {
            if let Event::Looked { standing: Standing::Starting | Standing::Active, .. } = event {
                // As long as it is seen to be served, it counts as ours: what is started for it may be.
                let ttl = self.context.settings.session.lease.initial_ttl;
                self.entry.keep_lease(None, ttl, Instant::now());
            }
            let (from, mut effects) = (state.machine.name(), Vec::new());
            if let Err(illegal) = state.machine.step(event, &self.context.settings.worker, &mut effects) {
                self.context.illegal(illegal);
            }
            let to = state.machine.name();
            if from != to {
                let (work, session) = (self.entry.item.id.clone(), self.session.clone());
                self.context.notices.publish(Notice::Session { work, session, from, to });
            }
            if let Stage::Deleting { end } | Stage::Stopping { end, .. } = state.machine.state() {
                self.entry.set_end(end.clone());
            }
            for effect in effects {
                self.perform(me, effect, state);
            }
            self.show(state);
        });
    }

    fn show(&self, state: &State) {
        let name = state.machine.name();
        let lease = match state.machine.state() {
            Stage::Claiming { .. } => "acking",
            Stage::Stopping { .. } => "stopping",
            Stage::Done => "over",
            _ => "watched",
        };
        self.entry.show(|view| (view.session, view.lease) = (name, lease));
    }

    /// What the sandbox says.
    fn hear(&self, me: &ActorRef<WorkerMsg>, event: signals::Event, state: &mut State) {
        match event {
            signals::Event::Finished { call, result } => {
                if let Some(number) = number_of(&self.entry.item.id, &call) {
                    self.exited(me, number, &result, state);
                }
            }
            signals::Event::SandboxFailed(fault) => self.advance(me, Event::SandboxFailed(fault), state),
            signals::Event::SandboxGone => {
                state.sandbox = Link::Absent;
                self.advance(me, Event::SandboxGone, state);
            }
            _ => {}
        }
    }

    /// A worker ended: people are told what it said last.
    fn exited(&self, me: &ActorRef<WorkerMsg>, number: u32, result: &ToolResult, state: &mut State) {
        state.given = None;
        let output: Arc<str> = result.text().into();
        let failure = result.is_error.then(|| Arc::from(output.lines().next_back().unwrap_or("it failed")));
        self.context.notices.publish(Notice::WorkerEnded {
            session: self.session.clone(),
            number,
            failed: result.is_error,
            output,
        });
        self.advance(me, Event::Exited { number, failure }, state);
    }

    fn perform(&self, me: &ActorRef<WorkerMsg>, effect: Effect, state: &mut State) {
        let backoffs = &self.context.settings.backoffs;
        match effect {
            Effect::Ack => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Ack, me, async move {
                    let event = match requests::take(&context, &entry).await {
                        Ok(()) => {
                            let ttl = context.settings.session.lease.initial_ttl;
                            entry.keep_lease(None, ttl, Instant::now());
                            Event::Acked
                        }
                        Err(fault) => Event::AckFailed(fault),
                    };
                    let _ = to.cast(WorkerMsg::Event(event));
                });
            }
            Effect::ArmAck { attempt, retry_after } => {
                let after = backoffs.ack.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Ack, after, Event::AckDue);
            }
            Effect::Route => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Route, me, async move {
                    let _ = to.cast(WorkerMsg::Event(route(&context, &entry).await));
                });
            }
            Effect::ArmRoute { attempt, retry_after } => {
                let after = backoffs.retrieve.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Route, after, Event::RouteDue);
            }
            Effect::Start { number } => self.start(me, number, state),
            Effect::ArmStart { failures } => {
                let after = backoffs.worker.delay(failures, None, &mut state.rng);
                arm(me, state, Slot::Start, after, Event::StartDue);
            }
            Effect::Look { look } => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Look, me, async move {
                    let within = context.settings.deadlines.control;
                    let event = match control(within, context.ports.control.standing(&entry.item)).await {
                        Ok(standing) => Event::Looked { look, standing },
                        Err(error) => {
                            let (error, work) = (error.fault(), &entry.item.id);
                            tracing::warn!(%error, remuda.work.id = %work, "could not look at a worker's lease");
                            Event::LookFailed { look }
                        }
                    };
                    let _ = to.cast(WorkerMsg::Event(event));
                });
            }
            Effect::ArmLook { look, after } => {
                // A worker that runs is looked at when this is over, one that does not as soon as it is known.
                arm(me, state, Slot::Look, after, Event::LookDue { look });
            }
            Effect::Cut { number, why } => {
                if let Some((_, cut)) = &mut state.given {
                    *cut = Some(why);
                }
                if let Link::Up(sandbox) = &state.sandbox {
                    let call = call_id(&self.entry.item.id, number);
                    let _ = sandbox.cast(SandboxMsg::cancel(call, why));
                }
                // Whoever runs a command hears of it by this.
                state.errand = None;
            }
            Effect::ArmCut { after } => arm(me, state, Slot::Cut, after, Event::CutDue),
            Effect::ReleaseSandbox(how) => self.release(me, how, state),
            Effect::Stop => {
                let (context, entry, to) = self.parts(me);
                state.tasks.start(Slot::Stop, me, async move {
                    let within = context.settings.deadlines.control;
                    let request = context.ports.control.stop(&entry.item, StopMode::Force);
                    let event = match control(within, request).await {
                        Ok(()) | Err(ControlError::Conflict { .. }) => Event::Stopped,
                        Err(error) => Event::StopFailed(error.fault()),
                    };
                    let _ = to.cast(WorkerMsg::Event(event));
                });
            }
            Effect::ArmStop { attempt, retry_after } => {
                let after = backoffs.stop.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Stop, after, Event::StopDue);
            }
            Effect::Broker => {
                self.entry.set_brokered();
                me.stop(Some(BROKERED.into()));
            }
            Effect::Done(end) => self.finish(me, end, state),
        }
    }

    /// What a task needs of us.
    fn parts(&self, me: &ActorRef<WorkerMsg>) -> (Arc<Context>, Arc<Entry>, ActorRef<WorkerMsg>) {
        (Arc::clone(&self.context), Arc::clone(&self.entry), me.clone())
    }

    /// Starts the worker, unless it is known how it ended.
    fn start(&self, me: &ActorRef<WorkerMsg>, number: u32, state: &mut State) {
        let item = &self.entry.item;
        let call = call_id(&item.id, number);
        let ended = self.entry.open_calls().into_iter().find(|(open, _)| *open == call);
        if let Some(result) = ended.and_then(|(_, result)| result) {
            let _ = me.cast(WorkerMsg::Ran { number, result: ToolResult::clone(&result) });
            return;
        }
        match &self.entry.route().execution {
            Execution::Hosted(errand) => {
                let (errand, entry, to) = (Arc::clone(errand), Arc::clone(&self.entry), me.clone());
                let (cut, is_cut) = oneshot::channel();
                state.errand = Some(cut);
                state.tasks.start(Slot::Errand, me, async move {
                    let result = Errand::run(&*errand, &entry.item, is_cut).await;
                    let _ = to.cast(WorkerMsg::Ran { number, result });
                });
            }
            Execution::Sandboxed(program) => match program.call(item) {
                Ok((tool, input)) => {
                    let request =
                        CallRequest { call, tool, input, thread: None, again: false, timeout: FOR_EVER };
                    state.given = Some((request.clone(), None));
                    match &state.sandbox {
                        Link::Up(sandbox) => drop(sandbox.cast(SandboxMsg::Call(request))),
                        Link::Absent => state.sandbox = Link::Due,
                        Link::Due | Link::BackingOff => {}
                    }
                }
                Err(fault) => {
                    let result = ToolResult::error(fault.to_string());
                    let _ = me.cast(WorkerMsg::Ran { number, result });
                }
            },
            Execution::Brokered => {}
        }
    }

    fn release(&self, me: &ActorRef<WorkerMsg>, how: Release, state: &mut State) {
        match &state.sandbox {
            Link::Up(sandbox) => drop(sandbox.cast(SandboxMsg::release(self.able(how)))),
            Link::Absent | Link::Due | Link::BackingOff if how == Release::Leave => {
                state.sandbox = Link::Absent;
                let _ = me.cast(WorkerMsg::Event(Event::SandboxGone));
            }
            // One that an earlier incarnation made is adopted in order to be let go of.
            Link::Absent if self.entry.sandbox().is_some() => state.sandbox = Link::Due,
            Link::Absent => drop(me.cast(WorkerMsg::Event(Event::SandboxGone))),
            Link::Due | Link::BackingOff => {}
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
        me: &ActorRef<WorkerMsg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (context, entry, to) = self.parts(me);
        let owner = Owner::new(move |event| drop(to.cast(WorkerMsg::Sandbox(event))));
        let actor = SandboxActor { context, entry, session: self.session.clone(), owner };
        let (sandbox, _) = me.get_cell().spawn_linked(None, actor, ()).await?;
        self.entry.add_cell(sandbox.get_cell());
        if let Some((request, cut)) = &state.given {
            let _ = sandbox.cast(SandboxMsg::Call(request.clone()));
            if let Some(why) = cut {
                let _ = sandbox.cast(SandboxMsg::cancel(request.call.clone(), *why));
            }
        }
        if let Stage::Deleting { end } = state.machine.state() {
            let _ = sandbox.cast(SandboxMsg::release(self.able(end.release())));
        }
        state.sandbox = Link::Up(sandbox);
        Ok(())
    }

    /// Writes the end down, if there is one, and then leaves.
    fn finish(&self, me: &ActorRef<WorkerMsg>, end: End, state: &mut State) {
        let goes_on = end == End::Left;
        self.entry.set_end(end);
        let (context, entry, to) = self.parts(me);
        state.tasks.start(Slot::Close, me, async move {
            if !goes_on {
                forget_workers(&context, &entry).await;
                context.end(&entry).await;
            }
            let _ = to.cast(WorkerMsg::Close);
        });
    }
}

/// Forgets an item's workers: no session asks what came of them.
pub(crate) async fn forget_workers(context: &Context, entry: &Entry) {
    let calls = entry.open_calls().into_iter().map(|(call, _)| call);
    for call in calls.filter(|call| number_of(&entry.item.id, call).is_some()) {
        entry.close_call(&call);
        context.note(&entry.item.id, Record::CallPosted { call }).await;
    }
}

/// Finds out by whom the item's session is served.
async fn route(context: &Context, entry: &Entry) -> Event {
    let within = context.settings.deadlines.control;
    match control(within, context.ports.control.session(&entry.item)).await {
        Ok(session) if session.status == SessionStatus::Terminated => Event::Routed(Verdict::Terminated),
        Ok(session) => {
            context.route(entry, &session);
            Event::Routed(match entry.route().execution {
                Execution::Brokered => Verdict::Brokered,
                Execution::Sandboxed(_) => Verdict::Worker(Place::Sandbox),
                Execution::Hosted(_) => Verdict::Worker(Place::Host),
            })
        }
        Err(error) => Event::RouteFailed(error.fault()),
    }
}

fn arm(me: &ActorRef<WorkerMsg>, state: &mut State, slot: Slot, after: Duration, event: Event) {
    state.tasks.arm(slot, me, after, WorkerMsg::Event(event));
}

//! The shell around one session's sandbox [lifecycle](super::lifecycle).
//!
//! Talks to the provider and to the sandbox's hand in tasks that answer with messages. A successor adopts
//! the sandbox: which one it is, and which calls it was given, is in the ledger. What is asked of the provider
//! and the hand, and how, is in `requests`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::rngs::SmallRng;
use tokio::time::Instant;
use tracing::Span;

use super::lifecycle::Lifecycle;
use super::policy::Policy;
use super::requests::{self, About};
use super::signals::{Call, Effect, Event, Release, Undone};
use crate::context::{Context, hand};
use crate::effects::{Crashed, Tasks};
use crate::fault::{Fault, FaultClass};
use crate::ids::{CallId, SandboxId, SessionId};
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::ports::{CallReply, CallRequest, Hand, Record, Standby};
use crate::session::actor::SessionMsg;
use crate::session::run::Cancellation;
use crate::session::signals;
use crate::tool::ToolResult;

/// What a sandbox's actor is told.
pub(crate) enum SandboxMsg {
    /// What a lifecycle wants that has just been started.
    Start(Vec<Effect>),
    /// Run a call.
    Call(CallRequest),
    /// Something for its lifecycle.
    Event(Event),
    /// The hand answered a call.
    Answered { call: CallId, reply: CallReply },
    /// A call has no answer from a hand, and that is written down.
    Undone { call: CallId, result: Arc<ToolResult> },
    /// A task panicked.
    Crashed(String),
}

impl SandboxMsg {
    pub(crate) fn cancel(call: CallId, why: Cancellation) -> Self {
        Self::Event(Event::Cancel { call, why })
    }

    pub(crate) fn release(how: Release) -> Self {
        Self::Event(Event::Released(how))
    }

    pub(crate) fn expect_call() -> Self {
        Self::Event(Event::Expected)
    }
}

impl Crashed for SandboxMsg {
    fn crashed(what: String) -> Self {
        Self::Crashed(what)
    }
}

/// The shell of one sandbox.
pub(crate) struct SandboxActor {
    pub(crate) context: Arc<Context>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) session: SessionId,
    pub(crate) owner: ActorRef<SessionMsg>,
}

/// What it holds while it lives.
pub(crate) struct State {
    lifecycle: Lifecycle,
    policy: Policy,
    /// The calls that have no answer yet, with the time they came.
    requests: BTreeMap<CallId, (Arc<CallRequest>, Instant)>,
    hand: Option<Arc<dyn Hand>>,
    tasks: Tasks<Slot>,
    rng: SmallRng,
    span: Span,
    since: Instant,
}

/// The tasks a sandbox may have, one each.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// A request to the provider, or the wait before the next one.
    Provider,
    /// Waiting until the sandbox was idle for long enough, or looking at what its jobs do.
    Idle,
    Part,
    /// Looking after what it is furnished with.
    Care,
    /// A call, or the wait before it is asked for again.
    Call(CallId),
    Cancel(CallId),
}

impl Actor for SandboxActor {
    type Msg = SandboxMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<SandboxMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        let settings = &self.context.settings;
        let mut policy = settings.sandbox.clone();
        let capabilities = self.context.ports.provider.capabilities();
        if capabilities.standby == Standby::None {
            policy.standby_after = None;
        }
        policy.keep_files = capabilities.keeps_files;
        policy.outfits = settings.outfitter.is_some();
        let mut effects = Vec::new();
        let lifecycle = match self.entry.sandbox() {
            Some((instance, _)) => Lifecycle::adopt(instance, &mut effects),
            None => match self.context.herd.give_parked(&self.session, &self.entry) {
                Some(instance) => Lifecycle::unpark(instance, &mut effects),
                None => Lifecycle::create(requests::first_instance(&self.about()), &mut effects),
            },
        };
        me.cast(SandboxMsg::Start(effects))?;
        Ok(State {
            lifecycle,
            policy,
            requests: BTreeMap::new(),
            hand: None,
            tasks: Tasks::new(),
            rng: self.context.rng((&self.session, self.entry.view().restarts, "sandbox")),
            span: tracing::info_span!(parent: None, "sandbox", remuda.session.id = %self.session),
            since: Instant::now(),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<SandboxMsg>,
        msg: SandboxMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.span.clone().in_scope(|| match msg {
            SandboxMsg::Start(effects) => {
                self.perform_all(&me, effects, state);
                Ok(())
            }
            SandboxMsg::Call(request) => self.take(&me, request, state),
            SandboxMsg::Event(event) => self.advance(&me, event, state),
            SandboxMsg::Answered { call, reply } => {
                self.finish(&call, reply.result, Some(reply.run), state);
                self.advance(&me, Event::Answered { call }, state)
            }
            SandboxMsg::Undone { call, result } => {
                self.finish(&call, result, None, state);
                Ok(())
            }
            SandboxMsg::Crashed(what) => Err(what.into()),
        })
    }
}

impl SandboxActor {
    /// Takes a call in, which an earlier incarnation may have given to this instance or to one before it.
    fn take(
        &self,
        me: &ActorRef<SandboxMsg>,
        request: CallRequest,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let id = request.call.clone();
        let rerun = self.context.settings.session.rerun.contains(&*request.tool);
        state.requests.insert(id.clone(), (Arc::new(request), Instant::now()));
        let given = self.entry.call_sandbox(&id);
        let started = given.is_some() && given == self.id();
        if given.is_some() && !started && !rerun {
            let fault = Fault::new(FaultClass::Ambiguous, "its sandbox is gone");
            self.perform(me, Effect::Undone { call: id, why: Undone::Lost(fault) }, state);
            return Ok(());
        }
        self.advance(me, Event::Call(Call { id, started, rerun }), state)
    }

    /// Lets the lifecycle take an event, and does what it wants.
    fn advance(
        &self,
        me: &ActorRef<SandboxMsg>,
        event: Event,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        #[cfg(any(test, feature = "test-util"))]
        self.context.strike(crate::supervision::ActorKind::Sandbox, event.name())?;
        let event = self.budgeted(event);
        let (from, mut effects) = (state.lifecycle.name(), Vec::new());
        if let Err(illegal) = state.lifecycle.step(event, &state.policy, &mut effects) {
            self.context.illegal(illegal);
        }
        let to = state.lifecycle.name();
        if from != to {
            let took = state.since.elapsed();
            state.since = Instant::now();
            self.entry.show(|view| view.sandbox = to);
            if let Some(sandbox) = self.id() {
                let session = self.session.clone();
                self.context.notices.publish(Notice::Sandbox { session, sandbox, from, to, took });
            }
        }
        self.perform_all(me, effects, state);
        Ok(())
    }

    /// What is to be repeated draws on the budget of the whole tree. Nothing is repeated that has used it up,
    /// except what must be known before anything else is done: whether a sandbox exists, and what a call came
    /// to. What an open circuit refused was not asked of anyone, so asking it is no repetition.
    fn budgeted(&self, event: Event) -> Event {
        let retries = &self.context.retries;
        let spend = |fault: Fault| {
            let is_free = matches!(fault.class, FaultClass::Ambiguous | FaultClass::Throttled);
            if !fault.class.is_retryable() || is_free || retries.try_spend() {
                return fault;
            }
            let message = format!("{fault}; too much fails just now to try it again");
            Fault::new(FaultClass::Permanent, message)
        };
        match event {
            Event::CreateFailed(fault) => Event::CreateFailed(spend(fault)),
            Event::ResumeFailed(fault) => Event::ResumeFailed(spend(fault)),
            Event::DeleteFailed(fault) => Event::DeleteFailed(spend(fault)),
            Event::CallFailed { ref fault, .. } if fault.class.is_retryable() => {
                retries.try_spend();
                event
            }
            Event::Created | Event::Resumed | Event::Deleted | Event::Answered { .. } => {
                retries.succeeded();
                event
            }
            event => event,
        }
    }

    /// The present instance.
    fn id(&self) -> Option<SandboxId> {
        self.entry.sandbox().map(|(_, sandbox)| sandbox)
    }

    fn perform_all(&self, me: &ActorRef<SandboxMsg>, effects: Vec<Effect>, state: &mut State) {
        for effect in effects {
            self.perform(me, effect, state);
        }
    }

    fn perform(&self, me: &ActorRef<SandboxMsg>, effect: Effect, state: &mut State) {
        let settings = &self.context.settings;
        match effect {
            Effect::Create { instance } => {
                state.hand = None;
                state.tasks.clear(&Slot::Care);
                let about = self.about();
                self.ask(me, state, async move { requests::create(&about, instance).await });
            }
            Effect::LookUp { instance } => {
                let about = self.about();
                self.ask(me, state, async move { requests::look_up(&about, instance).await });
            }
            Effect::Fit => {
                let about = self.about();
                self.ask(me, state, async move { requests::fit(&about).await });
            }
            Effect::Tend(care) => {
                let (about, to) = (self.about(), me.clone());
                state.tasks.start(Slot::Care, me, async move {
                    requests::tend(&about, care).await;
                    let _ = to.cast(SandboxMsg::Event(Event::Tended(care)));
                });
            }
            Effect::Standby => {
                // Nobody can look after what stands still.
                state.tasks.clear(&Slot::Care);
                let about = self.about();
                self.ask(me, state, async move { requests::standby(&about).await });
            }
            Effect::Resume => {
                let about = self.about();
                self.ask(me, state, async move { requests::resume(&about).await });
            }
            Effect::Shelve => {
                state.tasks.clear(&Slot::Care);
                let (about, instance) = (self.about(), state.lifecycle.instance());
                self.ask(me, state, async move { requests::shelve(&about, instance).await });
            }
            Effect::Delete => {
                state.hand = None;
                state.tasks.clear(&Slot::Care);
                let about = self.about();
                self.ask(me, state, async move { requests::delete(&about).await });
            }
            Effect::ArmRetry { attempt, retry_after } => {
                let after = settings.backoffs.sandbox.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Provider, after, Event::RetryDue { attempt });
            }
            Effect::Run { call } => self.run(me, call, state),
            Effect::Probe { call } => {
                let (about, to) = (self.about(), me.clone());
                state.tasks.start(Slot::Call(call.clone()), me, async move {
                    let present = requests::is_present(&about).await;
                    let _ = to.cast(SandboxMsg::Event(Event::Probed { call, present }));
                });
            }
            Effect::ArmCall { call, attempt } => {
                let after = settings.backoffs.call.delay(attempt, None, &mut state.rng);
                arm(me, state, Slot::Call(call.clone()), after, Event::CallDue { call, attempt });
            }
            Effect::CancelRunning { call, attempt, why } => {
                let Some(hand_of) = self.hand(state) else { return };
                let pause = match attempt {
                    1 => Duration::ZERO,
                    _ => settings.backoffs.call.delay(attempt, None, &mut state.rng),
                };
                let (within, to) = (settings.deadlines.provider, me.clone());
                state.tasks.start(Slot::Cancel(call.clone()), me, async move {
                    tokio::time::sleep(pause).await;
                    if hand(within, hand_of.cancel(&call, why.reason())).await.is_err() {
                        let _ = to.cast(SandboxMsg::Event(Event::CancelFailed { call, attempt, why }));
                    }
                });
            }
            Effect::Undone { call, why } => self.undone(me, call, why, state),
            Effect::ArmIdle { number, after } => arm(me, state, Slot::Idle, after, Event::IdleDue { number }),
            Effect::Inspect { number } => {
                let Some(hand) = self.hand(state) else { return };
                let (about, to, policy) = (self.about(), me.clone(), state.policy.clone());
                state.tasks.start(Slot::Idle, me, async move {
                    let jobs = requests::inspect(&about, hand, &policy).await;
                    let _ = to.cast(SandboxMsg::Event(Event::Inspected { number, jobs }));
                });
            }
            Effect::ArmPart { after } => arm(me, state, Slot::Part, after, Event::PartDue),
            Effect::Unavailable(fault) => {
                let (session, reason) = (self.session.clone(), fault.message);
                self.context.notices.publish(Notice::SandboxUnavailable { session, reason });
            }
            Effect::GiveUp(fault) => self.tell(signals::Event::SandboxFailed(fault)),
            Effect::Leaked(fault) => {
                for sandbox in self.entry.sandboxes() {
                    let reason = fault.message.clone();
                    self.context.notices.publish(Notice::Orphan { sandbox, reason });
                }
            }
            Effect::Gone => {
                self.tell(signals::Event::SandboxGone);
                me.stop(Some("gone".into()));
            }
        }
    }

    /// What a request needs of us.
    fn about(&self) -> About {
        let (context, entry) = (Arc::clone(&self.context), Arc::clone(&self.entry));
        About { context, entry, session: self.session.clone() }
    }

    /// Asks the provider something; the answer is an event.
    fn ask(
        &self,
        me: &ActorRef<SandboxMsg>,
        state: &mut State,
        request: impl Future<Output = Event> + Send + 'static,
    ) {
        let to = me.clone();
        state.tasks.start(Slot::Provider, me, async move {
            let _ = to.cast(SandboxMsg::Event(request.await));
        });
    }

    /// Gives a call to the hand.
    fn run(&self, me: &ActorRef<SandboxMsg>, call: CallId, state: &mut State) {
        let Some((request, _)) = state.requests.get(&call) else { return };
        let request = Arc::clone(request);
        let (Some(sandbox), Some(hand)) = (self.id(), self.hand(state)) else { return };
        self.entry.intend_call(call.clone(), sandbox.clone());
        let (session, tool) = (self.session.clone(), Arc::clone(&request.tool));
        self.context.notices.publish(Notice::CallStarted { session, call: call.clone(), tool });
        let (about, to) = (self.about(), me.clone());
        state.tasks.start(Slot::Call(call.clone()), me, async move {
            match requests::call(&about, hand, sandbox, &request).await {
                Ok(reply) => {
                    let result = Arc::clone(&reply.result);
                    // First: should this actor fail before it hears of it, its successor knows.
                    about.entry.finish_call(&call, Arc::clone(&result));
                    let _ = to.cast(SandboxMsg::Answered { call: call.clone(), reply });
                    about.context.note(&about.entry.item.id, Record::CallFinished { call, result }).await;
                }
                Err(fault) => drop(to.cast(SandboxMsg::Event(Event::CallFailed { call, fault }))),
            }
        });
    }

    /// A call has no answer from a hand. If one was given it, that is written down before anyone is told, so
    /// that nobody gives it to another.
    fn undone(&self, me: &ActorRef<SandboxMsg>, call: CallId, why: Undone, state: &mut State) {
        let result = Arc::new(undone(why, state.policy.keep_files));
        if self.entry.call_sandbox(&call).is_none() {
            // It may have been about to be given.
            state.tasks.clear(&Slot::Call(call.clone()));
            return self.finish(&call, result, None, state);
        }
        self.entry.finish_call(&call, Arc::clone(&result));
        let (about, to) = (self.about(), me.clone());
        state.tasks.start(Slot::Call(call.clone()), me, async move {
            let record = Record::CallFinished { call: call.clone(), result: Arc::clone(&result) };
            about.context.note(&about.entry.item.id, record).await;
            let _ = to.cast(SandboxMsg::Undone { call, result });
        });
    }

    fn hand(&self, state: &mut State) -> Option<Arc<dyn Hand>> {
        let sandbox = self.id()?;
        Some(Arc::clone(state.hand.get_or_insert_with(|| self.context.ports.provider.hand(&sandbox))))
    }

    /// Tells the session what a call came to.
    fn finish(&self, call: &CallId, result: Arc<ToolResult>, run: Option<Duration>, state: &mut State) {
        let Some((request, since)) = state.requests.remove(call) else { return };
        self.context.notices.publish(Notice::CallFinished {
            session: self.session.clone(),
            call: call.clone(),
            tool: Arc::clone(&request.tool),
            is_error: result.is_error,
            run,
            took: since.elapsed(),
        });
        self.tell(signals::Event::Finished { call: call.clone(), result });
    }

    fn tell(&self, event: signals::Event) {
        // A session that is gone has a successor, which asks for what it needs.
        let _ = self.owner.cast(SessionMsg::Event(event));
    }
}

fn arm(me: &ActorRef<SandboxMsg>, state: &mut State, slot: Slot, after: Duration, event: Event) {
    state.tasks.arm(slot, me, after, SandboxMsg::Event(event));
}

/// What the agent reads when a call has no answer from a hand.
fn undone(why: Undone, keeps_files: bool) -> ToolResult {
    let left = if keeps_files { "with the files of this one but not" } else { "without the files and" };
    ToolResult::error(match why {
        Undone::Cancelled(why) => format!("not run: {}", why.reason()),
        Undone::NoSandbox(fault) => format!("not run: no sandbox could be started: {fault}"),
        Undone::Refused(fault) => format!("not run: {fault}"),
        Undone::Lost(fault) => format!(
            "the sandbox was lost while this call ran ({fault}). Nobody knows how far it came; it was not \
             run again. The next call gets a new sandbox, {left} its processes."
        ),
    })
}

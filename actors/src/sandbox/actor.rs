//! The shell around one session's sandbox [lifecycle](super::lifecycle).
//!
//! Talks to the provider and to the sandbox's hand in tasks that answer with messages. A successor adopts
//! the sandbox: which one it is, and which calls it was given, is in the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::rngs::SmallRng;
use tokio::time::Instant;
use tracing::Span;

use super::lifecycle::Lifecycle;
use super::policy::Policy;
use super::signals::{Effect, Event, Undone};
use crate::context::{Context, hand, provider};
use crate::effects::{Crashed, Tasks};
use crate::fault::{Fault, FaultClass};
use crate::ids::{CallId, SandboxId, SessionId};
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::ports::{CallReply, CallRequest, Hand, Record, SandboxSpec, Standby};
use crate::session::actor::SessionMsg;
use crate::session::run::Cancellation;
use crate::session::signals;
use crate::tool::ToolResult;

/// What a sandbox's actor is told.
pub(crate) enum SandboxMsg {
    /// What a lifecycle wants that has just been started.
    Start(Vec<Effect>),
    /// Run a call. `started` says that it was given to the present instance before.
    Call { request: CallRequest, started: bool },
    /// Something for its lifecycle.
    Event(Event),
    /// The hand answered a call.
    Answered { call: CallId, reply: CallReply },
    /// A task panicked.
    Crashed(String),
}

impl SandboxMsg {
    pub(crate) fn cancel(call: CallId, why: Cancellation) -> Self {
        Self::Event(Event::Cancel { call, why })
    }

    pub(crate) fn stop() -> Self {
        Self::Event(Event::StopRequested)
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
    Idle,
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
        if self.context.ports.provider.capabilities().standby == Standby::None {
            policy.standby_after = None;
        }
        let mut effects = Vec::new();
        let lifecycle = match self.entry.sandbox() {
            None => Lifecycle::create(&mut effects),
            Some((instance, _)) => Lifecycle::adopt(instance, &mut effects),
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
            SandboxMsg::Call { request, started } => {
                let call = request.call.clone();
                state.requests.insert(call.clone(), (Arc::new(request), Instant::now()));
                self.advance(&me, Event::Call { call, started }, state)
            }
            SandboxMsg::Event(event) => self.advance(&me, event, state),
            SandboxMsg::Answered { call, reply } => {
                self.finish(&call, reply.result, Some(reply.run), state);
                self.advance(&me, Event::Answered { call }, state)
            }
            SandboxMsg::Crashed(what) => Err(what.into()),
        })
    }
}

impl SandboxActor {
    /// Lets the lifecycle take an event, and does what it wants.
    fn advance(
        &self,
        me: &ActorRef<SandboxMsg>,
        event: Event,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        #[cfg(any(test, feature = "test-util"))]
        self.context.strike(crate::supervision::ActorKind::Sandbox, event.name())?;
        let (from, mut effects) = (state.lifecycle.name(), Vec::new());
        if let Err(illegal) = state.lifecycle.step(event, &state.policy, &mut effects) {
            self.context.illegal(illegal);
        }
        let to = state.lifecycle.name();
        if from != to {
            let (session, sandbox) = (self.session.clone(), self.id(state.lifecycle.instance()));
            let took = state.since.elapsed();
            state.since = Instant::now();
            self.entry.show(|view| view.sandbox = to);
            self.context.notices.publish(Notice::Sandbox { session, sandbox, from, to, took });
        }
        self.perform_all(me, effects, state);
        Ok(())
    }

    /// The name of the session's sandbox number `instance`.
    fn id(&self, instance: u32) -> SandboxId {
        SandboxId::from(format!("{}.{instance}", self.session))
    }

    fn perform_all(&self, me: &ActorRef<SandboxMsg>, effects: Vec<Effect>, state: &mut State) {
        for effect in effects {
            self.perform(me, effect, state);
        }
    }

    fn perform(&self, me: &ActorRef<SandboxMsg>, effect: Effect, state: &mut State) {
        let settings = &self.context.settings;
        let (context, to) = (Arc::clone(&self.context), me.clone());
        let id = self.id(state.lifecycle.instance());
        let within = settings.deadlines.provider;
        match effect {
            Effect::Create { instance } => {
                state.hand = None;
                self.entry.intend_sandbox(instance, id.clone());
                let (work, session) = (self.entry.item.id.clone(), self.session.clone());
                state.tasks.start(Slot::Provider, me, async move {
                    let intended = Record::SandboxIntended { instance, sandbox: id.clone() };
                    let event = match context.record(&work, intended).await {
                        Err(fault) => Event::CreateFailed(fault),
                        Ok(()) => {
                            let spec = SandboxSpec { id, owner: context.settings.owner.clone(), session };
                            let within = context.settings.deadlines.create;
                            match provider(within, context.ports.provider.create(&spec)).await {
                                Ok(_) => Event::Created,
                                Err(error) => Event::CreateFailed(error.fault()),
                            }
                        }
                    };
                    let _ = to.cast(SandboxMsg::Event(event));
                });
            }
            Effect::LookUp { .. } => {
                let session = self.session.clone();
                state.tasks.start(Slot::Provider, me, async move {
                    let event = match provider(within, context.ports.provider.find(&id)).await {
                        // Another's sandbox of that name is not ours to use.
                        Ok(found) => {
                            Event::LookedUp { present: found.is_some_and(|found| found.session == session) }
                        }
                        Err(error) => Event::LookUpFailed(error.fault()),
                    };
                    let _ = to.cast(SandboxMsg::Event(event));
                });
            }
            Effect::ArmRetry { attempt, retry_after } => {
                let after = settings.backoffs.sandbox.delay(attempt, retry_after, &mut state.rng);
                arm(me, state, Slot::Provider, after, Event::RetryDue { attempt });
            }
            Effect::Run { call } => self.run(me, call, id, state),
            Effect::Probe { call } => {
                state.tasks.start(Slot::Call(call.clone()), me, async move {
                    let found = provider(within, context.ports.provider.find(&id)).await;
                    // A listing that failed says nothing about what is there.
                    let present = found.map_or(true, |found| found.is_some());
                    let _ = to.cast(SandboxMsg::Event(Event::Probed { call, present }));
                });
            }
            Effect::ArmCall { call, attempt } => {
                let after = settings.backoffs.call.delay(attempt, None, &mut state.rng);
                arm(me, state, Slot::Call(call.clone()), after, Event::CallDue { call, attempt });
            }
            Effect::CancelRunning { call, attempt, why } => {
                let hand_of = self.hand(&id, state);
                let pause = match attempt {
                    1 => Duration::ZERO,
                    _ => settings.backoffs.call.delay(attempt, None, &mut state.rng),
                };
                state.tasks.start(Slot::Cancel(call.clone()), me, async move {
                    tokio::time::sleep(pause).await;
                    if hand(within, hand_of.cancel(&call, why.reason())).await.is_err() {
                        let _ = to.cast(SandboxMsg::Event(Event::CancelFailed { call, attempt, why }));
                    }
                });
            }
            Effect::Undone { call, why } => self.finish(&call, Arc::new(undone(why)), None, state),
            Effect::ArmIdle { number, after } => arm(me, state, Slot::Idle, after, Event::IdleDue { number }),
            Effect::Standby => state.tasks.start(Slot::Provider, me, async move {
                let event = match provider(within, context.ports.provider.standby(&id)).await {
                    Ok(()) => Event::StoodBy,
                    Err(error) => Event::StandbyFailed(error.fault()),
                };
                let _ = to.cast(SandboxMsg::Event(event));
            }),
            Effect::Resume => state.tasks.start(Slot::Provider, me, async move {
                let event = match provider(within, context.ports.provider.resume(&id)).await {
                    Ok(()) => Event::Resumed,
                    Err(error) => Event::ResumeFailed(error.fault()),
                };
                let _ = to.cast(SandboxMsg::Event(event));
            }),
            Effect::Delete => {
                state.hand = None;
                state.tasks.start(Slot::Provider, me, async move {
                    let event = match provider(within, context.ports.provider.delete(&id)).await {
                        Ok(()) => Event::Deleted,
                        Err(error) => Event::DeleteFailed(error.fault()),
                    };
                    let _ = to.cast(SandboxMsg::Event(event));
                });
            }
            Effect::Unavailable(fault) => {
                let (session, reason) = (self.session.clone(), fault.message);
                self.context.notices.publish(Notice::SandboxUnavailable { session, reason });
            }
            Effect::GiveUp(fault) => self.tell(signals::Event::SandboxFailed(fault)),
            Effect::Leaked(fault) => {
                self.context.notices.publish(Notice::Orphan { sandbox: id, reason: fault.message });
            }
            Effect::Gone => {
                self.tell(signals::Event::SandboxGone);
                me.stop(Some("gone".into()));
            }
        }
    }

    /// Gives a call to the hand.
    fn run(&self, me: &ActorRef<SandboxMsg>, call: CallId, sandbox: SandboxId, state: &mut State) {
        let Some((request, _)) = state.requests.get(&call) else { return };
        let request = Arc::clone(request);
        let hand_of = self.hand(&sandbox, state);
        self.entry.start_call(call.clone(), sandbox.clone());
        let (session, tool) = (self.session.clone(), Arc::clone(&request.tool));
        self.context.notices.publish(Notice::CallStarted { session, call: call.clone(), tool });
        let (context, to, work) = (Arc::clone(&self.context), me.clone(), self.entry.item.id.clone());
        state.tasks.start(Slot::Call(call.clone()), me, async move {
            let started = Record::CallStarted { call: call.clone(), sandbox };
            if let Err(fault) = context.record(&work, started).await {
                // Nothing is wrong with the sandbox, and what is not written down is not run.
                let fault = Fault { class: FaultClass::Permanent, ..fault };
                return drop(to.cast(SandboxMsg::Event(Event::CallFailed { call, fault })));
            }
            let within = request.timeout + context.settings.deadlines.hand;
            match hand(within, hand_of.call(&request)).await {
                Ok(reply) => {
                    let result = Arc::clone(&reply.result);
                    let _ = to.cast(SandboxMsg::Answered { call: call.clone(), reply });
                    context.note(&work, Record::CallFinished { call, result }).await;
                }
                Err(error) => {
                    let _ = to.cast(SandboxMsg::Event(Event::CallFailed { call, fault: error.fault() }));
                }
            }
        });
    }

    fn hand(&self, sandbox: &SandboxId, state: &mut State) -> Arc<dyn Hand> {
        Arc::clone(state.hand.get_or_insert_with(|| self.context.ports.provider.hand(sandbox)))
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
fn undone(why: Undone) -> ToolResult {
    ToolResult::error(match why {
        Undone::Cancelled(why) => format!("not run: {}", why.reason()),
        Undone::NoSandbox(fault) => format!("not run: no sandbox could be started: {fault}"),
        Undone::Refused(fault) => format!("not run: {fault}"),
        Undone::Lost(fault) => format!(
            "the sandbox was lost while this call ran ({fault}). Nobody knows how far it came; it was not \
             run again. The next call gets a new sandbox, without the files and processes of this one."
        ),
    })
}

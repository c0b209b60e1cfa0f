//! The shell around one queue's [machine].

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::rngs::SmallRng;
use tokio::time::Instant;
use tracing::Span;

use super::machine::{self, Effect, Event};
use crate::admission;
use crate::context::{Context, control};
use crate::effects::{Crashed, Tasks};
use crate::governor::Class;
use crate::ids::EnvironmentId;
use crate::notice::Notice;
use crate::ports::WorkItem;
use crate::sessions::SessionsMsg;

/// What a poller is told.
pub(crate) enum PollerMsg {
    /// Begin.
    Start,
    /// There is room for one more session.
    Slot(admission::Slot),
    /// A poll brought an item, and was made then.
    Item(Box<WorkItem>, Instant),
    /// Something for its machine.
    Event(Event),
    /// A task panicked.
    Crashed(String),
}

impl Crashed for PollerMsg {
    fn crashed(what: String) -> Self {
        Self::Crashed(what)
    }
}

/// The shell of one queue's poller.
pub(crate) struct Poller {
    pub(crate) context: Arc<Context>,
    pub(crate) environment: EnvironmentId,
    pub(crate) sessions: ActorRef<SessionsMsg>,
}

/// What it holds while it lives.
pub(crate) struct State {
    machine: machine::State,
    slot: Option<admission::Slot>,
    /// Whether the queue answered when it was asked last, as far as people know.
    reached: bool,
    tasks: Tasks<Slot>,
    rng: SmallRng,
    span: Span,
}

/// The tasks a poller may have.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// A poll, or a wait for a slot or for the next poll.
    Poll,
}

impl Actor for Poller {
    type Msg = PollerMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<PollerMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        me.cast(PollerMsg::Start)?;
        Ok(State {
            machine: machine::State::Waiting { failures: 0 },
            slot: None,
            reached: false,
            tasks: Tasks::new(),
            rng: self.context.rng(&self.environment),
            span: tracing::info_span!(parent: None, "poller", remuda.environment.id = %self.environment),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<PollerMsg>,
        msg: PollerMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let event = match msg {
            PollerMsg::Start => {
                let mut effects = Vec::new();
                state.machine = machine::State::start(&mut effects);
                self.perform_all(&me, effects, state);
                return Ok(());
            }
            PollerMsg::Slot(slot) => {
                // One that comes too late goes back at once.
                state.slot = Some(slot).filter(|_| matches!(state.machine, machine::State::Waiting { .. }));
                Event::SlotGranted
            }
            PollerMsg::Item(item, asked) => {
                // One that comes too late is not acknowledged, so the queue offers it to others.
                if matches!(state.machine, machine::State::Polling { .. }) {
                    self.admit(*item, asked, state);
                }
                Event::Claimed
            }
            PollerMsg::Event(event) => event,
            PollerMsg::Crashed(what) => return Err(what.into()),
        };
        #[cfg(any(test, feature = "test-util"))]
        self.context.strike(crate::supervision::ActorKind::Poller, event.name())?;
        state.span.clone().in_scope(|| self.advance(&me, event, state));
        Ok(())
    }
}

impl Poller {
    /// Writes the item into the ledger, together with its slot, and hands it over. Its session acknowledges
    /// it: should we die here, the queue offers it again.
    fn admit(&self, item: WorkItem, asked: Instant, state: &mut State) {
        let work = item.id.clone();
        // One that we hold already is a repetition; its slot goes back.
        if self.context.ledger.admit(item, asked, state.slot.take()).is_some() {
            let _ = self.sessions.cast(SessionsMsg::Admit(work));
        }
    }

    fn advance(&self, me: &ActorRef<PollerMsg>, event: Event, state: &mut State) {
        self.tell(&event, state);
        let (from, mut effects) = (state.machine.name(), Vec::new());
        if let Err(illegal) = state.machine.step(event, &self.context.settings.poller, &mut effects) {
            self.context.illegal(illegal);
        }
        let to = state.machine.name();
        if from != to {
            let environment = self.environment.clone();
            self.context.notices.publish(Notice::Poller { environment, from, to });
        }
        self.perform_all(me, effects, state);
    }

    /// Tells people when the queue begins or ceases to answer.
    fn tell(&self, event: &Event, state: &mut State) {
        let environment = || self.environment.clone();
        match event {
            Event::Claimed | Event::Empty { .. } if !state.reached => {
                state.reached = true;
                self.context.notices.publish(Notice::QueueReached { environment: environment() });
            }
            Event::Failed(fault) if fault.class.is_retryable() => {
                state.reached = false;
                let failures = state.machine.failures() + 1;
                let reason = Arc::clone(&fault.message);
                self.context.notices.publish(Notice::QueueFailed {
                    environment: environment(),
                    failures,
                    reason,
                });
            }
            _ => {}
        }
    }

    fn perform_all(&self, me: &ActorRef<PollerMsg>, effects: Vec<Effect>, state: &mut State) {
        for effect in effects {
            self.perform(me, effect, state);
        }
    }

    fn perform(&self, me: &ActorRef<PollerMsg>, effect: Effect, state: &mut State) {
        let settings = &self.context.settings;
        match effect {
            Effect::AcquireSlot { demand } => {
                let (admission, to) = (Arc::clone(&self.context.admission), me.clone());
                let environment = self.environment.clone();
                state.tasks.start(Slot::Poll, me, async move {
                    let slot = admission.slot(environment, demand).await;
                    let _ = to.cast(PollerMsg::Slot(slot));
                });
            }
            Effect::Poll => {
                let poll = poll(Arc::clone(&self.context), self.environment.clone(), me.clone());
                state.tasks.start(Slot::Poll, me, poll);
            }
            Effect::ArmPace => arm(me, state, settings.poller.pace),
            Effect::ArmBackoff { failures, retry_after } => {
                let after = settings.backoffs.poll.delay(failures, retry_after, &mut state.rng);
                arm(me, state, after);
            }
            Effect::Release => {
                state.tasks.clear(&Slot::Poll);
                state.slot = None;
            }
            Effect::Refused(fault) => {
                let (environment, reason) = (self.environment.clone(), fault.message);
                self.context.notices.publish(Notice::QueueRefused { environment, reason });
            }
        }
    }
}

fn arm(me: &ActorRef<PollerMsg>, state: &mut State, after: Duration) {
    state.tasks.arm(Slot::Poll, me, after, PollerMsg::Event(Event::Due));
}

async fn poll(context: Arc<Context>, environment: EnvironmentId, to: ActorRef<PollerMsg>) {
    let block = context.settings.poller.block;
    let within = block + context.settings.deadlines.control;
    if let Err(error) = context.governor.turn(Class::Poll).await {
        return drop(to.cast(PollerMsg::Event(Event::Failed(error.fault()))));
    }
    let asked = Instant::now();
    let message = match control(within, context.ports.control.poll(&environment, block)).await {
        Ok(Some(item)) => PollerMsg::Item(Box::new(item), asked),
        Ok(None) => {
            let crowded = context.admission.is_crowded();
            PollerMsg::Event(Event::Empty { held: asked.elapsed(), crowded })
        }
        Err(error) => PollerMsg::Event(Event::Failed(error.fault())),
    };
    let _ = to.cast(message);
}

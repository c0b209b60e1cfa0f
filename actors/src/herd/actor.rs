//! The shell around the [shelf](super::shelf): makes blank sandboxes, deletes what has to go.
//!
//! Level-triggered: whenever the shelf has changed or something on it falls due, it asks what is to be done
//! and does that. A successor that starts with the same shelf goes on from there.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::policy::Policy;
use crate::context::{Context, provider};
use crate::effects::{Crashed, Tasks};
use crate::fault::Fault;
use crate::ids::SandboxId;
use crate::notice::Notice;
use crate::ports::{Limits, ProviderError, SandboxSpec, Shelved, Standby};

/// What the herd is told.
pub(crate) enum HerdMsg {
    /// Look at the shelf.
    Look,
    /// A blank sandbox is on the shelf.
    Made(SandboxId),
    /// It could not be made.
    MakeFailed(SandboxId, Fault),
    /// The wait after failures is over.
    MakeDue,
    /// A sandbox is gone, or was left to the reaper.
    Left(SandboxId),
    /// A task panicked.
    Crashed(String),
}

impl Crashed for HerdMsg {
    fn crashed(what: String) -> Self {
        Self::Crashed(what)
    }
}

/// The herd.
pub(crate) struct Herd {
    pub(crate) context: Arc<Context>,
}

/// What it holds while it lives.
pub(crate) struct State {
    policy: Policy,
    making: Making,
    tasks: Tasks<Slot>,
    rng: SmallRng,
}

/// Whether blank sandboxes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Making {
    /// As many as are wanted.
    On { failures: u32 },
    /// None for a while, since the last ones could not be made.
    BackingOff { failures: u32 },
}

/// The tasks it may have.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    /// Waiting until the shelf changes or something falls due.
    Watch,
    BackOff,
    Make(SandboxId),
    Leave(SandboxId),
}

impl Actor for Herd {
    type Msg = HerdMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<HerdMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        let mut policy = self.context.settings.herd.clone();
        if self.context.ports.provider.capabilities().standby == Standby::None {
            policy.warm = 0;
        }
        me.cast(HerdMsg::Look)?;
        // What an earlier incarnation was making or deleting, it does no more.
        let incarnation = self.context.herd.shelf().restart();
        let rng = self.context.rng(("herd", incarnation));
        Ok(State { policy, making: Making::On { failures: 0 }, tasks: Tasks::new(), rng })
    }

    async fn handle(
        &self,
        me: ActorRef<HerdMsg>,
        msg: HerdMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        #[cfg(any(test, feature = "test-util"))]
        self.context.strike(crate::supervision::ActorKind::Herd, msg.name())?;
        match msg {
            HerdMsg::Look => {}
            HerdMsg::Made(sandbox) => {
                state.tasks.clear(&Slot::Make(sandbox));
                state.making = Making::On { failures: 0 };
            }
            HerdMsg::MakeFailed(sandbox, fault) => {
                let (Making::On { failures } | Making::BackingOff { failures }) = state.making;
                let failures = failures + 1;
                state.tasks.clear(&Slot::Make(sandbox.clone()));
                self.context.herd.shelf().forget(&sandbox);
                let reason = fault.message.clone();
                self.context.notices.publish(Notice::NotMade { sandbox, reason });
                state.making = Making::BackingOff { failures };
                let backoff = self.context.settings.backoffs.herd;
                let after = backoff.delay(failures, fault.retry_after, &mut state.rng);
                state.tasks.arm(Slot::BackOff, &me, after, HerdMsg::MakeDue);
            }
            HerdMsg::MakeDue => {
                if let Making::BackingOff { failures } = state.making {
                    state.making = Making::On { failures };
                }
            }
            HerdMsg::Left(sandbox) => {
                state.tasks.clear(&Slot::Leave(sandbox.clone()));
                self.context.herd.shelf().forget(&sandbox);
            }
            HerdMsg::Crashed(what) => return Err(what.into()),
        }
        self.look(&me, state);
        Ok(())
    }
}

impl HerdMsg {
    /// One word, for logs.
    #[cfg(any(test, feature = "test-util"))]
    fn name(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Made(_) => "made",
            Self::MakeFailed(..) => "make_failed",
            Self::MakeDue => "make_due",
            Self::Left(_) => "left",
            Self::Crashed(_) => "crashed",
        }
    }
}

impl Herd {
    /// Does what the shelf wants, and waits for the next time it wants something.
    fn look(&self, me: &ActorRef<HerdMsg>, state: &mut State) {
        // Before the look, so that no change falls between the two.
        let changed = self.context.herd.changed();
        let plan = {
            let mut shelf = self.context.herd.shelf();
            let policy = match state.making {
                Making::On { .. } => state.policy.clone(),
                Making::BackingOff { .. } => Policy { making: 0, ..state.policy.clone() },
            };
            shelf.plan(Instant::now(), &policy)
        };
        for (sandbox, why) in plan.evict {
            self.context.notices.publish(Notice::Evicted { sandbox: sandbox.clone(), why });
            self.leave(me, sandbox, state);
        }
        for _ in 0..plan.make {
            self.make(me, state);
        }
        let (to, again) = (me.clone(), plan.again.unwrap_or(Duration::from_secs(3600)));
        state.tasks.start(Slot::Watch, me, async move {
            let _ = tokio::time::timeout(again, changed).await;
            let _ = to.cast(HerdMsg::Look);
        });
    }

    /// Makes a blank sandbox. Should we die before it is on the shelf, it is an orphan.
    fn make(&self, me: &ActorRef<HerdMsg>, state: &mut State) {
        let sandbox = SandboxId::from(format!("blank.{:016x}", state.rng.random::<u64>()));
        self.context.herd.shelf().making(sandbox.clone());
        let (context, to) = (Arc::clone(&self.context), me.clone());
        state.tasks.start(Slot::Make(sandbox.clone()), me, async move {
            let message = match make(&context, &sandbox).await {
                Ok(()) => HerdMsg::Made(sandbox),
                Err(fault) => HerdMsg::MakeFailed(sandbox, fault),
            };
            let _ = to.cast(message);
        });
    }

    /// Deletes a sandbox that is off the shelf here, and is taken off the one in the journal first.
    fn leave(&self, me: &ActorRef<HerdMsg>, sandbox: SandboxId, state: &mut State) {
        let (context, to) = (Arc::clone(&self.context), me.clone());
        state.tasks.start(Slot::Leave(sandbox.clone()), me, async move {
            if let Err(fault) = leave(&context, &sandbox).await {
                // Nobody's from here on, which makes it the reaper's.
                let reason = fault.message;
                context.notices.publish(Notice::Orphan { sandbox: sandbox.clone(), reason });
            }
            let _ = to.cast(HerdMsg::Left(sandbox));
        });
    }
}

async fn make(context: &Context, sandbox: &SandboxId) -> Result<(), Fault> {
    let (within, owner) = (context.settings.deadlines.provider, context.settings.owner.clone());
    let spec = SandboxSpec {
        id: sandbox.clone(),
        owner,
        session: None,
        image: None,
        limits: Limits::default(),
        files_of: None,
    };
    let made = context.create(&spec).await;
    // Whoever has that name already is not ours to delete: it may be a session's.
    if let Err(error @ ProviderError::AlreadyExists { .. }) = &made {
        return Err(error.fault());
    }
    let ready = async {
        made.map_err(|error| error.fault())?;
        let frozen = provider(within, context.ports.provider.standby(sandbox)).await;
        frozen.map_err(|error| error.fault())?;
        let shelved = Shelved { sandbox: sandbox.clone(), parked: None };
        context.shelve(&shelved).await?;
        // From this line on a session may have it.
        context.herd.put(shelved, Instant::now());
        Ok(())
    };
    let ready = ready.await;
    if ready.is_err() {
        // What could not be deleted either is found by the reaper.
        let _ = provider(within, context.ports.provider.delete(sandbox)).await;
    }
    ready
}

/// Deletes everything that waits, because nobody comes back for it.
pub(crate) async fn disband(context: &Context) {
    let waiting: Vec<_> = context.herd.shelf().waiting().cloned().collect();
    let leaving = futures_util::stream::iter(waiting.iter());
    let at_once = context.settings.herd.leaving.max(1);
    let leaving = leaving.for_each_concurrent(at_once, |sandbox| async {
        if let Err(fault) = leave(context, sandbox).await {
            let reason = fault.message;
            context.notices.publish(Notice::Orphan { sandbox: sandbox.clone(), reason });
        }
    });
    leaving.await;
}

async fn leave(context: &Context, sandbox: &SandboxId) -> Result<(), Fault> {
    context.unshelve(sandbox).await?;
    let deleted = context.ports.provider.delete(sandbox);
    provider(context.settings.deadlines.provider, deleted).await.map_err(|error| error.fault())
}

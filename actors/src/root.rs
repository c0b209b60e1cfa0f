//! The root supervisor: starts the tree's fixed parts, starts them again when they fail, and takes the tree
//! down in order.
//!
//! Started in the order herd, sessions, reaper, pollers. The pollers hold the address of the supervisor of
//! sessions, so they are started after it, and started again whenever it is.
//!
//! A drain stops claiming first. If it leaves the sessions to the next process, it ends the reaper before any
//! of them leaves: from then on their sandboxes are nobody's here, and theirs all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::context::Context;
use crate::effects::{Crashed, Tasks};
use crate::herd::actor::{Herd, HerdMsg, disband};
use crate::ids::EnvironmentId;
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::poller::actor::{Poller, PollerMsg};
use crate::poller::machine::Event;
use crate::reaper::actor::{Reaper, ReaperMsg, clear};
use crate::sessions::{Ending, Sessions, SessionsMsg};
use crate::settings::OnDrain;
use crate::supervision::{ActorKind, Budget, Verdict};
use crate::tree::Drained;

/// What the root is told.
pub(crate) enum RootMsg {
    /// Start a part of the tree, or start it again.
    Start(Part),
    /// There may be work in this queue, or in any.
    Wake(Option<EnvironmentId>),
    /// Stop claiming, let the sessions end, and then end the tree.
    Drain { grace: Duration, reply: RpcReplyPort<Drained> },
    /// What is left is ended by force.
    Close,
    /// The sessions have ended.
    Drained { report: Drained, reply: RpcReplyPort<Drained> },
    /// A task panicked.
    Crashed(String),
}

impl Crashed for RootMsg {
    fn crashed(what: String) -> Self {
        Self::Crashed(what)
    }
}

/// The fixed parts of the tree, in the order in which they start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Herd,
    Sessions,
    Reaper,
    Poller(EnvironmentId),
}

impl Part {
    fn kind(&self) -> ActorKind {
        match self {
            Self::Herd => ActorKind::Herd,
            Self::Sessions => ActorKind::Sessions,
            Self::Reaper => ActorKind::Reaper,
            Self::Poller(_) => ActorKind::Poller,
        }
    }
}

/// The root supervisor.
pub(crate) struct Root {
    pub(crate) context: Arc<Context>,
}

/// What it holds while it lives.
pub(crate) struct State {
    /// The present supervisor of sessions; a drain goes on with the next one when it fails.
    sessions: watch::Sender<Option<ActorRef<SessionsMsg>>>,
    herd: Option<ActorRef<HerdMsg>>,
    reaper: Option<ActorRef<ReaperMsg>>,
    pollers: BTreeMap<EnvironmentId, ActorRef<PollerMsg>>,
    budgets: BTreeMap<Part, Budget>,
    tasks: Tasks<Slot>,
    rng: SmallRng,
    phase: Phase,
}

/// Whether the tree claims work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    /// What fails now is not started again.
    Closing,
}

/// The tasks the root may have.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Restart(Part),
    Drain,
}

impl Actor for Root {
    type Msg = RootMsg;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<RootMsg>, (): ()) -> Result<State, ActorProcessingErr> {
        me.cast(RootMsg::Start(Part::Herd))?;
        me.cast(RootMsg::Start(Part::Sessions))?;
        me.cast(RootMsg::Start(Part::Reaper))?;
        Ok(State {
            sessions: watch::Sender::new(None),
            herd: None,
            reaper: None,
            pollers: BTreeMap::new(),
            budgets: BTreeMap::new(),
            tasks: Tasks::new(),
            rng: self.context.rng("root"),
            phase: Phase::Serving,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<RootMsg>,
        msg: RootMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            RootMsg::Start(part) => {
                if let Err(error) = Box::pin(self.start(&me, &part, state)).await {
                    self.failed(&me, part, &error.to_string(), state)?;
                }
            }
            RootMsg::Wake(environment) => {
                for (of, poller) in &state.pollers {
                    if environment.as_ref().is_none_or(|environment| environment == of) {
                        let _ = poller.cast(PollerMsg::Event(Event::Wake));
                    }
                }
            }
            RootMsg::Drain { grace, reply } => {
                state.phase = Phase::Draining;
                for poller in state.pollers.values() {
                    let _ = poller.cast(PollerMsg::Event(Event::Drain));
                }
                let (context, to, sessions) =
                    (Arc::clone(&self.context), me.clone(), state.sessions.subscribe());
                let leaves = context.settings.on_drain == OnDrain::Leave;
                let reaper = state.reaper.take_if(|_| leaves);
                state.tasks.start(Slot::Drain, &me, async move {
                    if let Some(reaper) = reaper {
                        let _ = reaper.kill_and_wait(Some(context.settings.supervision.kill)).await;
                    }
                    let report = drain(&context, &to, sessions, grace).await;
                    let _ = to.cast(RootMsg::Drained { report, reply });
                });
            }
            RootMsg::Close => {
                state.phase = Phase::Closing;
                // It makes no more from here on.
                if let Some(herd) = state.herd.take() {
                    herd.kill();
                }
            }
            RootMsg::Drained { report, reply } => {
                // Nothing is left that a child would still have to do.
                me.stop(Some("drained".into()));
                let _ = reply.send(report);
            }
            RootMsg::Crashed(what) => return Err(what.into()),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<RootMsg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, cause) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            // None of them ever leaves by itself.
            SupervisionEvent::ActorTerminated(cell, _, reason) => (cell, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        // One that is not known any more was replaced on purpose.
        let Some(part) = state.part(&cell) else { return Ok(()) };
        self.failed(&me, part, &cause, state)
    }
}

impl State {
    /// The part that an actor is.
    fn part(&self, cell: &ActorCell) -> Option<Part> {
        let id = cell.get_id();
        if self.sessions.borrow().as_ref().is_some_and(|sessions| sessions.get_id() == id) {
            return Some(Part::Sessions);
        }
        if self.herd.as_ref().is_some_and(|herd| herd.get_id() == id) {
            return Some(Part::Herd);
        }
        if self.reaper.as_ref().is_some_and(|reaper| reaper.get_id() == id) {
            return Some(Part::Reaper);
        }
        let (environment, _) = self.pollers.iter().find(|(_, poller)| poller.get_id() == id)?;
        Some(Part::Poller(environment.clone()))
    }
}

impl Root {
    async fn start(&self, me: &ActorRef<RootMsg>, part: &Part, state: &mut State) -> Result<(), SpawnErr> {
        let (context, cell) = (Arc::clone(&self.context), me.get_cell());
        state.tasks.clear(&Slot::Restart(part.clone()));
        match part {
            Part::Herd => {
                let (herd, _) = cell.spawn_linked(None, Herd { context }, ()).await?;
                state.herd = Some(herd);
            }
            Part::Sessions => {
                let (sessions, _) = cell.spawn_linked(None, Sessions { context }, ()).await?;
                state.sessions.send_replace(Some(sessions));
                for environment in &self.context.settings.environments {
                    let _ = me.cast(RootMsg::Start(Part::Poller(environment.id.clone())));
                }
            }
            Part::Reaper
                if self.context.settings.on_drain == OnDrain::Leave && state.phase != Phase::Serving => {}
            Part::Reaper => {
                let (reaper, _) = cell.spawn_linked(None, Reaper { context }, ()).await?;
                state.reaper = Some(reaper);
            }
            Part::Poller(_) if state.phase != Phase::Serving => {}
            Part::Poller(environment) => {
                // While there is no supervisor to hand items to, none is started: the supervisor's start does that.
                let Some(sessions) = state.sessions.borrow().clone() else { return Ok(()) };
                if state.pollers.contains_key(environment) {
                    return Ok(());
                }
                let poller = Poller { context, environment: environment.clone(), sessions };
                let (poller, _) = cell.spawn_linked(None, poller, ()).await?;
                state.pollers.insert(environment.clone(), poller);
            }
        }
        Ok(())
    }

    /// A part failed: start it again, or end the tree.
    fn failed(
        &self,
        me: &ActorRef<RootMsg>,
        part: Part,
        cause: &str,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if state.phase == Phase::Closing {
            return Ok(());
        }
        let policy = &self.context.settings.supervision;
        let budget = state.budgets.entry(part.clone()).or_insert_with(|| Budget::new(policy.core));
        let verdict = budget.spend(Instant::now());
        let (actor, restarted) = (part.kind(), matches!(verdict, Verdict::Restart(_)));
        self.context.notices.publish(Notice::Failed { actor, restarted, cause: cause.into() });
        let Verdict::Restart(failures) = verdict else {
            return Err(format!("the {} actor failed too often: {cause}", actor.name()).into());
        };
        let after = policy.backoff.delay(failures, None, &mut state.rng);
        match &part {
            Part::Sessions => {
                state.sessions.send_replace(None);
                for poller in std::mem::take(&mut state.pollers).into_values() {
                    poller.kill();
                }
            }
            Part::Poller(environment) => drop(state.pollers.remove(environment)),
            Part::Herd | Part::Reaper => {}
        }
        state.tasks.arm(Slot::Restart(part.clone()), me, after, RootMsg::Start(part));
        Ok(())
    }
}

/// Lets all sessions end: by themselves within the grace period, by telling them to after it, and by force if
/// even that takes too long.
async fn drain(
    context: &Context,
    root: &ActorRef<RootMsg>,
    mut sessions: watch::Receiver<Option<ActorRef<SessionsMsg>>>,
    grace: Duration,
) -> Drained {
    let settings = &context.settings;
    let (gently, now) = match settings.on_drain {
        OnDrain::Release => (Ending::Drain, Ending::HandBack),
        OnDrain::Leave => (Ending::Leave, Ending::LeaveNow),
    };
    let settle = settings.session.settle + settings.deadlines.provider;
    if !ended(&mut sessions, gently, grace).await && !ended(&mut sessions, now, settle).await {
        let _ = root.cast(RootMsg::Close);
        let sessions = sessions.borrow().clone();
        if let Some(sessions) = sessions {
            let _ = sessions.kill_and_wait(Some(settings.supervision.kill)).await;
        }
    }
    let (left, owned) = (context.ledger.all(), context.owned());
    let closings = left.iter().map(|entry| close(context, entry));
    // Together: what cannot be deleted in the time of one request is left to the next process.
    futures_util::future::join_all(closings).await;
    if settings.on_drain == OnDrain::Release {
        let _ = root.cast(RootMsg::Close);
        disband(context).await;
        // What could not be deleted just now is not tried again.
        clear(context, &owned).await;
    }
    Drained {
        handed_back: context.handed_back.load(Ordering::Relaxed),
        left: context.left.load(Ordering::Relaxed),
        killed: left.len(),
    }
}

/// Whether all sessions ended in time, whichever supervisor they had.
async fn ended(
    sessions: &mut watch::Receiver<Option<ActorRef<SessionsMsg>>>,
    how: Ending,
    within: Duration,
) -> bool {
    let ended = async {
        loop {
            let supervisor = sessions.borrow_and_update().clone();
            if let Some(supervisor) = supervisor {
                let ended = supervisor.call(|reply| SessionsMsg::End { how, reply }, None).await;
                if matches!(ended, Ok(CallResult::Success(()))) {
                    return true;
                }
            }
            // It failed, and is started again; unless the root is gone, too.
            if sessions.changed().await.is_err() {
                return false;
            }
        }
    };
    tokio::time::timeout(within, ended).await.unwrap_or(false)
}

/// Ends what is left of a session by force.
async fn close(context: &Context, entry: &Entry) {
    let settings = &context.settings;
    for cell in entry.take_cells() {
        let _ = cell.kill_and_wait(Some(settings.supervision.kill)).await;
    }
    if settings.on_drain == OnDrain::Release {
        for sandbox in entry.sandboxes() {
            let _ = context.delete(&sandbox, entry.item.session()).await;
        }
    }
    // The process ends: what is forgotten now the journal tells the next one.
    let _ = context.ledger.remove(&entry.item.id);
}

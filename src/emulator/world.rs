//! The emulator's whole state, its one lock, and what happens once the lock is released.
//!
//! Everything a request or a brain does is one closure over [`World`], run under the lock at one instant and
//! without waiting. What cannot happen under it (starting a brain, waking a task) leaves as an [`Effect`] and
//! is performed after the release, in order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use remuda_actors::ids::{EnvironmentId, SessionId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agents::Agent;
use super::auth::{Credentials, Identity};
use super::brain;
use super::clock::{Clock, rfc3339};
use super::environments::Environment;
use super::faults::Faults;
use super::http::ApiError;
use super::log::RequestLog;
use super::memory::MemoryStore;
use super::mint::Mint;
use super::options::Options;
use super::registry::Registry;
use super::scenario::Scenario;
use super::session::{Session, Turn};
use super::skills::Skill;
use super::work::{Policy, Timers};

/// Something to do once the lock is released.
#[derive(Debug)]
pub(super) enum Effect {
    /// An item may become overdue earlier than the timer task believes.
    WakeTimers,
    /// A turn started.
    RunTurn { session: SessionId, turn: Turn },
    /// A session was made for a scenario that sends its own first message.
    OpenScenario { session: SessionId },
}

/// The emulator's state.
#[derive(Debug)]
pub(super) struct World {
    pub(super) options: Arc<Options>,
    pub(super) policy: Policy,
    pub(super) clock: Clock,
    /// The instant of the closure that holds the lock.
    pub(super) now: Instant,
    pub(super) mint: Mint,
    pub(super) credentials: Credentials,
    pub(super) environments: Registry<EnvironmentId, Environment>,
    pub(super) agents: Registry<String, Agent>,
    pub(super) sessions: Registry<SessionId, Session>,
    /// Deleted sessions, for those who ask how they ended.
    pub(super) buried: VecDeque<Session>,
    pub(super) skills: HashMap<String, Skill>,
    pub(super) stores: Registry<String, MemoryStore>,
    pub(super) scenarios: HashMap<String, Arc<Scenario>>,
    pub(super) timers: Timers,
    pub(super) effects: Vec<Effect>,
    last_stamp: Timestamp,
}

impl World {
    pub(super) fn new(options: Arc<Options>, scenarios: Vec<Scenario>) -> Self {
        let clock = Clock::start();
        let named = |scenario: Scenario| (scenario.name.clone(), Arc::new(scenario));
        Self {
            policy: options.policy(),
            options,
            clock,
            now: Instant::now(),
            mint: Mint::new(),
            credentials: Credentials::default(),
            environments: Registry::default(),
            agents: Registry::default(),
            sessions: Registry::default(),
            buried: VecDeque::new(),
            skills: HashMap::new(),
            stores: Registry::default(),
            scenarios: scenarios.into_iter().map(named).collect(),
            timers: Timers::default(),
            effects: Vec::new(),
            last_stamp: Timestamp::UNIX_EPOCH,
        }
    }

    /// The wall-clock time of this moment.
    pub(super) fn wall(&self) -> Timestamp {
        self.clock.wall(self.now)
    }

    /// A heartbeat's stamp: the time, and never one that was given before.
    pub(super) fn next_stamp(&mut self) -> String {
        let after_last = self.last_stamp.as_microsecond() + 1;
        let micros = self.wall().as_microsecond().max(after_last);
        self.last_stamp = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX);
        rfc3339(self.last_stamp)
    }

    /// An environment, or the refusal that names it.
    pub(super) fn environment(&self, id: &EnvironmentId) -> Result<&Environment, ApiError> {
        let missing =
            || ApiError::not_found(format!("there is no environment {id}")).code("environment_not_found");
        self.environments.get(id).ok_or_else(missing)
    }

    /// A session, or the refusal that names it.
    pub(super) fn session(&self, id: &SessionId) -> Result<&Session, ApiError> {
        self.sessions.get(id).ok_or_else(|| ApiError::not_found(format!("there is no session {id}")))
    }

    /// A session `identity` may touch.
    pub(super) fn session_for(&self, identity: &Identity, id: &SessionId) -> Result<&Session, ApiError> {
        let session = self.session(id)?;
        identity.check_session(id, &session.environment)?;
        Ok(session)
    }
}

/// What every task of one emulator shares.
#[derive(Debug)]
pub(super) struct Shared {
    world: Mutex<World>,
    pub(super) options: Arc<Options>,
    pub(super) faults: Faults,
    pub(super) log: RequestLog,
    pub(super) timers_moved: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub(super) fn new(options: Arc<Options>, scenarios: Vec<Scenario>) -> Self {
        Self {
            world: Mutex::new(World::new(Arc::clone(&options), scenarios)),
            faults: Faults::new(options.fault_seed),
            log: RequestLog::new(options.log_requests, options.log_bytes),
            options,
            timers_moved: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Runs `deed` on the world at one instant, then performs the effects it left.
    pub(super) fn with<R>(self: &Arc<Self>, deed: impl FnOnce(&mut World) -> R) -> R {
        let (result, effects) = {
            // A closure that panicked left at worst one request half done; going on beats failing them all.
            let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            world.now = Instant::now();
            let result = deed(&mut world);
            (result, std::mem::take(&mut world.effects))
        };
        for effect in effects {
            match effect {
                Effect::WakeTimers => self.timers_moved.notify_one(),
                Effect::RunTurn { session, turn } => self.spawn(brain::run(Arc::clone(self), session, turn)),
                Effect::OpenScenario { session } => self.spawn(brain::open(Arc::clone(self), session)),
            }
        }
        result
    }

    /// Starts a task that ends with the emulator.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }
}

/// Lapses leases when they are due, until the emulator stops.
pub(super) async fn lapse_leases(shared: Arc<Shared>) {
    loop {
        let next = shared.with(|world| {
            world.lapse_overdue();
            world.timers.next()
        });
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = shared.timers_moved.notified() => {}
        }
    }
}

//! Starting, telling and burying the processes of a world.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::invariant::Invariant;
use super::life::Life;
use super::plan::OUTSIDE;
use super::ports;
use super::trace::Weight;
use super::world::{Deed, Host, World};
use crate::Tree;
use crate::herd::shelf::Eviction;
use crate::notice::Notice;
use crate::ports::{CustomTool, OwnerId};
use crate::session::Effects;
use crate::session::end::Outcome;
use crate::testing::Sabotage;

/// A host, and the process on it.
pub(super) struct Process {
    pub(super) host: Arc<Host>,
    running: Option<Running>,
    lives: u32,
    /// When the next one is started.
    pub(super) due: Option<Instant>,
    /// How long the host stays without one after the present one has ended.
    down: Duration,
}

struct Running {
    life: Arc<Life>,
    tree: Arc<Tree>,
    notices: Receiver<Notice>,
    draining: Option<AbortHandle>,
}

/// How long a host stays without a process that ended by itself.
const DOWN: Duration = Duration::from_secs(1);

impl Process {
    pub(super) fn new(host: Host) -> Self {
        Self { host: Arc::new(host), running: None, lives: 0, due: Some(Instant::now()), down: DOWN }
    }

    pub(super) fn tree(&self) -> Option<&Tree> {
        self.running.as_ref().map(|running| &*running.tree)
    }

    /// Starts the next life.
    pub(super) async fn start(&mut self, world: &Arc<World>) {
        self.lives += 1;
        (self.due, self.down) = (None, DOWN);
        let (index, number) = (self.host.index, self.lives);
        let life = Arc::new(Life::new(Arc::clone(world), Arc::clone(&self.host), number));
        let mut settings = world.setup.settings.clone();
        let mut hasher = DefaultHasher::new();
        (world.seed, index, number).hash(&mut hasher);
        settings.seed = hasher.finish();
        settings.owner = OwnerId::new(format!("host-{index}"));
        if world.setup.outside > 0 {
            let tool = CustomTool { timeout: None, place: ports::outside(&life) };
            settings.session.declare(OUTSIDE.into(), tool, Effects::Unknown);
        }
        world.note(Weight::Step, Some(index), format_args!("starts, life {number}"));
        settings.outfitter = world.setup.outfits.then(|| ports::outfitter(&life));
        let sabotage = sabotage(Arc::clone(&life));
        match Tree::start_sabotaged(ports::of(&life), settings, sabotage).await {
            Ok(tree) => {
                let (notices, tree) = (tree.subscribe(), Arc::new(tree));
                self.running = Some(Running { life, tree, notices, draining: None });
            }
            Err(error) => world.watch(|_, findings| {
                findings.broken(Invariant::Sound, format!("host {index} could not start: {error}"));
            }),
        }
    }

    /// Kills the process, if there is one.
    pub(super) fn kill(&mut self, down: Duration) {
        if let Some(running) = self.running.take() {
            running.life.die();
            if let Some(draining) = running.draining {
                draining.abort();
            }
            self.due = Some(Instant::now() + down);
        }
    }

    /// Tells the process to end.
    pub(super) fn drain(&mut self, world: &World, grace: Duration, down: Duration) {
        let Some(running) = self.running.as_mut().filter(|running| running.draining.is_none()) else {
            return;
        };
        let (tree, deeds) = (Arc::clone(&running.tree), world.deeds.clone());
        let (host, life) = (self.host.index, self.lives);
        self.down = down;
        #[expect(clippy::disallowed_methods, reason = "it is no part of the tree")]
        let draining = tokio::spawn(async move {
            tree.drain(grace).await;
            let _ = deeds.send(Deed::Died { host, life });
        });
        running.draining = Some(draining.abort_handle());
    }

    /// A process has ended.
    pub(super) fn died(&mut self, life: u32) {
        if life == self.lives {
            self.kill(self.down);
        }
    }

    pub(super) fn hint(&self) {
        if let Some(running) = &self.running {
            running.tree.wake(None);
        }
    }

    /// Looks at what the process says and holds.
    pub(super) fn look(&mut self, world: &World) {
        let host = self.host.index;
        let Some(running) = &mut self.running else { return };
        loop {
            match running.notices.try_recv() {
                Ok(Notice::Illegal { what }) => {
                    world.watch(|_, findings| findings.broken(Invariant::Sound, &*what));
                }
                Ok(Notice::Evicted { sandbox, why: Eviction::Missing }) => {
                    world.watch(|watch, findings| watch.misses(host, &sandbox, findings));
                }
                Ok(Notice::Ended { work, outcome, reason, .. }) => {
                    let given_up = matches!(outcome, Outcome::Lost | Outcome::Failed);
                    // One that was stopped when the process died before it heard so is rightly given up for the next.
                    let is_over = world.control.stage(work.as_str()).is_none();
                    if world.setup.keeps_answers && given_up && !is_over {
                        let what = format!("host {host} gives {work} up though nothing took it: {reason}");
                        world.watch(|_, findings| findings.broken(Invariant::Ends, what));
                    }
                    let said = format_args!("{work} has ended: {outcome:?}, {reason}");
                    world.note(Weight::Step, Some(host), said);
                }
                Ok(Notice::Failed { actor, restarted, cause }) => {
                    let fate = if restarted { "is started again" } else { "is given up" };
                    let said = format_args!("the {} actor failed and {fate}: {cause}", actor.name());
                    world.note(Weight::Step, Some(host), said);
                }
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
        let snapshot = running.tree.snapshot();
        world.watch(|watch, findings| watch.holding(host, &snapshot, findings));
        if let Some(Err(error)) = running.tree.ended().now_or_never() {
            let excused = world.watch(|watch, _| watch.is_sabotaged());
            if !excused {
                world.watch(|_, findings| findings.broken(Invariant::Sound, error.to_string()));
            }
            world.note(Weight::Step, Some(host), format_args!("ends: {error}"));
            self.kill(DOWN);
        }
    }
}

/// Has the plan decide about every event of every actor.
fn sabotage(life: Arc<Life>) -> Sabotage {
    let events = AtomicU64::new(0);
    Sabotage::new(move |actor, event| {
        let (world, host) = (&life.world, life.host.index);
        if life.is_dead() || !world.is_rough() {
            return false;
        }
        let number = events.fetch_add(1, Ordering::Relaxed);
        let mut dice = world.dice(("sabotage", host, life.number, number));
        let fails = world.plan.sabotage(actor, event, &mut dice)
            && world.injects(Some(host), format_args!("the {} actor fails at `{event}`", actor.name()));
        if fails {
            world.watch(|watch, _| watch.sabotaged(host));
        }
        fails
    })
}

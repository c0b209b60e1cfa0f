//! Makes trouble for one worker, one fault after the other, as its dice say.
//!
//! Every worker has a schedule of its own; they do not know of each other, so that faults of different workers
//! meet as they like. Each fault is mended before the next one of the same schedule.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::SmallRng;
use rustix::process::Signal;

use super::disk::Disk;
use super::plan::{Fault, Plan};
use super::proxy::{Proxy, STALE, Weather};
use super::sandboxes::{self, Sandbox};
use super::timeline::{Timeline, Who};
use super::worker::Worker;

/// A span of time during which somebody could not act, whatever it wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absence {
    /// The worker, or that of the sandbox.
    pub(crate) worker: usize,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

/// One worker and all that can happen to it.
pub(crate) struct Trouble {
    pub(crate) worker: Worker,
    pub(crate) proxy: Proxy,
    /// The disk of its state directory, if that is a small one.
    pub(crate) disk: Option<Disk>,
    pub(crate) dice: SmallRng,
    pub(crate) plan: Arc<Plan>,
    pub(crate) timeline: Timeline,
    /// How long a lease runs: what lasts longer costs it.
    pub(crate) ttl: Duration,
    /// Faults so far.
    pub(crate) made: Vec<Fault>,
    /// When its sandboxes stood still.
    pub(crate) still: Vec<Absence>,
    /// When it stood still itself.
    pub(crate) paused: Vec<Absence>,
    /// What it did that nobody asked for.
    pub(crate) gave_up: Vec<String>,
}

impl Trouble {
    /// Makes trouble until the time is over, and leaves everything mended.
    pub(crate) async fn make(&mut self, until: Instant) -> anyhow::Result<()> {
        loop {
            let calm = Duration::from_millis(self.dice.random_range(200..2_500));
            let left = until.saturating_duration_since(Instant::now());
            tokio::time::sleep(calm.min(left)).await;
            self.look_after()?;
            if Instant::now() >= until {
                return Ok(());
            }
            if let Some(fault) = self.choose() {
                self.happen(fault).await?;
                self.made.push(fault);
            }
        }
    }

    /// Starts a worker that ended although nobody told it to, and remembers that.
    pub(crate) fn look_after(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.worker.gave_up() {
            self.note(format!("ended by itself: {status}"));
            let words = self.worker.last_words();
            self.gave_up.push(format!("remuda {} ended by itself: {status}\n{words}", self.worker.number));
            self.worker.start()?;
        }
        Ok(())
    }

    fn choose(&mut self) -> Option<Fault> {
        let can = |fault: &Fault| *fault != Fault::FullDisk || self.disk.is_some();
        let faults: Vec<Fault> = self.plan.faults.iter().copied().filter(can).collect();
        let mut left =
            self.dice.random_range(0..faults.iter().map(|fault| fault.weight()).sum::<u32>().max(1));
        faults.into_iter().find(|fault| {
            let found = left < fault.weight();
            left = left.saturating_sub(fault.weight());
            found
        })
    }

    /// How long something lasts: most often shorter than a lease, sometimes longer.
    fn a_while(&mut self) -> Duration {
        if self.dice.random_bool(0.25) {
            self.ttl + Duration::from_millis(self.dice.random_range(500..3_000))
        } else {
            Duration::from_millis(self.dice.random_range(50..2_000))
        }
    }

    async fn happen(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill => {
                let time = self.a_while();
                self.note(format!("killed, to be started again in {time:.1?}"));
                self.worker.kill().await?;
                tokio::time::sleep(time).await;
                self.worker.start()?;
            }
            Fault::Pause => {
                let time = self.a_while();
                self.note(format!("stopped for {time:.1?}"));
                let from = Instant::now();
                self.worker.signal(Signal::STOP);
                tokio::time::sleep(time).await;
                self.worker.signal(Signal::CONT);
                self.paused.push(Absence { worker: self.worker.number, from, to: Instant::now() });
            }
            Fault::KillHand | Fault::KillLauncher | Fault::KillTool | Fault::PauseSandbox => {
                self.in_a_sandbox(fault).await;
            }
            Fault::Cut => {
                self.note("all its connections are reset");
                self.proxy.cut();
            }
            Fault::Refuse => self.weather("its connections are refused", Weather::Refusing).await,
            Fault::Partition => self.weather("it is cut off", Weather::Partitioned).await,
            Fault::LoseAnswers => self.weather("its answers are lost", Weather::LosingAnswers).await,
            Fault::Delay => {
                let by = Duration::from_millis(self.dice.random_range(20..300));
                self.weather(&format!("everything takes {by:?}"), Weather::Slow(by)).await;
            }
            Fault::FullDisk => {
                let time = Duration::from_millis(self.dice.random_range(500..4_000));
                if let Some(disk) = &self.disk {
                    self.note(format!("its disk is full for {time:.1?}"));
                    disk.fill();
                    tokio::time::sleep(time).await;
                    disk.clear();
                }
            }
            // Tool calls do that to themselves.
            Fault::Pids | Fault::Memory => {}
        }
        Ok(())
    }

    async fn weather(&mut self, what: &str, weather: Weather) {
        let time = self.a_while();
        self.note(format!("{what} for {time:.1?}"));
        match weather {
            Weather::Refusing => {
                self.proxy.set(weather);
                self.proxy.cut();
            }
            _ => self.proxy.set(weather),
        }
        tokio::time::sleep(time).await;
        if weather == Weather::Partitioned && time > STALE {
            self.proxy.cut();
        }
        self.proxy.set(Weather::Fair);
    }

    /// Does something to a sandbox of the dice's choosing.
    async fn in_a_sandbox(&mut self, fault: Fault) {
        let folders = sandboxes::folders(&self.worker.sandboxes());
        if folders.is_empty() {
            return;
        }
        let folder = &folders[self.dice.random_range(0..folders.len())];
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(sandbox) = Sandbox::open(folder) else { return };
        match fault {
            Fault::KillHand => {
                self.note(format!("the hand of {name} is killed"));
                sandbox.hand.signal(Signal::KILL);
            }
            Fault::KillLauncher => {
                self.note(format!("the launcher of {name} is killed"));
                sandbox.launcher.signal(Signal::KILL);
            }
            Fault::KillTool => {
                let tools = sandbox.tools();
                if !tools.is_empty() {
                    self.note(format!("a process of {name} is killed"));
                    tools[self.dice.random_range(0..tools.len())].signal(Signal::KILL);
                }
            }
            _ => {
                let time = self.a_while();
                self.note(format!("everything in {name} is stopped for {time:.1?}"));
                let from = Instant::now();
                let mut all = sandbox.tools();
                all.push(sandbox.hand);
                all.iter().for_each(|process| process.signal(Signal::STOP));
                tokio::time::sleep(time).await;
                all.iter().for_each(|process| process.signal(Signal::CONT));
                self.still.push(Absence { worker: self.worker.number, from, to: Instant::now() });
            }
        }
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.timeline.note(Who::Worker(self.worker.number), what);
    }
}

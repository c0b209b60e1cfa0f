//! Runs one world from its beginning to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::invariant::Invariant;
use super::plan::ENVIRONMENT;
use super::process::Process;
use super::trace::Weight;
use super::traffic::{self, Errand, Kind};
use super::world::{Deed, Host, World};
use super::{Act, Options};
use crate::event::{Event, Verdict};
use crate::ids::{SandboxId, WorkId};
use crate::ports::{Limits, OwnerId, Record, SandboxProvider, SandboxSpec, SessionStatus, Target};
use crate::testing::{FakeJournal, FakeProvider, Stage};

/// Time between two looks at what the trees hold.
const LOOK: Duration = Duration::from_secs(5);

/// How long before the end of a run everything has to be in order by itself.
const LAST_HELP: Duration = Duration::from_secs(150);

pub(super) struct Director {
    world: Arc<World>,
    deeds: mpsc::UnboundedReceiver<Deed>,
    processes: Vec<Process>,
    /// What is to come, the next one last.
    errands: Vec<Errand>,
    acts: Vec<(Duration, Act)>,
    sessions: BTreeSet<String>,
    /// Sessions some of whose calls nobody has to answer.
    excused: BTreeSet<String>,
    made: u64,
    is_calm: bool,
}

impl Director {
    pub(super) fn new(world: Arc<World>, deeds: mpsc::UnboundedReceiver<Deed>, sessions: usize) -> Self {
        let setup = &world.setup;
        let processes = (0..setup.hosts).map(|index| {
            let (provider, journal) = (Arc::new(FakeProvider::new()), Arc::new(FakeJournal::new()));
            Process::new(Host { index, provider, journal })
        });
        let processes = processes.collect();
        let mut errands = traffic::errands(world.seed, sessions, world.faults_for.mul_f64(0.8), setup);
        errands.reverse();
        let mut acts = world.plan.acts(setup, world.faults_for, &mut world.dice("acts"));
        acts.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let (sessions, excused) = (BTreeSet::new(), BTreeSet::new());
        Self { world, deeds, processes, errands, acts, sessions, excused, made: 0, is_calm: false }
    }

    /// Runs it, until its end or until something is broken.
    pub(super) async fn run(&mut self, options: &Options) {
        self.settle_strangers().await;
        let begun = self.world.begun;
        let end = begun + options.length;
        let mut look = begun + LOOK;
        loop {
            let mut next = look.min(end);
            next = next.min(self.errands.last().map_or(end, |errand| begun + errand.at));
            next = next.min(self.acts.last().map_or(end, |(at, _)| begun + *at));
            next = next.min(self.processes.iter().filter_map(|process| process.due).min().unwrap_or(end));
            let deed = tokio::select! {
                biased;
                deed = self.deeds.recv() => deed,
                () = sleep_until(next) => None,
            };
            match deed {
                Some(Deed::Act(act)) => self.act(act).await,
                Some(Deed::Died { host, life }) => self.processes[host].died(life),
                None => {}
            }
            self.replace_the_blind();
            let now = Instant::now();
            for index in 0..self.processes.len() {
                let due = self.processes[index].due;
                // Nobody stays down once things go well.
                if due.is_some_and(|due| due <= now || !self.world.is_rough()) {
                    self.processes[index].start(&self.world).await;
                }
            }
            while self.errands.last().is_some_and(|errand| begun + errand.at <= now)
                && let Some(errand) = self.errands.pop()
            {
                self.run_errand(errand);
            }
            while self.acts.last().is_some_and(|(at, _)| begun + *at <= now)
                && let Some((_, act)) = self.acts.pop()
            {
                if self.world.injects(None, format_args!("{act:?}")) {
                    self.act(act).await;
                }
            }
            if look <= now {
                look = now + LOOK;
                for process in &mut self.processes {
                    process.look(&self.world);
                }
                self.help(end);
                if self.world.has_broken() {
                    return;
                }
            }
            if now >= end {
                return self.judge();
            }
        }
    }

    /// When things go well again, people start processes anew that could not write their journals: what they could
    /// not write down is cleared up at a start.
    fn replace_the_blind(&mut self) {
        if self.is_calm || self.world.is_rough() {
            return;
        }
        self.is_calm = true;
        if self.world.watch(|watch, _| watch.is_unwritten()) {
            for process in &mut self.processes {
                process.kill(Duration::ZERO);
            }
        }
    }

    /// Sandboxes that are no business of ours.
    async fn settle_strangers(&self) {
        for process in &self.processes {
            for number in 0..self.world.setup.strangers {
                let (id, owner) =
                    (format!("strange.{number}").into(), OwnerId::new(format!("stranger-{number}")));
                let spec = SandboxSpec {
                    id,
                    owner,
                    session: None,
                    image: None,
                    limits: Limits::default(),
                    files_of: None,
                };
                let _ = process.host.provider.create(&spec).await;
            }
        }
    }

    fn run_errand(&mut self, Errand { session, work, kind, .. }: Errand) {
        let control = &self.world.control;
        self.world.note(Weight::Detail, None, format_args!("{session}: the user writes"));
        self.world.watch(|watch, _| watch.said(&session));
        match kind {
            Kind::Open(brain) => control.queue(ENVIRONMENT, &session, &work, brain),
            Kind::Say(brain) => drop(control.say(ENVIRONMENT, &session, &work, brain)),
            Kind::Terminated(brain) => {
                control.queue(ENVIRONMENT, &session, &work, brain);
                control.set_status(&session, SessionStatus::Terminated);
                self.excused.insert(session.clone());
            }
            Kind::Unknown => {
                control.queue_target(ENVIRONMENT, &work, Target::Other("unheard-of".into()));
                return;
            }
        }
        self.sessions.insert(session);
        self.hint();
    }

    fn hint(&self) {
        if self.world.setup.hints {
            self.processes.iter().for_each(Process::hint);
        }
    }

    async fn act(&mut self, act: Act) {
        let (world, control) = (Arc::clone(&self.world), Arc::clone(&self.world.control));
        match act {
            Act::Kill { host, down } => {
                self.processes[host].kill(down);
                world.note(Weight::Step, Some(host), format_args!("is killed"));
            }
            Act::Reboot { host, down } => {
                self.processes[host].kill(down);
                let provider = &self.processes[host].host.provider;
                for sandbox in provider.all() {
                    provider.lose(sandbox.id.as_str());
                }
                world.watch(|watch, _| watch.misled());
                world.note(Weight::Step, Some(host), format_args!("goes down"));
            }
            Act::Drain { host, grace, down } => self.processes[host].drain(&world, grace, down),
            Act::Partition { host, lasts, one_way } => world.part(host, lasts, one_way),
            Act::Steal(which) => {
                if let Some(work) = self.leased(which) {
                    control.steal(work.as_str());
                    world.watch(|watch, _| watch.rob(&work));
                    world.note(Weight::Step, None, format_args!("{work} is taken by a stranger"));
                }
            }
            Act::Lapse(which) => {
                if let Some(work) = self.leased(which) {
                    control.lapse(work.as_str());
                    world.watch(|watch, _| watch.rob(&work));
                    world.note(Weight::Step, None, format_args!("{work} lapses before its time"));
                }
            }
            Act::Jump(time) => tokio::time::advance(time).await,
            Act::AskStop(which) => {
                if let Some(work) = self.leased(which) {
                    control.ask_stop(work.as_str());
                    let session = session_of(&work);
                    world.watch(|watch, _| watch.ending(&session));
                    world.note(Weight::Step, None, format_args!("{work} is asked to end"));
                    self.excused.insert(session);
                }
            }
            Act::CutStreams(which) => {
                if let Some(work) = self.leased(which) {
                    control.cut_streams(&session_of(&work));
                }
            }
            Act::Interrupt(which) => {
                if let Some(work) = self.leased(which) {
                    let (session, id) = (session_of(&work), self.name("sevt_interrupt"));
                    world.watch(|watch, _| watch.ending(&session));
                    control.emit(&session, Event::Interrupted { id: id.into(), thread: None });
                    world.note(Weight::Step, None, format_args!("{session} is interrupted"));
                }
            }
            Act::Supersede(which) => {
                if let Some(work) = self.leased(which) {
                    let session = session_of(&work);
                    let next = self.name(&format!("{work}.over"));
                    world.watch(|watch, _| {
                        watch.rob(&work);
                        watch.rob(&next.as_str().into());
                    });
                    control.queue_target(ENVIRONMENT, &next, Target::Session(session.as_str().into()));
                    world.note(Weight::Step, None, format_args!("{session} comes back as {next}"));
                    self.hint();
                }
            }
            Act::Lose(which) => {
                if let Some((index, sandbox)) = self.sandbox(which) {
                    self.processes[index].host.provider.lose(sandbox.as_str());
                    world.watch(|watch, _| {
                        watch.misled();
                        watch.suspect(index, super::Operation::Call, sandbox.as_str());
                    });
                    world.note(Weight::Step, Some(index), format_args!("{sandbox} vanishes"));
                }
            }
        }
    }

    fn name(&mut self, of: &str) -> String {
        self.made += 1;
        format!("{of}.{}", self.made)
    }

    /// One of the items of sessions that are leased.
    fn leased(&self, which: u64) -> Option<WorkId> {
        let stages = self.world.control.stages().into_iter();
        let leased = stages.filter(|(work, stage)| {
            let for_session = self.sessions.contains(&session_of(work));
            for_session && matches!(stage, Stage::Leased { token: Some(_), .. })
        });
        pick(leased.map(|(work, _)| work).collect(), which)
    }

    /// One of the sandboxes that are ours.
    fn sandbox(&self, which: u64) -> Option<(usize, SandboxId)> {
        let sandboxes = self.processes.iter().flat_map(|process| {
            let all = process.host.provider.all().into_iter();
            let ours = all.filter(|sandbox| sandbox.owner.as_str().starts_with("host-"));
            ours.map(|sandbox| (process.host.index, sandbox.id))
        });
        pick(sandboxes.collect(), which)
    }

    /// What users do when they see that nothing happens: they decide what was asked of them, and interrupt a
    /// session that nobody serves, which queues it again.
    fn help(&mut self, end: Instant) {
        let control = Arc::clone(&self.world.control);
        for session in self.sessions.clone() {
            let awaited = control.awaited(&session);
            if awaited.is_empty() {
                continue;
            }
            for call in control.asking(&session) {
                control.emit(&session, Event::Confirmed { call, verdict: Verdict::Allow });
            }
            if !control.is_served(&session)
                && !self.excused.contains(&session)
                && Instant::now() + LAST_HELP < end
            {
                let work = self.name(&format!("{}.more", session.replace("sesn", "work")));
                self.world.note(Weight::Step, None, format_args!("{session} is queued again as {work}"));
                control.queue_target(ENVIRONMENT, &work, Target::Session(session.as_str().into()));
                self.hint();
            }
        }
    }

    /// The last look: all must be quiet, and nothing left.
    fn judge(&self) {
        let world = &self.world;
        let mut found = Vec::new();
        for (work, stage) in world.control.stages() {
            if stage != Stage::Stopped {
                found.push((Invariant::Ends, format!("{work} has not ended: {stage:?}")));
            }
        }
        for session in self.sessions.difference(&self.excused) {
            let awaited = world.control.awaited(session);
            if !awaited.is_empty() {
                found.push((Invariant::Ends, format!("{awaited:?} of {session} have no answer")));
            }
        }
        for process in &self.processes {
            let host = process.host.index;
            let Some(tree) = process.tree() else {
                found.push((Invariant::Sound, format!("host {host} does not run")));
                continue;
            };
            for session in tree.snapshot().sessions {
                let what = format!(
                    "host {host} still holds {}: {} {}",
                    session.work, session.state, session.sandbox_state
                );
                found.push((Invariant::Quiet, what));
            }
            // What a session that went elsewhere has left is kept in case it comes back.
            let left = |(_, record): &(WorkId, Record)| matches!(record, Record::Left { .. });
            if let Some((work, record)) = process.host.journal.records().iter().find(|record| !left(record)) {
                found.push((
                    Invariant::Quiet,
                    format!("the journal of host {host} still tells of {work}: {record:?}"),
                ));
            }
            let shelf: BTreeSet<_> =
                process.host.journal.shelf().into_iter().map(|shelved| shelved.sandbox).collect();
            for sandbox in process.host.provider.all() {
                if sandbox.owner.as_str() != format!("host-{host}") {
                    continue;
                }
                if let Some(call) = process.host.provider.running(&sandbox.id).first() {
                    found.push((Invariant::Quiet, format!("{call} still runs in {}", sandbox.id)));
                }
                if !shelf.contains(&sandbox.id) {
                    let what = format!("{} is nobody's on host {host}, {:.0?} old", sandbox.id, sandbox.age);
                    found.push((Invariant::NoOrphan, what));
                }
            }
        }
        world.watch(|_, findings| {
            for (invariant, what) in found {
                findings.broken(invariant, what);
            }
        });
    }
}

/// Items are named after their sessions.
fn session_of(work: &WorkId) -> String {
    let name = work.as_str().replacen("work", "sesn", 1);
    name.split('.').next().unwrap_or_default().to_owned()
}

fn pick<T>(mut all: Vec<T>, which: u64) -> Option<T> {
    let count = u64::try_from(all.len()).ok().filter(|count| *count > 0)?;
    let index = usize::try_from(which % count).ok()?;
    Some(all.swap_remove(index))
}

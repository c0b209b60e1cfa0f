//! Who holds which lease, and who thinks so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Watch, session_of};
use crate::ids::{CallId, SessionId, WorkId};
use crate::ports::WorkItem;
use crate::testing::sim::invariant::Invariant;
use crate::testing::sim::world::Findings;
use crate::testing::{FakeControl, Stage};

/// How long what a user wrote may not have been heard.
const NEWS: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct Leases {
    /// What each host knows of the items it has acknowledged.
    known: BTreeMap<(usize, WorkId), Known>,
    /// Whose beat was accepted last.
    holders: BTreeMap<WorkId, usize>,
    /// Items about which the control plane broke its promise: more than one may rightly think it theirs.
    robbed: BTreeSet<WorkId>,
    /// The life in which a host last sent a beat, and whether it heard what became of it.
    beats: BTreeMap<(usize, WorkId), (u32, bool)>,
    /// When somebody last wrote to a session.
    said: BTreeMap<String, Instant>,
    tenures: u64,
}

#[derive(Debug)]
struct Known {
    session: Option<SessionId>,
    /// When the host must think it over.
    until: Instant,
    /// When it was told that it is.
    lost: Option<Instant>,
    /// Which time without a gap it is that the host holds it.
    tenure: u64,
}

impl Leases {
    /// The items of a session that a host has held.
    fn of(&self, host: usize, session: &str) -> impl Iterator<Item = &WorkId> {
        let of_host = self.known.range((host, WorkId::from(""))..(host + 1, WorkId::from("")));
        let is_of = move |known: &Known| known.session.as_ref().is_some_and(|of| of.as_str() == session);
        of_host.filter(move |(_, known)| is_of(known)).map(|((_, work), _)| work)
    }

    fn keep(&mut self, host: usize, item: &WorkItem, until: Instant) {
        let tenure = match self.known.get(&(host, item.id.clone())) {
            Some(known) if known.lost.is_none() && known.until >= Instant::now() => known.tenure,
            _ => {
                self.tenures += 1;
                self.tenures
            }
        };
        let known = Known { session: item.session().cloned(), until, lost: None, tenure };
        self.known.insert((host, item.id.clone()), known);
    }

    fn may_act(&self, host: usize, work: &WorkId) -> Result<(), &'static str> {
        match self.known.get(&(host, work.clone())) {
            None => Err("it never acknowledged the item"),
            Some(known) if known.lost.is_some() => Err("it was told that the lease has moved on"),
            Some(known) if Instant::now() > known.until => Err("no beat was accepted for a whole TTL"),
            Some(_) => Ok(()),
        }
    }
}

impl Watch {
    /// A host has heard that its acknowledgement was accepted.
    pub(in crate::testing::sim) fn acked(&mut self, host: usize, item: &WorkItem, until: Instant) {
        self.leases.known.remove(&(host, item.id.clone()));
        self.leases.keep(host, item, until);
        // Whoever held it before does not any more.
        if self.leases.holders.get(&item.id).is_some_and(|holder| *holder != host) {
            self.leases.holders.remove(&item.id);
        }
    }

    /// A host sends a beat. Returns whether one before it may not have been answered.
    pub(in crate::testing::sim) fn beating(&mut self, host: usize, life: u32, work: &WorkId) -> bool {
        let Some((of, answered)) = self.leases.beats.insert((host, work.clone()), (life, false)) else {
            return false;
        };
        if of != life
            && let Some(known) = self.leases.known.get_mut(&(host, work.clone()))
        {
            // The one before may have died before that was written down.
            known.lost = None;
        }
        // Nor does a process know what the one before it has sent.
        of != life || !answered
    }

    /// An actor of a host fails, perhaps the one that was just told what became of a beat.
    pub(in crate::testing::sim) fn forgets(&mut self, host: usize) {
        let of_host = self.leases.beats.range_mut((host, WorkId::from(""))..(host + 1, WorkId::from("")));
        of_host.for_each(|(_, (_, answered))| *answered = false);
    }

    /// A host hears what became of a beat.
    pub(in crate::testing::sim) fn beat_heard(&mut self, host: usize, life: u32, work: &WorkId) {
        self.leases.beats.insert((host, work.clone()), (life, true));
    }

    /// The control plane accepted a beat.
    pub(in crate::testing::sim) fn extended(&mut self, host: usize, work: &WorkId) {
        self.leases.holders.insert(work.clone(), host);
    }

    /// A host has heard that its beat was accepted.
    pub(in crate::testing::sim) fn beaten(&mut self, host: usize, item: &WorkItem, until: Instant) {
        self.leases.keep(host, item, until);
    }

    /// A host has heard that its lease has moved on. If it may have been its own beat that moved it, it may think so:
    /// no promise of the control plane tells its token from that of one to whom the item was given before its time.
    pub(in crate::testing::sim) fn told_lost(&mut self, host: usize, work: &WorkId, unanswered: bool) {
        let is_robbed = self.leases.robbed.contains(work);
        let is_own = self.leases.holders.get(work) == Some(&host);
        let is_in_doubt = if is_robbed { unanswered } else { is_own };
        if is_in_doubt {
            return;
        }
        if let Some(known) = self.leases.known.get_mut(&(host, work.clone())) {
            known.lost.get_or_insert_with(Instant::now);
        }
    }

    /// The control plane gives an item away, or lets it lapse, before its time.
    pub(in crate::testing::sim) fn rob(&mut self, work: &WorkId) {
        self.leases.robbed.insert(work.clone());
    }

    /// A stop arrives. It carries no token, so one that was on its way for longer than its sender's lease ran, or
    /// its sender lived, ends the item of whoever holds it by then.
    pub(in crate::testing::sim) fn stopping(&mut self, host: usize, work: &WorkId, is_dead: bool) {
        if is_dead || self.leases.holders.get(work).is_some_and(|holder| *holder != host) {
            self.rob(work);
        }
    }

    /// Somebody writes to a session.
    pub(in crate::testing::sim) fn said(&mut self, session: &str) {
        self.leases.said.insert(session.to_owned(), Instant::now());
    }

    /// A host ends an item whose session waits for these calls.
    pub(in crate::testing::sim) fn ends(
        &mut self,
        host: usize,
        item: &WorkItem,
        awaited: &[CallId],
        findings: &mut Findings,
    ) {
        let Some(session) = item.session() else { return };
        let said = self.leases.said.get(session.as_str());
        // What came a moment ago may not have been heard.
        let is_news = said.is_some_and(|said| said.elapsed() < NEWS);
        if self.keeps_answers && !awaited.is_empty() && !is_news {
            let what = format!("host {host} ends {}, whose session waits for {awaited:?}", item.id);
            findings.broken(Invariant::Ends, what);
        }
    }

    /// A host stops an item or answers one of its calls.
    pub(in crate::testing::sim) fn acts(
        &mut self,
        host: usize,
        item: &WorkItem,
        does: &str,
        findings: &mut Findings,
    ) {
        let work = &item.id;
        if let Err(why) = self.leases.may_act(host, work) {
            findings.broken(Invariant::NoActAfterLoss, format!("host {host} {does}, of {work}, but {why}"));
        }
        match self.leases.holders.get(work) {
            Some(holder) if *holder != host && !self.leases.robbed.contains(work) => {
                findings.broken(
                    Invariant::OneHolder,
                    format!("host {host} {does}, of {work}, which host {holder} holds"),
                );
            }
            _ => {}
        }
    }

    /// Whether a host may act for a session.
    pub(super) fn holds(&self, host: usize, session: &str) -> bool {
        self.leases.of(host, session).any(|work| self.leases.may_act(host, work).is_ok())
    }

    /// Whether a host hears just now that it may not act for a session any more: the sandbox actor may have begun
    /// what the session actor has yet to forbid.
    fn is_being_told(&self, host: usize, session: &str) -> bool {
        let lost = |work| self.leases.known.get(&(host, WorkId::clone(work))).and_then(|known| known.lost);
        self.leases.of(host, session).filter_map(lost).any(|told| told == Instant::now())
    }

    /// Which time it is that a host holds a session.
    pub(super) fn tenure(&self, host: usize, session: &str) -> u64 {
        let known = |work: &WorkId| self.leases.known.get(&(host, work.clone())).map(|known| known.tenure);
        self.leases.of(host, session).filter_map(known).max().unwrap_or_default()
    }

    /// A host gives a call to a hand.
    pub(super) fn begins(&self, host: usize, call: &CallId, control: &FakeControl, findings: &mut Findings) {
        let session = session_of(call);
        if !self.holds(host, session) && !self.is_being_told(host, session) {
            let refused = self.leases.of(host, session).last().map(|work| self.leases.may_act(host, work));
            let why = refused.and_then(Result::err).unwrap_or("it never held the session");
            findings.broken(Invariant::NoActAfterLoss, format!("host {host} starts {call}, but {why}"));
        }
        let is_robbed = |work: &WorkId| self.leases.robbed.contains(work);
        if self
            .leases
            .of(host, session)
            .any(|work| is_robbed(work) && self.leases.may_act(host, work).is_ok())
        {
            // It cannot know yet.
            return;
        }
        let holder = control.work_of(session).and_then(|(work, stage)| {
            let held = matches!(stage, Stage::Leased { token: Some(_), .. });
            let holder = *self.leases.holders.get(&work)?;
            (held && !is_robbed(&work)).then_some((work, holder))
        });
        if let Some((work, holder)) = holder.filter(|(_, holder)| *holder != host) {
            let what = format!("host {host} starts {call} while host {holder} holds {work}");
            findings.broken(Invariant::OneHolder, what);
        }
    }
}

//! How the accounts of a run must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use remuda::emulator::{Resolution, Resolved};
use remuda_actors::ids::SessionId;

use super::account::{Account, Post};
use super::book::{Deed, Given, Stranded};
use super::ledger::Ledger;
use super::proxy::STALE;
use super::trouble::Absence;
use super::verdict::{Finding, Invariant};

/// How much later than the end of its right something may be seen that was begun in time: as long as the network
/// holds anything back, and as long again for a busy host.
const MOMENT: Duration = STALE.saturating_mul(2);

/// How long the end of a tool and the stop of its worker may lie apart in the other order: clocks of two
/// processes are compared.
const SENT: Duration = Duration::from_millis(50);

/// What failures that are no defect look like: each says what is not known, or names what was taken away.
const HONEST: [&str; 13] = [
    "Nobody knows how far",
    "not run: ",
    "the call was cancelled",
    "timed out after",
    "was killed by signal",
    "o space left",
    "Resource temporarily unavailable",
    "resource temporarily unavailable",
    "annot allocate memory",
    "Killed",
    "no such file or directory",
    "old_string not found",
    "No such file or directory",
];

/// All that is known about a run.
pub(crate) struct Evidence {
    pub(crate) calls: Vec<Given>,
    pub(crate) stranded: Vec<Stranded>,
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) account: Account,
    /// When sandboxes stood still.
    pub(crate) still: Vec<Absence>,
    /// When workers did.
    pub(crate) paused: Vec<Absence>,
    /// One moment by both clocks: that of the tools, and that of the control plane.
    pub(crate) clocks: (SystemTime, Instant),
}

/// What became of calls, in figures.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) succeeded: usize,
    pub(crate) unknown: usize,
    pub(crate) failed: usize,
    pub(crate) interrupted: usize,
    pub(crate) without_files: usize,
}

impl Evidence {
    /// No tool call is started twice in a sandbox: no line stands twice in its ledger.
    pub(crate) fn starts(&self) -> Finding {
        let mut finding = Finding::about(Invariant::OneStart, "lines");
        for ledger in &self.ledgers {
            for ((number, mark), count) in ledger.counts() {
                finding.look();
                if count > 1 {
                    finding.broken(format!(
                        "call {number} was at `{mark}` {count} times ({})",
                        self.name(number)
                    ));
                }
            }
        }
        finding
    }

    /// Every call is answered, and as its tool answered.
    pub(crate) fn answers(&self) -> (Finding, Figures) {
        let mut finding = Finding::about(Invariant::OneAnswer, "calls");
        let mut figures = Figures::default();
        let mut accepted: BTreeMap<&str, usize> = BTreeMap::new();
        for call in self.account.posts.iter().filter(|post| post.is_accepted).flat_map(|post| &post.calls) {
            *accepted.entry(call).or_default() += 1;
        }
        // Rounds of which a step did not come to what it should have.
        let mut disturbed = BTreeSet::new();
        for call in &self.calls {
            finding.look();
            let Some((resolved, at)) = &call.resolved else {
                finding.broken(format!("{} was never answered", self.name(call.number)));
                continue;
            };
            match (resolved.how, accepted.get(call.call.as_str())) {
                (Resolution::Interrupted, _) => figures.interrupted += 1,
                (_, Some(1)) => {}
                (how, times) => {
                    let times = times.copied().unwrap_or_default();
                    finding.broken(format!(
                        "{}: {times} answers were accepted, {how:?}",
                        self.name(call.number)
                    ));
                }
            }
            if resolved.how == Resolution::Interrupted {
                disturbed.insert(call.round);
                continue;
            }
            let moved = self.account.held_between(&call.session, call.at, *at) > 1;
            let excused = moved || disturbed.contains(&call.round);
            match self.weigh(call, resolved, excused) {
                Weighed::Right => figures.succeeded += 1,
                Weighed::Unknown => figures.unknown += 1,
                Weighed::Failed => figures.failed += 1,
                Weighed::WithoutFiles => figures.without_files += 1,
                Weighed::Wrong(how) => finding.broken(format!("{}: {how}", self.name(call.number))),
            }
            if resolved.result.is_error {
                disturbed.insert(call.round);
            }
        }
        (finding, figures)
    }

    fn weigh(&self, call: &Given, resolved: &Resolved, excused: bool) -> Weighed {
        let text = resolved.result.text();
        let wrong = |what: &str| Weighed::Wrong(format!("{what}: {text:?}"));
        if call.deed == Deed::Greed {
            return if resolved.result.is_error { Weighed::Failed } else { Weighed::Right };
        }
        if resolved.result.is_error {
            return match () {
                () if text.contains("Nobody knows how far") => Weighed::Unknown,
                () if is_loss_of_files(&text) && excused => Weighed::WithoutFiles,
                () if is_loss_of_files(&text) => {
                    wrong("its files are gone, although it had one holder all along")
                }
                () if text.contains(&format!("{} failed", call.number)) => Weighed::Failed,
                () if HONEST.iter().any(|words| text.contains(words)) => Weighed::Failed,
                () => wrong("a failure that nobody can explain"),
            };
        }
        match &call.deed {
            Deed::Greed => Weighed::Right,
            Deed::Record | Deed::Job | Deed::Search => self.weigh_record(call, &text),
            Deed::Fixed(expected) if text == *expected => Weighed::Right,
            Deed::Fixed(_) => wrong("another answer than the tool gives"),
            Deed::Contains(expected) => {
                let counts: Vec<_> = expected.iter().map(|line| occurrences(&text, line)).collect();
                match () {
                    () if counts.iter().all(|count| *count == 1) => Weighed::Right,
                    () if counts.iter().any(|count| *count > 1) => wrong("something was done twice"),
                    () if excused => Weighed::WithoutFiles,
                    () => wrong(&format!("{expected:?} should be in it")),
                }
            }
        }
    }

    fn weigh_record(&self, call: &Given, text: &str) -> Weighed {
        let wrong = |what: &str| Weighed::Wrong(format!("{what}: {text:?}"));
        // A new shell says so in a line of its own before.
        let mut words = text.lines().last().unwrap_or_default().split(' ');
        let (number, nonce) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if number != call.number.to_string() {
            return wrong("the answer of another call");
        }
        let ends = |ledger: &&Ledger| {
            let mut lines =
                ledger.lines.iter().filter(|line| line.number == call.number && line.nonce == nonce);
            lines.any(|line| line.mark == "end")
        };
        match (self.ledgers.iter().filter(ends).count(), words.next()) {
            (1, None | Some("found=0" | "found=")) => Weighed::Right,
            (1, Some(_)) => wrong("a credential was found in a sandbox"),
            (count, _) => wrong(&format!("{count} ledgers say so")),
        }
    }

    /// Never two holders act on one item: whoever starts a call or sends a result holds the session's item.
    pub(crate) fn holders(&self) -> Finding {
        let mut finding = Finding::about(Invariant::OneHolder, "acts");
        for (work, item) in &self.account.items {
            finding.look();
            if item.holders.len() > 1 {
                finding.broken(format!("{work} was held by {:?}", item.holders.keys()));
            }
        }
        let holds = |session: &SessionId, worker, at| {
            let items = self.account.items.values();
            items.filter(|item| item.session == *session).any(|item| item.was_held(worker, at, MOMENT))
        };
        for post in &self.account.posts {
            finding.look();
            if !holds(&post.session, post.worker, post.at) && !self.was_on_its_way(post) {
                finding
                    .broken(format!("remuda {} answered in {} without its lease", post.worker, post.session));
            }
        }
        for ledger in &self.ledgers {
            for line in ledger.lines.iter().filter(|line| line.mark == "start") {
                let Some(call) = self.call(line.number) else { continue };
                finding.look();
                let at = self.instant(line.at_us);
                if !holds(&call.session, ledger.worker, at) && !self.stood_still(ledger.worker, at) {
                    let name = self.name(line.number);
                    finding.broken(format!("remuda {} started {name} without its lease", ledger.worker));
                }
            }
        }
        finding
    }

    /// No item is stopped by who lost its lease.
    pub(crate) fn stops(&self) -> Finding {
        let mut finding = Finding::about(Invariant::NoStopAfterLoss, "stops");
        for (work, item) in &self.account.items {
            for (worker, at, status) in &item.stops {
                finding.look();
                let late = item.released.is_some_and(|released| *at > released + MOMENT);
                if item.lapsed() && late || !item.holders.is_empty() && !item.holders.contains_key(worker) {
                    finding.broken(format!("remuda {worker} stopped {work}, which it had lost ({status:?})"));
                }
            }
        }
        finding
    }

    /// No item is ended while its calls wait. An end that is already on its way when a turn begins cannot be helped:
    /// the control plane lets go of the session all the same.
    pub(crate) fn strandings(&self) -> Finding {
        let mut finding = Finding::about(Invariant::NoneStranded, "items");
        finding.look_at(self.account.items.len());
        for Stranded { session, at, seen } in &self.stranded {
            for (work, item) in self.account.items.iter().filter(|(_, item)| item.session == *session) {
                let ended = |(_, stop, status): &&(usize, Instant, Option<u16>)| {
                    is_success(*status) && *stop > *at + MOMENT && stop <= seen
                };
                if let Some((worker, stop, _)) = item.stops.iter().find(ended) {
                    let waited = *stop - *at;
                    finding.broken(format!(
                        "remuda {worker} ended {work} of {session} {waited:.1?} after its turn began"
                    ));
                }
            }
        }
        finding
    }

    /// Whether a sandbox of a worker stood still shortly before: what it was given in time it began late.
    fn stood_still(&self, worker: usize, at: Instant) -> bool {
        let before =
            |absence: &&Absence| absence.worker == worker && absence.from <= at && at <= absence.to + MOMENT;
        self.still.iter().any(|absence| before(&absence))
    }

    /// Whether a result can have been on its way when its worker was stopped: no clock can be asked between the
    /// last look at it and the sending. One whose tool had not ended by then cannot.
    fn was_on_its_way(&self, post: &Post) -> bool {
        let resumed = |pause: &&Absence| {
            pause.worker == post.worker && pause.from <= post.at && post.at <= pause.to + MOMENT
        };
        let ended_before = |moment: Instant| {
            let numbers: BTreeSet<u64> = self
                .calls
                .iter()
                .filter(|call| post.calls.iter().any(|id| call.call.as_str() == id))
                .map(|call| call.number)
                .collect();
            let ends = self.ledgers.iter().filter(|ledger| ledger.worker == post.worker);
            let mut ends = ends.flat_map(|ledger| &ledger.lines).filter(|line| line.mark == "end");
            !ends.any(|line| numbers.contains(&line.number) && self.instant(line.at_us) > moment)
        };
        self.paused.iter().filter(resumed).any(|pause| ended_before(pause.from + SENT))
    }

    fn instant(&self, at_us: u64) -> Instant {
        let (wall, instant) = self.clocks;
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(at_us);
        match at.duration_since(wall) {
            Ok(later) => instant + later,
            Err(earlier) => instant.checked_sub(earlier.duration()).unwrap_or(instant),
        }
    }

    fn call(&self, number: u64) -> Option<&Given> {
        self.calls.iter().find(|call| call.number == number)
    }

    fn name(&self, number: u64) -> String {
        match self.call(number) {
            Some(call) => format!("call {number} ({} of {}, {:?})", call.call, call.session, call.deed),
            None => format!("call {number}"),
        }
    }
}

enum Weighed {
    Right,
    /// Nobody knows, and that is what it says.
    Unknown,
    /// It failed and says why.
    Failed,
    /// It had a sandbox without the session's files, as happens when another remuda goes on.
    WithoutFiles,
    Wrong(String),
}

fn is_success(status: Option<u16>) -> bool {
    status.is_some_and(|status| (200..300).contains(&status))
}

fn is_loss_of_files(text: &str) -> bool {
    text.contains("no such file or directory") || text.contains("old_string not found")
}

fn occurrences(text: &str, line: &str) -> usize {
    text.lines().filter(|found| found.ends_with(line)).count()
}

//! A run from beginning to end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::account::Account;
use super::arrangement::Arrangement;
use super::book::Book;
use super::brain::Brain;
use super::host::{self, Marks};
use super::judge::{Evidence, Figures};
use super::plan::Plan;
use super::sandboxes;
use super::timeline::{Timeline, Who};
use super::trouble::Trouble;
use super::verdict::{Finding, Invariant, Verdict};
use super::witness::Witness;

/// How long a worker may take to end once it is told to.
const DRAIN: Duration = Duration::from_secs(60);

/// How long what a worker leaves may take to be gone.
const VANISH: Duration = Duration::from_secs(10);

/// How long idle workers are measured.
const MEASURE: Duration = Duration::from_secs(3);

/// Most processor time that an idle worker may use meanwhile, in clock ticks of 10 ms: a tenth of a core.
const IDLE_TICKS: u64 = 30;

/// Runs a plan. The verdict says whether every invariant held.
pub(crate) async fn run(plan: Plan) -> anyhow::Result<Verdict> {
    let timeline = Timeline::start();
    let plan = Arc::new(plan);
    timeline.note(
        Who::Run,
        format!("seed {}: {} sessions, {} remudas", plan.seed, plan.sessions, plan.processes),
    );
    let clocks = (SystemTime::now(), Instant::now());
    let mut arrangement = Box::pin(Arrangement::make(&plan, timeline)).await?;
    let witness = Arc::new(Witness::new(arrangement.sandboxes()));
    let watching = Arc::clone(&witness);
    let watch = AbortOnDropHandle::new(tokio::spawn(async move { watching.watch().await }));

    let until = Instant::now() + plan.faults_for;
    let deadline = until + plan.settle;
    let book = Arc::new(Book::default());
    let mut brains = JoinSet::new();
    for (number, session) in arrangement.sessions.iter().enumerate() {
        let dice = SmallRng::seed_from_u64(plan.seed ^ (1 << 32 | number as u64));
        let (session, book, plan) = (session.clone(), Arc::clone(&book), Arc::clone(&plan));
        brains.spawn(Brain { session, book, dice, plan, until, deadline, rests: true }.think());
    }
    let troubles = arrangement.troubles.iter_mut().map(|trouble| trouble.make(until));
    futures_util::future::try_join_all(troubles).await?;

    timeline.note(Who::Run, "no more faults");
    let (ends, mut quiet) = settle(&plan, timeline, &mut arrangement, &mut brains, deadline).await?;
    measure(&arrangement.troubles, &mut quiet).await;
    let mut gives_up = Finding::about(Invariant::NobodyGivesUp, "remudas");
    let mut orphans = Finding::about(Invariant::NoOrphan, "remudas");
    let marks = Marks {
        folder: arrangement.folder.path().to_owned(),
        owners: arrangement
            .troubles
            .iter()
            .filter_map(|trouble| host::owner(&trouble.worker.state))
            .collect(),
    };
    for trouble in &mut arrangement.troubles {
        drain(trouble, timeline, &mut gives_up, &mut orphans).await;
    }
    // Before anything is cleared away here.
    let mut left = vanished(&marks).await;
    let (mut findings, figures) = judge(&arrangement, &witness, &book, clocks);
    let Arrangement { emulator, troubles, folder, .. } = arrangement;
    emulator.shutdown().await;
    drop((witness, watch, troubles));
    marks.mounts().into_iter().for_each(|mount| left.broken(format!("the mount {mount}")));
    findings.extend([orphans, ends, gives_up, quiet, left]);
    let verdict = Verdict { findings, figures };
    if !verdict.holds() {
        let kept = folder.keep();
        timeline.note(Who::Run, format!("logs and files are kept in {}", kept.display()));
    }
    Ok(verdict)
}

/// Waits until every call is answered and every item has ended.
async fn settle(
    plan: &Plan,
    timeline: Timeline,
    arrangement: &mut Arrangement,
    brains: &mut JoinSet<anyhow::Result<()>>,
    deadline: Instant,
) -> anyhow::Result<(Finding, Finding)> {
    let since = Instant::now();
    while let Some(thought) = brains.join_next().await {
        thought.context("a session's brain panicked")??;
    }
    timeline.note(Who::Run, format!("every call is answered after {:.1?}", since.elapsed()));
    let mut ends = Finding::about(Invariant::EveryItemEnds, "sessions");
    for session in &arrangement.sessions {
        ends.look();
        let left = deadline.saturating_duration_since(Instant::now());
        if session.wait_released(left).await.is_none() {
            ends.broken(format!("{} has {:?} still", session.id(), session.live_work()));
        }
    }
    timeline.note(Who::Run, format!("every item has ended after {:.1?}", since.elapsed()));
    let mut quiet = Finding::about(Invariant::QuietInTime, "remudas");
    if since.elapsed() > plan.settle {
        quiet.broken(format!("it took {:.1?}, allowed are {:.1?}", since.elapsed(), plan.settle));
    }
    for trouble in &mut arrangement.troubles {
        trouble.look_after()?;
    }
    Ok((ends, quiet))
}

/// Whether workers without work are idle.
async fn measure(troubles: &[Trouble], quiet: &mut Finding) {
    let ticks = |trouble: &Trouble| host::ticks(trouble.worker.pid()?.as_raw_nonzero().get().cast_unsigned());
    let before: Vec<_> = troubles.iter().map(ticks).collect();
    tokio::time::sleep(MEASURE).await;
    for (trouble, before) in troubles.iter().zip(before) {
        quiet.look();
        let number = trouble.worker.number;
        match (before, ticks(trouble)) {
            (Some(before), Some(after)) if after - before <= IDLE_TICKS => {}
            (Some(before), Some(after)) => {
                quiet.broken(format!(
                    "remuda {number} used {} ticks in {MEASURE:?} of idling",
                    after - before
                ));
            }
            _ => quiet.broken(format!("remuda {number} does not live")),
        }
    }
}

/// Ends a worker and looks what it leaves.
async fn drain(trouble: &mut Trouble, timeline: Timeline, gives_up: &mut Finding, orphans: &mut Finding) {
    gives_up.look();
    orphans.look();
    let number = trouble.worker.number;
    std::mem::take(&mut trouble.gave_up).into_iter().for_each(|how| gives_up.broken(how));
    match trouble.worker.drain(DRAIN).await {
        Ok(status) if status.success() => timeline.note(Who::Worker(number), "ended in order"),
        Ok(status) => gives_up.broken(format!("remuda {number} ended with {status} when it was told to end")),
        Err(error) => gives_up.broken(format!("remuda {number}: {error:#}")),
    }
    for folder in sandboxes::folders(&trouble.worker.sandboxes()) {
        orphans.broken(format!("remuda {number} left {}", folder.display()));
    }
}

/// Waits until nothing of the run runs on the host any more.
async fn vanished(marks: &Marks) -> Finding {
    let mut finding = Finding::about(Invariant::NothingLeft, "looks");
    let until = Instant::now() + VANISH;
    loop {
        finding.look();
        let processes = marks.processes().into_iter().map(|pid| format!("process {pid}"));
        let groups = marks.cgroups().into_iter().map(|group| group.display().to_string());
        let left: Vec<_> = processes.chain(groups).collect();
        if left.is_empty() || Instant::now() >= until {
            left.into_iter().for_each(|what| finding.broken(what));
            return finding;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Compares the accounts of the run.
fn judge(
    arrangement: &Arrangement,
    witness: &Witness,
    book: &Book,
    clocks: (SystemTime, Instant),
) -> (Vec<Finding>, Vec<(String, usize)>) {
    let Arrangement { emulator, sessions, troubles, .. } = arrangement;
    let evidence = Evidence {
        calls: book.calls(),
        stranded: book.stranded(),
        ledgers: witness.ledgers(),
        account: Account::read(&emulator.log().records(), sessions, troubles.len()),
        still: troubles.iter().flat_map(|trouble| trouble.still.clone()).collect(),
        paused: troubles.iter().flat_map(|trouble| trouble.paused.clone()).collect(),
        clocks,
    };
    let (answers, figures) = evidence.answers();
    let mut credentials = Finding::about(Invariant::NoCredential, "places");
    let (leaks, searched) = witness.leaks();
    credentials.look_at(searched);
    leaks.into_iter().for_each(|leak| credentials.broken(leak));
    let findings = vec![
        evidence.starts(),
        answers,
        evidence.holders(),
        evidence.stops(),
        evidence.strandings(),
        credentials,
    ];
    (findings, in_figures(&evidence, figures, troubles))
}

fn in_figures(evidence: &Evidence, figures: Figures, troubles: &[Trouble]) -> Vec<(String, usize)> {
    let Figures { succeeded, unknown, failed, interrupted, without_files } = figures;
    let items = evidence.account.items.values();
    let mut all = vec![
        ("calls".to_owned(), evidence.calls.len()),
        ("… succeeded".to_owned(), succeeded),
        ("… failed and said why".to_owned(), failed),
        ("… met a sandbox without the session's files".to_owned(), without_files),
        ("… have an outcome that nobody knows".to_owned(), unknown),
        ("… were interrupted".to_owned(), interrupted),
        ("work items".to_owned(), items.len()),
        ("… lapsed".to_owned(), evidence.account.items.values().filter(|item| item.lapsed()).count()),
        ("sessions stranded by an end that met a new turn".to_owned(), evidence.stranded.len()),
        ("sandboxes with a ledger".to_owned(), evidence.ledgers.len()),
        ("requests from strangers".to_owned(), evidence.account.strangers),
    ];
    let mut faults = BTreeMap::new();
    for fault in troubles.iter().flat_map(|trouble| &trouble.made) {
        *faults.entry(*fault).or_insert(0) += 1;
    }
    all.extend(faults.into_iter().map(|(fault, many)| (format!("× {fault:?}"), many)));
    all
}

//! One seed of one plan, from outside.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Broken;
use super::director::Director;
use super::plan::{Plan, Setup};
use super::trace::Line;
use super::world::World;

/// The end of every run in which nothing goes wrong any more, and after which all must be quiet: the longest
/// chain of waits there is, from a lease that must lapse first to a sandbox that is reaped, and twice that.
pub const QUIET: Duration = Duration::from_secs(270);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Sessions that begin. Default 50.
    pub sessions: usize,
    /// Virtual time from the beginning to the end, [`QUIET`] included. Default 10 min.
    pub length: Duration,
    /// Faults that happen, at most. Default as many as the plan likes.
    pub faults: usize,
    /// Whether the lines of the history are kept. Default no.
    pub keep_trace: bool,
}

impl Options {
    /// The defaults, for a seed.
    pub fn new(seed: u64) -> Self {
        let length = Duration::from_secs(600);
        Self { seed, sessions: 50, length, faults: usize::MAX, keep_trace: false }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Stands for the whole history: the same seed and options give the same.
    pub digest: u64,
    /// Faults that happened.
    pub faults: usize,
    /// What is broken; the run ends soon after the first.
    pub broken: Vec<Broken>,
    /// The history, if it was to be kept.
    pub trace: Vec<Line>,
}

/// Runs one seed of a plan, on this thread, in a runtime of its own.
///
/// # Panics
/// If no runtime can be made, or inside another one.
#[expect(clippy::expect_used, reason = "a harness that cannot run has nothing better to do")]
pub fn simulate(plan: &Arc<dyn Plan>, options: &Options) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads or sockets").block_on(async {
        let mut setup = Setup::new(options.sessions);
        plan.prepare(&mut setup);
        let faults_for = options.length.saturating_sub(QUIET);
        let (tell, deeds) = mpsc::unbounded_channel();
        let bounds = (options.seed, options.faults);
        let world = World::new(Arc::clone(plan), setup, bounds, faults_for, options.keep_trace, tell);
        let world = Arc::new(world);
        Director::new(Arc::clone(&world), deeds, options.sessions).run(options).await;
        let mut state = world.state();
        Report {
            seed: options.seed,
            digest: state.trace.digest(),
            faults: state.injected,
            broken: std::mem::take(&mut state.broken),
            trace: state.trace.take(),
        }
    })
}

/// The run with the fewest faults from the beginning of this one that still breaks something, with its trace. None
/// if this one breaks nothing.
///
/// # Panics
/// As [`simulate`].
pub fn shrink(plan: &Arc<dyn Plan>, options: &Options) -> Option<Report> {
    let whole = simulate(plan, options);
    if whole.broken.is_empty() {
        return None;
    }
    let shorter =
        (0..=whole.faults).map(|faults| simulate(plan, &Options { faults, keep_trace: true, ..*options }));
    shorter.into_iter().find(|report| !report.broken.is_empty())
}

//! Whole trees in worlds that go wrong, thousands of them.
//!
//! `cargo run --release --example faults -- --plan all --seeds 100` runs a hundred seeds of every plan and says
//! which invariants held. `--plan NAME --seed N` prints the timeline of one. Nothing here is real but the tree:
//! control plane, sandboxes, hands and journal are the fakes of `remuda-actors`, time is virtual, and one seed has
//! one history, on any machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use remuda_actors::testing::sim::{
    Invariant, Line, Options, Plan, QUIET, Report, Weight, plans, shrink, simulate,
};

/// Runs whole trees in worlds that go wrong, and checks what must hold.
#[derive(Parser)]
struct Arguments {
    /// The plan, or `all`; `list` names them.
    #[arg(long, default_value = "all")]
    plan: String,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds of each plan. One alone prints its timeline.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Sessions of each run.
    #[arg(long, default_value_t = 50)]
    sessions: usize,
    /// Virtual time of each run. The last 4 min 30 s are for coming to rest.
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    length: Duration,
    /// Threads; as many as there are cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// Only this many faults happen, counted from the beginning.
    #[arg(long)]
    faults: Option<usize>,
    /// Look for the shortest beginning of a failing run's faults that still fails.
    #[arg(long)]
    shrink: bool,
    /// Write the whole history of a single seed there.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut chosen = plans::all();
    if arguments.plan == "list" {
        for plan in chosen {
            println!("{:<22} {}", plan.name(), plan.predicts());
        }
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(
        arguments.length > QUIET,
        "`--for {}` leaves no time for faults; expected more than {}",
        humantime::format_duration(arguments.length),
        humantime::format_duration(QUIET),
    );
    if arguments.plan != "all" {
        chosen.retain(|plan| plan.name() == arguments.plan);
        anyhow::ensure!(!chosen.is_empty(), "no plan `{}`; `--plan list` names them", arguments.plan);
    }
    let broken = match &chosen[..] {
        [plan] if arguments.seeds == 1 => tell(plan, &arguments)?,
        _ => sweep(&chosen, &arguments)?,
    };
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn options(arguments: &Arguments, seed: u64) -> Options {
    Options {
        sessions: arguments.sessions,
        length: arguments.length,
        faults: arguments.faults.unwrap_or(usize::MAX),
        ..Options::new(seed)
    }
}

/// One seed of one plan, line by line.
fn tell(plan: &Arc<dyn Plan>, arguments: &Arguments) -> anyhow::Result<bool> {
    let options = Options { keep_trace: true, ..options(arguments, arguments.seed) };
    let report = simulate(plan, &options);
    println!("{}: {}\n", plan.name(), plan.predicts());
    print_lines(&report.trace);
    if let Some(path) = &arguments.trace {
        write_trace(path, &report.trace)?;
    }
    println!();
    verdicts(std::slice::from_ref(&report));
    println!(
        "seed {}: {} sessions, {} faults, history {:016x}",
        report.seed, options.sessions, report.faults, report.digest
    );
    if !report.broken.is_empty() {
        explain(plan, &report, arguments);
    }
    Ok(!report.broken.is_empty())
}

/// The lines that matter to people.
fn print_lines(lines: &[Line]) {
    for line in lines.iter().filter(|line| line.weight >= Weight::Step) {
        println!("{line}");
    }
}

fn write_trace(path: &Path, lines: &[Line]) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("could not create {}", path.display()))?;
    let mut file = BufWriter::new(file);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.flush().with_context(|| format!("could not write {}", path.display()))
}

/// Many seeds, a line for each plan.
fn sweep(chosen: &[Arc<dyn Plan>], arguments: &Arguments) -> anyhow::Result<bool> {
    anyhow::ensure!(arguments.trace.is_none(), "`--trace` is for one seed of one plan");
    let begun = Instant::now();
    let mut reports = Vec::new();
    for plan in chosen {
        let since = Instant::now();
        let of_plan = run(plan, arguments);
        let took = since.elapsed();
        let faults: usize = of_plan.iter().map(|report| report.faults).sum();
        let broken: Vec<_> = of_plan.iter().filter(|report| !report.broken.is_empty()).collect();
        let verdict = if broken.is_empty() { "ok".to_owned() } else { format!("BROKEN in {}", broken.len()) };
        let rate = arguments.seeds as f64 / took.as_secs_f64();
        println!(
            "{:<22} {:>6} seeds {:>9} faults {:>7.0} seeds/s  {verdict}",
            plan.name(),
            arguments.seeds,
            faults,
            rate
        );
        if let Some(first) = broken.first() {
            explain(plan, first, arguments);
        }
        reports.extend(of_plan);
    }
    println!();
    verdicts(&reports);
    let (runs, took) = (reports.len(), begun.elapsed());
    println!("{runs} runs in {took:.1?}, {:.0} a second", runs as f64 / took.as_secs_f64());
    Ok(reports.iter().any(|report| !report.broken.is_empty()))
}

/// All seeds of one plan, on all threads, in the order of the seeds.
fn run(plan: &Arc<dyn Plan>, arguments: &Arguments) -> Vec<Report> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let threads = arguments.threads.unwrap_or(cores).max(1);
    let next = AtomicU64::new(arguments.seed);
    let end = arguments.seed.saturating_add(arguments.seeds);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return reports;
            }
            reports.push(simulate(plan, &options(arguments, seed)));
        }
    };
    let mut reports: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    reports.sort_by_key(|report| report.seed);
    reports
}

/// What broke in a run, and how to see it again.
fn explain(plan: &Arc<dyn Plan>, report: &Report, arguments: &Arguments) {
    for broken in report.broken.iter().take(3) {
        println!("    seed {}: {broken}", report.seed);
    }
    let again = format!("--plan {} --seed {} --sessions {}", plan.name(), report.seed, arguments.sessions);
    println!("    again: cargo run --release --example faults -- {again}");
    if !arguments.shrink {
        return;
    }
    if let Some(shortest) = shrink(plan, &options(arguments, report.seed)) {
        println!("    the first {} faults are enough (--faults {0}):", shortest.faults);
        for line in shortest.trace.iter().filter(|line| line.weight >= Weight::Fault) {
            println!("    {line}");
        }
    }
}

/// A verdict for each invariant.
fn verdicts(reports: &[Report]) {
    let mut broken: BTreeMap<Invariant, usize> = BTreeMap::new();
    for report in reports {
        for invariant in Invariant::ALL {
            let breaks = report.broken.iter().any(|broken| broken.invariant == invariant);
            *broken.entry(invariant).or_default() += usize::from(breaks);
        }
    }
    for (invariant, runs) in broken {
        let verdict = if runs == 0 { "holds".to_owned() } else { format!("BROKEN in {runs} runs") };
        println!("{:<30} {verdict}", invariant.name());
    }
}

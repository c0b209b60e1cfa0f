//! Real remudas in real trouble.
//!
//! `cargo run --release --example chaos` starts a control plane, several `remuda run` on one environment and a
//! proxy before each, lets scripted sessions work in local sandboxes, and meanwhile kills, stops, cuts off and
//! starves whatever there is. At the end it compares what the tools wrote, what the control plane was told and
//! what is left on the host, prints a verdict for every invariant, and exits with 1 if one is broken.
//!
//! The `remuda` that is tried is the one built beside this example: `cargo build --release` first.

mod harness;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use harness::{Fault, Plan};
use rand::RngExt as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Runs real remudas in real trouble, and judges what came of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long faults happen.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    faults_for: Duration,

    /// Where the dice begin. The same seed makes the same faults in the same order; a random one otherwise.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Sessions that live at the same time.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=500))]
    sessions: u32,

    /// Remudas that serve the environment.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    processes: u32,

    /// Only these faults, separated by commas. All there are otherwise.
    #[arg(long, value_enum, value_name = "FAULT", value_delimiter = ',')]
    only: Vec<Fault>,

    /// How long after the last fault everything may take to be answered, ended and quiet.
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = humantime::parse_duration)]
    settle: Duration,
}

impl Arguments {
    fn plan(self) -> anyhow::Result<Plan> {
        Ok(Plan {
            remuda: remuda()?,
            faults_for: self.faults_for,
            seed: self.seed.unwrap_or_else(|| rand::rng().random()),
            sessions: self.sessions as usize,
            processes: self.processes as usize,
            faults: if self.only.is_empty() { Fault::all() } else { BTreeSet::from_iter(self.only) },
            settle: self.settle,
        })
    }
}

/// The `remuda` built beside this example.
fn remuda() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("could not find out where this program is")?;
    let profile =
        own.parent().and_then(|examples| examples.parent()).context("this program is in no folder")?;
    let remuda = profile.join("remuda");
    let release = if profile.ends_with("release") { " --release" } else { "" };
    anyhow::ensure!(
        remuda.is_file(),
        "there is no {}: build it with `cargo build{release} --bin remuda`",
        remuda.display()
    );
    Ok(remuda)
}

fn main() -> ExitCode {
    // Every connection is two sockets here, and every ledger is held open.
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    match serve(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn serve(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let plan = arguments.plan()?;
    let seed = plan.seed;
    let mut terminated = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
    // Whatever runs ends with what is dropped here.
    let verdict = tokio::select! {
        verdict = Box::pin(harness::run(plan)) => verdict?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        _ = terminated.recv() => anyhow::bail!("terminated"),
    };
    println!("\nseed {seed}\n{verdict}");
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

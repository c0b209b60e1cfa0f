//! What local sandboxes cost: `cargo bench --bench local`, or `cargo bench --bench local -- herd 200` for many at
//! once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that meets the unexpected has failed"
)]

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use remuda::providers::local::Cgroups;
use remuda_actors::ports::SandboxProvider as _;

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/local/bench.rs"]
mod bench;

use bench::{Bench, Sandbox, children};

/// Rounds of what takes milliseconds, and of what takes microseconds.
const STARTS: usize = 100;
const ROUNDS: usize = 2_000;

/// How many of a herd are created, frozen or deleted at once.
const AT_ONCE: usize = 8;

/// How long a herd is watched.
const WATCH: Duration = Duration::from_secs(2);

fn percentile<T: Ord + Copy>(values: &mut [T], hundredths: usize) -> T {
    values.sort_unstable();
    values[(values.len() - 1) * hundredths / 100]
}

fn report(what: &str, mut times: Vec<Duration>) {
    let (median, late) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!("{what}: p50 {median:.1?}, p99 {late:.1?}");
}

async fn timed<T>(times: &mut Vec<Duration>, work: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let done = work.await;
    times.push(start.elapsed());
    done
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => one().await,
        ["herd"] => herd(200).await,
        ["herd", size] => herd(size.parse().expect("a number of sandboxes")).await,
        _ => panic!("expected nothing, or `herd` and a number of sandboxes"),
    }
}

/// One sandbox at a time.
async fn one() {
    for cgroups in [Cgroups::Any, Cgroups::Older, Cgroups::None] {
        println!("cgroups: {cgroups:?}");
        let bench = Bench::on(cgroups, |_| {});
        let (mut starts, mut successions, mut deletions) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..STARTS {
            timed(&mut starts, bench.sandbox("old")).await;
            let heir = timed(&mut successions, bench.heir("new", "old")).await;
            timed(&mut deletions, bench.provider.delete(&heir.id)).await.unwrap();
        }
        report("  cold start", starts);
        report("  start with another's files", successions);
        report("  delete", deletions);
        for (name, command) in [
            ("an idle shell", "true"),
            ("a busy loop", "(while :; do :; done) & true"),
            ("a loop that forks", "(while :; do /bin/true; done) & true"),
        ] {
            let sandbox = bench.sandbox("one").await;
            sandbox.bash(command).await;
            cycle(&bench, &sandbox, name).await;
            bench.provider.delete(&sandbox.id).await.unwrap();
        }
        bench.close().await;
    }
}

async fn cycle(bench: &Bench, sandbox: &Sandbox, name: &str) {
    let [mut standbys, mut finds, mut usages, mut resumes, mut calls] = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        timed(&mut standbys, bench.provider.standby(&sandbox.id)).await.unwrap();
        timed(&mut finds, bench.provider.find(&sandbox.id)).await.unwrap();
        timed(&mut usages, bench.provider.usage(&sandbox.id)).await.unwrap();
        timed(&mut resumes, bench.provider.resume(&sandbox.id)).await.unwrap();
        timed(&mut calls, sandbox.bash("true")).await;
    }
    report(&format!("  {name}: standby"), standbys);
    report(&format!("  {name}: find"), finds);
    report(&format!("  {name}: usage"), usages);
    report(&format!("  {name}: resume"), resumes);
    report(&format!("  {name}: first call after that"), calls);
}

/// Many sandboxes, each with a shell, all standing by.
async fn herd(size: usize) {
    let bench = Bench::new();
    let ids: Vec<String> = (0..size).map(|n| format!("sesn_{n}.1")).collect();

    let start = Instant::now();
    let sandboxes = stream::iter(&ids).map(async |id| {
        let sandbox = bench.sandbox(id).await;
        sandbox.bash("true").await;
        sandbox
    });
    let sandboxes: Vec<Sandbox> = sandboxes.buffer_unordered(AT_ONCE).collect().await;
    println!("{size} sandboxes with a shell each, {AT_ONCE} at once: {:.1?}", start.elapsed());

    let start = Instant::now();
    let standby = async |sandbox: &Sandbox| bench.provider.standby(&sandbox.id).await.unwrap();
    stream::iter(&sandboxes).for_each_concurrent(AT_ONCE, standby).await;
    println!("all of them to standby: {:.1?}", start.elapsed());

    let mut memory: Vec<u64> =
        sandboxes.iter().map(|sandbox| proportional(bench.keeper(sandbox).launcher)).collect();
    let (median, largest) = (percentile(&mut memory, 50), percentile(&mut memory, 100));
    println!("memory of each, shared parts divided: p50 {median} KiB, at most {largest} KiB");

    let cpu = async || {
        let cpu = async |sandbox: &Sandbox| bench.provider.usage(&sandbox.id).await.unwrap().cpu;
        stream::iter(&sandboxes)
            .map(cpu)
            .buffer_unordered(AT_ONCE)
            .fold(Duration::ZERO, async |a, b| a + b)
            .await
    };
    let before = cpu().await;
    tokio::time::sleep(WATCH).await;
    println!("processor time of all of them in {WATCH:?} of standby: {:.1?}", cpu().await - before);

    let start = Instant::now();
    let mut calls = Vec::new();
    for sandbox in &sandboxes {
        let wake = async {
            bench.provider.resume(&sandbox.id).await.unwrap();
            assert_eq!(sandbox.bash("echo awake").await, "awake");
        };
        timed(&mut calls, wake).await;
    }
    println!("one after the other awake again: {:.1?}", start.elapsed());
    report("each, to the answer of its first call", calls);

    let start = Instant::now();
    let delete = async |sandbox: &Sandbox| bench.provider.delete(&sandbox.id).await.unwrap();
    stream::iter(&sandboxes).for_each_concurrent(AT_ONCE, delete).await;
    println!("all of them deleted: {:.1?}", start.elapsed());
    bench.close().await;
}

/// Memory of a process and all below it in KiB, the part of what is shared divided by those who share it.
fn proportional(root: u32) -> u64 {
    let own = std::fs::read_to_string(format!("/proc/{root}/smaps_rollup")).unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    let own: u64 = own.trim().trim_end_matches(" kB").parse().unwrap();
    own + children(root).into_iter().map(proportional).sum::<u64>()
}

//! What a host full of sleeping sessions costs: `cargo bench --bench sessions`, or `… -- N` for N sessions.
//!
//! A real `remuda run` on local sandboxes serves the emulator. Each session runs one call, which starts a shell and
//! leaves a sleeping job behind, and then waits for its model. When every sandbox stands by, the orchestrator and all
//! processes of the sandboxes are looked at for a while.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that meets the unexpected has failed"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use procfs::process::Process;
use remuda::emulator::{CallRequest, StopReason};
use serde_json::json;

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/run/bench.rs"]
mod bench;

use bench::{Bench, PATIENCE, until};

/// How long the sleep is watched.
const WATCH: Duration = Duration::from_secs(20);

/// Processor time of a process so far, in seconds.
fn processor_seconds(pid: i32) -> f64 {
    let stat = Process::new(pid).and_then(|process| process.stat()).unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

/// Memory of a process in MiB: resident, and of that its own.
fn memory(pid: i32) -> (f64, f64) {
    let rollup = Process::new(pid).and_then(|process| process.smaps_rollup()).unwrap();
    let of = |name: &str| {
        let maps = rollup.memory_map_rollup.iter();
        maps.filter_map(|map| map.extension.map.get(name)).sum::<u64>() as f64 / f64::from(1 << 20)
    };
    (of("Rss"), of("Private_Clean") + of("Private_Dirty"))
}

/// The processes below one.
fn below(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
        for child in children {
            found.push(child);
            next.push(child);
        }
    }
    found
}

fn launcher(sandbox: &Path) -> Option<i32> {
    fs::read_to_string(sandbox.join("lock")).ok()?.split_whitespace().next()?.parse().ok()
}

fn main() {
    let sessions = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(sessions));
}

async fn measure(sessions: usize) {
    let bench = Bench::new().await;
    let arguments =
        ["--max-sessions", &sessions.to_string(), "--standby-after", "1s", "--background", "freeze"];
    let mut command = bench.keeping(&["--warm", "0", "--min-free-memory", "0", "--drain", "release"]);
    command.args(arguments).args(["--park-for", "0s", "--log-format", "json"]);
    command.env("RUST_LOG", "warn");
    let running = bench.start(command);
    let pid = running.pid.as_raw_pid();
    until("it polls", || bench.emulator.log().seen() > 0).await;
    let (empty, _) = memory(pid);

    let start = Instant::now();
    let live: Vec<_> = (0..sessions).map(|_| bench.session()).collect();
    let calls: Vec<_> = live
        .iter()
        .map(|session| {
            let input = json!({"command": "sleep 100000 & echo up"});
            session.call(vec![CallRequest::tool("bash", input)]).unwrap().remove(0)
        })
        .collect();
    for (session, call) in live.iter().zip(&calls) {
        session.wait_resolved(call, PATIENCE).await.unwrap();
    }
    println!("{sessions} sessions queued, claimed, sandboxed and answered: {:.1?}", start.elapsed());

    let launchers: Vec<_> = running.sandboxes().iter().filter_map(|sandbox| launcher(sandbox)).collect();
    assert_eq!(launchers.len(), sessions, "a sandbox for each");
    let inside: Vec<Vec<i32>> = launchers.iter().map(|pid| below(*pid)).collect();
    let all = || inside.iter().flatten().chain(&launchers).copied();
    let used = || all().map(processor_seconds).sum::<f64>();
    // Frozen is when nothing runs any more; freezing is a matter of the second it takes to begin.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (before, own_before, began) = (used(), processor_seconds(pid), Instant::now());
    tokio::time::sleep(WATCH).await;
    let watched = began.elapsed().as_secs_f64();
    let percent = |seconds: f64| 100.0 * seconds / watched;
    println!(
        "in standby, in percent of one core: orchestrator {:.2}, all {} processes of the sandboxes {:.2}",
        percent(processor_seconds(pid) - own_before),
        all().count(),
        percent(used() - before),
    );
    let (rss, own) = memory(pid);
    println!(
        "orchestrator: {rss:.1} MiB resident, {own:.1} of its own; {:.1} KiB a session over the {empty:.1} it began with",
        (rss - empty) * 1024.0 / sessions as f64
    );
    let mut own: Vec<f64> = inside
        .iter()
        .zip(&launchers)
        .map(|(inside, launcher)| inside.iter().chain([launcher]).map(|pid| memory(*pid).1).sum())
        .collect();
    own.sort_by(f64::total_cmp);
    println!(
        "a sandbox with shell and job: {:.2} MiB of its own in the median, {:.2} at most, in {} processes",
        own[own.len() / 2],
        own[own.len() - 1],
        inside[0].len() + 1
    );

    let mut woken = Vec::new();
    for session in live.iter().take(50) {
        let input = json!({"command": "true"});
        let start = Instant::now();
        let calls = session.call(vec![CallRequest::tool("bash", input)]).unwrap();
        session.wait_resolved(&calls[0], PATIENCE).await.unwrap();
        woken.push(start.elapsed());
    }
    woken.sort_unstable();
    println!(
        "a call to one that sleeps, from emitted to answered: p50 {:.2?}, worst of 50 {:.2?}",
        woken[woken.len() / 2],
        woken[woken.len() - 1]
    );
    for session in &live {
        session.rest(StopReason::EndTurn).unwrap();
    }
    let start = Instant::now();
    running.stop().await;
    println!("drained and gone: {:.1?}", start.elapsed());
}

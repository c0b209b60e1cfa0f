//! What local sandboxes cost: `cargo bench --bench local`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that meets the unexpected has failed"
)]

use std::time::{Duration, Instant};

use remuda_actors::ports::SandboxProvider as _;

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/local/bench.rs"]
mod bench;

use bench::Bench;

const ROUNDS: usize = 2_000;

fn percentile(times: &mut [Duration], hundredths: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * hundredths / 100]
}

fn report(what: &str, mut times: Vec<Duration>) {
    let (median, late) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!("{what}: p50 {median:?}, p99 {late:?}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let bench = Bench::new();
    let (mut starts, mut deletes) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let start = Instant::now();
        let sandbox = bench.sandbox("cold").await;
        starts.push(start.elapsed());
        let start = Instant::now();
        bench.provider.delete(&sandbox.id).await.unwrap();
        deletes.push(start.elapsed());
    }
    report("cold start", starts);
    report("delete", deletes);
    for (name, command) in [("idle shell", "true"), ("busy", "(while :; do :; done) & true")] {
        let sandbox = bench.sandbox("one").await;
        sandbox.bash(command).await;
        let (mut standbys, mut resumes, mut usages) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            bench.provider.standby(&sandbox.id).await.unwrap();
            standbys.push(start.elapsed());
            let start = Instant::now();
            bench.provider.resume(&sandbox.id).await.unwrap();
            resumes.push(start.elapsed());
            let start = Instant::now();
            bench.provider.usage(&sandbox.id).await.unwrap();
            usages.push(start.elapsed());
        }
        report(&format!("{name}: standby"), standbys);
        report(&format!("{name}: resume"), resumes);
        report(&format!("{name}: usage"), usages);
        bench.provider.delete(&sandbox.id).await.unwrap();
    }
    bench.close().await;
}

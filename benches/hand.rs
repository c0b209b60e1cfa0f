//! What the hand costs: `cargo bench --bench hand`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that meets the unexpected has failed"
)]

use std::time::{Duration, Instant};

use serde_json::json;

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../tests/hand/fixture.rs"]
mod fixture;

use fixture::Hand;

/// Rounds of each measurement.
const ROUNDS: usize = 2_000;

fn percentile(times: &mut [Duration], hundredths: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * hundredths / 100]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let start = Instant::now();
    let hand = Hand::start();
    println!("process start to ready, through a shell: {:?}", start.elapsed());
    let health = hand.client.health().await.unwrap();
    println!(
        "resident when ready: {} KiB, {} KiB of it its own",
        health.rss_bytes / 1024,
        health.private_bytes / 1024
    );

    hand.bash("true").await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        hand.bash("true").await;
        times.push(start.elapsed());
    }
    let median = percentile(&mut times, 50);
    println!("`true` in a warm shell: p50 {median:?}, p99 {:?}", percentile(&mut times, 99));

    hand.write("small", "x");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        hand.tool("read", json!({"file_path": "small"})).await;
        times.push(start.elapsed());
    }
    let median = percentile(&mut times, 50);
    println!("`read` of a byte: p50 {median:?}, p99 {:?}", percentile(&mut times, 99));

    hand.output(
        "for i in $(seq 200); do mkdir -p t/d$i; for j in $(seq 100); do \
         echo \"line of file $j\nneedle$i in $j\nanother line, somewhat longer\" > t/d$i/f$j.txt; done; done",
    )
    .await;
    for (tool, input) in [
        ("glob", json!({"pattern": "**/*.txt"})),
        ("grep", json!({"pattern": "needle7 "})),
        ("grep", json!({"pattern": "(?i)not [a-z]+ here"})),
    ] {
        let mut times = Vec::new();
        for _ in 0..20 {
            let start = Instant::now();
            assert!(!hand.tool(tool, input.clone()).await.is_error);
            times.push(start.elapsed());
        }
        println!("{tool} {input} over 20,000 files: p50 {:?}", percentile(&mut times, 50));
    }
    // Longer than its idle threads are kept.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let health = hand.client.health().await.unwrap();
    println!("resident when idle again: {} KiB", health.rss_bytes / 1024);
}

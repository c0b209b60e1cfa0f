//! What the journal costs: `cargo bench --bench store`. `TMPDIR` chooses the disk.

#![expect(clippy::expect_used, reason = "a measurement that meets the unexpected has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remuda::store::{Durability, Store};
use remuda_actors::ports::{HeartbeatToken, Journal as _, Record, Target, WorkItem};
use remuda_actors::secret::Secret;

/// Appenders side by side.
const APPENDERS: usize = 32;

fn percentile(times: &mut [Duration], hundredths: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * hundredths / 100]
}

fn open(dir: &Path, durability: Durability) -> Store {
    Store::open_with(dir, durability).expect("open")
}

fn claimed(work: &str) -> Record {
    let item = WorkItem {
        id: work.into(),
        environment: "env_0123456789abcdefghijkl".into(),
        target: Target::Session(format!("sesn_{work}").into()),
        credential: Some(Secret::new("x".repeat(600))),
    };
    Record::Claimed { item }
}

/// How long each of so many appends about one work item takes.
async fn appends(store: &Store, work: &str, count: usize) -> Vec<Duration> {
    store.append(&work.into(), claimed(work)).await.expect("append");
    let mut times = Vec::new();
    for n in 0..count {
        let record = Record::CallStarted {
            call: format!("sevt_0123456789abcdefgh{}", n % 4).into(),
            sandbox: format!("sesn_{work}.1").into(),
        };
        let start = Instant::now();
        store.append(&work.into(), record).await.expect("append");
        times.push(start.elapsed());
    }
    times
}

async fn latency(durability: Durability, count: usize) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = Arc::new(open(dir.path(), durability));
    let alone = Arc::clone(&store);
    let mut times =
        tokio::spawn(async move { appends(&alone, "alone", count).await }).await.expect("appends");
    let median = percentile(&mut times, 50);
    println!("{durability:?}, one appender: p50 {median:?}, p99 {:?}", percentile(&mut times, 99));

    let start = Instant::now();
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { appends(&store, &format!("work_{n}"), count / 4).await })
        })
        .collect();
    let mut times = Vec::new();
    for appender in appenders {
        times.extend(appender.await.expect("appends"));
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    let median = percentile(&mut times, 50);
    let tail = percentile(&mut times, 99);
    println!(
        "{durability:?}, {APPENDERS} appenders: p50 {median:?}, p99 {tail:?}, {rate:.0} appends a second"
    );
}

/// How long a journal of so many live sessions takes to open and to read, after a crash.
async fn replay(sessions: usize) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = open(dir.path(), Durability::EverySecond);
    for n in 0..sessions {
        let work = format!("work_{n:020}");
        let records = [
            claimed(&work),
            Record::SandboxIntended { instance: 1, sandbox: format!("sesn_{work}.1").into() },
            Record::Beat {
                token: Some(HeartbeatToken::new("2026-01-01T00:00:00Z")),
                ttl: Duration::from_secs(120),
            },
            Record::CallStarted { call: "sevt_1".into(), sandbox: format!("sesn_{work}.1").into() },
        ];
        for record in records {
            store.append(&work.as_str().into(), record).await.expect("append");
        }
    }
    let crashed = tempfile::tempdir().expect("temporary folder");
    for file in ["journal.redb", "journal.log"] {
        std::fs::copy(dir.path().join(file), crashed.path().join(file)).expect("copy");
    }
    let start = Instant::now();
    let store = open(crashed.path(), Durability::EverySecond);
    let opened = start.elapsed();
    let replayed = store.replay().await.expect("replay");
    assert_eq!(replayed.work.len(), sessions * 4);
    println!(
        "{sessions} live sessions: opened after a crash in {opened:?}, replayed in {:?}",
        start.elapsed() - opened
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    latency(Durability::EverySecond, 20_000).await;
    latency(Durability::Always, 1_000).await;
    replay(500).await;
    replay(10_000).await;
}

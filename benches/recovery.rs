//! How long a process that was killed with many live sessions takes to be where it was:
//! `cargo bench --bench recovery`, or `… -- N` for N sessions.
//!
//! The control plane is the emulator over loopback, the journal is real and on disk; only the sandboxes are
//! fakes. Each session has a call that runs all along. "Attached" is when the last session has a heartbeat
//! accepted on its old lease, its stream open, its history read, and its hand asked for the running call.

#![expect(clippy::unwrap_used, reason = "a measurement that meets the unexpected has failed")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remuda::cma;
use remuda::emulator::{CallRequest, Emulator, EnvironmentHandle, Options};
use remuda::store::Store;
use remuda_actors::notice::Notice;
use remuda_actors::ports::OwnerId;
use remuda_actors::secret::Secret;
use remuda_actors::testing::FakeProvider;
use remuda_actors::{Ports, Settings, Tree};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

/// Times each figure is taken.
const ROUNDS: usize = 5;

async fn tree(
    emulator: &Emulator,
    environment: &EnvironmentHandle,
    provider: &Arc<FakeProvider>,
    dir: &std::path::Path,
    sessions: usize,
) -> (Tree, Duration) {
    let start = Instant::now();
    let control = cma::Client::new(cma::Options {
        base_url: emulator.url(),
        worker_id: "bench".to_owned(),
        queues: vec![cma::Queue {
            environment: environment.id.clone(),
            key: Secret::new(environment.key.as_str()),
        }],
    });
    let ports = Ports {
        control: Arc::new(control.unwrap()),
        provider: Arc::clone(provider) as _,
        journal: Arc::new(Store::open(dir).unwrap()),
    };
    let mut settings = Settings::new(OwnerId::new("bench"), [environment.id.clone()]);
    settings.max_sessions = sessions + 1;
    settings.herd.warm = 0;
    settings.deadlines.call = Duration::from_secs(3600);
    (Tree::start(ports, settings).await.unwrap(), start.elapsed())
}

/// Waits until a call of each session was given to its hand.
async fn attached(tree: &Tree, sessions: usize) {
    let mut notices = tree.subscribe();
    let mut calls = BTreeSet::new();
    while calls.len() < sessions {
        match notices.recv().await {
            Ok(Notice::CallStarted { call, .. }) => drop(calls.insert(call)),
            Ok(Notice::Illegal { what }) => panic!("{what}"),
            Ok(_) => {}
            Err(RecvError::Lagged(lost)) => panic!("{lost} notices were missed"),
            Err(RecvError::Closed) => panic!("the tree is gone"),
        }
    }
}

#[tokio::main]
async fn main() {
    let sessions: usize = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(500);
    let emulator = Emulator::start(Options::default()).await.unwrap();
    let environment = emulator.create_environment("bench").unwrap();
    let silent = json!({"name": "silent", "model": "m", "tools": [{"type": "agent_toolset_20260401"}], "metadata": {"brain": "silent"}});
    let silent = emulator.create_agent_with(&silent).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let provider = Arc::new(FakeProvider::new());
    let (mut running, _) = tree(&emulator, &environment, &provider, dir.path(), sessions).await;
    let (claiming, mut items) = (Instant::now(), Vec::new());
    for _ in 0..sessions {
        let body = json!({"environment_id": environment.id, "agent": silent});
        let session = emulator.create_session_with(&body).unwrap();
        items.push((session.id().clone(), session.live_work()));
        session.call(vec![CallRequest::tool("bash", json!({"command": "sleep 3000"}))]).unwrap();
    }
    attached(&running, sessions).await;
    println!("{sessions} sessions claimed and running after {:.2?}", claiming.elapsed());
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        drop(running);
        // As after a kill, nothing is said to anyone; the tasks of the old tree are given time to be gone.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let start = Instant::now();
        let (next, ready) = tree(&emulator, &environment, &provider, dir.path(), sessions).await;
        attached(&next, sessions).await;
        println!("tree up after {ready:.2?}, all attached after {:.2?}", start.elapsed());
        times.push(start.elapsed());
        running = next;
    }
    times.sort_unstable();
    println!("all attached: median {:.2?}, worst {:.2?}", times[ROUNDS / 2], times[ROUNDS - 1]);
    assert_eq!(provider.runs().len(), sessions, "a call ran twice");
    for (session, item) in items {
        assert_eq!(emulator.session(&session).live_work(), item, "an item was lost");
    }
    println!("no call ran twice, no lease was lost");
}

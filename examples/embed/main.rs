//! A service of one's own with remuda in it.
//!
//! A small web service keeps notebooks: whoever posts some lines gets a session, whose agent writes them down one
//! by one. The tree is mounted beside the web server, on the same runtime, with ports that know nothing of HTTP
//! APIs, files or containers:
//!
//! ```text
//!  POST /sessions ──► queue ◄──ControlPlane── tree ──SandboxProvider, Hand──► notebooks
//!  GET  /sessions/{id} ─┘                      │ └──Journal──► nothing is remembered
//!  GET  /tree ◄────────────────────────────────┘ snapshot
//! ```
//!
//! | File | What it shows |
//! |---|---|
//! | `queue.rs` | a control plane of one's own: a queue with leases, and sessions with logs and streams |
//! | `notebooks.rs` | sandboxes of one's own: what they are, and how their hands run a call at most once |
//! | `service.rs` | the web service, which hands work in and shows the tree |
//! | here | mounting the tree, and the order in which everything ends |
//!
//! `cargo run --release --example embed -- --listen 127.0.0.1:8080` serves until SIGINT. Without an address it
//! serves on any, sends itself one request, and ends in order.

mod notebooks;
mod queue;
mod service;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use remuda_actors::ports::{OwnerId, Volatile};
use remuda_actors::{Ports, Settings, Tree};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use notebooks::Notebooks;
use queue::{ENVIRONMENT, Queue};

/// How long sessions may take to finish when the service ends.
const GRACE: Duration = Duration::from_secs(10);

/// Keeps notebooks.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to serve until SIGINT. Without it, the service sends itself one request and ends.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen } = Arguments::parse();

    // The ports: where work comes from, where sandboxes come from, and what is remembered.
    let queue = Arc::new(Queue::default());
    let ports = Ports {
        control: Arc::clone(&queue) as _,
        provider: Arc::new(Notebooks::default()),
        journal: Arc::new(Volatile),
    };
    let mut settings = Settings::new(OwnerId::new("notebooks"), [ENVIRONMENT.into()]);
    settings.session.tools = [notebooks::TOOL.into()].into();
    settings.session.max_idle = Some(Duration::from_millis(200));
    let tree = Arc::new(Tree::start(ports, settings).await?);

    let listener = TcpListener::bind(listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into())).await?;
    let address = listener.local_addr()?;
    println!("serving on http://{address}");
    let stop = CancellationToken::new();
    let router = service::router(Arc::clone(&queue), Arc::clone(&tree));
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let serving = tokio::spawn(serving.into_future());

    let why = tokio::select! {
        // The tree restarts what fails in it. One that gave up is the service's to report.
        ended = tree.ended() => ended.context("the tree ended"),
        asked = tokio::signal::ctrl_c() => asked.context("could not listen for SIGINT"),
        tried = try_it(address), if listen.is_none() => tried,
    };

    // Claiming ends first, then the sessions. Only then the web server, so that those who wait for a session are
    // answered.
    let drained = tree.drain(GRACE).await;
    println!("drained: {} sessions were handed back", drained.handed_back);
    stop.cancel();
    serving.await.context("the web server panicked")?.context("the web server failed")?;
    why
}

/// One request, as a client would send it.
async fn try_it(address: SocketAddr) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let order = json!({"lines": ["buy hay", "mend the fence"]});
    let made: Value =
        client.post(format!("http://{address}/sessions")).json(&order).send().await?.json().await?;
    let session = made["session"].as_str().context("no session was made")?;
    let found: Value =
        client.get(format!("http://{address}/sessions/{session}")).send().await?.json().await?;
    println!("{session}: {}", found["answers"]);
    anyhow::ensure!(found["answers"] == json!(["1 buy hay", "2 mend the fence"]), "the notebook is wrong");
    let tree: Value = client.get(format!("http://{address}/tree")).send().await?.json().await?;
    println!("tree: {} slots are free", tree["free_slots"]);
    Ok(())
}

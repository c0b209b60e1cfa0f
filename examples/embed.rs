//! A service of one's own with remuda in it.
//!
//! `cargo run --release --example embed` mounts the tree on this program's runtime, beside whatever else it
//! does, follows what happens, and drains it. The control plane is the emulator, so that it runs anywhere;
//! a real one differs in the address and the key alone.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use remuda::cma;
use remuda::emulator::{Emulator, Options};
use remuda::launch::{Isolation, Limits, Network};
use remuda::providers::local::{self, LocalProvider};
use remuda_actors::notice::Notice;
use remuda_actors::ports::{OwnerId, Volatile};
use remuda_actors::secret::Secret;
use remuda_actors::{Ports, Settings, Tree};

fn main() -> ExitCode {
    // Local sandboxes start this very program again, as their hand; a service with `remuda-hand` installed
    // names that below instead.
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == "hand") {
        return remuda::hand::cli::main(arguments.into_iter().skip(1));
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve() -> anyhow::Result<()> {
    let emulator = Emulator::start(Options::default()).await?;
    let environment = emulator.create_environment("embedded")?;
    let agent = emulator.create_agent("helper")?;

    // The ports: where work comes from, where sandboxes come from, and what is remembered.
    let control = cma::Client::new(cma::Options {
        base_url: emulator.url(),
        worker_id: "my-service-1".to_owned(),
        queues: vec![cma::Queue {
            environment: environment.id.clone(),
            key: Secret::new(environment.key.as_str()),
        }],
    })?;
    let folder = tempfile::tempdir()?;
    let owner = OwnerId::new("my-service");
    let provider = LocalProvider::new(local::Options {
        dir: folder.path().join("sandboxes"),
        program: "/proc/self/exe".into(),
        arguments: vec!["hand".to_owned()],
        owner: owner.clone(),
        isolation: Isolation::Namespaces,
        network: Network::None,
        limits: Limits::default(),
    })?;
    let ports =
        Ports { control: Arc::new(control), provider: Arc::new(provider), journal: Arc::new(Volatile) };

    let mut settings = Settings::new(owner, [environment.id.clone()]);
    settings.session.max_idle = Some(Duration::from_millis(200));
    let tree = Tree::start(ports, settings).await?;

    // What the rest of the service sees of it.
    let mut notices = tree.subscribe();
    let session = emulator.create_session(&environment.id, &agent, "echo hello from $(pwd)")?;
    loop {
        match notices.recv().await? {
            Notice::CallFinished { tool, took, .. } => println!("{tool} took {took:.1?}"),
            Notice::Sandbox { from, to, .. } => println!("sandbox: {from} -> {to}"),
            Notice::Ended { outcome, .. } => break println!("the session ended: {outcome:?}"),
            _ => {}
        }
    }
    let said = session.events().into_iter().rfind(|event| event.kind() == "agent.message");
    let said = said.context("the agent said nothing")?;
    println!("{}", String::from_utf8_lossy(said.json()));

    let drained = tree.drain(Duration::from_secs(30)).await;
    anyhow::ensure!(drained.handed_back == 0, "a session was cut short");
    emulator.shutdown().await;
    Ok(())
}

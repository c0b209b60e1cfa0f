//! The stand-alone emulator: arguments, what is printed, and the wait for a signal.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Emulator, EmulatorError, EnvironmentHandle, Options, load_faults};
use crate::emulator::scenario::Scenario;

/// Arguments of the stand-alone emulator.
#[derive(Clone, Debug, Args)]
pub struct EmulatorArgs {
    /// Address to listen on; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Accept an address that other machines can reach.
    #[arg(long)]
    pub listen_anywhere: bool,
    /// An environment to make; can be given several times.
    #[arg(long = "environment", value_name = "NAME", default_value = "development")]
    pub environments: Vec<String>,
    /// A scenario file, YAML or JSON; can be given several times.
    #[arg(long = "scenario", value_name = "FILE")]
    pub scenarios: Vec<PathBuf>,
    /// Lease that a heartbeat is granted, in whole seconds.
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = humantime::parse_duration)]
    pub lease_ttl: Duration,
    /// A JSON file of fault rules.
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// The API key to accept; one is made up if none is given.
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
}

/// Runs the emulator until it is interrupted.
///
/// # Errors
/// A file that cannot be read, an option outside its limits, an address that cannot be bound.
///
/// # Cancel safety
/// Dropped, it stops the emulator.
pub async fn main(args: EmulatorArgs) -> Result<(), EmulatorError> {
    // Everything is read before a port is bound.
    let faults = args.faults.as_deref().map(load_faults).transpose()?.unwrap_or_default();
    let scenarios = args.scenarios.iter().map(|path| Scenario::load(path)).collect::<Result<_, _>>()?;
    let defaults = Options::default();
    let emulator = Emulator::start(Options {
        listen: args.listen,
        listen_anywhere: args.listen_anywhere,
        api_key: args.api_key,
        lease_ttl: args.lease_ttl,
        max_lease_ttl: defaults.max_lease_ttl.max(args.lease_ttl),
        scenarios,
        ..defaults
    })
    .await?;
    for rule in faults {
        emulator.faults().add(rule)?;
    }
    let mut environments = Vec::new();
    for name in &args.environments {
        environments.push((name.as_str(), emulator.create_environment(name)?));
    }
    if let Err(error) = describe(&mut io::stdout().lock(), &emulator, &environments) {
        tracing::warn!(%error, "could not print the credentials");
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "cannot be interrupted, running until killed");
        std::future::pending::<()>().await;
    }
    emulator.shutdown().await;
    Ok(())
}

/// Tells how to reach the emulator, in lines a shell can take as they are.
fn describe(
    out: &mut impl Write,
    emulator: &Emulator,
    environments: &[(&str, EnvironmentHandle)],
) -> io::Result<()> {
    let (url, api_key) = (emulator.url(), emulator.api_key());
    writeln!(
        out,
        "# A control plane for development at {url}. Its credentials are made up and good for it alone."
    )?;
    for (name, environment) in environments {
        writeln!(out, "\n# Environment {name}: for its workers")?;
        writeln!(out, "export ANTHROPIC_BASE_URL={url}")?;
        writeln!(out, "export ANTHROPIC_ENVIRONMENT_ID={}", environment.id)?;
        writeln!(out, "export ANTHROPIC_ENVIRONMENT_KEY={}", environment.key)?;
    }
    writeln!(out, "\n# For applications that make agents and sessions, never for workers")?;
    writeln!(out, "export ANTHROPIC_API_KEY={api_key}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: EmulatorArgs,
    }

    #[tokio::test]
    async fn what_it_prints_can_be_taken_by_a_shell() {
        let emulator = Emulator::start(Options::default()).await.unwrap();
        let environments = ["a", "b"].map(|name| (name, emulator.create_environment(name).unwrap()));
        let mut out = Vec::new();
        describe(&mut out, &emulator, &environments).unwrap();
        let out = String::from_utf8(out).unwrap();
        let strange = out.lines().find(|line| {
            !line.is_empty() && !line.starts_with("# ") && !line.starts_with("export ANTHROPIC_")
        });
        assert_eq!(strange, None);
        assert_eq!(out.matches("export ANTHROPIC_ENVIRONMENT_KEY=sk-ant-oat01-").count(), 2);
        assert!(out.contains(&format!("export ANTHROPIC_BASE_URL={}", emulator.url())), "{out}");
    }

    #[tokio::test]
    async fn an_address_other_machines_reach_needs_the_flag() {
        let args = Cli::parse_from(["emulator", "--listen", "0.0.0.0:0"]).args;
        let error = main(args).await.unwrap_err();
        assert!(matches!(error, EmulatorError::NotLoopback { .. }), "{error}");
        assert!(error.to_string().contains("--listen-anywhere"), "{error}");
    }

    #[test]
    fn defaults_are_those_of_the_options() {
        let args = Cli::parse_from(["emulator"]).args;
        let defaults = Options::default();
        assert_eq!((args.listen, args.lease_ttl), (defaults.listen, defaults.lease_ttl));
        assert_eq!(args.environments, ["development"]);
    }
}

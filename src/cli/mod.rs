//! The command line: raw arguments, and one module per command.

use std::ffi::OsString;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::report::{Exit, Failure};

mod bridge;
mod config;
mod demo;
mod emulator;
mod environments;
mod interactive;
mod logging;
mod outfit;
mod policy;
mod run;
mod sandboxes;
mod stage;
mod table;
mod transcript;

/// Runs the tool calls of Claude Managed Agents sessions in sandboxes of your own.
#[derive(Debug, Parser)]
#[command(name = "remuda", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an environment: claim its sessions and run their tool calls.
    Run(Box<run::RunArguments>),
    /// Show what remuda does, on a control plane of its own: no account, no root, nothing to set up.
    Demo(demo::DemoArguments),
    /// List this host's sandboxes, or use one as an MCP server.
    Sandboxes(sandboxes::SandboxesCommand),
    /// Run a control plane to develop and test against.
    Emulator(emulator::EmulatorCommand),
}

/// Reads the arguments, of which the first is the program's name, and does what they say.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let line = match config::configured(Arguments::command(), &arguments) {
        Ok(line) => line,
        Err(failure) => return failure.report(),
    };
    let parsed = line.try_get_matches_from(arguments);
    let arguments = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for; everything else is a mistake.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Clean };
            let _ = error.print();
            return exit;
        }
    };
    let done = match arguments.command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Sandboxes(arguments) => sandboxes::sandboxes(&arguments),
        Command::Emulator(arguments) => emulator::emulator(arguments),
    };
    done.unwrap_or_else(|failure| failure.report())
}

/// How long what cannot be interrupted may go on when a command has ended, such as waiting for a line to be typed.
const LINGER: Duration = Duration::from_millis(500);

/// Runs a command to its end on a runtime of its own.
fn block_on<T>(command: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::GaveUp, anyhow::Error::new(error).context("could not start the runtime"))
    })?;
    let done = runtime.block_on(command);
    runtime.shutdown_timeout(LINGER);
    Ok(done)
}

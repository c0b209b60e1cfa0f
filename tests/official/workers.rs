//! Every worker that is compared, in one place: how its process is started.

use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::install;

/// A worker of its own process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// The official Python package.
    Python,
    /// The official TypeScript package.
    TypeScript,
}

/// What a worker process is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Serve a queue until it is killed.
    Poll,
    /// Serve the one item its environment names.
    Item,
}

impl Worker {
    /// Every worker that must behave alike.
    pub(crate) const ALL: [Self; 2] = [Self::Python, Self::TypeScript];

    /// Its name, also that of the folder its transcripts are kept in.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::TypeScript => "typescript",
        }
    }

    /// Starts it in `workdir` with these variables and no others of ours. It dies with the handle.
    pub(crate) fn start(self, mode: Mode, workdir: &Path, variables: &[(&str, &str)]) -> Child {
        let mode = match mode {
            Mode::Poll => "poll",
            Mode::Item => "item",
        };
        let mut command = script(self, "worker");
        command.arg(mode).arg(workdir).current_dir(workdir).envs(variables.iter().copied());
        command.spawn().unwrap_or_else(|error| panic!("could not start the {} worker: {error}", self.name()))
    }
}

/// A command that runs `tests/official/NAME` with the worker's language and package, in a clean environment.
pub(crate) fn script(worker: Worker, name: &str) -> Command {
    let (folder, scripts) = (install::folder(), install::root().join("tests/official"));
    let mut command = match worker {
        Worker::Python => {
            let mut command = Command::new(folder.join("python/bin/python"));
            command.arg(scripts.join(format!("{name}.py")));
            command
        }
        Worker::TypeScript => {
            // The host's own Node may be older than the official worker supports.
            let mut command = Command::new(folder.join("node/node_modules/.bin/node"));
            command.arg(scripts.join(format!("{name}.mjs")));
            command
        }
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", folder)
        .env("OFFICIAL_NODE", folder.join("node"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

//! `remuda emulator`: a control plane to develop and test against.

use clap::Args;

use super::logging::{self, LogFormat};
use crate::emulator::cli::{EmulatorArgs, main};
use crate::report::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct EmulatorCommand {
    #[command(flatten)]
    emulator: EmulatorArgs,
}

/// Runs the emulator until it is interrupted.
pub(super) fn emulator(command: EmulatorCommand) -> Result<Exit, Failure> {
    logging::start(LogFormat::Text, None);
    let done = super::block_on(main(command.emulator))?;
    done.map(|()| Exit::Clean).map_err(|error| Failure::new(Exit::Configuration, error))
}

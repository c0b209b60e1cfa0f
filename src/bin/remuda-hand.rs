//! The daemon inside a sandbox; see `remuda::hand`.

use std::process::ExitCode;

fn main() -> ExitCode {
    remuda::hand::cli::main(std::env::args_os())
}

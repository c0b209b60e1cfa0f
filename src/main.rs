//! The `remuda` command; see the library for what it is made of.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // The same program is the hand of a local sandbox, so that there is one file to install.
    if arguments.get(1).is_some_and(|first| first == "hand") {
        return remuda::hand::cli::main(arguments.into_iter().skip(1));
    }
    remuda::cli::main(arguments).into()
}

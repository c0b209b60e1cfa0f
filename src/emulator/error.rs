//! What can go wrong when the emulator starts. A refused request is not an error of this kind.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::scenario::ScenarioError;

/// The emulator could not start, or was asked for something it does not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// An option is outside its limits.
    #[error("option `{option}` is {got}, expected {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The address could not be bound.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The address would let other machines in.
    #[error(
        "refusing to listen on {address}: its credentials are printed and its commands run on workers; use a loopback address, or `--listen-anywhere` on a network of your own"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file of fault rules is malformed.
    #[error("{}: {message}", path.display())]
    Faults {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A scenario is malformed.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The emulator refused what its in-process user asked.
    #[error("{0}")]
    Refused(String),
}

//! `remuda explain`: how a session would be served, and why.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::config;
use crate::report::{Exit, Failure};
use crate::routing::{Facts, Findings};

/// Largest session that is read, in bytes; the API's have some ten thousand.
const MAX_SESSION: u64 = 8 << 20;

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// The file with the rules, as `remuda run` takes it.
    #[arg(long, value_name = "FILE", env = "REMUDA_CONFIG")]
    config: PathBuf,

    /// A file with a session, as the API returns it.
    #[arg(value_name = "SESSION.json")]
    session: PathBuf,
}

/// Says which rule applies to a session, and why each earlier one does not.
pub(super) fn explain(arguments: &ExplainArguments) -> Result<Exit, Failure> {
    let rules = config::rules(&arguments.config)?;
    let path = arguments.session.display();
    let text = config::read_bounded(&arguments.session, MAX_SESSION)
        .map_err(|failure| failure.hint("name a file with a session, as `GET /v1/sessions/{id}` answers"))?;
    let facts = Facts::of_session(text.as_bytes()).map_err(|error| {
        Failure::say(Exit::Configuration, format!("{path} holds no session: {error}"))
            .hint("expected the object that `GET /v1/sessions/{id}` answers with")
    })?;
    // Whoever does not read to the end has what they wanted.
    let _ = write!(std::io::stdout(), "{}", Findings::of(&rules, &facts));
    Ok(Exit::Clean)
}

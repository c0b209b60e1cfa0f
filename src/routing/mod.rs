//! Which sessions are served how: rules from a configuration file.
//!
//! ```toml
//! [[route]]
//! name = "data team"                       # what people read; otherwise its number
//! environment = ["env_1", "env_2"]         # what must hold: all of it that is named
//! agent = "coder"                          # by id or name
//! metadata = { team = "data", size = "*" } # `*` is any value
//! execution = "worker"                     # what is decided
//! command = ["python3", "/opt/worker.py"]
//! sandbox-memory = 4096
//! ```
//!
//! The first rule that matches decides, and what it leaves open is as the flags say. Without one all is as they say.
//!
//! # Invariants
//! - A file with a mistake in it is not used at all; every mistake is told, with its line.
//! - A rule behind another one that matches whenever it does is a mistake.

mod judge;
mod read;
mod router;
mod rule;

pub use judge::{Against, Facts, Findings, Judgement};
pub use read::{Mistake, read};
pub(crate) use read::{TABLE, rules};
pub use router::{Surroundings, TableRouter};
pub use rule::{Decision, Mode, Rule, Wanted, When};

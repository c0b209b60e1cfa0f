//! The shell of a session thread: its process, how commands are given to it and how their output is kept.

mod framing;
mod output;
mod process;

pub(crate) use output::Output;
pub(crate) use process::{Ended, Shell};

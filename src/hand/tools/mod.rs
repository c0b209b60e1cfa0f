//! The tools of `agent_toolset_20260401` that run in a sandbox.
//!
//! They follow the recorded behaviour of the official Python toolset, with its built-in search, except
//! where this table says otherwise. Every difference is deliberate.
//!
#![doc = include_str!("differences.md")]

pub(crate) mod arguments;
pub(crate) mod bash;
pub(crate) mod custom;
mod edit;
pub(crate) mod failure;
mod glob;
mod grep;
pub(crate) mod limits;
pub(crate) mod program;
mod read;
mod toolset;
pub(crate) mod walk;
mod write;

pub(crate) use failure::reason;
pub(crate) use toolset::{FileTool, Tool};

/// What `glob` and `grep` answer when there is nothing.
const NO_MATCHES: &str = "no matches";

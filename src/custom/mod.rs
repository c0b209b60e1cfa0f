//! Tools that the operator declares, beside those that every sandbox has.
//!
//! ```text
//!                      ┌─ command ──────────► the hand starts it: JSON in, JSON or text out
//! agent.custom_tool_use┤
//!                      └─ an MCP server's ─┬► outside: one connection for all sessions, held by this process
//!                                          └► inside: the hand starts the server in the sandbox, for one call
//! ```
//!
//! # Not here
//! When a call runs, how it is cut and what is remembered of it: all of that is the tree's.

pub(crate) mod answer;
mod declared;
mod inside;
pub(crate) mod mcp;
mod server;
mod tools;

pub(crate) use declared::{TABLES, read};
pub(crate) use tools::Tools;

//! The daemon that runs an agent's tool calls inside a sandbox, and the client that reaches it.
//!
//! ```text
//!  client ──HTTP──► server ──► calls ──► lane per thread ──► shell ──► the agent's processes
//!                                │  │         └──────► write, edit
//!                                │  └──► read, glob, grep, side by side
//!                                └──► journal
//! ```
//!
//! The hand holds no credential of the control plane and needs no network. It is small because every
//! sandbox has one: a thread, a few megabytes, and nothing that wakes it while no call runs.

mod calls;
mod children;
pub mod cli;
pub mod client;
mod confine;
mod content;
mod custom;
pub mod environment;
pub(crate) mod journal;
mod lane;
mod mcp;
mod port;
mod procfs;
mod program;
mod replacement;
pub mod server;
mod shell;
pub mod tools;
pub(crate) mod trees;
pub mod wire;

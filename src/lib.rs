//! remuda claims Claude Managed Agents work items and runs each session's tool calls in a sandbox of its own.

pub mod cma;
pub mod emulator;
pub mod hand;

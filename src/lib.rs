//! remuda claims Claude Managed Agents work items and runs each session's tool calls in a sandbox of its own.

pub mod cma;
pub mod emulator;
pub mod hand;
pub mod launch;
pub mod providers;
pub mod report;
pub mod shutdown;
pub mod state_dir;

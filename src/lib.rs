//! remuda claims Claude Managed Agents work items and runs each session's tool calls in a sandbox of its own.
//!
//! Anthropic runs the agent loop. This is the other half, on infrastructure of its operator: an actor tree
//! ([`remuda_actors`]) that claims sessions from the control plane ([`cma`]), gives each a sandbox
//! ([`providers`]) with a small daemon in it that runs the tools ([`hand`]), and a command line ([`cli`])
//! around that. What must survive a crash is written down ([`store`]). A control plane to develop and test against comes along ([`emulator`]).

pub mod cli;
pub mod cma;
mod custom;
pub mod emulator;
pub mod hand;
mod inherited;
pub mod launch;
pub mod outfit;
pub mod pressure;
mod processes;
pub mod providers;
pub mod report;
pub mod shutdown;
pub mod state_dir;
pub mod store;

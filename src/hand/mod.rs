//! The daemon that runs an agent's tool calls inside a sandbox, and the client that reaches it.

pub mod wire;

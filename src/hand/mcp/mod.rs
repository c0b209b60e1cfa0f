//! The sandbox as an MCP server: the six tools, processes that outlive a call, and what is in a folder.
//!
//! ```text
//! POST /mcp ─► message ─► initialize, ping, tools/list ─────────────────────────► answered at once
//!                  ├────► tools/call ─┬─ bash, read, write, edit, glob, grep ──► calls, as any other
//!                  │                  └─ process_…, list_files ────────────────► here
//!                  └────► notifications/cancelled ─────────────────────────────► its call is cancelled
//! ```
//!
//! Streamable HTTP with plain JSON answers: this server has nothing to say by itself, so there is no stream. A session
//! is a name and no more: its calls share a shell, and nothing else is kept of it, so a client may go on with its
//! session after the hand has come up anew.
//!
//! # Not here
//! HTTP ([`server`](super::server)); how calls run ([`calls`](super::calls)). Tools that an operator has declared: those
//! are for the sessions that he serves.

mod content;
mod endpoint;
mod listing;
mod processes;
mod tools;

pub(crate) use endpoint::{Endpoint, Reply, SessionName};

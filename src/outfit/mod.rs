//! What sessions find in their sandboxes beside their tools: skills, the copies of their memory stores, and the files
//! that they ask for.
//!
//! Everything here runs outside: archives are fetched and unpacked here, texts are fetched and sent from here, with the
//! session's credential, and the sandbox is given files and nothing else.
//!
//! ```text
//!   control plane                        Furnisher                              sandbox
//!   skills ────────── archive ──► cache ── unpack ─────── whole folder ──► /workspace/skills/NAME/
//!   memory stores ◄── changes ─────────── replica ◄────── listing ──────── /mnt/memory/STORE/
//!                 ─── texts ────────────►         ─────── changes ───────►
//!   allowed folders, URLs ──── inputs ──────────────────────────────────► /workspace/
//!   a folder of this host ◄─────────────────────────────── outputs ────── /workspace/
//! ```
//!
//! # Invariants
//! - What was put into a sandbox, and what both sides of a store agreed on, is written down before it is relied on:
//!   another process goes on from there.
//! - A file in a sandbox changes only if it still is what was found; a memory, too. So whoever changes something in the
//!   meantime loses nothing.
//! - A failure to look after a store never ends the session.
//!
//! # Not here
//! When a sandbox is furnished and looked after: the sandbox's own machine decides that.

mod archive;
mod document;
mod furnisher;
mod memory;
mod patient;
mod record;
mod skills;
mod staging;
mod trouble;

use std::fmt;

use async_trait::async_trait;
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::HandError;

pub use self::furnisher::{COLLECTING, Furnisher, MIN_INTERVAL, Options, SetupError};
pub use self::memory::Deletes;
pub use self::staging::{OutputGlob, Outputs, StagingOptions};
use crate::hand::client::HandClient;

/// Knows the hands of sandboxes.
#[async_trait]
pub trait Hands: fmt::Debug + Send + Sync + 'static {
    /// The way to a sandbox's hand.
    ///
    /// # Errors
    /// [`HandError::Unreachable`] if there is none.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    async fn client(&self, sandbox: &SandboxId) -> Result<HandClient, HandError>;
}

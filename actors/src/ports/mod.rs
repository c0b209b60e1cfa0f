//! What the tree needs of the world: four traits, implemented by the host.
//!
//! | Port | What it is |
//! |---|---|
//! | [`ControlPlane`] | claims work and talks to the sessions it belongs to |
//! | [`SandboxProvider`] | creates, finds, freezes and deletes sandboxes |
//! | [`Hand`] | runs tool calls inside one sandbox |
//! | [`Journal`] | remembers, beyond the life of this process, what was claimed and what was run |
//!
//! Two are optional: [`HostPressure`] tells whether the host can carry more, and an [`Outfitter`] furnishes sandboxes
//! with what their sessions need beside the tools.
//! And an operator may have tools of his own: [`CustomTool`].
//!
//! Every method is called from a task that may be dropped at any await: each trait says what that leaves
//! behind and how it is found again. None of them retries by itself; the machines do.
//!
//! With feature `test-util`, the module `testing` holds an in-memory fake of each.

mod control_plane;
mod custom;
mod hand;
mod journal;
mod outfitter;
mod pressure;
mod provider;

pub use control_plane::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, ItemState, LeaseState,
    Session, SessionStatus, StopMode, Target, WorkItem,
};
pub use custom::{CustomPlace, CustomTool, InsideTool, OutsideTool};
pub use hand::{CallReply, CallRequest, Hand, HandError, HandHealth, Origin};
pub use journal::{Journal, JournalError, Parked, Record, Replay, Replayed, Shelved, Volatile};
pub use outfitter::{Care, CareLimits, Fitted, Outfit, OutfitError, Outfitter};
pub use pressure::{HostPressure, Pressure};
pub use provider::{
    Capabilities, OwnerId, ProviderError, Sandbox, SandboxProvider, SandboxSpec, Standby, Usage,
};

//! Workers that serve a session by themselves: how a command becomes one, in a sandbox and on this host, and the one
//! that this program is itself.
//!
//! A worker is told its item by the official variables. In place of the item's whole secret it gets one that holds the
//! session's token alone, which is all that any worker reads of it.

mod command;
mod here;
mod host;
mod sandbox;
mod single;

pub use command::Command;
pub use here::HereProvider;
pub use host::HostCommand;
pub use sandbox::SandboxProgram;
pub use single::SingleItem;

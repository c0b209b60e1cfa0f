//! Sessions: their turns, tool calls and threads, and what clients may send them.

mod call;
mod post;
mod state;
mod thread;
mod timing;
mod turn;

pub use call::{CallRequest, Permission, Resolution, Resolved};
pub use state::StopReason;
pub use timing::{CallTiming, Claim, Timing};

pub(super) use call::Call;
pub(super) use post::{ClientEvent, parse};
pub(super) use state::{Moment, Session, SessionSetup, Status, Turn};

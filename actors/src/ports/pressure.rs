//! Whether the host can carry more.

use std::fmt;
use std::sync::Arc;

/// Tells whether the host is short of memory.
///
/// Asked about once a second from async code while there is something to decide, so it must neither block nor
/// take long: reading a few lines of `/proc` is fine, a request to somebody else is not.
pub trait HostPressure: fmt::Debug + Send + Sync + 'static {
    /// How it stands now. An implementation should not waver: once [`Pressure::High`], it is to stay so until
    /// things are clearly better.
    fn level(&self) -> Pressure;
}

/// How the host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// There is room.
    Normal,
    /// Nothing more should be taken on; what runs goes on.
    High {
        /// What is short, what was expected, for people.
        reason: Arc<str>,
    },
}

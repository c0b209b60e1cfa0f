//! The numbers a session is served by.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::lease;

/// How a session is served.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How its lease is kept.
    pub lease: lease::Policy,
    /// The tools we run. Calls of others stay pending for whoever owns those.
    pub tools: BTreeSet<Arc<str>>,
    /// How long a session may be idle after its turn before its item is ended; none means for ever.
    /// Default 60 s, as the official workers have it: a later message queues new work.
    pub max_idle: Option<Duration>,
    /// Attempts to retrieve the session. Default 5.
    pub retrieve_attempts: u32,
    /// Attempts to post one answer. Default 20, which is about eight minutes; until then the lease decides.
    pub post_attempts: u32,
    /// How long the calls of an ending session may take to be cut and answered. Default 10 s.
    pub settle: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let tools = ["bash", "read", "write", "edit", "glob", "grep"];
        Self {
            lease: lease::Policy::default(),
            tools: tools.into_iter().map(Arc::from).collect(),
            max_idle: Some(Duration::from_secs(60)),
            retrieve_attempts: 5,
            post_attempts: 20,
            settle: Duration::from_secs(10),
        }
    }
}

//! The numbers the herd is kept by.

use std::time::Duration;

/// How many sandboxes wait, and for how long.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Blank sandboxes kept in standby. Default 2. None are kept where the provider has no standby.
    pub warm: usize,
    /// How long a sandbox waits for its session to come back; zero parks none. Default 1 h.
    pub park_for: Duration,
    /// Parked sandboxes, at most; the one that has waited longest makes room. Default 1000.
    pub max_parked: usize,
    /// Bytes of files in parked sandboxes, at most. Default 20 GiB.
    pub max_parked_disk: u64,
    /// Bytes of memory in parked sandboxes, at most. Default 4 GiB.
    pub max_parked_memory: u64,
    /// Age from which a sandbox is not parked and not kept any more; none has none. A session that is being
    /// served is never cut for it. Default none.
    pub max_age: Option<Duration>,
    /// Blank sandboxes made at once. Default 1: those that sessions wait for come first.
    pub making: usize,
    /// Sandboxes deleted at once. Default 8.
    pub leaving: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            warm: 2,
            park_for: Duration::from_secs(3600),
            max_parked: 1000,
            max_parked_disk: 20 << 30,
            max_parked_memory: 4 << 30,
            max_age: None,
            making: 1,
            leaving: 8,
        }
    }
}

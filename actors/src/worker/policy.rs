//! The numbers a worker is supervised by.

use std::time::Duration;

/// How a worker is supervised.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Attempts to retrieve the session, the first included. Default 5: with their backoff they fit into the 30 s that
    /// an item may be without a first beat.
    pub retrieve_attempts: u32,
    /// Starts of one item's worker, the first included, each of which ended before its first beat. Default 3.
    pub starts: u32,
    /// Time between two looks at the lease. Default 5 s.
    pub look_every: Duration,
    /// Looks in a row that find a running worker without its first beat before it counts as failed. Default 24, which
    /// is two minutes: an image may have to be loaded and an interpreter to be started.
    pub silent_looks: u32,
    /// Looks in a row that find the item ending or ended before a worker that still runs is cut. Default 12, which is a
    /// minute: it may still write back what it has.
    pub ending_looks: u32,
    /// Looks in a row that must find the item in the queue for its lease to count as lapsed. Default 2: a listing may
    /// be late.
    pub lapsed_looks: u32,
    /// Looks that may fail in a row once no worker runs, before the item is left to lapse. Default 12.
    pub blind_looks: u32,
    /// How long a worker that is cut may take to end before its sandbox is taken from it. Default 30 s: one that is
    /// asked to end may still have to write back what it has.
    pub cut_within: Duration,
    /// Stops tried, the first included. Default 4; then the lease is left to lapse.
    pub stop_attempts: u32,
    /// Acknowledgements tried, the first included. Default 3: together they stay within the 5 s after which an
    /// unacknowledged item is offered to others.
    pub ack_attempts: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retrieve_attempts: 5,
            starts: 3,
            look_every: Duration::from_secs(5),
            silent_looks: 24,
            ending_looks: 12,
            lapsed_looks: 2,
            blind_looks: 12,
            cut_within: Duration::from_secs(30),
            stop_attempts: 4,
            ack_attempts: 3,
        }
    }
}

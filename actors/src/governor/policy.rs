//! The numbers requests are governed by.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::bucket::Rate;

/// How requests to the control plane are governed.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Requests per second, on average and at once; none is unlimited. Default 500 per second, 2,000 at once:
    /// a fuse, which a healthy tree does not feel. A restart with 500 live sessions makes 2,000 requests at
    /// once, a beat and three to attach each; a thousand sessions that each post an answer every two or three
    /// seconds make about 500 per second. What an organization is granted may be far less (the documented
    /// limit is 1,200 reads a minute): then the server says so, and is heeded. Set it to this process's part
    /// of that where several share one organization.
    pub rate: Option<Rate>,
    /// Requests of one class that wait for their turn, at most; more fail at once. Default 16,384: an attempt
    /// of each of ten thousand sessions.
    pub waiting: usize,
    /// How long a request waits for its turn, at most; then it fails as throttled. Default 20 s: shorter than
    /// the deadline of every request that waits, so that our own patience is not taken for the server's
    /// silence.
    pub patience: Duration,
    /// How long a server that asked for patience and did not say for how long is left alone. Default 1 s.
    pub pause: Duration,
    /// The longest pause that a server is granted. Default 60 s: nobody can park us for good.
    pub max_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let rate = const {
            Rate { per_second: NonZeroU32::new(500).unwrap(), burst: NonZeroU32::new(2_000).unwrap() }
        };
        Self {
            rate: Some(rate),
            waiting: 16_384,
            patience: Duration::from_secs(20),
            pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(60),
        }
    }
}

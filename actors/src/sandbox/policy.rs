//! The numbers a sandbox is kept by.

use std::time::Duration;

/// How a sandbox is kept.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Creates tried in a row for one instance, the first included. Default 4.
    pub create_attempts: u32,
    /// Rounds of creates in which none succeeded, after which the session is given up. Default 3.
    pub create_rounds: u32,
    /// Requests tried for one call whose hand could not be heard, the first included. Default 4.
    pub call_attempts: u32,
    /// Cancellations tried for one call. Default 5; then its own timeout must do.
    pub cancel_attempts: u32,
    /// Deletes tried, the first included. Default 5; then it is the reaper's.
    pub delete_attempts: u32,
    /// Thaws tried, the first included. Default 3; then the instance is replaced.
    pub thaw_attempts: u32,
    /// How long no call must run before the sandbox is put in standby; none never. Default 15 s.
    pub standby_after: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            create_attempts: 4,
            create_rounds: 3,
            call_attempts: 4,
            cancel_attempts: 5,
            delete_attempts: 5,
            thaw_attempts: 3,
            standby_after: Some(Duration::from_secs(15)),
        }
    }
}

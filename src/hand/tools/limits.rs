//! When a running call has to end, whatever it is doing.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::failure::Failure;

/// Limits that a tool looks at between two steps of its work.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Cancelled when somebody no longer wants the answer.
    pub(crate) cancel: CancellationToken,
    /// The whole time allowed, and when it is over. None: for ever.
    pub(crate) time: Option<(Duration, Instant)>,
}

impl Limits {
    /// Limits that begin now.
    pub(crate) fn start(cancel: CancellationToken, limit: Option<Duration>) -> Self {
        // A limit beyond what the clock can express is none.
        let time = limit.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        Self { cancel, time }
    }

    /// The same, but over after `limit` at the latest.
    pub(crate) fn at_most(&self, limit: Duration) -> Self {
        let own = Self::start(self.cancel.clone(), Some(limit));
        let outer_first = match (self.time, own.time) {
            (Some((_, outer)), Some((_, own))) => outer < own,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if outer_first { self.clone() } else { own }
    }

    /// Waits until the call has to end.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn over(&self) {
        let time_up = async {
            match self.time {
                Some((_, end)) => tokio::time::sleep_until(end.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = time_up => {}
        }
    }

    /// Fails once the call has to end.
    pub(crate) fn check(&self, tool: &'static str) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled { tool });
        }
        match self.time {
            Some((limit, end)) if Instant::now() >= end => Err(Failure::TimedOut { tool, limit }),
            _ => Ok(()),
        }
    }
}

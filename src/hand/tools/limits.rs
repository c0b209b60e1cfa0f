//! When a running call has to end, whatever it is doing.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::failure::Failure;

/// Says once that a call has to end, and why. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancel(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    token: CancellationToken,
    reason: OnceLock<String>,
}

impl Cancel {
    /// Says so. The first reason counts.
    pub(crate) fn cancel(&self, reason: Option<String>) {
        if let Some(reason) = reason {
            let _ = self.0.reason.set(reason);
        }
        self.0.token.cancel();
    }

    /// Whether it was said.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Waits until it is said.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn cancelled(&self) {
        self.0.token.cancelled().await;
    }

    /// What the agent reads after "the call was cancelled".
    pub(crate) fn why(&self) -> Why {
        Why(self.0.reason.get().cloned())
    }
}

/// Why a call was cancelled, if anyone said so; ready to stand after "cancelled".
#[derive(Clone, Debug, Default)]
pub(crate) struct Why(pub(crate) Option<String>);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

/// Limits that a tool looks at between two steps of its work.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Cancelled when somebody no longer wants the answer.
    pub(crate) cancel: Cancel,
    /// The whole time allowed, and when it is over. None: for ever.
    pub(crate) time: Option<(Duration, Instant)>,
}

impl Limits {
    /// Limits that begin now.
    pub(crate) fn start(cancel: Cancel, limit: Option<Duration>) -> Self {
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
            return Err(Failure::Cancelled { tool, why: self.cancel.why() });
        }
        match self.time {
            Some((limit, end)) if Instant::now() >= end => Err(Failure::TimedOut { tool, limit }),
            _ => Ok(()),
        }
    }
}

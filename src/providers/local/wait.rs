//! Waiting for what the kernel tells only through a descriptor, without keeping the runtime from its work.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until `is_done` says so. It is asked each time the descriptor has something to tell.
///
/// # Errors
/// If it is not done within `limit`, or cannot be asked.
pub(super) async fn until<D: AsFd + Send + 'static>(
    mut descriptor: D,
    events: PollFlags,
    limit: Duration,
    mut is_done: impl FnMut(&mut D) -> io::Result<bool> + Send + 'static,
) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    let wait = move || -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut polled = [PollFd::new(&descriptor, events)];
            if rustix::io::retry_on_intr(|| poll(&mut polled, Some(&left)))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if is_done(&mut descriptor)? {
                return Ok(());
            }
        }
    };
    tokio::task::spawn_blocking(wait).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

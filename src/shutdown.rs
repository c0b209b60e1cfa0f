//! Signals: the first asks for a drain, the second for an end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, as they come; SIGHUP if wanted.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    /// Listens from now on; neither ends the process by itself any more.
    ///
    /// # Errors
    /// If the process may not listen for signals.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: None,
        })
    }

    /// As [`listen`](Self::listen), and SIGHUP too: for what must not outlive the terminal it was started on.
    ///
    /// # Errors
    /// If the process may not listen for signals.
    pub fn listen_on_terminal() -> std::io::Result<Self> {
        Ok(Self { hang_up: Some(signal(SignalKind::hangup())?), ..Self::listen()? })
    }

    /// Waits for the next one.
    ///
    /// # Cancel safety
    /// No signal is lost if this is dropped.
    pub async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            Some(_) = hung_up(&mut self.hang_up) => {}
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => None,
    }
}

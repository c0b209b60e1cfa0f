//! Connections to a hand: opened when they are needed, kept for a moment, closed when idle.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Idle connections kept.
const MAX_IDLE: usize = 4;

/// How long an idle connection is kept: a little longer than a model takes to ask for several calls in a row.
const KEEP_IDLE: Duration = Duration::from_secs(2);

/// After how long of silence a TCP peer is asked whether it is still there, how often, and how many
/// unanswered questions mean that it is not.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;

/// Where a hand listens.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Unix {
        path: PathBuf,
        /// The process that has to be the one that listens.
        listener: Option<u32>,
    },
    Tcp(SocketAddr),
}

/// One connection.
pub(super) type Sender = SendRequest<Full<Bytes>>;

#[derive(Debug, Default)]
struct Idle {
    /// Longest idle first.
    connections: Vec<(Sender, Instant)>,
    /// Whether a task is there that closes those idle for too long.
    swept: bool,
}

/// A hand's address, and the connections to it that nobody uses at the moment.
#[derive(Debug)]
pub(super) struct Pool {
    address: Address,
    deadline: Duration,
    idle: Mutex<Idle>,
}

impl Pool {
    /// Waits at most `deadline` for a connection that was idle to be ready again. Nothing is opened yet.
    pub(super) fn new(address: Address, deadline: Duration) -> Self {
        Self { address, deadline, idle: Mutex::default() }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Opens a connection, however long that takes.
    pub(super) async fn connect(&self) -> io::Result<Sender> {
        match &self.address {
            Address::Unix { path, listener } => start(connect(path, *listener).await?).await,
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                // A call may take hours in silence, and a host that went away says nothing.
                sockopt::set_socket_keepalive(&stream, true)?;
                sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
                sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
                sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_COUNT)?;
                start(stream).await
            }
        }
    }

    /// An idle connection that is still good, as far as can be seen.
    pub(super) async fn idle(&self) -> Option<Sender> {
        loop {
            let (mut sender, since) = self.idle.lock().connections.pop()?;
            if since.elapsed() < KEEP_IDLE
                && timeout(self.deadline, sender.ready()).await.is_ok_and(|r| r.is_ok())
            {
                return Some(sender);
            }
        }
    }

    /// Keeps a connection for the next request, for a while.
    pub(super) fn keep(this: &Arc<Self>, sender: Sender) {
        let mut idle = this.idle.lock();
        if sender.is_closed() || idle.connections.len() >= MAX_IDLE {
            return;
        }
        idle.connections.push((sender, Instant::now()));
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(this)));
        }
    }
}

/// Closes idle connections when their time has come; ends when there are none.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(KEEP_IDLE).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.lock();
        idle.connections.retain(|(_, since)| since.elapsed() < KEEP_IDLE);
        if idle.connections.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

/// Connects to a socket, whatever the length of its name, and to nothing else that is there in its place: a link
/// may lead to a stranger, who would be told our token.
async fn connect(path: &Path, listener: Option<u32>) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let socket = rustix::fs::open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode) != FileType::Socket {
        let what = format!("{} is not a socket", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    // This name is short, and stays with what was looked at.
    let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?;
    if let Some(expected) = listener
        && stream.peer_cred()?.pid() != Some(expected.cast_signed())
    {
        let what = format!("whoever listens on {} is not the hand that was started there", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(stream)
}

async fn start(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<Sender> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // It ends when the sender is dropped, and tells the sender when it breaks.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

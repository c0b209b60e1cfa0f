//! Where the hand listens.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On a unix socket at this path, for its owner alone (mode 0600). A socket file that nobody listens on
    /// any more is replaced.
    Unix(PathBuf),
    /// On a TCP address; port 0 takes any free port. It takes a token, for anyone on the host can connect.
    Tcp(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// A stream of bytes from a client.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// An open listener. Dropping it removes the socket file.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

impl Listener {
    pub(super) async fn open(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Unix(path) => {
                let listener = open_unix(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?, SocketFile(path.clone())))
            }
            Listen::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
        }
    }

    /// Where it listens, with the port it was given.
    pub(super) fn address(&self) -> io::Result<Listen> {
        Ok(match self {
            Self::Unix(_, file) => Listen::Unix(file.0.clone()),
            Self::Tcp(listener) => Listen::Tcp(listener.local_addr()?),
        })
    }

    /// The next client.
    ///
    /// # Cancel safety
    /// No client is lost when it is dropped.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        match self {
            Self::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and somebody waits for each.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// A socket's file, removed with it.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn open_unix(path: &Path) -> io::Result<StdUnixListener> {
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::other("the path is taken by something that is not a socket"));
        }
        match StdUnixStream::connect(path) {
            Ok(_) => return Err(io::Error::other("somebody listens there already")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // On Linux the file gets the mode the socket had, so it is never open to others, not even for a moment.
    fchmod(&socket, Mode::from_raw_mode(0o600))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

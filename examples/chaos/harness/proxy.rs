//! The network between one remuda and the control plane, with its weather.
//!
//! Each remuda has a proxy of its own, which connects to the control plane from an address of its own: by that the
//! control plane's log tells who said what, whatever anybody claims in a header.
//!
//! # Invariants
//! - What a partition held back for longer than [`STALE`] never arrives: its connections are reset when it ends.
//!   So whatever arrives was sent no longer than that before, which the judgement relies on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Longest time that bytes are held back and still delivered.
pub(crate) const STALE: Duration = Duration::from_secs(1);

/// Bytes passed on at once.
const PIECE: usize = 16 << 10;

/// What a connection meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Everything comes through.
    Fair,
    /// Every piece takes this long.
    Slow(Duration),
    /// Nothing comes through, and nobody is told.
    Partitioned,
    /// Connections are reset.
    Refusing,
    /// Requests come through; an answer resets the connection.
    LosingAnswers,
}

/// One remuda's way to the control plane.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// How often all connections were reset.
    cuts: watch::Sender<u64>,
    _accepting: AbortOnDropHandle<()>,
}

/// The address from which a worker's proxy connects.
pub(crate) fn source(worker: usize) -> Ipv4Addr {
    let number = u8::try_from(worker).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 99, 0, number.saturating_add(1))
}

/// The worker whose proxy connects from an address.
pub(crate) fn worker_of(peer: Option<SocketAddr>, workers: usize) -> Option<usize> {
    let peer = peer?.ip();
    (0..workers).find(|worker| peer == IpAddr::V4(source(*worker)))
}

impl Proxy {
    /// Begins to pass on what comes for `upstream`, in fair weather.
    pub(crate) async fn start(worker: usize, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (weather, cuts) = (watch::Sender::new(Weather::Fair), watch::Sender::new(0));
        let (seen, cut) = (weather.subscribe(), cuts.subscribe());
        let accepting = tokio::spawn(async move {
            // A connection ends with its proxy.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(connection(client, source(worker), upstream, seen.clone(), cut.clone()));
            }
        });
        Ok(Self { address, weather, cuts, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Where its remuda finds the control plane.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the weather.
    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Resets every connection there is.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// How one direction of a connection ended.
enum Ended {
    /// The sender had nothing more to say.
    Finished,
    /// The connection is to be reset.
    Broken,
}

async fn connection(
    client: TcpStream,
    source: Ipv4Addr,
    upstream: SocketAddr,
    weather: watch::Receiver<Weather>,
    mut cuts: watch::Receiver<u64>,
) {
    cuts.mark_unchanged();
    let reset = |stream: &TcpStream| drop(stream.set_zero_linger());
    if *weather.borrow() == Weather::Refusing {
        return reset(&client);
    }
    let connected = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        socket.connect(upstream).await
    };
    let Ok(server) = connected.await else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Whatever ends this early resets both; an orderly end takes that back.
    let _ = (client.set_zero_linger(), server.set_zero_linger());
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let passed = async {
        tokio::try_join!(
            pass(from_client, to_server, Direction::Request, weather.clone()),
            pass(from_server, to_client, Direction::Answer, weather.clone()),
        )
    };
    tokio::select! {
        biased;
        // Before the weather that may have changed with it: what is held back is lost.
        _ = cuts.changed() => {}
        _ = passed => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

/// Passes on what one side says, until it has said everything; an error resets the connection.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    mut weather: watch::Receiver<Weather>,
) -> Result<(), ()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await.map_err(drop)?;
        if let Ended::Broken = endure(&mut weather, direction).await {
            return Err(());
        }
        if length == 0 {
            return to.shutdown().await.map_err(drop);
        }
        to.write_all(&piece[..length]).await.map_err(drop)?;
    }
}

/// Waits until a piece may come through.
async fn endure(weather: &mut watch::Receiver<Weather>, direction: Direction) -> Ended {
    loop {
        let now = *weather.borrow_and_update();
        match now {
            Weather::Fair => return Ended::Finished,
            Weather::Slow(time) => {
                tokio::time::sleep(time).await;
                return Ended::Finished;
            }
            Weather::LosingAnswers if direction == Direction::Request => return Ended::Finished,
            Weather::Refusing | Weather::LosingAnswers => return Ended::Broken,
            Weather::Partitioned => {
                if weather.changed().await.is_err() {
                    return Ended::Broken;
                }
            }
        }
    }
}

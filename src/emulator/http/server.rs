//! Accepting connections and serving them.
//!
//! Connections are served with hyper directly rather than by the router's own server, because a fault rule
//! must be able to close one without an answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower::Service as _;

use super::{App, routes};

/// Pause after a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Marks a response that must never be sent: its connection is closed instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropConnection;

impl DropConnection {
    /// A response that closes its connection.
    pub(super) fn response() -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Self);
        response
    }
}

/// Where the connection of a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A connection was closed on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed by a fault rule")]
struct Dropped;

/// Serves every connection until the emulator stops.
pub(in crate::emulator) async fn serve(listener: TcpListener, app: App) {
    let router = routes::router(&app);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => app.spawn(connection(stream, Peer(peer), router.clone())),
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: Peer, router: Router) {
    // A frame or an answer is one small write; waiting for more would only delay it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not turn off Nagle's algorithm");
    }
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let mut router = router.clone();
        async move {
            let response: Result<Response, Infallible> = router.call(request.map(Body::new)).await;
            match response {
                Ok(response) if response.extensions().get::<DropConnection>().is_some() => Err(Dropped),
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        // Clients that go away in the middle of something are the normal case here.
        tracing::debug!(%error, "a connection ended early");
    }
}

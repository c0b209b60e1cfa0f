//! How remuda reaches a hand.
//!
//! Connections are opened when they are needed, kept for the next request for a moment, and closed when
//! idle: a platform that puts sandboxes to sleep takes an open connection for work. Every request can be
//! repeated safely, for a call never runs twice; a request that meets a connection which died while it was
//! idle is therefore repeated on a new one without the caller noticing.

mod mcp;
mod pool;
mod trees;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use remuda_actors::ids::CallId;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

pub use self::trees::TreeFile;

use self::mcp::MCP_SESSION;
use self::pool::{Address, Pool, Sender};
use super::wire::{self, CallReply, CallRequest, CallStatus, Health, PROTOCOL};

/// Time for connecting, and for every request but a running call, unless set otherwise. A hand answers in
/// well under a millisecond, and a microVM resumes within a second.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// Largest answer to a call that is taken in, in bytes: the largest PDF in base64 has 28 million, and the control
/// plane takes no more than this itself.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Largest refusal that is taken in, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// What stays as it is in an id or path.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':');

/// Why a request to a hand did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The request never reached the hand: nothing happened.
    #[error("could not reach the hand")]
    Unreached(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke after the request was sent: nobody knows whether the hand saw it.
    #[error("the connection to the hand broke after the request was sent")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer came in time: nobody knows whether the hand saw the request.
    #[error("the hand gave no answer within {waited:?}")]
    TimedOut {
        /// The deadline that passed.
        waited: Duration,
    },
    /// The hand refused.
    #[error("the hand refused the request")]
    Refused(#[source] wire::Error),
    /// The answer is larger than it may be.
    #[error("the answer of the hand has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The answer cannot be read, or comes from a hand of another protocol version.
    #[error("the answer of the hand cannot be used: {0}")]
    Unreadable(String),
}

impl ClientError {
    /// Whether the hand may have acted on the request although it failed.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Broken(_) | Self::TimedOut { .. } | Self::TooLarge { .. } | Self::Unreadable(_) => true,
            Self::Unreached(_) | Self::Refused(_) => false,
        }
    }
}

/// A hand to be asked. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct HandClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connections: Arc<Pool>,
    authorization: Option<HeaderValue>,
    /// Sent with every request by a client of the hand's MCP endpoint.
    mcp_session: Option<HeaderValue>,
    deadline: Duration,
}

impl HandClient {
    /// A hand on a unix socket; a link to one is refused. Nothing is opened yet.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Address::Unix { path: path.into(), listener: None }, None, DEFAULT_DEADLINE)
    }

    /// The hand on a unix socket that the process `listener` listens on, as this process numbers it. Whoever else
    /// has come to listen there is told nothing. Nothing is opened yet.
    pub fn unix_of(path: impl Into<PathBuf>, listener: u32) -> Self {
        Self::new(Address::Unix { path: path.into(), listener: Some(listener) }, None, DEFAULT_DEADLINE)
    }

    /// A hand on TCP, which wants `token`. Nothing is opened yet.
    pub fn tcp(address: SocketAddr, token: &SecretString) -> Self {
        Self::new(Address::Tcp(address), None, DEFAULT_DEADLINE).with_token(token)
    }

    fn new(address: Address, authorization: Option<HeaderValue>, deadline: Duration) -> Self {
        Self(Arc::new(Shared {
            connections: Arc::new(Pool::new(address, deadline)),
            authorization,
            mcp_session: None,
            deadline,
        }))
    }

    /// The same hand, which wants `token` also on a unix socket. A token that cannot stand in a header is
    /// not sent, and refused by the hand.
    #[must_use]
    pub fn with_token(self, token: &SecretString) -> Self {
        let authorization = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
        let authorization = authorization.ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self::new(self.0.connections.address().clone(), authorization, self.0.deadline)
    }

    /// The same hand with another deadline, for connecting and for every request but a running call.
    /// Default 10 s.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self::new(self.0.connections.address().clone(), self.0.authorization.clone(), deadline)
    }

    /// Runs a call, or finds out what became of it, and waits for its answer as long as it takes.
    ///
    /// # Errors
    /// After any error the same request may be made again, and never runs the call twice.
    ///
    /// # Cancel safety
    /// Dropping it stops the waiting alone; the call goes on.
    pub async fn call(&self, id: &CallId, request: &CallRequest) -> Result<CallReply, ClientError> {
        let body = serde_json::to_vec(request).map_err(|error| ClientError::Unreached(error.into()))?;
        let message = Message { method: Method::POST, target: call_target(id), body: body.into() };
        read(&self.exchange(message, None, MAX_ANSWER_BYTES).await?)
    }

    /// What the hand knows of a call; none if it never heard of it.
    ///
    /// # Errors
    /// Nothing has changed, whatever the error.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    pub async fn status(&self, id: &CallId) -> Result<Option<CallStatus>, ClientError> {
        let message = Message { method: Method::GET, target: call_target(id), body: Bytes::new() };
        match self.short(message, MAX_ANSWER_BYTES).await {
            Ok(answer) => read(&answer).map(Some),
            Err(ClientError::Refused(error)) if error.code == wire::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Cancels a call and waits until it has ended. One the hand has not heard of yet will never run. The
    /// agent reads `reason` in the call's answer, of which it may be a part of up to
    /// [`MAX_REASON_BYTES`](wire::MAX_REASON_BYTES) bytes; an empty one is none.
    ///
    /// # Errors
    /// The cancellation may or may not have arrived if the error is ambiguous; it can be repeated.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have been sent.
    pub async fn cancel(&self, id: &CallId, reason: &str) -> Result<CallStatus, ClientError> {
        let reason = match reason {
            "" => String::new(),
            reason => format!("?reason={}", utf8_percent_encode(reason, &PLAIN)),
        };
        let target = format!("{}{reason}", call_target(id));
        let message = Message { method: Method::DELETE, target, body: Bytes::new() };
        read(&self.short(message, MAX_ANSWER_BYTES).await?)
    }

    /// Puts `contents` into the file at `path`, absolute or from the working directory, with exactly the
    /// permission bits `mode`, or without one those the file has or the umask gives it.
    ///
    /// # Errors
    /// The file has its old contents or the new ones, never a part.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn put_file(
        &self,
        path: &str,
        mode: Option<u32>,
        contents: impl Into<Bytes>,
    ) -> Result<(), ClientError> {
        let query = mode.map(|mode| format!("?mode={mode:04o}")).unwrap_or_default();
        let target = format!("{}{query}", file_target(path));
        let message = Message { method: Method::PUT, target, body: contents.into() };
        self.short(message, MAX_ANSWER_BYTES).await.map(drop)
    }

    /// The contents of the file at `path`, which may have `limit` bytes.
    ///
    /// # Errors
    /// [`ClientError::TooLarge`] when the file is larger than `limit`.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    pub async fn get_file(&self, path: &str, limit: usize) -> Result<Bytes, ClientError> {
        let message = Message { method: Method::GET, target: file_target(path), body: Bytes::new() };
        self.short(message, limit).await
    }

    /// How the hand is doing.
    ///
    /// # Errors
    /// [`ClientError::Unreadable`] when the hand is of another protocol version than this client.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    pub async fn health(&self) -> Result<Health, ClientError> {
        let message = Message { method: Method::GET, target: "/v1/health".to_owned(), body: Bytes::new() };
        let health: Health = read(&self.short(message, MAX_ANSWER_BYTES).await?)?;
        if health.protocol == PROTOCOL {
            return Ok(health);
        }
        let found = health.protocol;
        let hint = "use a remuda and a remuda-hand of one release";
        Err(ClientError::Unreadable(format!("it speaks protocol {found}, and this is {PROTOCOL}; {hint}")))
    }

    async fn short(&self, message: Message, limit: usize) -> Result<Bytes, ClientError> {
        self.exchange(message, Some(self.0.deadline), limit).await
    }

    /// Sends a request and takes in the answer.
    async fn exchange(
        &self,
        message: Message,
        deadline: Option<Duration>,
        limit: usize,
    ) -> Result<Bytes, ClientError> {
        if let Some(sender) = self.0.connections.idle().await {
            match self.attempt(sender, &message, deadline, limit).await {
                // It may have died while nobody used it. All requests can be repeated.
                Err(ClientError::Unreached(_) | ClientError::Broken(_)) => {}
                done => return done,
            }
        }
        let deadline_to_connect = self.0.deadline;
        let connected = timeout(deadline_to_connect, self.0.connections.connect()).await;
        let sender = connected
            .map_err(|_| {
                let text = format!("no connection within {deadline_to_connect:?}");
                ClientError::Unreached(text.into())
            })?
            .map_err(|error| ClientError::Unreached(error.into()))?;
        self.attempt(sender, &message, deadline, limit).await
    }

    async fn attempt(
        &self,
        mut sender: Sender,
        message: &Message,
        deadline: Option<Duration>,
        limit: usize,
    ) -> Result<Bytes, ClientError> {
        let request = self.0.request(message).map_err(|error| ClientError::Unreached(error.into()))?;
        let answered = within(deadline, async {
            let response = sender.try_send_request(request).await.map_err(|error| {
                let unsent = error.message().is_some();
                let error = error.into_error().into();
                if unsent { ClientError::Unreached(error) } else { ClientError::Broken(error) }
            })?;
            let status = response.status();
            let limit = if status.is_success() { limit } else { MAX_REFUSAL_BYTES };
            let body = Limited::new(response.into_body(), limit).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => ClientError::TooLarge { limit },
                false => ClientError::Broken(error),
            })?;
            Ok((status, body.to_bytes()))
        });
        let (status, body) = answered.await?;
        Pool::keep(&self.0.connections, sender);
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }
}

impl Shared {
    fn request(&self, message: &Message) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder().method(message.method.clone()).uri(&message.target);
        request = request.header(HOST, "hand");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(session) = &self.mcp_session {
            request = request.header(MCP_SESSION, session);
        }
        request.body(Full::new(message.body.clone()))
    }
}

#[derive(Debug)]
struct Message {
    method: Method,
    target: String,
    body: Bytes,
}

fn call_target(id: &CallId) -> String {
    format!("/v1/calls/{}", utf8_percent_encode(id.as_str(), &PLAIN))
}

fn file_target(path: &str) -> String {
    format!("/v1/files/{}", utf8_percent_encode(path, &PLAIN))
}

async fn within<T>(
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match deadline {
        Some(waited) => timeout(waited, work).await.unwrap_or(Err(ClientError::TimedOut { waited })),
        None => work.await,
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(answer).map_err(|error| ClientError::Unreadable(error.to_string()))
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(error) => ClientError::Refused(error),
        Err(_) => ClientError::Unreadable(format!("HTTP {status} without a reason")),
    }
}

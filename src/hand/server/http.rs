//! From a request to its answer.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use remuda_actors::ids::CallId;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{files, mcp, trees};
use crate::hand::calls::{Calls, MAX_LIVE_BYTES};
use crate::hand::mcp::Endpoint;
use crate::hand::wire::{
    CallRequest, Error, ErrorCode, Health, MAX_CALL_BYTES, MAX_CALL_ID_BYTES, MAX_CHANGE_BYTES,
    MAX_READ_ONLY, MAX_REASON_BYTES, PROTOCOL,
};
use crate::hand::{journal, procfs};

/// Time a client has to send the body of a call.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Answers requests.
#[derive(Debug)]
pub(super) struct Service {
    calls: Calls,
    mcp: Endpoint,
    token: Option<SecretString>,
    ready: Instant,
    /// Bytes of call bodies that may be on their way at once.
    bodies: Semaphore,
}

impl Service {
    pub(super) fn new(calls: Calls, token: Option<SecretString>, ready: Instant) -> Self {
        let mcp = Endpoint::new(calls.clone());
        Self { calls, mcp, token, ready, bodies: Semaphore::new(MAX_LIVE_BYTES) }
    }

    /// Never fails: a refusal is an answer.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.route(request).await.unwrap_or_else(|error| refusal(&error))
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        self.check_token(&request)?;
        let path = request.uri().path().to_owned();
        if let Some(id) = path.strip_prefix("/v1/calls/") {
            let id = call_id(id)?;
            return match *request.method() {
                Method::POST => self.post(&id, request.into_body()).await,
                Method::GET => match self.calls.status(&id).await {
                    Some(status) => Ok(json(StatusCode::OK, &status)),
                    None => Err(Error::new(ErrorCode::NotFound, format!("no call {id} has been heard of"))),
                },
                Method::DELETE => {
                    let reason = reason(request.uri().query())?;
                    Ok(json(StatusCode::OK, &self.calls.cancel(&id, reason).await?))
                }
                _ => Err(no_route(&request)),
            };
        }
        if let Some(given) = path.strip_prefix("/v1/files/") {
            let given = decoded(given)?;
            let sandbox = self.calls.sandbox();
            return match *request.method() {
                Method::GET => files::get(&sandbox.confinement, &given).await,
                Method::PUT => {
                    let mode = files::mode(request.uri().query())?;
                    files::put(&sandbox.confinement, &given, mode, request.into_body()).await?;
                    Ok(done())
                }
                _ => Err(no_route(&request)),
            };
        }
        if let Some(given) = path.strip_prefix("/v1/trees/") {
            return self.tree(decoded(given)?, request).await;
        }
        if path == "/mcp" {
            let head = mcp::Head::read(request.headers())?;
            if request.method() != Method::POST {
                return Ok(mcp::other(&self.mcp, &head, request.method()));
            }
            let body = self.body(request.into_body(), MAX_CALL_BYTES).await?;
            return Ok(mcp::post(&self.mcp, head, &body).await);
        }
        match (request.method(), path.as_str()) {
            (&Method::PUT, "/v1/read-only") => {
                let body = self.body(request.into_body(), MAX_CHANGE_BYTES).await?;
                let paths: Vec<PathBuf> = serde_json::from_slice(&body)
                    .map_err(|error| bad(format!("expected a list of paths: {error}")))?;
                if paths.len() > MAX_READ_ONLY {
                    return Err(bad(format!("at most {MAX_READ_ONLY} folders can be read-only")));
                }
                self.calls.sandbox().confinement.set_read_only(paths);
                Ok(done())
            }
            (&Method::GET, "/v1/health") => self.health().await,
            _ => Err(no_route(&request)),
        }
    }

    async fn tree(&self, given: String, request: Request<Incoming>) -> Result<Response<Body>, Error> {
        let sandbox = self.calls.sandbox();
        let query = request.uri().query().map(str::to_owned);
        match *request.method() {
            Method::GET => Ok(json(StatusCode::OK, &trees::list(sandbox, given, query.as_deref()).await?)),
            Method::PATCH => {
                let body = self.body(request.into_body(), MAX_CHANGE_BYTES).await?;
                Ok(json(StatusCode::OK, &trees::change(sandbox, given, body).await?))
            }
            Method::DELETE => trees::remove(sandbox, given).await.map(|()| done()),
            Method::POST => trees::relocate(sandbox, given, query.as_deref()).await.map(|()| done()),
            _ => Err(no_route(&request)),
        }
    }

    /// Takes in a body, when there is room for it.
    async fn body(&self, body: Incoming, limit: usize) -> Result<Bytes, Error> {
        let too_large = || Error::new(ErrorCode::TooLarge, format!("the body may have {limit} bytes"));
        let announced = body.size_hint().upper().unwrap_or(limit as u64);
        let announced = u32::try_from(announced).ok().filter(|bytes| *bytes as usize <= limit);
        let _room = self.bodies.acquire_many(announced.ok_or_else(too_large)?).await;
        let collected = timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
        let collected =
            collected.map_err(|_| bad(format!("the body did not come within {BODY_TIMEOUT:?}")))?;
        let body = collected.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => too_large(),
            None => bad(format!("the body broke off: {error}")),
        })?;
        Ok(body.to_bytes())
    }

    fn check_token(&self, request: &Request<Incoming>) -> Result<(), Error> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = request.headers().get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
        if same(given, token.expose_secret().as_bytes()) {
            return Ok(());
        }
        let message = "the request must carry `authorization: Bearer TOKEN` with this hand's token";
        Err(Error::new(ErrorCode::Unauthorized, message))
    }

    async fn post(&self, id: &CallId, body: Incoming) -> Result<Response<Body>, Error> {
        let (request, bytes) = self.receive(body).await?;
        if request.thread.as_ref().is_some_and(|thread| thread.as_str().len() > MAX_CALL_ID_BYTES) {
            return Err(bad(format!("a thread's id has at most {MAX_CALL_ID_BYTES} bytes")));
        }
        Ok(json(StatusCode::OK, &self.calls.post(id, request, bytes).await?))
    }

    /// Takes in a call and the length of its body, when there is room for it.
    async fn receive(&self, body: Incoming) -> Result<(CallRequest, usize), Error> {
        let body = self.body(body, MAX_CALL_BYTES).await?;
        let request = serde_json::from_slice(&body);
        let request = request
            .map_err(|error| bad(format!("the body must be {{\"tool\": …, \"input\": …}} in JSON: {error}")));
        Ok((request?, body.len()))
    }

    async fn health(&self) -> Result<Response<Body>, Error> {
        let (shells, busy) = self.calls.lanes().shells();
        let looked =
            tokio::task::spawn_blocking(move || (procfs::background(&shells, &busy), procfs::memory()));
        let internal = |message: String| Error::new(ErrorCode::Internal, message);
        let (background, memory) = looked.await.map_err(|error| internal(error.to_string()))?;
        let background = background.map_err(|error| internal(format!("could not read /proc: {error}")))?;
        let health = Health {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.ready.elapsed().as_millis()).unwrap_or(u64::MAX),
            running: self.calls.live(),
            background,
            rss_bytes: memory.resident,
            private_bytes: memory.private,
        };
        Ok(json(StatusCode::OK, &health))
    }
}

/// Compares in a time that tells nothing but the lengths.
fn same(given: &[u8], expected: &[u8]) -> bool {
    given.len() == expected.len()
        && given.iter().zip(expected).fold(0, |differing, (one, other)| differing | (one ^ other)) == 0
}

fn call_id(encoded: &str) -> Result<CallId, Error> {
    let id = decoded(encoded)?;
    if journal::is_valid(&id) {
        return Ok(CallId::from(id));
    }
    Err(bad(format!(
        "a call's id has 1 to {MAX_CALL_ID_BYTES} characters, ASCII letters, digits, `_`, `-`, `.` and `:`"
    )))
}

fn decoded(encoded: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(encoded).decode_utf8();
    decoded.map(String::from).map_err(|_| bad("the path is not UTF-8".to_owned()))
}

/// Why a call is cancelled, in words for the agent, if the query says so.
fn reason(query: Option<&str>) -> Result<Option<String>, Error> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let encoded = query.strip_prefix("reason=").filter(|reason| !reason.contains('&'));
    let encoded = encoded.ok_or_else(|| bad(format!("{query:?} is not understood; expected reason=TEXT")))?;
    let reason = percent_decode_str(encoded).decode_utf8();
    let reason = reason.map_err(|_| bad("the reason is not UTF-8".to_owned()))?;
    let fits = reason.len() <= MAX_REASON_BYTES && !reason.chars().any(char::is_control);
    let refused = || bad(format!("a reason has at most {MAX_REASON_BYTES} bytes and no control characters"));
    fits.then(|| Some(reason.into_owned())).ok_or_else(refused)
}

fn no_route(request: &Request<Incoming>) -> Error {
    let message = format!("there is no {} {}", request.method(), request.uri().path());
    Error::new(ErrorCode::NotFound, message)
}

fn bad(message: String) -> Error {
    Error::new(ErrorCode::BadRequest, message)
}

/// Nothing to say but that it is done.
fn done() -> Response<Body> {
    let mut done = Response::new(empty());
    *done.status_mut() = StatusCode::NO_CONTENT;
    done
}

pub(super) fn empty() -> Body {
    full(Bytes::new())
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<Body> {
    // None of our answers can fail to be written: texts, numbers, and JSON that was written before.
    let mut response = Response::new(full(serde_json::to_vec(body).unwrap_or_default().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal(error: &Error) -> Response<Body> {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_same_only_when_they_are() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abd", b"abc"));
        assert!(!same(b"ab", b"abc"));
        assert!(!same(b"", b"abc"));
    }
}

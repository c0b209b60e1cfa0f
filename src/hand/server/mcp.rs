//! The MCP endpoint's face of HTTP: `POST /mcp` with one message, `DELETE /mcp` at the end of a session.
//!
//! | Request | Answer |
//! |---|---|
//! | `POST` with a request | 200 and its answer, in JSON |
//! | `POST` with a notification or an answer | 202 |
//! | `POST` with anything else | 400 and an error of JSON-RPC's |
//! | `DELETE` | 204 |
//! | anything else | 405: there is no stream to open |

use hyper::header::{ALLOW, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde_json::Value;

use super::http::{Body, empty, json};
use crate::custom::mcp::PROTOCOL_VERSIONS;
use crate::hand::mcp::{Endpoint, Reply, SessionName};
use crate::hand::wire::{Error, ErrorCode};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// What the head of a request says.
#[derive(Debug)]
pub(super) struct Head {
    session: Option<SessionName>,
}

impl Head {
    /// Reads it.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let bad = |message: String| Error::new(ErrorCode::BadRequest, message);
        let text = |name: HeaderName| headers.get(&name).map(|value| value.to_str().unwrap_or_default());
        if let Some(version) = text(VERSION).filter(|version| !PROTOCOL_VERSIONS.contains(version)) {
            let known = PROTOCOL_VERSIONS.join(", ");
            return Err(bad(format!("{VERSION}: expected one of {known}, not {version:?}")));
        }
        let session = text(SESSION).map(|name| {
            let problem = || bad(format!("{SESSION}: expected a name that was given by this server"));
            SessionName::parse(name).ok_or_else(problem)
        });
        Ok(Self { session: session.transpose()? })
    }
}

/// Answers `POST`.
pub(super) async fn post(endpoint: &Endpoint, head: Head, body: &[u8]) -> Response<Body> {
    let (session, reply) = endpoint.answer(head.session, body).await;
    let mut response = match reply {
        Reply::Answer(answer) => json(StatusCode::OK, &answer),
        Reply::Refused(error) => json::<Value>(StatusCode::BAD_REQUEST, &error),
        Reply::Accepted => status(StatusCode::ACCEPTED),
    };
    if let Ok(name) = HeaderValue::from_str(session.as_str()) {
        response.headers_mut().insert(SESSION, name);
    }
    response
}

/// Answers every other method.
pub(super) fn other(endpoint: &Endpoint, head: &Head, method: &Method) -> Response<Body> {
    if let (&Method::DELETE, Some(session)) = (method, &head.session) {
        endpoint.end(session);
        return status(StatusCode::NO_CONTENT);
    }
    let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, DELETE"));
    response
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

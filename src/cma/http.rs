//! One request, one answer, one verdict.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use remuda_actors::ports::{ControlError, HeartbeatToken, LeaseState};
use remuda_actors::secret::Secret;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use super::wire::{CurrentState, ErrorBody, ErrorEnvelope};

/// Largest answer that is read, in bytes: a page of a thousand events with sizeable results.
pub(super) const MAX_ANSWER: usize = 128 << 20;

/// Largest part of an error's body that is read, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// Longest message taken from an error, in characters.
const MAX_MESSAGE: usize = 500;

/// Sends a request with its one credential, and returns the answer if it is a success.
pub(super) async fn send(request: RequestBuilder, credential: &Secret) -> Result<Response, ControlError> {
    send_for(request, credential, "application/json").await
}

/// The same for an answer of another kind.
pub(super) async fn send_for(
    request: RequestBuilder,
    credential: &Secret,
    accept: &'static str,
) -> Result<Response, ControlError> {
    let request = request.bearer_auth(credential.expose()).header(ACCEPT, accept);
    let response = request.send().await.map_err(transport)?;
    if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
}

/// The same for a request that has a method but nothing to say.
pub(super) async fn send_empty(
    request: RequestBuilder,
    credential: &Secret,
) -> Result<Response, ControlError> {
    send(request.header(CONTENT_LENGTH, 0), credential).await
}

/// The answer's body, read whole.
pub(super) async fn body(response: Response, limit: usize) -> Result<Bytes, ControlError> {
    let mut chunks = response.bytes_stream();
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(transport)?;
        if body.len() + chunk.len() > limit {
            return Err(malformed(format!("an answer of more than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The answer's body as JSON.
pub(super) async fn json<T: DeserializeOwned>(response: Response, what: &str) -> Result<T, ControlError> {
    let body = body(response, MAX_ANSWER).await?;
    serde_json::from_slice(&body).map_err(|error| malformed(format!("{what} was expected: {error}")))
}

pub(super) fn malformed(what: impl Into<String>) -> ControlError {
    ControlError::Malformed { what: what.into() }
}

/// What a failed exchange amounts to. Addresses are left out: they tell nobody anything that the operator did
/// not configure.
pub(super) fn transport(error: reqwest::Error) -> ControlError {
    let error = error.without_url();
    // A timeout that is not the connection's is that between two reads; the tree has its own around it.
    if error.is_connect() {
        ControlError::Unreachable(Box::new(error))
    } else if error.is_builder() {
        ControlError::Unsendable { what: error.to_string() }
    } else {
        ControlError::Broken(Box::new(error))
    }
}

async fn refusal(response: Response) -> ControlError {
    let (status, headers) = (response.status(), response.headers().clone());
    // An error whose body cannot be read is still that error.
    let body = body(response, MAX_ERROR).await.unwrap_or_default();
    classify(status, &headers, &body)
}

/// What a refusal amounts to. The status decides, unless the server says itself whether to repeat.
pub(super) fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ControlError {
    let ErrorEnvelope { error } = serde_json::from_slice(body).unwrap_or_default();
    let error = error.unwrap_or_else(|| ErrorBody {
        message: Some(String::from_utf8_lossy(body).trim().to_owned()),
        ..ErrorBody::default()
    });
    let message = message(status, &error);
    let retry_after = retry_after(headers, Timestamp::now());
    let status = status.as_u16();
    match (status, headers.get("x-should-retry").map(|value| value.as_bytes())) {
        (412, _) => ControlError::PreconditionFailed {
            current: error.details.and_then(|details| details.current_state).map(lease_state),
        },
        (401 | 403, _) => ControlError::Unauthorized { status, message },
        (_, Some(b"true")) => ControlError::Unavailable { status, retry_after, message },
        (_, Some(b"false")) => ControlError::Rejected { status, message },
        (409, _) => ControlError::Conflict { message },
        (429, _) => ControlError::Throttled { retry_after },
        (408 | 500.., _) => ControlError::Unavailable { status, retry_after, message },
        _ => ControlError::Rejected { status, message },
    }
}

fn message(status: StatusCode, error: &ErrorBody) -> String {
    let text = error.message.as_deref().filter(|text| !text.is_empty());
    let text = text.or(error.kind.as_deref()).or(status.canonical_reason()).unwrap_or("no reason given");
    // Line breaks and the like have no place in a log line.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect()
}

fn lease_state(current: CurrentState) -> LeaseState {
    LeaseState {
        token: current.last_heartbeat.filter(|token| !token.is_empty()).map(HeartbeatToken::new),
        active: current.state.as_deref() == Some("active"),
    }
}

/// How long the server asks us to wait: in milliseconds, in seconds, or until a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let millis = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()).map(|ms| ms / 1_000.0);
    let seconds = millis.or_else(|| {
        let text = text(RETRY_AFTER.as_str())?;
        text.parse::<f64>().ok().or_else(|| {
            let until = rfc2822::parse(text).ok()?.timestamp();
            Some((until - now).as_secs_f64())
        })
    });
    seconds.filter(|seconds| *seconds > 0.0).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use remuda_actors::fault::FaultClass;

    use super::*;

    fn class(status: u16, headers: &[(&'static str, &str)]) -> FaultClass {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        classify(StatusCode::from_u16(status).unwrap(), &headers, b"{}").class()
    }

    #[test]
    fn row_6_and_7_the_status_decides_whether_to_repeat() {
        for status in [408, 409, 500, 502, 503, 504, 529] {
            assert_eq!(class(status, &[]), FaultClass::Transient, "{status}");
        }
        assert_eq!(class(429, &[]), FaultClass::Throttled);
        for status in [401, 403] {
            assert_eq!(class(status, &[]), FaultClass::Fatal, "{status}");
        }
        for status in [400, 404, 405, 410, 413, 422, 302] {
            assert_eq!(class(status, &[]), FaultClass::Permanent, "{status}");
        }
    }

    #[test]
    fn row_13_the_server_may_say_itself_whether_to_repeat() {
        assert_eq!(class(400, &[("x-should-retry", "true")]), FaultClass::Transient);
        assert_eq!(class(503, &[("x-should-retry", "false")]), FaultClass::Permanent);
        assert_eq!(
            class(401, &[("x-should-retry", "true")]),
            FaultClass::Fatal,
            "a refused key stays refused"
        );
        assert_eq!(class(412, &[("x-should-retry", "true")]), FaultClass::Permanent);
    }

    #[test]
    fn row_13_the_server_may_say_when() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let after = |pairs: &[(&'static str, &str)]| {
            let headers =
                pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            retry_after(&headers, now).map(|wait| wait.as_millis())
        };
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[("retry-after", "7")]), Some(7_000));
        assert_eq!(after(&[("retry-after", "7"), ("retry-after-ms", "250")]), Some(250));
        assert_eq!(after(&[("retry-after", "Fri, 20 Nov 2026 10:00:05 GMT")]), Some(5_000));
        assert_eq!(after(&[("retry-after", "Fri, 20 Nov 2026 09:59:00 GMT")]), None, "it has passed");
        for odd in ["0", "-3", "soon", "NaN", "1e300"] {
            assert_eq!(after(&[("retry-after", odd)]), None, "{odd}");
        }
    }

    #[test]
    fn row_21_a_failed_precondition_tells_what_the_server_holds() {
        let body = br#"{"type":"error","error":{"type":"invalid_request_error","message":"m","details":
            {"error_code":"heartbeat_precondition_failed","current_state":
            {"state":"active","last_heartbeat":"hb-9","lease_updated_at":null,"ttl_seconds":120}}}}"#;
        let ControlError::PreconditionFailed { current } =
            classify(StatusCode::PRECONDITION_FAILED, &HeaderMap::new(), body)
        else {
            panic!()
        };
        let token = Some(HeartbeatToken::new("hb-9"));
        assert_eq!(current, Some(LeaseState { token, active: true }));
        let bare = classify(StatusCode::PRECONDITION_FAILED, &HeaderMap::new(), b"");
        assert!(matches!(bare, ControlError::PreconditionFailed { current: None }));
    }

    #[test]
    fn messages_are_short_and_on_one_line() {
        let said = |body: &[u8]| classify(StatusCode::BAD_REQUEST, &HeaderMap::new(), body).to_string();
        let envelope = br#"{"error":{"type":"invalid_request_error","message":"line\nbreak"}}"#;
        assert_eq!(said(envelope), "the control plane refused the request (HTTP 400): line break");
        assert!(said(b"<html>gateway</html>").ends_with("<html>gateway</html>"));
        assert!(said(b"").ends_with("Bad Request"));
        assert!(said("x".repeat(10_000).as_bytes()).len() < 600);
    }
}

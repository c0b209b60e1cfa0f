//! Refusals, in the control plane's envelope.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The header that tells a request's id, on every answer.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// An id for one request, unique in this process.
pub(super) fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("req_01{:022}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A refusal: status, `error.type`, message, and details for programs.
#[derive(Debug)]
pub(in crate::emulator) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    details: Option<Value>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), details: None }
    }

    /// 400: the request cannot be granted as it is.
    pub(in crate::emulator) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// 401: nobody known sent it.
    pub(in crate::emulator) fn authentication(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
    }

    /// 403: the sender may not do this.
    pub(in crate::emulator) fn permission(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// 404: there is no such thing.
    pub(in crate::emulator) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    /// 405: the path exists, the method does not.
    pub(in crate::emulator) fn method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
    }

    /// 409: the thing is in another state.
    pub(in crate::emulator) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict_error", message)
    }

    /// 409 of the memory endpoints, which have types of their own; `fields` stand beside the message.
    pub(in crate::emulator) fn memory(kind: &'static str, message: impl Into<String>, fields: Value) -> Self {
        Self { details: Some(fields), ..Self::new(StatusCode::CONFLICT, kind, message) }
    }

    /// 412: the sender does not hold the lease. `current_state` goes into the details.
    pub(in crate::emulator) fn precondition(message: impl Into<String>, current_state: Value) -> Self {
        let error = Self::new(StatusCode::PRECONDITION_FAILED, "invalid_request_error", message);
        let details = json!({
            "error_code": "heartbeat_precondition_failed",
            "error_visibility": "user_facing",
            "current_state": current_state,
        });
        Self { details: Some(details), ..error }
    }

    /// 413: the body is over the limit.
    pub(in crate::emulator) fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }

    /// Adds the code programs branch on.
    #[must_use]
    pub(in crate::emulator) fn code(mut self, error_code: &str) -> Self {
        self.details = Some(json!({"error_code": error_code, "error_visibility": "user_facing"}));
        self
    }

    /// What is wrong, for an in-process caller.
    pub(in crate::emulator) fn message(&self) -> &str {
        &self.message
    }

    fn envelope(&self, request_id: &str) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        match &self.details {
            // The memory endpoints put their fields beside the message.
            Some(Value::Object(fields)) if self.kind.starts_with("memory_") => {
                for (key, value) in fields {
                    error[key] = value.clone();
                }
            }
            Some(details) => error["details"] = details.clone(),
            None => {}
        }
        json!({"type": "error", "request_id": request_id, "error": error})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let request_id = request_id();
        let body = self.envelope(&request_id).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(value) = HeaderValue::try_from(request_id) {
            headers.insert(REQUEST_ID, value);
        }
        response
    }
}

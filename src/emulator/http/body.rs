//! Request bodies: JSON objects, whatever the content type says.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde_json::{Value, json};

use super::ApiError;

/// A body that is a JSON object; an empty one counts as `{}`.
#[derive(Debug)]
pub(super) struct Object(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Object {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|_| ApiError::invalid("the body could not be read"))?;
        if bytes.is_empty() {
            return Ok(Self(json!({})));
        }
        match serde_json::from_slice(&bytes) {
            Ok(body @ Value::Object(_)) => Ok(Self(body)),
            Ok(_) => Err(ApiError::invalid("the body must be a JSON object")),
            Err(error) => Err(ApiError::invalid(format!("the body is not JSON: {error}"))),
        }
    }
}

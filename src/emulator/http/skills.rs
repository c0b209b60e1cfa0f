//! Skills over HTTP.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde_json::Value;

use super::{ApiError, App};

type Version = Path<(String, String)>;

/// Resolves a version, `latest` included.
pub(super) async fn version(
    State(app): State<App>,
    Path((skill, version)): Version,
) -> Result<Json<Value>, ApiError> {
    app.with(|world| world.skill_version(&skill, &version).map(Json))
}

/// Sends a version's archive.
pub(super) async fn download(
    State(app): State<App>,
    Path((skill, version)): Version,
) -> Result<Response, ApiError> {
    let archive = app.with(|world| world.skill_archive(&skill, &version))?;
    let mut response = Response::new(Body::from(archive));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    Ok(response)
}

//! Pages of listings: limits, and cursors nobody should read.

use axum::Json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{ApiError, Query};
use crate::emulator::options::Options;

/// What a cursor says beside where to go on.
const AFTER_PAGE: &str = "page:";
/// The same, after an empty page that the options asked for.
const AFTER_EMPTY: &str = "empty:";

/// Which page a client asks for.
#[derive(Debug)]
pub(super) struct Page {
    /// Where it starts, in the listing's own words; none is the beginning.
    pub(super) from: Option<String>,
    /// How much it may hold.
    pub(super) limit: usize,
    /// The cursor to send with an empty page instead, if the options ask for one here.
    pub(super) empty: Option<String>,
}

impl Page {
    /// Reads `limit` and `page`. `default` and `most` are the listing's own limits.
    pub(super) fn read(
        query: &Query,
        options: &Options,
        default: usize,
        most: usize,
    ) -> Result<Self, ApiError> {
        let limit = match query.number("limit")? {
            None => default,
            Some(0) => return Err(ApiError::invalid("limit: must be at least 1")),
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let limit = limit.min(most).min(options.max_page);
        let Some(cursor) = query.get("page").filter(|cursor| !cursor.is_empty()) else {
            let empty = options.empty_pages.then(|| encode(AFTER_EMPTY, ""));
            return Ok(Self { from: None, limit, empty });
        };
        let decoded = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or_else(unknown)?;
        if let Some(from) = decoded.strip_prefix(AFTER_EMPTY) {
            return Ok(Self {
                from: Some(from.to_owned()).filter(|from| !from.is_empty()),
                limit,
                empty: None,
            });
        }
        let from = decoded.strip_prefix(AFTER_PAGE).ok_or_else(unknown)?;
        let empty = options.empty_pages.then(|| encode(AFTER_EMPTY, from));
        Ok(Self { from: Some(from.to_owned()), limit, empty })
    }

    /// Where the page starts, for listings by position.
    pub(super) fn position(&self) -> Result<Option<u64>, ApiError> {
        self.from.as_ref().map(|from| from.parse().map_err(|_| unknown())).transpose()
    }
}

/// The cursor of the page that starts at `from`.
pub(super) fn cursor(from: &impl ToString) -> String {
    encode(AFTER_PAGE, &from.to_string())
}

/// A page's object.
pub(super) fn answer(data: Vec<Value>, next: Option<impl ToString>) -> Json<Value> {
    Json(json!({"data": data, "next_page": next.map(|next| cursor(&next))}))
}

/// An empty page with a successor.
pub(super) fn answer_empty(next: &str) -> Json<Value> {
    Json(json!({"data": [], "next_page": next}))
}

fn encode(lead: &str, from: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{lead}{from}"))
}

fn unknown() -> ApiError {
    ApiError::invalid("page: not a cursor this listing gave")
}

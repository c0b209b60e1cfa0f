//! Query strings: repeated keys, brackets, and percent-encoding, unknown keys ignored.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::ApiError;

/// The pairs of a query, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Self {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Every value of an array parameter, with or without its brackets.
    pub(super) fn all(&self, key: &str) -> Vec<&str> {
        let named = |known: &str| known == key || known.strip_suffix("[]") == Some(key);
        self.0.iter().filter(|(known, _)| named(known)).map(|(_, value)| value.as_str()).collect()
    }

    /// A number, if the key is there.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::invalid(format!("{key}: expected a whole number, got `{text}`")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_repeat_and_values_are_decoded() {
        let query =
            Query::parse("beta=true&types[]=a.b&types%5B%5D=c+d&limit=5&stamp=2026-11-20T10%3A00%3A03Z&x");
        assert_eq!(query.all("types"), ["a.b", "c d"]);
        assert_eq!(query.get("stamp"), Some("2026-11-20T10:00:03Z"));
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.number("limit").unwrap(), Some(5));
        assert!(query.number("beta").is_err());
        assert_eq!(query.number("page").unwrap(), None);
    }
}

//! The session's token, from the secret of its work item.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use remuda_actors::secret::Secret;
use serde::Deserialize;

/// What we read of a decoded secret. `api_base_url` is left alone on purpose: it would send the token to
/// wherever it says.
#[derive(Deserialize)]
struct Payload {
    sessions_token: String,
}

/// A secret that holds this token and nothing else, as workers read it.
pub(crate) fn secret_of(token: &Secret) -> Secret {
    let payload = serde_json::json!({ "sessions_token": token.expose() });
    Secret::new(URL_SAFE_NO_PAD.encode(payload.to_string()))
}

/// The token in a secret that we were handed; none if there is none in it.
pub(crate) fn token_of(secret: &str) -> Option<Secret> {
    sessions_token(secret)
}

/// The token in a work item's secret: base64 of either alphabet, padded or not, around a JSON object. None if
/// it is anything else, which is no error: the environment key is used instead.
pub(super) fn sessions_token(secret: &str) -> Option<Secret> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = if secret.contains(['+', '/']) { STANDARD } else { URL_SAFE };
    let bytes = GeneralPurpose::new(&alphabet, config).decode(secret.trim()).ok()?;
    let payload: Payload = serde_json::from_slice(&bytes).ok()?;
    Some(payload.sessions_token).filter(|token| !token.is_empty()).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose;

    use super::*;

    fn token(secret: &str) -> Option<String> {
        sessions_token(secret).map(|token| token.expose().to_owned())
    }

    #[test]
    fn row_15_the_secret_is_read_in_every_spelling() {
        let json = r#"{"sessions_token":"sk-ant-req-EXAMPLE?>~","other":1}"#;
        let expected = Some("sk-ant-req-EXAMPLE?>~".to_owned());
        for engine in [
            general_purpose::STANDARD,
            general_purpose::STANDARD_NO_PAD,
            general_purpose::URL_SAFE,
            general_purpose::URL_SAFE_NO_PAD,
        ] {
            assert_eq!(token(&engine.encode(json)), expected);
        }
        assert_eq!(
            token("eyJzZXNzaW9uc190b2tlbiI6InNrLWFudC1yZXEtRVhBTVBMRSJ9"),
            Some("sk-ant-req-EXAMPLE".into())
        );
    }

    #[test]
    fn row_15_anything_else_is_no_token_and_no_error() {
        let encode = |text: &str| general_purpose::URL_SAFE_NO_PAD.encode(text);
        let empty = encode(r#"{"sessions_token":""}"#);
        let wrong = encode(r#"{"sessions_token":7}"#);
        for secret in ["", "???", &encode("not json"), &encode("[]"), &encode("{}"), &empty, &wrong] {
            assert_eq!(token(secret), None, "{secret}");
        }
    }
}

//! What a session's metadata asks for.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What the keys of inputs begin with.
const PREFIX: &str = "remuda.input.";

/// An input that a session is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::outfit) struct Wish {
    /// The key of the metadata.
    pub(in crate::outfit) key: String,
    /// A path of this host, or a URL.
    pub(super) from: String,
    /// From the workspace on: names alone.
    pub(super) to: String,
    /// What its contents must hash to, in lower-case hexadecimal.
    pub(super) sha256: Option<String>,
    /// Whether it is an archive whose files are meant.
    pub(super) unpack: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    from: String,
    to: String,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    unpack: bool,
}

impl Wish {
    /// The inputs that metadata asks for, or the first mistake in there.
    pub(in crate::outfit) fn read(metadata: &BTreeMap<String, String>) -> Result<Vec<Self>, String> {
        let inputs = metadata.iter().filter(|(key, _)| key.starts_with(PREFIX));
        inputs.map(|(key, text)| Self::one(key, text)).collect()
    }

    fn one(key: &str, text: &str) -> Result<Self, String> {
        let expected = r#"expected something like {"from": "https://…", "to": "data/a.csv", "sha256": "…"}"#;
        let mistake = |what: String| format!("the session's metadata `{key}`: {what}");
        let text: Text =
            serde_json::from_str(text).map_err(|error| mistake(format!("{error}; {expected}")))?;
        let Text { from, to, sha256, unpack } = text;
        let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.chars().any(char::is_control);
        if !to.split('/').all(plain) {
            let what = format!("`to` is {to:?}; expected names from /workspace on, separated by slashes");
            return Err(mistake(what));
        }
        let sha256 = sha256.map(|hash| hash.to_ascii_lowercase());
        if sha256
            .as_ref()
            .is_some_and(|hash| hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(mistake("`sha256` is no hash; expected 64 hexadecimal digits".to_owned()));
        }
        Ok(Self { key: key.to_owned(), from, to, sha256, unpack })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Wish>, String> {
        let metadata = [("remuda.input.a", text), ("scenario", "x"), ("remuda.inputs", "x")];
        Wish::read(&metadata.map(|(key, text)| (key.to_owned(), text.to_owned())).into())
    }

    #[test]
    fn inputs_are_read_and_all_else_is_passed_over() {
        let hash = "AB".repeat(32);
        let text = format!(r#"{{"from": "/srv/a.zip", "to": "in/a", "sha256": "{hash}", "unpack": true}}"#);
        let wish = Wish {
            key: "remuda.input.a".to_owned(),
            from: "/srv/a.zip".to_owned(),
            to: "in/a".to_owned(),
            sha256: Some("ab".repeat(32)),
            unpack: true,
        };
        assert_eq!(read(&text).unwrap(), [wish]);
        assert_eq!(Wish::read(&BTreeMap::new()).unwrap(), []);
    }

    #[test]
    fn mistakes_name_the_key_and_what_was_expected() {
        for (text, what) in [
            ("/srv/a", "expected something like"),
            (r#"{"from": "/a"}"#, "missing field `to`"),
            (r#"{"from": "/a", "to": "b", "untar": true}"#, "unknown field `untar`"),
            (r#"{"from": "/a", "to": "/etc/passwd"}"#, "expected names from /workspace on"),
            (r#"{"from": "/a", "to": "../x"}"#, "expected names from /workspace on"),
            (r#"{"from": "/a", "to": ""}"#, "expected names from /workspace on"),
            (r#"{"from": "/a", "to": "b", "sha256": "12"}"#, "expected 64 hexadecimal digits"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("`remuda.input.a`") && error.contains(what), "{text}: {error}");
        }
    }
}

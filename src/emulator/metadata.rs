//! Metadata: a few short strings by short keys, on most resources.

use std::collections::BTreeMap;

use serde_json::Value;

use super::http::ApiError;

/// Pairs a resource may have.
const MAX_PAIRS: usize = 16;
/// Characters of a key.
const MAX_KEY: usize = 64;
/// Characters of a value.
const MAX_VALUE: usize = 512;

/// Reads the metadata of a new resource; absent and null mean none.
pub(super) fn read(value: Option<&Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let mut metadata = BTreeMap::new();
    merge(&mut metadata, value)?;
    Ok(metadata)
}

/// Applies a patch: a string sets a key, null deletes it, absence leaves it. All or nothing.
pub(super) fn merge(metadata: &mut BTreeMap<String, String>, patch: Option<&Value>) -> Result<(), ApiError> {
    let refuse = |what: String| Err(ApiError::invalid(what).code("invalid_metadata"));
    let patch = match patch {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(patch)) => patch,
        Some(_) => return refuse("metadata: expected an object of strings".into()),
    };
    let mut merged = metadata.clone();
    for (key, value) in patch {
        match value {
            Value::Null => {
                merged.remove(key);
            }
            Value::String(_) if key.is_empty() || key.chars().count() > MAX_KEY => {
                return refuse(format!("metadata: keys have 1 to {MAX_KEY} characters"));
            }
            Value::String(value) if value.chars().count() > MAX_VALUE => {
                return refuse(format!("metadata.{key}: values have at most {MAX_VALUE} characters"));
            }
            Value::String(value) => {
                merged.insert(key.clone(), value.clone());
            }
            _ => return refuse(format!("metadata.{key}: expected a string or null")),
        }
    }
    if merged.len() > MAX_PAIRS {
        return refuse(format!("metadata: {} pairs, at most {MAX_PAIRS} are kept", merged.len()));
    }
    *metadata = merged;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_sets_deletes_and_leaves() {
        let mut metadata = read(Some(&json!({"a": "1", "b": "2", "c": "3"}))).unwrap();
        merge(&mut metadata, Some(&json!({"a": "9", "b": null}))).unwrap();
        let expected = BTreeMap::from([("a".into(), "9".into()), ("c".into(), "3".into())]);
        assert_eq!(metadata, expected);
    }

    #[test]
    fn what_is_too_much_changes_nothing() {
        let mut metadata = read(Some(&json!({"a": "1"}))).unwrap();
        let many: Value =
            (0..17).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into();
        let long_key = json!({"k".repeat(65): "x"});
        for patch in [many, long_key, json!({"a": "x".repeat(513)}), json!({"a": 1}), json!([])] {
            assert!(merge(&mut metadata, Some(&patch)).is_err(), "{patch}");
            assert_eq!(metadata["a"], "1");
            assert_eq!(metadata.len(), 1);
        }
    }
}

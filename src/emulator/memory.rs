//! Memory stores: small text files by path, with content hashes that guard every change.

mod requests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(super) use self::requests::Change;
use super::clock::rfc3339;
use super::http::ApiError;

/// Bytes of a memory's content.
const MAX_CONTENT: usize = 102_400;
/// Bytes of a path.
const MAX_PATH: usize = 1024;
/// Segments of a path.
const MAX_SEGMENTS: usize = 20;

/// One store.
#[derive(Debug)]
pub(super) struct MemoryStore {
    id: String,
    name: String,
    description: String,
    metadata: BTreeMap<String, String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    archived_at: Option<Timestamp>,
    mount_root: String,
    /// By path, which is also the order of listings.
    memories: BTreeMap<String, Memory>,
}

#[derive(Clone, Debug)]
struct Memory {
    id: String,
    version: String,
    content: String,
    sha256: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Whether a memory object carries its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// It does not.
    Basic,
    /// It does.
    Full,
}

/// One page of a listing: the objects, and the path the next page starts at.
pub(super) type Page = (Vec<Value>, Option<String>);

impl MemoryStore {
    /// The store object.
    pub(super) fn wire(&self) -> Value {
        json!({
            "id": self.id,
            "type": "memory_store",
            "name": self.name,
            "description": self.description,
            "metadata": self.metadata,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "archived_at": self.archived_at.map(rfc3339),
        })
    }

    /// The resource a session has for it, with a mount path not in `taken`.
    pub(super) fn as_resource(
        &self,
        access: &str,
        instructions: Option<&str>,
        taken: &[&str],
    ) -> Result<Value, ApiError> {
        self.check_unarchived()?;
        let slug: String = self
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let slug = match slug.trim_matches('-') {
            "" => self.id.as_str(),
            slug => slug,
        };
        let plain = format!("{}/{slug}", self.mount_root);
        let numbered = (2..).map(|n| format!("{plain}-{n}"));
        let mut paths = std::iter::once(plain.clone()).chain(numbered);
        let mount_path = paths.find(|path| !taken.contains(&path.as_str())).unwrap_or_default();
        Ok(json!({
            "type": "memory_store",
            "memory_store_id": self.id,
            "name": self.name,
            "description": self.description,
            "instructions": instructions,
            "access": access,
            "mount_path": mount_path,
        }))
    }

    /// One page of memories under `prefix`; with `grouped`, what lies deeper than one level is shown as its
    /// directory.
    pub(super) fn list(
        &self,
        view: View,
        prefix: &str,
        grouped: bool,
        from: Option<&str>,
        limit: usize,
    ) -> Page {
        let (mut page, mut shown) = (Vec::new(), BTreeSet::new());
        let start = from.unwrap_or("").to_owned();
        for (path, memory) in self.memories.range(start..) {
            let Some(rest) = path.strip_prefix(prefix) else { continue };
            let group = grouped.then(|| rest.trim_start_matches('/').split_once('/')).flatten();
            let group = group.map(|(first, _)| {
                let lead = &path[..path.len() - rest.trim_start_matches('/').len()];
                format!("{lead}{first}/")
            });
            if group.as_ref().is_some_and(|group| shown.contains(group)) {
                continue;
            }
            if page.len() == limit {
                return (page, Some(path.clone()));
            }
            page.push(match group {
                Some(group) => {
                    let item = json!({"type": "memory_prefix", "path": group});
                    shown.insert(group);
                    item
                }
                None => self.memory_wire(path, memory, view),
            });
        }
        (page, None)
    }

    /// A memory object by id.
    pub(super) fn memory(&self, id: &str, view: View) -> Result<Value, ApiError> {
        let (path, memory) = self.find(id)?;
        Ok(self.memory_wire(path, memory, view))
    }

    fn find(&self, id: &str) -> Result<(&String, &Memory), ApiError> {
        let missing = || ApiError::not_found(format!("memory store {} has no memory {id}", self.id));
        self.memories.iter().find(|(_, memory)| memory.id == id).ok_or_else(missing)
    }

    fn memory_wire(&self, path: &str, memory: &Memory, view: View) -> Value {
        json!({
            "id": memory.id,
            "type": "memory",
            "memory_store_id": self.id,
            "memory_version_id": memory.version,
            "path": path,
            "content": (view == View::Full).then_some(&memory.content),
            "content_sha256": memory.sha256,
            "content_size_bytes": memory.content.len(),
            "created_at": rfc3339(memory.created_at),
            "updated_at": rfc3339(memory.updated_at),
        })
    }

    fn check_unarchived(&self) -> Result<(), ApiError> {
        if self.archived_at.is_none() {
            return Ok(());
        }
        Err(ApiError::invalid(format!("memory store {} is archived", self.id)))
    }

    /// Refuses a path that is taken, or that runs through a memory or is a directory of one.
    fn check_free(&self, path: &str) -> Result<(), ApiError> {
        let clash = self.memories.iter().find(|(other, _)| {
            let under = |a: &str, b: &str| {
                a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            under(path, other) || under(other, path)
        });
        let Some((other, memory)) = clash else { return Ok(()) };
        let fields = json!({"conflicting_path": other, "conflicting_memory_id": memory.id});
        Err(ApiError::memory("memory_path_conflict_error", format!("{path} conflicts with {other}"), fields))
    }
}

fn check_content(content: &str) -> Result<(), ApiError> {
    if content.len() > MAX_CONTENT {
        let message = format!("content: {} bytes, at most {MAX_CONTENT} are kept", content.len());
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), ApiError> {
    let refuse = |what: &str| Err(ApiError::invalid(format!("path: {what}")));
    let Some(relative) = path.strip_prefix('/') else { return refuse("must start with `/`") };
    if path.len() > MAX_PATH {
        return refuse("has more than 1024 bytes");
    }
    if path.chars().any(char::is_control) {
        return refuse("must not have control characters");
    }
    let segments: Vec<&str> = relative.split('/').collect();
    if segments.len() > MAX_SEGMENTS {
        return refuse("has more than 20 segments");
    }
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return refuse("no segment may be empty, `.` or `..`");
    }
    Ok(())
}

/// Lower-case SHA-256 over the text's UTF-8 bytes.
fn sha256(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_over_the_raw_bytes() {
        // The check value official clients have for the marker of store `memstore_01TEST`.
        let marker = "version 1\nmemstore_01TEST";
        assert_eq!(sha256(marker), "548e8b2ab48d8609d795f99bde2d54088d2347994bcaba83de7f764f17389e2d");
    }

    #[test]
    fn paths_are_absolute_plain_and_bounded() {
        for good in ["/a", "/a/b.md", "/ä/ ö"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        let deep = "/a".repeat(21);
        for bad in
            ["", "a", "/", "/a/", "/a//b", "/./a", "/a/..", "/a\nb", &deep, &format!("/{}", "x".repeat(1024))]
        {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}

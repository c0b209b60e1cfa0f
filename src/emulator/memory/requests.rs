//! What clients may do to memory stores and memories.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Memory, MemoryStore, View, check_content, check_path, sha256};
use crate::emulator::auth::Identity;
use crate::emulator::http::ApiError;
use crate::emulator::metadata;
use crate::emulator::world::World;

/// Stores held at once.
const MAX_STORES: usize = 10_000;
/// Memories of one store.
const MAX_MEMORIES: usize = 2000;

/// What a client sends to change a memory.
#[derive(Debug)]
pub(in crate::emulator) struct Change {
    /// The new content; none leaves it.
    pub(in crate::emulator) content: Option<String>,
    /// The new path; none leaves it.
    pub(in crate::emulator) path: Option<String>,
    /// The hash the content must have now.
    pub(in crate::emulator) expected_sha256: Option<String>,
}

impl World {
    /// A store, or the refusal that names it.
    pub(in crate::emulator) fn store(&self, id: &str) -> Result<&MemoryStore, ApiError> {
        self.stores.get(id).ok_or_else(|| ApiError::not_found(format!("there is no memory store {id}")))
    }

    fn store_mut(&mut self, id: &str) -> Result<&mut MemoryStore, ApiError> {
        self.stores.get_mut(id).ok_or_else(|| ApiError::not_found(format!("there is no memory store {id}")))
    }

    /// Whether `identity` may read a store, and with `writes` also change it: a sessions token only those its
    /// session has, and only as the session has them.
    pub(in crate::emulator) fn check_store(
        &self,
        identity: &Identity,
        store: &str,
        writes: bool,
    ) -> Result<(), ApiError> {
        let Identity::Session { session, .. } = identity else { return Ok(()) };
        let session = session.as_ref().and_then(|session| self.sessions.get(session));
        let resources = session.map(|session| session.resources.iter()).into_iter().flatten();
        let Some(resource) = resources.into_iter().find(|resource| resource["memory_store_id"] == store)
        else {
            return Err(ApiError::permission(format!(
                "memory store {store} is not attached to this session"
            )));
        };
        if writes && resource["access"] == "read_only" {
            return Err(ApiError::permission(format!("memory store {store} is attached read-only")));
        }
        Ok(())
    }

    /// Makes a store from a request's body.
    pub(in crate::emulator) fn create_store(&mut self, body: &Value) -> Result<Value, ApiError> {
        if self.stores.len() >= MAX_STORES {
            return Err(ApiError::invalid(format!("the emulator holds at most {MAX_STORES} memory stores")));
        }
        let name = body["name"].as_str().filter(|name| (1..=255).contains(&name.chars().count()));
        let name = name.ok_or_else(|| ApiError::invalid("name: expected 1 to 255 characters"))?;
        let (id, wall) = (self.mint.id("memstore"), self.wall());
        let store = MemoryStore {
            id: id.clone(),
            name: name.to_owned(),
            description: body["description"].as_str().unwrap_or_default().to_owned(),
            metadata: metadata::read(body.get("metadata"))?,
            created_at: wall,
            updated_at: wall,
            archived_at: None,
            mount_root: self.options.memory_root.clone(),
            memories: BTreeMap::new(),
        };
        let wire = store.wire();
        self.stores.insert(id, store);
        Ok(wire)
    }

    /// Changes a store's name, description or metadata.
    pub(in crate::emulator) fn update_store(&mut self, id: &str, body: &Value) -> Result<Value, ApiError> {
        let wall = self.wall();
        let store = self.store_mut(id)?;
        store.check_unarchived()?;
        metadata::merge(&mut store.metadata, body.get("metadata"))?;
        if let Some(name) = body["name"].as_str().filter(|name| !name.is_empty()) {
            name.clone_into(&mut store.name);
        }
        if let Some(description) = body.get("description") {
            description.as_str().unwrap_or_default().clone_into(&mut store.description);
        }
        store.updated_at = wall;
        Ok(store.wire())
    }

    /// Archives a store: no more writes, no more sessions.
    pub(in crate::emulator) fn archive_store(&mut self, id: &str) -> Result<Value, ApiError> {
        let wall = self.wall();
        let store = self.store_mut(id)?;
        store.archived_at.get_or_insert(wall);
        Ok(store.wire())
    }

    /// Deletes a store and what is in it.
    pub(in crate::emulator) fn delete_store(&mut self, id: &str) -> Result<Value, ApiError> {
        self.store(id)?;
        self.stores.remove(id);
        Ok(json!({"id": id, "type": "memory_store_deleted"}))
    }

    /// Makes a memory.
    pub(in crate::emulator) fn create_memory(
        &mut self,
        store: &str,
        path: &str,
        content: &str,
        view: View,
    ) -> Result<Value, ApiError> {
        check_path(path)?;
        check_content(content)?;
        let (id, version, wall) = (self.mint.id("mem"), self.mint.id("memver"), self.wall());
        let store = self.store_mut(store)?;
        store.check_unarchived()?;
        store.check_free(path)?;
        if store.memories.len() >= MAX_MEMORIES {
            return Err(ApiError::invalid(format!("a memory store holds at most {MAX_MEMORIES} memories")));
        }
        let (content, sha256) = (content.to_owned(), sha256(content));
        let memory = Memory { id, version, content, sha256, created_at: wall, updated_at: wall };
        store.memories.insert(path.to_owned(), memory.clone());
        Ok(store.memory_wire(path, &memory, view))
    }

    /// Changes a memory.
    pub(in crate::emulator) fn update_memory(
        &mut self,
        store: &str,
        id: &str,
        change: Change,
        view: View,
    ) -> Result<Value, ApiError> {
        if let Some(content) = &change.content {
            check_content(content)?;
        }
        let (version, wall) = (self.mint.id("memver"), self.wall());
        let store = self.store_mut(store)?;
        store.check_unarchived()?;
        let (path, memory) = store.find(id)?;
        check_precondition(memory, change.expected_sha256.as_deref())?;
        let (old_path, mut memory) = (path.clone(), memory.clone());
        let path = change.path.unwrap_or_else(|| old_path.clone());
        if path != old_path {
            check_path(&path)?;
            store.check_free(&path)?;
        }
        if let Some(content) = change.content {
            memory.sha256 = sha256(&content);
            memory.content = content;
        }
        memory.version = version;
        memory.updated_at = wall;
        store.memories.remove(&old_path);
        store.memories.insert(path.clone(), memory.clone());
        Ok(store.memory_wire(&path, &memory, view))
    }

    /// Deletes a memory.
    pub(in crate::emulator) fn delete_memory(
        &mut self,
        store: &str,
        id: &str,
        expected_sha256: Option<&str>,
    ) -> Result<Value, ApiError> {
        let store = self.store_mut(store)?;
        let (path, memory) = store.find(id)?;
        check_precondition(memory, expected_sha256)?;
        let path = path.clone();
        store.memories.remove(&path);
        Ok(json!({"id": id, "type": "memory_deleted"}))
    }
}

fn check_precondition(memory: &Memory, expected: Option<&str>) -> Result<(), ApiError> {
    match expected {
        Some(expected) if expected != memory.sha256 => {
            let message = format!("expected content_sha256 {expected}, actual was {}", memory.sha256);
            Err(ApiError::memory("memory_precondition_failed_error", message, json!({})))
        }
        _ => Ok(()),
    }
}

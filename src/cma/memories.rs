//! Memory stores: small texts by path, each change guarded by the hash of what it replaces.

use remuda_actors::ports::{ControlError, WorkItem};
use remuda_actors::secret::Secret;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::{Beta, Client, credential};
use super::http::{json as read, send};
use super::wire::Page;

/// A memory.
#[derive(Clone, Debug, Deserialize)]
pub struct Memory {
    /// Its id.
    pub id: String,
    /// Where it is in its store; begins with a slash.
    pub path: String,
    /// The text, in the full view.
    pub content: Option<String>,
    /// SHA-256 of the text, in lower-case hexadecimal.
    pub content_sha256: String,
}

/// One page of a store.
#[derive(Clone, Debug)]
pub struct MemoryPage {
    /// The memories on it.
    pub memories: Vec<Memory>,
    /// What the next page is asked for by; none after the last.
    pub next: Option<String>,
}

/// Whether memories come with their texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryView {
    /// They do not, a hundred to a page.
    Basic,
    /// They do, twenty to a page.
    Full,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item {
    Memory(Memory),
    /// A folder, in listings that group by it.
    #[serde(other)]
    Other,
}

impl Client {
    /// One page of a store's memories.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed. [`ControlError::NoCredential`] if the item has no token of its own.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    pub async fn memory_page(
        &self,
        item: &WorkItem,
        store: &str,
        view: MemoryView,
        page: Option<&str>,
    ) -> Result<MemoryPage, ControlError> {
        let view = match view {
            MemoryView::Basic => [("view", "basic"), ("limit", "100")],
            MemoryView::Full => [("view", "full"), ("limit", "20")],
        };
        let request = self.request_under(Beta::Memory, Method::GET, &memories(store)).query(&view);
        let request = page.iter().fold(request, |request, page| request.query(&[("page", page)]));
        let page: Page<Item> = read(send(request, self.token(item)?).await?, "a page of memories").await?;
        let memory = |item| if let Item::Memory(memory) = item { Some(memory) } else { None };
        let next = page.next_page.filter(|page| !page.is_empty());
        Ok(MemoryPage { memories: page.data.into_iter().filter_map(memory).collect(), next })
    }

    /// A memory with its text.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    pub async fn memory(&self, item: &WorkItem, store: &str, memory: &str) -> Result<Memory, ControlError> {
        let path = ["v1", "memory_stores", store, "memories", memory];
        let request = self.request_under(Beta::Memory, Method::GET, &path).query(&[("view", "full")]);
        read(send(request, self.token(item)?).await?, "a memory").await
    }

    /// Makes a memory where there is none.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] if its path is taken. It may have been made if the answer was lost.
    ///
    /// # Cancel safety
    /// It may have been made.
    pub async fn create_memory(
        &self,
        item: &WorkItem,
        store: &str,
        path: &str,
        content: &str,
    ) -> Result<Memory, ControlError> {
        let request = self.request_under(Beta::Memory, Method::POST, &memories(store));
        let request = request.json(&json!({"path": path, "content": content}));
        read(send(request, self.token(item)?).await?, "a memory").await
    }

    /// Changes a memory's text if its hash is still `expected`.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] if it is not. It may have been changed if the answer was lost.
    ///
    /// # Cancel safety
    /// It may have been changed.
    pub async fn update_memory(
        &self,
        item: &WorkItem,
        store: &str,
        memory: &str,
        content: &str,
        expected: &str,
    ) -> Result<Memory, ControlError> {
        let path = ["v1", "memory_stores", store, "memories", memory];
        let precondition = json!({"type": "content_sha256", "content_sha256": expected});
        let request = self.request_under(Beta::Memory, Method::POST, &path);
        let request = request.json(&json!({"content": content, "precondition": precondition}));
        read(send(request, self.token(item)?).await?, "a memory").await
    }

    /// Deletes a memory if its hash is still `expected`.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] or [`ControlError::PreconditionFailed`] if it is not. It may be gone if the answer
    /// was lost.
    ///
    /// # Cancel safety
    /// It may be gone.
    pub async fn delete_memory(
        &self,
        item: &WorkItem,
        store: &str,
        memory: &str,
        expected: &str,
    ) -> Result<(), ControlError> {
        let path = ["v1", "memory_stores", store, "memories", memory];
        let request = self.request_under(Beta::Memory, Method::DELETE, &path);
        let request = request.query(&[("expected_content_sha256", expected)]);
        send(request, self.token(item)?).await.map(drop)
    }
}

impl Client {
    /// An item's own credential. The key of its environment opens no memory store.
    fn token<'a>(&self, item: &'a WorkItem) -> Result<&'a Secret, ControlError> {
        let token = credential(item)?;
        let is_key = self.key(&item.environment).is_ok_and(|key| key.expose() == token.expose());
        if is_key { Err(ControlError::NoCredential) } else { Ok(token) }
    }
}

fn memories(store: &str) -> [&str; 4] {
    ["v1", "memory_stores", store, "memories"]
}

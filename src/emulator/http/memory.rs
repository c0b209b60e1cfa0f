//! Memory stores over HTTP.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::Value;

use super::{ApiError, App, Object, Page, Query, page};
use crate::emulator::auth::Identity;
use crate::emulator::memory::{Change, MemoryStore, View};
use crate::emulator::registry::Order;

type Answer = Result<Json<Value>, ApiError>;

/// Memories of a page, with and without their contents.
const MAX_BASIC: usize = 100;
const MAX_FULL: usize = 20;

pub(super) async fn create_store(State(app): State<App>, Object(body): Object) -> Answer {
    app.with(|world| world.create_store(&body).map(Json))
}

pub(super) async fn list_stores(State(app): State<App>, query: Query) -> Answer {
    let page = Page::read(&query, &app.options, 20, 100)?;
    if let Some(next) = &page.empty {
        return Ok(page::answer_empty(next));
    }
    let from = page.position()?;
    app.with(|world| {
        let (found, next) = world.stores.page(from, Order::Descending, page.limit, |_| true);
        Ok(page::answer(found.into_iter().map(MemoryStore::wire).collect(), next))
    })
}

pub(super) async fn get_store(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Answer {
    app.with(|world| {
        world.check_store(&identity, &id, false)?;
        Ok(Json(world.store(&id)?.wire()))
    })
}

pub(super) async fn update_store(
    State(app): State<App>,
    Path(id): Path<String>,
    Object(body): Object,
) -> Answer {
    app.with(|world| world.update_store(&id, &body).map(Json))
}

pub(super) async fn archive_store(State(app): State<App>, Path(id): Path<String>) -> Answer {
    app.with(|world| world.archive_store(&id).map(Json))
}

pub(super) async fn delete_store(State(app): State<App>, Path(id): Path<String>) -> Answer {
    app.with(|world| world.delete_store(&id).map(Json))
}

/// Lists memories by path.
pub(super) async fn list(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
    query: Query,
) -> Answer {
    let view = view(&query, View::Basic)?;
    let most = if view == View::Full { MAX_FULL } else { MAX_BASIC };
    let page = Page::read(&query, &app.options, 20, most)?;
    let grouped = match query.number("depth")? {
        None | Some(0) => false,
        Some(1) => true,
        Some(_) => return Err(ApiError::invalid("depth: expected 0 or 1")),
    };
    let prefix = query.get("path_prefix").unwrap_or_default();
    let whole = prefix.starts_with('/') && prefix.ends_with('/');
    if !prefix.is_empty() && !whole {
        return Err(ApiError::invalid("path_prefix: must start and end with `/`"));
    }
    app.with(|world| {
        world.check_store(&identity, &id, false)?;
        let store = world.store(&id)?;
        if let Some(next) = &page.empty {
            return Ok(page::answer_empty(next));
        }
        let (data, next) = store.list(view, prefix, grouped, page.from.as_deref(), page.limit);
        Ok(page::answer(data, next))
    })
}

pub(super) async fn create(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
    query: Query,
    Object(body): Object,
) -> Answer {
    let view = view(&query, View::Basic)?;
    let path = body["path"].as_str().ok_or_else(|| ApiError::invalid("path: expected a string"))?;
    let content = match &body["content"] {
        Value::Null => "",
        Value::String(content) => content,
        _ => return Err(ApiError::invalid("content: expected a string")),
    };
    app.with(|world| {
        world.check_store(&identity, &id, true)?;
        world.create_memory(&id, path, content, view).map(Json)
    })
}

pub(super) async fn get(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((id, memory)): Path<(String, String)>,
    query: Query,
) -> Answer {
    let view = view(&query, View::Full)?;
    app.with(|world| {
        world.check_store(&identity, &id, false)?;
        world.store(&id)?.memory(&memory, view).map(Json)
    })
}

pub(super) async fn update(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((id, memory)): Path<(String, String)>,
    query: Query,
    Object(body): Object,
) -> Answer {
    let view = view(&query, View::Basic)?;
    let text = |key: &str| match &body[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(ApiError::invalid(format!("{key}: expected a string"))),
    };
    let expected_sha256 = match &body["precondition"] {
        Value::Null => None,
        precondition if precondition["type"] == "content_sha256" => {
            let hash = precondition["content_sha256"].as_str();
            let missing = || ApiError::invalid("precondition.content_sha256: expected a string");
            Some(hash.ok_or_else(missing)?.to_owned())
        }
        _ => return Err(ApiError::invalid("precondition.type: expected `content_sha256`")),
    };
    let change = Change { content: text("content")?, path: text("path")?, expected_sha256 };
    app.with(|world| {
        world.check_store(&identity, &id, true)?;
        world.update_memory(&id, &memory, change, view).map(Json)
    })
}

pub(super) async fn delete(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((id, memory)): Path<(String, String)>,
    query: Query,
) -> Answer {
    app.with(|world| {
        world.check_store(&identity, &id, true)?;
        world.delete_memory(&id, &memory, query.get("expected_content_sha256")).map(Json)
    })
}

fn view(query: &Query, default: View) -> Result<View, ApiError> {
    match query.get("view") {
        None => Ok(default),
        Some("basic") => Ok(View::Basic),
        Some("full") => Ok(View::Full),
        Some(_) => Err(ApiError::invalid("view: expected `basic` or `full`")),
    }
}

//! Sessions and their threads over HTTP.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use remuda_actors::ids::{SessionId, ThreadId};
use serde_json::Value;

use super::{ApiError, App, Object, Page, Query, page};
use crate::emulator::auth::Identity;
use crate::emulator::registry::Order;
use crate::emulator::session::Session;

type Answer = Result<Json<Value>, ApiError>;

pub(super) async fn create(State(app): State<App>, Object(body): Object) -> Answer {
    app.with(|world| world.create_session(&body).map(Json))
}

/// Lists sessions, newest first unless `order=asc`.
pub(super) async fn list(State(app): State<App>, query: Query) -> Answer {
    let page = Page::read(&query, &app.options, 20, 100)?;
    if let Some(next) = &page.empty {
        return Ok(page::answer_empty(next));
    }
    let from = page.position()?;
    let order = if query.get("order") == Some("asc") { Order::Ascending } else { Order::Descending };
    let (agent, store) = (query.get("agent_id"), query.get("memory_store_id"));
    let archived = query.get("include_archived") == Some("true");
    let statuses = query.all("statuses");
    let wanted = |session: &Session| {
        (archived || session.archived_at.is_none())
            && agent.is_none_or(|agent| session.agent["id"] == agent)
            && (statuses.is_empty() || statuses.contains(&session.status.name()))
            && store.is_none_or(|store| {
                session.resources.iter().any(|resource| resource["memory_store_id"] == store)
            })
    };
    app.with(|world| {
        let wall = world.wall();
        let (found, next) = world.sessions.page(from, order, page.limit, wanted);
        Ok(page::answer(found.into_iter().map(|session| session.wire(wall)).collect(), next))
    })
}

pub(super) async fn get(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<SessionId>,
) -> Answer {
    app.with(|world| Ok(Json(world.session_for(&identity, &id)?.wire(world.wall()))))
}

pub(super) async fn update(
    State(app): State<App>,
    Path(id): Path<SessionId>,
    Object(body): Object,
) -> Answer {
    app.with(|world| world.update_session(&id, &body).map(Json))
}

pub(super) async fn archive(State(app): State<App>, Path(id): Path<SessionId>) -> Answer {
    app.with(|world| world.archive_session(&id).map(Json))
}

pub(super) async fn delete(State(app): State<App>, Path(id): Path<SessionId>) -> Answer {
    app.with(|world| world.delete_session(&id).map(Json))
}

/// Lists threads, the primary one first.
pub(super) async fn threads(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<SessionId>,
    query: Query,
) -> Answer {
    let page = Page::read(&query, &app.options, 20, 100)?;
    if let Some(next) = &page.empty {
        return Ok(page::answer_empty(next));
    }
    let from = page.position()?.and_then(|from| usize::try_from(from).ok()).unwrap_or(0);
    app.with(|world| {
        let session = world.session_for(&identity, &id)?;
        let all = std::iter::once(&session.primary).chain(&session.children);
        let data = all.skip(from).take(page.limit).map(|thread| thread.wire(session)).collect();
        let end = from.saturating_add(page.limit);
        Ok(page::answer(data, (end < session.children.len() + 1).then_some(end)))
    })
}

pub(super) async fn thread(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((id, thread)): Path<(SessionId, ThreadId)>,
) -> Answer {
    app.with(|world| {
        let session = world.session_for(&identity, &id)?;
        let missing = || ApiError::not_found(format!("session {id} has no thread {thread}"));
        Ok(Json(session.thread(&thread).ok_or_else(missing)?.wire(session)))
    })
}

//! Agents over HTTP.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::Value;

use super::{ApiError, App, Object, Page, Query, page};
use crate::emulator::agents::Agent;
use crate::emulator::registry::Order;

type Answer = Result<Json<Value>, ApiError>;

pub(super) async fn create(State(app): State<App>, Object(body): Object) -> Answer {
    app.with(|world| world.create_agent(&body).map(Json))
}

pub(super) async fn list(State(app): State<App>, query: Query) -> Answer {
    let page = Page::read(&query, &app.options, 20, 100)?;
    if let Some(next) = &page.empty {
        return Ok(page::answer_empty(next));
    }
    let (from, archived) = (page.position()?, query.get("include_archived") == Some("true"));
    app.with(|world| {
        let wanted = |agent: &Agent| archived || !agent.is_archived();
        let (found, next) = world.agents.page(from, Order::Descending, page.limit, wanted);
        Ok(page::answer(found.into_iter().map(|agent| agent.latest().clone()).collect(), next))
    })
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<String>, query: Query) -> Answer {
    let version = query.number("version")?;
    app.with(|world| {
        let agent = world.agent(&id)?;
        let found = match version {
            None => agent.latest(),
            Some(version) => agent.version(version)?,
        };
        Ok(Json(found.clone()))
    })
}

pub(super) async fn update(State(app): State<App>, Path(id): Path<String>, Object(body): Object) -> Answer {
    app.with(|world| world.update_agent(&id, &body).map(Json))
}

pub(super) async fn archive(State(app): State<App>, Path(id): Path<String>) -> Answer {
    app.with(|world| world.archive_agent(&id).map(Json))
}

pub(super) async fn versions(State(app): State<App>, Path(id): Path<String>, query: Query) -> Answer {
    let page = Page::read(&query, &app.options, 20, 100)?;
    if let Some(next) = &page.empty {
        return Ok(page::answer_empty(next));
    }
    let from = page.position()?.and_then(|from| usize::try_from(from).ok()).unwrap_or(0);
    app.with(|world| {
        // Newest first.
        let versions = world.agent(&id)?.versions();
        let end = from.saturating_add(page.limit);
        let data = versions.iter().rev().skip(from).take(page.limit).cloned().collect();
        Ok(page::answer(data, (end < versions.len()).then_some(end)))
    })
}

//! Environments over HTTP.

use axum::Json;
use axum::extract::{Path, State};
use remuda_actors::ids::EnvironmentId;
use serde_json::Value;

use super::{ApiError, App, Object, Page, Query, page};
use crate::emulator::environments::Environment;
use crate::emulator::registry::Order;

type Answer = Result<Json<Value>, ApiError>;

pub(super) async fn create(State(app): State<App>, Object(body): Object) -> Answer {
    app.with(|world| {
        let id = world.create_environment(&body)?;
        Ok(Json(world.environment(&id)?.wire()))
    })
}

pub(super) async fn list(State(app): State<App>, query: Query) -> Answer {
    let page = Page::read(&query, &app.options, 20, 100)?;
    if let Some(next) = &page.empty {
        return Ok(page::answer_empty(next));
    }
    let (from, archived) = (page.position()?, query.get("include_archived") == Some("true"));
    app.with(|world| {
        let wanted = |environment: &Environment| archived || !environment.is_archived();
        let (found, next) = world.environments.page(from, Order::Descending, page.limit, wanted);
        Ok(page::answer(found.into_iter().map(Environment::wire).collect(), next))
    })
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<EnvironmentId>) -> Answer {
    app.with(|world| Ok(Json(world.environment(&id)?.wire())))
}

pub(super) async fn update(
    State(app): State<App>,
    Path(id): Path<EnvironmentId>,
    Object(body): Object,
) -> Answer {
    app.with(|world| world.update_environment(&id, &body).map(Json))
}

pub(super) async fn archive(State(app): State<App>, Path(id): Path<EnvironmentId>) -> Answer {
    app.with(|world| world.archive_environment(&id).map(Json))
}

pub(super) async fn delete(State(app): State<App>, Path(id): Path<EnvironmentId>) -> Answer {
    app.with(|world| world.delete_environment(&id).map(Json))
}

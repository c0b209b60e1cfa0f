//! The work queue over HTTP.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use remuda_actors::ids::{EnvironmentId, WorkId};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::{ApiError, App, Object, Page, Query, page};
use crate::emulator::auth::{Identity, Kind};
use crate::emulator::metadata;

/// The longest a poll may ask to be held.
const MAX_BLOCK_MS: u64 = 999;

type Item = Path<(EnvironmentId, WorkId)>;

/// Answers with the next item, or with `null` once the wait is over.
pub(super) async fn poll(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(environment): Path<EnvironmentId>,
    headers: HeaderMap,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    let block = match query.number("block_ms")? {
        Some(ms) if !(1..=MAX_BLOCK_MS).contains(&ms) => {
            let message =
                format!("block_ms: expected 1 to {MAX_BLOCK_MS}, got {ms}; leave it out not to wait");
            return Err(ApiError::invalid(message));
        }
        block => Duration::from_millis(block.unwrap_or(0)),
    };
    let until = Instant::now() + block;
    let reclaim_age = query.number("reclaim_older_than_ms")?.map(Duration::from_millis);
    let reclaim_age = reclaim_age.unwrap_or(app.options.reclaim_age);
    let worker = headers.get("anthropic-worker-id").and_then(|value| value.to_str().ok());
    let arrivals = app.with(|world| {
        world.environment(&environment)?;
        identity.check_environment(&environment)?;
        let now = world.now;
        let queue = world.environments.get_mut(&environment).map(|found| &mut found.queue);
        let queue = queue.ok_or_else(|| ApiError::not_found("the environment is gone"))?;
        if let Some(worker) = worker {
            queue.saw(worker, now);
        }
        Ok::<_, ApiError>(queue.arrivals())
    })?;
    loop {
        let mut arrival = std::pin::pin!(arrivals.notified());
        // Registered before the look, so that no item slips in between.
        arrival.as_mut().enable();
        let (item, reclaim) = app.with(|world| {
            let item = world.offer(&environment, reclaim_age);
            let reclaim =
                world.environments.get(&environment).and_then(|found| found.queue.next_reclaim(reclaim_age));
            (item, reclaim)
        });
        if let Some(item) = item {
            return Ok(Json(item));
        }
        if Instant::now() >= until {
            return Ok(Json(Value::Null));
        }
        let wake = reclaim.map_or(until, |at| until.min(at.into()));
        tokio::select! {
            () = arrival => {}
            () = sleep_until(wake) => {}
        }
    }
}

/// Takes an item out of the queue. Body and content type do not matter.
pub(super) async fn ack(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((environment, work)): Item,
) -> Result<Json<Value>, ApiError> {
    app.with(|world| {
        world.check_work(&identity, &environment, &work)?;
        world.acknowledge(&environment, &work).map(Json)
    })
}

/// Takes or extends a lease.
pub(super) async fn heartbeat(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((environment, work)): Item,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    let expected = query.get("expected_last_heartbeat");
    let expected = expected.ok_or_else(|| {
        ApiError::invalid("expected_last_heartbeat: required; send NO_HEARTBEAT with the first heartbeat")
    })?;
    let desired_ttl = query.number("desired_ttl_seconds")?.map(Duration::from_secs);
    app.with(|world| {
        world.check_work(&identity, &environment, &work)?;
        world.heartbeat(&environment, &work, expected, desired_ttl).map(Json)
    })
}

/// Stops an item. The answer is 204 without a content type, as the deployed service gives it.
pub(super) async fn stop(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((environment, work)): Item,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let force = match body.get("force") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(force)) => *force,
        Some(_) => return Err(ApiError::invalid("force: expected a boolean")),
    };
    app.with(|world| {
        world.check_work(&identity, &environment, &work)?;
        world.stop(&environment, &work, force)
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Counts the queue.
pub(super) async fn stats(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(environment): Path<EnvironmentId>,
) -> Result<Json<Value>, ApiError> {
    app.with(|world| {
        let found = world.environment(&environment)?;
        identity.check_environment(&environment)?;
        Ok(Json(found.queue.stats(world.now)))
    })
}

/// Lists items, oldest first.
pub(super) async fn list(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(environment): Path<EnvironmentId>,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    if app.options.strict_work_list && identity.kind() == Kind::ApiKey {
        return Err(ApiError::permission("listing work accepts an environment key, not an API key"));
    }
    let page = Page::read(&query, &app.options, 20, 1000)?;
    if let Some(next) = &page.empty {
        return Ok(page::answer_empty(next));
    }
    let from = page.position()?.and_then(|from| usize::try_from(from).ok()).unwrap_or(0);
    app.with(|world| {
        let found = world.environment(&environment)?;
        identity.check_environment(&environment)?;
        let items = found.queue.list();
        let end = from.saturating_add(page.limit);
        let data = items.iter().skip(from).take(page.limit).map(|item| item.wire(&environment)).collect();
        Ok(page::answer(data, (end < items.len()).then_some(end)))
    })
}

/// Reads one item.
pub(super) async fn get(
    State(app): State<App>,
    Path((environment, work)): Item,
) -> Result<Json<Value>, ApiError> {
    app.with(|world| Ok(Json(world.work(&environment, &work)?.wire(&environment))))
}

/// Merges metadata into an item.
pub(super) async fn update(
    State(app): State<App>,
    Path((environment, work)): Item,
    Object(body): Object,
) -> Result<Json<Value>, ApiError> {
    app.with(|world| {
        world.work(&environment, &work)?;
        let queue = world.environments.get_mut(&environment).map(|found| &mut found.queue);
        if let Some(item) = queue.and_then(|queue| queue.get_mut(&work)) {
            metadata::merge(&mut item.metadata, body.get("metadata"))?;
        }
        Ok(Json(world.work(&environment, &work)?.wire(&environment)))
    })
}

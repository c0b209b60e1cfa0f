//! The web service: hands work in, tells what came of it, and shows the tree.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use remuda_actors::{Snapshot, Tree};
use serde::{Deserialize, Serialize};

use super::queue::Queue;

/// How long whoever asks for a session waits for its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most lines of one session.
const MAX_LINES: usize = 100;

#[derive(Clone)]
struct App {
    queue: Arc<Queue>,
    tree: Arc<Tree>,
}

/// What a session is to write down.
#[derive(Debug, Deserialize)]
struct Order {
    lines: Vec<String>,
}

/// A session that was made.
#[derive(Debug, Serialize)]
struct Made {
    session: String,
}

/// What came of a session.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Whether everything is answered.
    finished: bool,
    answers: Vec<String>,
}

/// The routes.
pub(crate) fn router(queue: Arc<Queue>, tree: Arc<Tree>) -> Router {
    Router::new()
        .route("/sessions", post(order))
        .route("/sessions/{session}", get(outcome))
        .route("/tree", get(tree_now))
        .with_state(App { queue, tree })
}

async fn order(State(app): State<App>, Json(order): Json<Order>) -> Result<Json<Made>, (StatusCode, String)> {
    if order.lines.is_empty() || order.lines.len() > MAX_LINES {
        let message = format!("lines: expected 1 to {MAX_LINES}, got {}", order.lines.len());
        return Err((StatusCode::BAD_REQUEST, message));
    }
    let session = app.queue.submit(&order.lines);
    Ok(Json(Made { session: session.as_str().to_owned() }))
}

/// Waits for the end of the session, but not for ever.
async fn outcome(
    State(app): State<App>,
    Path(session): Path<String>,
) -> Result<Json<Outcome>, (StatusCode, String)> {
    let finished = tokio::time::timeout(PATIENCE, app.queue.finished(&session.as_str().into())).await.is_ok();
    let answers = app.queue.answers(&session.as_str().into());
    let answers = answers.ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no session {session}")))?;
    Ok(Json(Outcome { finished, answers }))
}

/// Asks no actor, so it answers even when one is stuck.
async fn tree_now(State(app): State<App>) -> Json<Snapshot> {
    Json(app.tree.snapshot())
}

//! What the emulator knows about a session beyond the protocol.

use axum::Json;
use axum::extract::{Path, State};
use remuda_actors::ids::SessionId;
use serde_json::{Value, json};

use super::{ApiError, App};

/// Verdict, live work and timing of a session, even of a deleted one. Times are microseconds since the
/// emulator started.
pub(super) async fn session(
    State(app): State<App>,
    Path(id): Path<SessionId>,
) -> Result<Json<Value>, ApiError> {
    app.with(|world| {
        let missing = || ApiError::not_found(format!("there is no session {id}"));
        let session = world.session_or_buried(&id).ok_or_else(missing)?;
        let at = |instant: std::time::Instant| world.clock.micros(instant);
        let timing = &session.timing;
        let claims: Vec<Value> = timing
            .claims
            .iter()
            .map(|claim| {
                json!({
                    "work": claim.work,
                    "queued_us": at(claim.queued_at),
                    "offered_us": claim.offered_at.map(at),
                    "acked_us": claim.acked_at.map(at),
                    "first_heartbeat_us": claim.first_heartbeat_at.map(at),
                    "released_us": claim.released_at.map(at),
                })
            })
            .collect();
        let calls: Vec<Value> = timing
            .calls
            .iter()
            .map(|call| {
                json!({
                    "call": call.call,
                    "name": call.name,
                    "emitted_us": at(call.emitted_at),
                    "resolved_us": call.resolved_at.map(at),
                })
            })
            .collect();
        Ok(Json(json!({
            "id": session.id,
            "status": session.status.name(),
            "live_work": session.live_work,
            "followers": session.primary.log.followers(),
            "verdict": session.brain.verdict(),
            "timing": {
                "created_us": at(timing.created_at),
                "ended_us": timing.ended_at.map(at),
                "claims": claims,
                "calls": calls,
            },
        })))
    })
}

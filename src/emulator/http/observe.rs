//! What happens around every request: it is logged, met by fault rules, and authorised.
//!
//! The order matters. A request is logged before a rule can swallow it, and a rule comes before the
//! authorisation, so that it can answer 401 where the emulator would not.

use std::time::Instant;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use remuda_actors::ids::{EnvironmentId, SessionId, WorkId};

use super::error::{REQUEST_ID, request_id};
use super::server::{DropConnection, Peer};
use super::{ApiError, App};
use crate::emulator::auth::{Identity, Presented};
use crate::emulator::faults::{FaultAction, RawAnswer};
use crate::emulator::log::{CredentialHeader, Record, interesting};
use crate::emulator::operation::Operation;
use crate::emulator::sse::{Copies, Tampering};
use crate::emulator::world::World;

/// The two beta headers that memory calls accept one of.
const MEMORY_BETAS: [&str; 2] = ["agent-memory-2026-07-22", "managed-agents-2026-04-01"];

/// Logs, tampers with and authorises one request.
pub(super) async fn observe(
    State((app, operation)): State<(App, Operation)>,
    params: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    let arrived_at = Instant::now();
    let (mut parts, body) = request.into_parts();
    let body = match to_bytes(body, app.options.max_body).await {
        Ok(body) => body,
        Err(_) => return ApiError::too_large(app.options.max_body).into_response(),
    };
    let presented = Presented::of(&parts.headers);
    let (identity, session) =
        app.with(|world| (world.credentials.identify(&presented), subject(world, &params)));
    let number = app.log.is_on().then(|| {
        app.log.arrived(Record {
            number: 0,
            peer: parts.extensions.get().map(|Peer(address)| *address),
            operation,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: interesting(&parts.headers),
            credential: identity.as_ref().ok().map(Identity::kind),
            credential_header: carrier(&presented, &parts.headers),
            body: body.clone(),
            arrived_at,
            answer: None,
        })
    });
    let actions = app.faults.due(operation, session.as_ref());
    let mut tampering = Tampering::default();
    for action in actions.iter().flat_map(|actions| actions.iter()) {
        match action {
            FaultAction::Answer(answer) => {
                note(&app, number, answer.status);
                return raw(answer);
            }
            FaultAction::Delay(time) => tokio::time::sleep(time.0).await,
            FaultAction::Hang => std::future::pending().await,
            FaultAction::Drop => return DropConnection::response(),
            FaultAction::CutStream(after) => tampering.cut_after = Some(*after),
            FaultAction::Inject(injection) => {
                tampering.inject.push((injection.after, Bytes::from(injection.raw.clone())));
            }
            FaultAction::DuplicateFrames => tampering.copies = Copies::Two,
            FaultAction::RevokeLease => take_lease(&app, session.as_ref(), World::revoke_lease),
            FaultAction::UsurpLease => take_lease(&app, session.as_ref(), World::usurp),
            FaultAction::DelayAnswer(_) | FaultAction::DropAnswer => {}
        }
    }
    let mut response = match authorize(operation, identity, &parts.headers) {
        Err(refusal) => refusal.into_response(),
        Ok(identity) => {
            parts.extensions.insert(identity);
            parts.extensions.insert(tampering);
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
    };
    for action in actions.iter().flat_map(|actions| actions.iter()) {
        match action {
            FaultAction::DelayAnswer(time) => tokio::time::sleep(time.0).await,
            FaultAction::DropAnswer => return DropConnection::response(),
            _ => {}
        }
    }
    if !response.headers().contains_key(REQUEST_ID)
        && let Ok(id) = HeaderValue::try_from(request_id())
    {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    note(&app, number, response.status().as_u16());
    response
}

fn note(app: &App, number: Option<u64>, status: u16) {
    if let Some(number) = number {
        app.log.answered(number, status);
    }
}

/// The session a request is about: named in its path, or that of the work item in its path.
fn subject(world: &World, params: &RawPathParams) -> Option<SessionId> {
    let param = |name: &str| params.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    if let Some(session) = param("session") {
        return Some(SessionId::from(session));
    }
    let (environment, work) = (EnvironmentId::from(param("environment")?), WorkId::from(param("work")?));
    world.environments.get(&environment)?.queue.get(&work)?.session().cloned()
}

fn carrier(presented: &Presented<'_>, headers: &HeaderMap) -> CredentialHeader {
    match presented {
        Presented::Nothing => CredentialHeader::Absent,
        Presented::Several => CredentialHeader::Several,
        Presented::One(_) if headers.contains_key("x-api-key") => CredentialHeader::ApiKey,
        Presented::One(_) => CredentialHeader::Authorization,
    }
}

/// Whether the kind of credential may call this operation at all.
fn authorize(
    operation: Operation,
    identity: Result<Identity, ApiError>,
    headers: &HeaderMap,
) -> Result<Identity, ApiError> {
    let identity = identity?;
    if !operation.accepts().contains(&identity.kind()) {
        let accepted: Vec<String> = operation.accepts().iter().map(|kind| format!("{kind:?}")).collect();
        let message =
            format!("{operation:?} does not accept {:?}, only {}", identity.kind(), accepted.join(" and "));
        return Err(ApiError::permission(message));
    }
    if operation.is_memory() {
        let values = headers.get_all("anthropic-beta").iter().filter_map(|value| value.to_str().ok());
        let betas: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        if MEMORY_BETAS.iter().all(|beta| betas.contains(beta)) {
            let message = format!("anthropic-beta: send one of {}, not both", MEMORY_BETAS.join(" and "));
            return Err(ApiError::invalid(message));
        }
    }
    Ok(identity)
}

fn take_lease(
    app: &App,
    session: Option<&SessionId>,
    how: fn(&mut World, &EnvironmentId, &WorkId) -> Result<(), ApiError>,
) {
    app.with(|world| {
        let found = session.and_then(|session| world.sessions.get(session));
        let found = found.and_then(|found| Some((found.environment.clone(), found.live_work.clone()?)));
        if let Some((environment, work)) = found {
            // A work item that has just ended has no lease to take.
            drop(how(world, &environment, &work));
        }
    });
}

/// An answer with the headers and the body of a rule and nothing else.
fn raw(answer: &RawAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body.clone()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

//! Events over HTTP: listing, sending, following.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use jiff::Timestamp;
use remuda_actors::ids::{SessionId, ThreadId};

use super::{ApiError, App, Object, Page, Query, page};
use crate::emulator::auth::Identity;
use crate::emulator::events::{Event, Previews};
use crate::emulator::session::{Session, parse};
use crate::emulator::sse::{EventStream, Registration, Tampering};

/// Events of a page when the client names no limit.
const DEFAULT_LIMIT: usize = 100;
/// Events of a page at most: what workers ask for.
const MAX_LIMIT: usize = 1000;

/// Lists a session's events.
pub(super) async fn list(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<SessionId>,
    query: Query,
) -> Result<Response, ApiError> {
    list_of(&app, &identity, &id, None, &query)
}

/// Lists a thread's events.
pub(super) async fn list_thread(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((id, thread)): Path<(SessionId, ThreadId)>,
    query: Query,
) -> Result<Response, ApiError> {
    list_of(&app, &identity, &id, Some(&thread), &query)
}

/// Sends events to a session and answers with them as stored.
pub(super) async fn post(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<SessionId>,
    Object(body): Object,
) -> Result<Response, ApiError> {
    let events = parse(&body["events"]);
    let posted = app.with(|world| {
        world.session_for(&identity, &id)?;
        world.post(&id, Some(identity.kind()), events?)
    })?;
    Ok(join(&posted, b"{\"data\":[", "]}"))
}

/// Follows a session's events.
pub(super) async fn stream(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Extension(tampering): Extension<Tampering>,
    Path(id): Path<SessionId>,
    query: Query,
) -> Result<Response, ApiError> {
    stream_of(&app, &identity, tampering, id, None, &query)
}

/// Follows a thread's events.
pub(super) async fn stream_thread(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Extension(tampering): Extension<Tampering>,
    Path((id, thread)): Path<(SessionId, ThreadId)>,
    query: Query,
) -> Result<Response, ApiError> {
    stream_of(&app, &identity, tampering, id, Some(thread), &query)
}

fn stream_of(
    app: &App,
    identity: &Identity,
    tampering: Tampering,
    session: SessionId,
    thread: Option<ThreadId>,
    query: &Query,
) -> Result<Response, ApiError> {
    let wants = query.all("event_deltas").contains(&"agent.message");
    let previews = if wants { Previews::Messages } else { Previews::Off };
    let (follower, items) = app.with(|world| {
        world.session_for(identity, &session)?;
        let found = world.sessions.get_mut(&session);
        let followed =
            found.and_then(|found| found.follow(thread.as_ref(), app.options.stream_buffer, previews));
        followed.ok_or_else(|| ApiError::not_found(format!("session {session} has no such thread")))
    })?;
    let registration = Registration { shared: Arc::clone(app), session, thread, follower };
    let body = EventStream::new(items, app.options.ping_interval, tampering, registration);
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Which events a listing wants.
struct Filter<'a> {
    types: Vec<&'a str>,
    bounds: Vec<(Bound, Timestamp)>,
}

#[derive(Clone, Copy)]
enum Bound {
    After,
    From,
    Before,
    Until,
}

impl<'a> Filter<'a> {
    fn read(query: &'a Query) -> Result<Self, ApiError> {
        let mut bounds = Vec::new();
        for (key, bound) in
            [("gt", Bound::After), ("gte", Bound::From), ("lt", Bound::Before), ("lte", Bound::Until)]
        {
            let key = format!("created_at[{key}]");
            if let Some(text) = query.get(&key) {
                let at = text
                    .parse()
                    .map_err(|_| ApiError::invalid(format!("{key}: expected an RFC 3339 time")))?;
                bounds.push((bound, at));
            }
        }
        Ok(Self { types: query.all("types"), bounds })
    }

    /// Bounds compare with the time of processing, so events still queued match none.
    fn accepts(&self, event: &Event) -> bool {
        let within = |(bound, at): &(Bound, Timestamp)| {
            event.processed_at().is_some_and(|processed| match bound {
                Bound::After => processed > *at,
                Bound::From => processed >= *at,
                Bound::Before => processed < *at,
                Bound::Until => processed <= *at,
            })
        };
        (self.types.is_empty() || self.types.contains(&event.kind())) && self.bounds.iter().all(within)
    }
}

fn list_of(
    app: &App,
    identity: &Identity,
    id: &SessionId,
    thread: Option<&ThreadId>,
    query: &Query,
) -> Result<Response, ApiError> {
    let page = Page::read(query, &app.options, DEFAULT_LIMIT, MAX_LIMIT)?;
    let filter = Filter::read(query)?;
    let descending = match query.get("order") {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(ApiError::invalid("order: expected `asc` or `desc`")),
    };
    let from = page.position()?.and_then(|from| usize::try_from(from).ok());
    let (events, next) = app.with(|world| {
        let session = world.session_for(identity, id)?;
        if page.empty.is_some() {
            return Ok((Vec::new(), None));
        }
        select(session, thread, &filter, descending, from, page.limit)
    })?;
    let next = page.empty.or_else(|| next.map(|next| page::cursor(&next)));
    // Cursors are base64 text, which needs no escaping.
    let tail =
        next.map_or("],\"next_page\":null}".to_owned(), |next| format!("],\"next_page\":\"{next}\"}}"));
    Ok(join(&events, b"{\"data\":[", &tail))
}

/// Up to `limit` accepted events from position `from` on, and where the next page starts. Messages still
/// queued come after everything processed.
fn select(
    session: &Session,
    thread: Option<&ThreadId>,
    filter: &Filter<'_>,
    descending: bool,
    from: Option<usize>,
    limit: usize,
) -> Result<(Vec<Arc<Event>>, Option<usize>), ApiError> {
    let primary = thread.is_none_or(|thread| *thread == session.primary.id);
    let missing = || ApiError::not_found(format!("session {} has no such thread", session.id));
    let log = match thread {
        None => &session.primary.log,
        Some(thread) => &session.thread(thread).ok_or_else(missing)?.log,
    };
    let kept = log.positions();
    let queued = if primary { session.queued.len() } else { 0 };
    let end = kept.end + queued;
    let at = |position: usize| {
        if position < kept.end { log.get(position) } else { session.queued.get(position - kept.end) }
    };
    let positions: Box<dyn Iterator<Item = usize>> = if descending {
        let last = from.map_or(end, |from| end.min(from.saturating_add(1)));
        Box::new((kept.start..last).rev())
    } else {
        Box::new(kept.start.max(from.unwrap_or(0))..end)
    };
    let mut events = Vec::new();
    for position in positions {
        let Some(event) = at(position).filter(|event| filter.accepts(event)) else { continue };
        if events.len() == limit {
            return Ok((events, Some(position)));
        }
        events.push(Arc::clone(event));
    }
    Ok((events, None))
}

/// A JSON answer made of events rendered before.
fn join(events: &[Arc<Event>], head: &[u8], tail: &str) -> Response {
    let length: usize = events.iter().map(|event| event.json().len() + 1).sum();
    let mut body = Vec::with_capacity(head.len() + length + tail.len());
    body.extend_from_slice(head);
    for (n, event) in events.iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event.json());
    }
    body.extend_from_slice(tail.as_bytes());
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

//! The sessions behind work items: what they are, what happened in them, what happens, and the answers.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use remuda_actors::event::{CallKind, Event};
use remuda_actors::ids::EnvironmentId;
use remuda_actors::ports::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, Session, SessionStatus,
    StopMode, WorkItem,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::value::RawValue;

use super::client::{Client, credential};
use super::http::{classify, json, malformed, send, transport};
use super::sse::Decoder;
use super::wire::{ErrorEnvelope, Page, ResultToSend, SendEvents};
use super::{events, wire};

/// Events asked for in one page: what the official workers ask for.
const PAGE: &str = "1000";

/// Pages of one history, at most: ten million events. A server that never ends its pages is not obeyed.
const MAX_PAGES: usize = 10_000;

#[async_trait]
impl ControlPlane for Client {
    async fn poll(
        &self,
        environment: &EnvironmentId,
        block: Duration,
    ) -> Result<Option<WorkItem>, ControlError> {
        Self::poll(self, environment, block).await
    }

    async fn ack(&self, item: &WorkItem) -> Result<(), ControlError> {
        Self::ack(self, item).await
    }

    async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        Self::heartbeat(self, item, expected).await
    }

    async fn stop(&self, item: &WorkItem, mode: StopMode) -> Result<(), ControlError> {
        Self::stop(self, item, mode).await
    }

    async fn session(&self, item: &WorkItem) -> Result<Session, ControlError> {
        let id = session_id(item)?;
        let response = send(self.request(Method::GET, &["v1", "sessions", id]), credential(item)?).await?;
        let document: Box<RawValue> = json(response, "a session").await?;
        let session: wire::Session = serde_json::from_str(document.get())
            .map_err(|error| malformed(format!("a session was expected: {error}")))?;
        let status = match session.status.as_deref() {
            Some("terminated") => SessionStatus::Terminated,
            _ => SessionStatus::Live,
        };
        let id = session.id.map_or_else(|| id.into(), Into::into);
        Ok(Session { id, status, document: Some(document.into()) })
    }

    async fn stream(&self, item: &WorkItem) -> Result<EventStream, ControlError> {
        let request = self.open(&["v1", "sessions", session_id(item)?, "events", "stream"]);
        let response = send(request, credential(item)?).await?;
        Ok(live(response).boxed())
    }

    async fn history(&self, item: &WorkItem) -> Result<Vec<Event>, ControlError> {
        let path = ["v1", "sessions", session_id(item)?, "events"];
        let (mut history, mut page) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let request = self.request(Method::GET, &path).query(&[("limit", PAGE)]);
            let request = page.iter().fold(request, |request, page| request.query(&[("page", page)]));
            let response = send(request, credential(item)?).await?;
            let read: Page<Box<RawValue>> = json(response, "a page of events").await?;
            for event in read.data {
                match events::read(event.get()) {
                    Ok(event) => history.push(event),
                    // It has no id that an answer could be sent to, so there is nothing to do about it.
                    Err(what) => tracing::warn!(error = what, "an event of the session's log is left out"),
                }
            }
            // An empty page with a next one is not the end.
            page = read.next_page.filter(|page| !page.is_empty());
            if page.is_none() {
                return Ok(history);
            }
        }
        Err(malformed(format!("a history of more than {MAX_PAGES} pages")))
    }

    async fn post(&self, item: &WorkItem, answer: &Answer) -> Result<(), ControlError> {
        let result = answer.result.postable();
        let (id, is_error, content) = (answer.call.as_str(), result.is_error, &result.content[..]);
        let event = match answer.kind {
            CallKind::Toolset => ResultToSend::Toolset { tool_use_id: id, is_error, content },
            CallKind::Custom => ResultToSend::Custom { custom_tool_use_id: id, is_error, content },
        };
        let request = self.request(Method::POST, &["v1", "sessions", session_id(item)?, "events"]);
        send(request.json(&SendEvents { events: [event] }), credential(item)?).await.map(drop)
    }
}

fn session_id(item: &WorkItem) -> Result<&str, ControlError> {
    let none = || ControlError::Unsendable { what: "the work item is for no session".to_owned() };
    item.session().map(|session| session.as_str()).ok_or_else(none)
}

/// What is read of an open stream and not handed out yet.
struct Live {
    chunks: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    decoder: Decoder,
    ready: VecDeque<Event>,
    /// Handed out when nothing is ready any more, and then the stream is over.
    failure: Option<ControlError>,
    over: bool,
}

/// The events of an open stream. An event that cannot be read ends it: what it was is in the history, which
/// is read again when the stream is opened anew.
fn live(response: Response) -> impl futures_util::Stream<Item = Result<Event, ControlError>> + Send {
    let chunks = response.bytes_stream().boxed();
    let live =
        Live { chunks, decoder: Decoder::default(), ready: VecDeque::new(), failure: None, over: false };
    stream::unfold(live, |mut live| async move {
        loop {
            if let Some(event) = live.ready.pop_front() {
                return Some((Ok(event), live));
            }
            if let Some(failure) = live.failure.take() {
                live.over = true;
                return Some((Err(failure), live));
            }
            if live.over {
                return None;
            }
            match live.chunks.next().await {
                Some(Ok(chunk)) => {
                    live.decoder.feed(&chunk);
                    live.failure = decode(&mut live.decoder, &mut live.ready).err();
                }
                Some(Err(error)) => live.failure = Some(transport(error)),
                None => live.over = true,
            }
        }
    })
}

fn decode(decoder: &mut Decoder, ready: &mut VecDeque<Event>) -> Result<(), ControlError> {
    let too_long = |_| malformed("an event stream with an endless frame");
    while let Some(frame) = decoder.next_frame().map_err(too_long)? {
        match &*frame.event {
            "ping" => {}
            "error" => return Err(stream_error(&frame.data)),
            // A frame without a name still says in its payload what it is.
            _ => match events::read(&frame.data) {
                Ok(event) => ready.push_back(event),
                Err(what) => {
                    tracing::warn!(
                        error = what,
                        "an event of the stream cannot be read; the history is read again"
                    );
                    return Err(malformed(what));
                }
            },
        }
    }
    Ok(())
}

/// What an error that comes through the stream amounts to, by the status that goes with its type.
fn stream_error(data: &str) -> ControlError {
    let envelope: ErrorEnvelope = serde_json::from_str(data).unwrap_or_default();
    let status = match envelope.error.and_then(|error| error.kind).as_deref() {
        Some("invalid_request_error") => StatusCode::BAD_REQUEST,
        Some("authentication_error") => StatusCode::UNAUTHORIZED,
        Some("permission_error") => StatusCode::FORBIDDEN,
        Some("not_found_error") => StatusCode::NOT_FOUND,
        Some("rate_limit_error") => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    classify(status, &reqwest::header::HeaderMap::new(), data.as_bytes())
}

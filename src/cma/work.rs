//! The work queue: poll, acknowledge, heartbeat, stop, and what people may want to know of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remuda_actors::ids::{EnvironmentId, WorkId};
use remuda_actors::ports::{
    ControlError, Heartbeat, HeartbeatToken, ItemState, Standing, StopMode, Target, WorkItem,
};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::client::{Client, credential};
use super::http::{MAX_ANSWER, body, json, malformed, send, send_empty};
use super::secret::sessions_token;
use super::wire;

/// Longest time a poll may ask to be held; the queue refuses zero and does not promise more.
const MAX_BLOCK_MS: u128 = 999;

/// What the first beat of a lease echoes.
const NO_HEARTBEAT: &str = "NO_HEARTBEAT";

/// A queue in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkStats {
    /// Items waiting.
    #[serde(default)]
    pub depth: u64,
    /// Items polled and not acknowledged.
    #[serde(default)]
    pub pending: u64,
    /// When the oldest of both was queued; none without any.
    #[serde(default)]
    pub oldest_queued_at: Option<String>,
    /// Workers that polled in the last 30 s, ours among them; none if the server does not say.
    #[serde(default)]
    pub workers_polling: Option<u64>,
}

/// Pages of one listing that are read to find an item, at most.
const MAX_PAGES: usize = 100;

/// A page of a queue's items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkPage {
    /// The items.
    pub items: Vec<WorkSummary>,
    /// What to ask for next; none at the end. A page may be empty and still have a next one.
    pub next_page: Option<String>,
}

/// An item as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkSummary {
    /// The item.
    pub id: WorkId,
    /// What it asks for.
    pub target: Target,
    /// `queued`, `starting`, `active`, `stopping` or `stopped`.
    pub state: String,
    /// When it was queued.
    pub created_at: Option<String>,
}

impl Client {
    pub(super) async fn poll(
        &self,
        environment: &EnvironmentId,
        block: Duration,
    ) -> Result<Option<WorkItem>, ControlError> {
        let block_ms = block.as_millis().min(MAX_BLOCK_MS);
        let mut request =
            self.request(Method::GET, &["v1", "environments", environment.as_str(), "work", "poll"]);
        if block_ms > 0 {
            request = request.query(&[("block_ms", block_ms.to_string())]);
        }
        let request = request.header("Anthropic-Worker-ID", self.worker_id().clone());
        let response = send(request, self.key(environment)?).await?;
        let body = body(response, MAX_ANSWER).await?;
        if body.trim_ascii().is_empty() {
            return Ok(None);
        }
        let work: Option<wire::Work> = serde_json::from_slice(&body)
            .map_err(|error| malformed(format!("a work item or null was expected: {error}")))?;
        let Some((id, work)) = work.and_then(|mut work| work.id.take().map(|id| (id, work))) else {
            return Ok(None);
        };
        let token = work.secret.as_deref().and_then(sessions_token);
        if token.is_none() && work.secret.is_some() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                remuda.work.id = id,
                "a work item's secret holds no session token, so the environment key is used; said once"
            );
        }
        let fallback = || self.key(environment).ok().cloned();
        Ok(Some(WorkItem {
            id: id.into(),
            environment: environment.clone(),
            target: target(work.data),
            credential: token.or_else(fallback),
        }))
    }

    pub(super) async fn ack(&self, item: &WorkItem) -> Result<(), ControlError> {
        let request = self.request(Method::POST, &work_path(item, Some("ack")));
        send_empty(request, self.key(&item.environment)?).await.map(drop)
    }

    pub(super) async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        let expected = expected.map_or(NO_HEARTBEAT, HeartbeatToken::as_str);
        let request = self.request(Method::POST, &work_path(item, Some("heartbeat")));
        let request = request.query(&[("expected_last_heartbeat", expected)]);
        let response = send_empty(request, credential(item)?).await?;
        let beat: wire::Heartbeat = json(response, "a heartbeat").await?;
        let state = match beat.state.as_deref() {
            Some("stopping" | "stopped") => ItemState::Stopping,
            _ => ItemState::Live,
        };
        let ttl = beat.ttl_seconds.and_then(|ttl| Duration::try_from_secs_f64(ttl).ok()).unwrap_or_default();
        Ok(Heartbeat {
            token: HeartbeatToken::new(beat.last_heartbeat.unwrap_or_default()),
            state,
            extended: beat.lease_extended != Some(false),
            ttl,
        })
    }

    pub(super) async fn stop(&self, item: &WorkItem, mode: StopMode) -> Result<(), ControlError> {
        let body = match mode {
            StopMode::Graceful => serde_json::json!({}),
            StopMode::Force => serde_json::json!({ "force": true }),
        };
        let request = self.request(Method::POST, &work_path(item, Some("stop"))).json(&body);
        match send(request, credential(item)?).await {
            // Stopped already, or gone: either is what was wanted, whatever the server thinks of asking again. The
            // body of a success means nothing.
            Ok(_)
            | Err(
                ControlError::Conflict { .. }
                | ControlError::Rejected { status: 404 | 409, .. }
                | ControlError::Unavailable { status: 404 | 409, .. },
            ) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where an item stands. It is looked for in the listing, for the environment key may not read a single one.
    pub(super) async fn standing(&self, item: &WorkItem) -> Result<Standing, ControlError> {
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let page = self.list(&item.environment, next.as_deref()).await?;
            if let Some(found) = page.items.iter().find(|found| found.id == item.id) {
                return match found.state.as_str() {
                    "queued" => Ok(Standing::Queued),
                    "starting" => Ok(Standing::Starting),
                    "active" => Ok(Standing::Active),
                    "stopping" => Ok(Standing::Stopping),
                    "stopped" => Ok(Standing::Ended),
                    state => Err(malformed(format!("a work item's state was expected, not `{state}`"))),
                };
            }
            next = page.next_page;
            if next.is_none() {
                return Ok(Standing::Ended);
            }
        }
        Err(malformed(format!("a listing of more than {MAX_PAGES} pages")))
    }

    /// A queue in numbers.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is repeated.
    ///
    /// # Cancel safety
    /// Reads only; may be dropped at any time.
    pub async fn stats(&self, environment: &EnvironmentId) -> Result<WorkStats, ControlError> {
        let path = ["v1", "environments", environment.as_str(), "work", "stats"];
        let response = send(self.request(Method::GET, &path), self.key(environment)?).await?;
        json(response, "a queue's statistics").await
    }

    /// One page of a queue's items; `page` is none for the first.
    ///
    /// # Errors
    /// [`ControlError`]; nothing is repeated.
    ///
    /// # Cancel safety
    /// Reads only; may be dropped at any time.
    pub async fn list(
        &self,
        environment: &EnvironmentId,
        page: Option<&str>,
    ) -> Result<WorkPage, ControlError> {
        let path = ["v1", "environments", environment.as_str(), "work"];
        let request = self.request(Method::GET, &path).query(&[("limit", "100")]);
        let request = page.into_iter().fold(request, |request, page| request.query(&[("page", page)]));
        let response = send(request, self.key(environment)?).await?;
        let page: wire::Page<wire::Work> = json(response, "a page of work items").await?;
        let items = page.data.into_iter().filter_map(|work| {
            Some(WorkSummary {
                id: work.id?.into(),
                target: target(work.data),
                state: work.state.unwrap_or_default(),
                created_at: work.created_at,
            })
        });
        Ok(WorkPage { items: items.collect(), next_page: page.next_page.filter(|page| !page.is_empty()) })
    }
}

fn work_path<'a>(item: &'a WorkItem, operation: Option<&'a str>) -> Vec<&'a str> {
    let path = ["v1", "environments", item.environment.as_str(), "work", item.id.as_str()];
    path.into_iter().chain(operation).collect()
}

fn target(data: Option<wire::WorkData>) -> Target {
    match data {
        Some(wire::WorkData { kind: Some(kind), id: Some(id) }) if kind == "session" && !id.is_empty() => {
            Target::Session(id.into())
        }
        Some(wire::WorkData { kind: Some(kind), .. }) => Target::Other(Arc::from(kind)),
        _ => Target::Other("none".into()),
    }
}

//! The request log: what clients sent and what they were answered, for tests to assert on.
//!
//! A ring bounded in records and in bytes of bodies. Credentials are never kept: a record says which kind one
//! was and which header carried it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::auth::Kind;
use super::operation::Operation;

/// Headers worth keeping; none of them carries a credential.
const HEADERS: [&str; 9] = [
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "anthropic-worker-id",
    "content-length",
    "content-type",
    "user-agent",
    "x-stainless-helper",
    "x-stainless-retry-count",
];

/// Which header carried the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialHeader {
    /// None did.
    Absent,
    /// `Authorization: Bearer`.
    Authorization,
    /// `x-api-key`.
    ApiKey,
    /// More than one.
    Several,
}

/// One request, and its answer once it has one.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number, counted from 1.
    pub number: u64,
    /// Where its connection came from; none if nobody noted that.
    pub peer: Option<SocketAddr>,
    /// The operation its path and method mean.
    pub operation: Operation,
    /// The method.
    pub method: Method,
    /// The path, still percent-encoded.
    pub path: String,
    /// The query, still percent-encoded; empty if there was none.
    pub query: String,
    /// The headers worth keeping, by lower-case name.
    pub headers: Vec<(&'static str, String)>,
    /// The kind of its credential; none if it was unknown or absent.
    pub credential: Option<Kind>,
    /// The header that carried the credential.
    pub credential_header: CredentialHeader,
    /// Its body.
    pub body: Bytes,
    /// When its head had arrived.
    pub arrived_at: Instant,
    /// The status of its answer, and when it was ready; none while it waits or if it was never answered.
    pub answer: Option<(u16, Instant)>,
}

impl Record {
    /// A header by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Its body as JSON; null if it was empty or no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The status of its answer.
    pub fn status(&self) -> Option<u16> {
        self.answer.map(|(status, _)| status)
    }
}

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Record>,
    bytes: usize,
    seen: u64,
}

/// The last requests.
#[derive(Debug)]
pub struct RequestLog {
    ring: Mutex<Ring>,
    max_records: usize,
    max_bytes: usize,
    changed: Notify,
}

impl RequestLog {
    pub(super) fn new(max_records: usize, max_bytes: usize) -> Self {
        Self { ring: Mutex::default(), max_records, max_bytes, changed: Notify::new() }
    }

    /// Whether anything is kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.max_records > 0
    }

    /// Keeps a request; its number, to note the answer under.
    pub(super) fn arrived(&self, mut record: Record) -> u64 {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.seen += 1;
        let number = ring.seen;
        record.number = number;
        ring.bytes += record.body.len();
        ring.records.push_back(record);
        while ring.records.len() > self.max_records || ring.bytes > self.max_bytes {
            let Some(oldest) = ring.records.pop_front() else { break };
            ring.bytes -= oldest.body.len();
        }
        drop(ring);
        self.changed.notify_waiters();
        number
    }

    /// Notes the answer to a request.
    pub(super) fn answered(&self, number: u64, status: u16) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ring.records.front().map_or(0, |record| record.number);
        let index = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(record) = index.and_then(|index| ring.records.get_mut(index)) {
            record.answer = Some((status, Instant::now()));
        }
        drop(ring);
        self.changed.notify_waiters();
    }

    /// The requests kept, oldest first.
    pub fn records(&self) -> Vec<Record> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.records.iter().cloned().collect()
    }

    /// The requests of one operation, oldest first.
    pub fn of(&self, operation: Operation) -> Vec<Record> {
        self.records().into_iter().filter(|record| record.operation == operation).collect()
    }

    /// How many requests came so far, those forgotten included.
    pub fn seen(&self) -> u64 {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).seen
    }

    /// Waits until `probe` finds what it looks for among the requests kept. None after `within`.
    ///
    /// # Cancel safety
    /// Safe to drop at any point; nothing is consumed.
    pub async fn wait_for<R>(&self, within: Duration, probe: impl Fn(&[Record]) -> Option<R>) -> Option<R> {
        let search = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = probe(&self.records()) {
                    return found;
                }
                changed.await;
            }
        };
        timeout(within, search).await.ok()
    }
}

/// The headers of a request that are worth keeping.
pub(super) fn interesting(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let kept = HEADERS.iter().filter_map(|name| Some((*name, headers.get(*name)?.to_str().ok()?.to_owned())));
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: usize) -> Record {
        Record {
            number: 0,
            peer: None,
            operation: Operation::Poll,
            method: Method::GET,
            path: "/".into(),
            query: String::new(),
            headers: Vec::new(),
            credential: None,
            credential_header: CredentialHeader::Absent,
            body: vec![b'x'; body].into(),
            arrived_at: Instant::now(),
            answer: None,
        }
    }

    #[test]
    fn the_ring_is_bounded_in_records_and_in_bytes() {
        let log = RequestLog::new(3, 100);
        for _ in 0..5 {
            log.arrived(record(10));
        }
        let numbers = |log: &RequestLog| log.records().iter().map(|record| record.number).collect::<Vec<_>>();
        assert_eq!(numbers(&log), [3, 4, 5]);
        log.arrived(record(90));
        assert_eq!(numbers(&log), [5, 6]);
        log.answered(4, 200);
        log.answered(6, 204);
        let answers: Vec<_> = log.records().iter().map(Record::status).collect();
        assert_eq!(answers, [None, Some(204)]);
        assert_eq!(log.seen(), 6);
    }

    #[test]
    fn no_header_that_carries_a_credential_is_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", "Bearer s3cret"), ("x-api-key", "s3cret"), ("accept", "*/*")]
        {
            headers.insert(name, value.parse().unwrap());
        }
        assert_eq!(interesting(&headers), [("accept", "*/*".to_owned())]);
    }
}

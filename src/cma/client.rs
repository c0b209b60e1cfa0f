//! The client: where the control plane is, which queues may be asked, and how it is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use remuda_actors::ids::EnvironmentId;
use remuda_actors::ports::{ControlError, WorkItem};
use remuda_actors::secret::Secret;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Url};

/// The API version we speak. Servers of today accept older ones, too.
const VERSION: &str = "2026-10-21";

/// Under which conditions an endpoint is offered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beta {
    /// Those of environments, work, sessions and events.
    Agents,
    /// Those of memory stores.
    Memory,
    /// None.
    None,
}

impl Beta {
    /// What names them in a request.
    fn header(self) -> Option<&'static str> {
        match self {
            Self::Agents => Some("managed-agents-2026-04-01"),
            Self::Memory => Some("agent-memory-2026-07-22"),
            Self::None => None,
        }
    }

    fn named(self, request: RequestBuilder) -> RequestBuilder {
        self.header().into_iter().fold(request, |request, beta| request.header("anthropic-beta", beta))
    }
}

/// How long a connection may take to come about: what the official clients allow.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer or an event stream may stay silent: what the official clients allow. A peer that has
/// died without a word is found sooner, by [`KEEPALIVE`].
const SILENCE: Duration = Duration::from_secs(600);

/// Time between two probes of a silent connection.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Characters that need no escape in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where the control plane is and who we are.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address, for example `https://api.anthropic.com`. A path is kept as a prefix.
    pub base_url: String,
    /// Names this process to the queue; must be unique among those that poll it.
    pub worker_id: String,
    /// The queues that may be asked.
    pub queues: Vec<Queue>,
}

/// One queue and the key that opens it.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The environment.
    pub environment: EnvironmentId,
    /// Its key.
    pub key: Secret,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not one.
    #[error("`{url}` is not a base URL: {what}; expected something like `https://api.anthropic.com`")]
    BaseUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// The worker id cannot be sent.
    #[error("the worker id `{id}` has characters that a header cannot carry; use letters, digits and dashes")]
    WorkerId {
        /// What was given.
        id: String,
    },
    /// The TLS stack could not be set up.
    #[error("could not set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

/// The control plane, over HTTP. Cheap to share; all its connections are pooled.
pub struct Client {
    base: Url,
    worker_id: HeaderValue,
    keys: BTreeMap<EnvironmentId, Secret>,
    requests: reqwest::Client,
    /// Event streams stay open for hours, so they get connections of their own: over HTTP/2 a few hundred of
    /// them would use up the one connection's streams, and heartbeats would wait behind them.
    streams: reqwest::Client,
    /// Whether it was said that an item's secret is of no use.
    pub(super) warned: AtomicBool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// Sets the client up. Nothing is sent.
    ///
    /// # Errors
    /// [`ClientError`] if the options cannot be used.
    pub fn new(options: Options) -> Result<Self, ClientError> {
        let base = base_url(&options.base_url)?;
        let worker_id = HeaderValue::from_str(&options.worker_id)
            .map_err(|_| ClientError::WorkerId { id: options.worker_id.clone() })?;
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("remuda/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers.clone())
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT)
                .read_timeout(SILENCE)
                .tcp_nodelay(true)
                .tcp_keepalive(KEEPALIVE)
                .tcp_keepalive_interval(KEEPALIVE)
                .tcp_keepalive_retries(3)
        };
        Ok(Self {
            base,
            worker_id,
            keys: options.queues.into_iter().map(|queue| (queue.environment, queue.key)).collect(),
            requests: builder().build().map_err(ClientError::Http)?,
            streams: builder().http1_only().pool_max_idle_per_host(0).build().map_err(ClientError::Http)?,
            warned: AtomicBool::new(false),
        })
    }

    /// The value of the header that names us to a queue.
    pub(super) fn worker_id(&self) -> &HeaderValue {
        &self.worker_id
    }

    /// The key of a queue.
    pub(super) fn key(&self, environment: &EnvironmentId) -> Result<&Secret, ControlError> {
        self.keys.get(environment).ok_or(ControlError::NoCredential)
    }

    /// A request to the path made of these segments.
    pub(super) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        self.request_under(Beta::Agents, method, segments)
    }

    /// The same under other conditions.
    pub(super) fn request_under(&self, beta: Beta, method: Method, segments: &[&str]) -> RequestBuilder {
        beta.named(self.requests.request(method, self.url(segments)))
    }

    /// The same, on a connection that may stay open.
    pub(super) fn open(&self, segments: &[&str]) -> RequestBuilder {
        Beta::Agents.named(self.streams.get(self.url(segments)))
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        let mut path = self.base.path().trim_end_matches('/').to_owned();
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        url.set_path(&path);
        url
    }
}

/// The credential for everything below an item.
pub(super) fn credential(item: &WorkItem) -> Result<&Secret, ControlError> {
    item.credential.as_ref().ok_or(ControlError::NoCredential)
}

fn base_url(text: &str) -> Result<Url, ClientError> {
    let refuse = |what: &str| ClientError::BaseUrl { url: text.to_owned(), what: what.to_owned() };
    let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("its scheme is neither `http` nor `https`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it has a query or a fragment"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated in the message: it may be a credential.
        let url = format!("{}://…", url.scheme());
        return Err(ClientError::BaseUrl { url, what: "it carries a user name or password".to_owned() });
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base_url: &str) -> Result<Client, ClientError> {
        Client::new(Options { base_url: base_url.to_owned(), worker_id: "w".to_owned(), queues: Vec::new() })
    }

    #[test]
    fn ids_are_escaped_in_paths_and_prefixes_are_kept() {
        let client = client("https://example.test/gateway/").unwrap();
        let url = client.url(&["v1", "sessions", "a/../b c?", "events"]);
        assert_eq!(url.as_str(), "https://example.test/gateway/v1/sessions/a%2F..%2Fb%20c%3F/events");
    }

    #[test]
    fn an_address_that_cannot_be_one_is_refused_with_a_reason() {
        for (url, why) in [
            ("api.anthropic.com", "relative URL without a base"),
            ("ftp://example.test", "neither `http` nor `https`"),
            ("https://example.test/?x=1", "a query or a fragment"),
        ] {
            let said = client(url).unwrap_err().to_string();
            assert!(said.contains(url) && said.contains(why), "{said}");
        }
        let said = client("https://user:hunter2@example.test").unwrap_err().to_string();
        assert!(said.contains("user name or password") && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn row_10_debug_shows_no_key() {
        let queue = Queue { environment: "env_1".into(), key: Secret::new("sk-ant-oat01-abc") };
        assert!(!format!("{queue:?}").contains("abc"));
    }
}

//! A plain HTTP client, and the emulator most tests start from.

use std::sync::Arc;
use std::time::Duration;

use remuda::emulator::{Emulator, EnvironmentHandle, Event, Options, SessionHandle, Subscription};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

/// More than anything here takes when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An emulator with one environment and one agent that no brain drives.
pub(crate) struct Stand {
    pub(crate) emulator: Emulator,
    pub(crate) environment: EnvironmentHandle,
    pub(crate) silent: String,
    http: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error's type and message.
    pub(crate) fn error(&self) -> (String, String) {
        let json = self.json();
        assert_eq!(json["type"], "error", "{self:?}");
        assert_eq!(json["request_id"].as_str(), self.request_id.as_deref(), "the header repeats the id");
        let text = |key: &str| json["error"][key].as_str().unwrap_or_default().to_owned();
        (text("type"), text("message"))
    }
}

impl Stand {
    pub(crate) async fn new(options: Options) -> Self {
        let emulator = Emulator::start(options).await.unwrap();
        let environment = emulator.create_environment("tests").unwrap();
        let silent = emulator
            .create_agent_with(&json!({"name": "silent", "model": "m", "metadata": {"brain": "silent"}}));
        Self { environment, silent: silent.unwrap(), emulator, http: reqwest::Client::new() }
    }

    /// A session that only the test drives, with its work queued.
    pub(crate) fn session(&self) -> SessionHandle {
        self.emulator
            .create_session_with(&json!({"environment_id": self.environment.id, "agent": self.silent}))
            .unwrap()
    }

    /// A session of the shell brain.
    pub(crate) fn shell(&self, message: &str) -> SessionHandle {
        let agent = self.emulator.create_agent("shell").unwrap();
        self.emulator.create_session(&self.environment.id, &agent, message).unwrap()
    }

    /// A request to a path, without credential.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.emulator.url())).timeout(PATIENCE)
    }

    pub(crate) async fn get(&self, credential: &str, path: &str) -> Answer {
        read(self.request(Method::GET, path).bearer_auth(credential).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, credential: &str, path: &str, body: Value) -> Answer {
        let request = self.request(Method::POST, path).bearer_auth(credential);
        read(request.json(&body).send().await.unwrap()).await
    }

    pub(crate) async fn delete(&self, credential: &str, path: &str) -> Answer {
        read(self.request(Method::DELETE, path).bearer_auth(credential).send().await.unwrap()).await
    }

    pub(crate) fn key(&self) -> &str {
        &self.environment.key
    }

    pub(crate) fn api_key(&self) -> &str {
        self.emulator.api_key()
    }

    /// The path of the work queue, or of something in it.
    pub(crate) fn work(&self, rest: &str) -> String {
        format!("/v1/environments/{}/work{rest}", self.environment.id)
    }

    /// Polls without waiting.
    pub(crate) async fn poll(&self) -> Value {
        let answer = self.get(self.key(), &self.work("/poll")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Polls and acknowledges; the item's id and its token.
    pub(crate) async fn claim(&self) -> (String, String) {
        let item = self.poll().await;
        let id = item["id"].as_str().unwrap_or_else(|| panic!("no work: {item}")).to_owned();
        let answer = self.post(self.key(), &self.work(&format!("/{id}/ack")), json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        (id, token_of(&item))
    }

    /// Beats once.
    pub(crate) async fn beat(&self, credential: &str, work: &str, expected: &str) -> Answer {
        let path = self.work(&format!("/{work}/heartbeat"));
        let request = self.request(Method::POST, &path).bearer_auth(credential);
        read(request.query(&[("expected_last_heartbeat", expected)]).send().await.unwrap()).await
    }
}

/// The next event of a subscription; none once it has ended.
pub(crate) async fn next(stream: &mut Subscription) -> Option<Arc<Event>> {
    tokio::time::timeout(PATIENCE, stream.next()).await.expect("the stream goes on or ends")
}

/// Reads an answer to its end.
pub(crate) async fn read(response: Response) -> Answer {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    Answer {
        status: response.status().as_u16(),
        content_type: header("content-type"),
        request_id: header("request-id"),
        text: response.text().await.unwrap(),
    }
}

/// The sessions token inside a work item's secret.
pub(crate) fn token_of(item: &Value) -> String {
    use base64::Engine as _;
    let secret = item["secret"].as_str().expect("a polled item has a secret");
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(secret).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    payload["sessions_token"].as_str().unwrap().to_owned()
}

/// A `user.tool_result` with one text.
pub(crate) fn result(call: &str, text: &str) -> Value {
    let content = json!([{"type": "text", "text": text}]);
    json!({"events": [{"type": "user.tool_result", "tool_use_id": call, "is_error": false, "content": content}]})
}

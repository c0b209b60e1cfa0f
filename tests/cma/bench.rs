//! A client, an emulator, and a session that only the test drives.

use remuda::cma::{Client, Options, Queue};
use remuda::emulator::{Emulator, EnvironmentHandle, FaultRule, Operation, SessionHandle};
use remuda_actors::ids::EnvironmentId;
use remuda_actors::ports::{ControlPlane, WorkItem};
use remuda_actors::secret::Secret;
use serde_json::json;
use std::time::Duration;

pub(crate) struct Bench {
    pub(crate) emulator: Emulator,
    pub(crate) environment: EnvironmentHandle,
    pub(crate) client: Client,
    silent: String,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(remuda::emulator::Options::default()).await
    }

    pub(crate) async fn with(options: remuda::emulator::Options) -> Self {
        let emulator = Emulator::start(options).await.unwrap();
        let environment = emulator.create_environment("tests").unwrap();
        let silent = json!({
            "name": "silent",
            "model": "m",
            "tools": [{"type": "agent_toolset_20260401"}],
            "metadata": {"brain": "silent"},
        });
        let silent = emulator.create_agent_with(&silent).unwrap();
        let client = client(&emulator.url(), &environment.id, &environment.key);
        Self { emulator, environment, client, silent }
    }

    pub(crate) fn session(&self) -> SessionHandle {
        let body = json!({"environment_id": self.environment.id, "agent": self.silent});
        self.emulator.create_session_with(&body).unwrap()
    }

    /// The next operation of this kind is answered like this, once.
    pub(crate) fn answers(&self, operation: Operation, status: u16, headers: &[(&str, &str)], body: &str) {
        let rule = FaultRule::on(operation).answer_raw(status, headers, body).times(1);
        self.emulator.faults().add(rule).unwrap();
    }

    pub(crate) async fn poll(&self) -> Option<WorkItem> {
        self.client.poll(&self.environment.id, Duration::from_millis(50)).await.unwrap()
    }

    /// A session, its item, claimed and leased.
    pub(crate) async fn held(&self) -> (SessionHandle, WorkItem) {
        let session = self.session();
        let item = self.poll().await.unwrap();
        ControlPlane::ack(&self.client, &item).await.unwrap();
        ControlPlane::heartbeat(&self.client, &item, None).await.unwrap();
        (session, item)
    }
}

pub(crate) fn client(url: &str, environment: &EnvironmentId, key: &str) -> Client {
    let queues = vec![Queue { environment: environment.clone(), key: Secret::new(key) }];
    Client::new(Options { base_url: url.to_owned(), worker_id: "worker-1".to_owned(), queues }).unwrap()
}

//! One item at a time, claimed by somebody else: the worker gets its secret and never sees a key.

use std::time::Duration;

use remuda::emulator::{CredentialKind, Emulator, Options};
use serde_json::Value;

use super::scenarios;
use super::workers::{Mode, Worker};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_serves_an_item_with_nothing_but_its_secret() {
    for worker in Worker::ALL {
        let options = Options { scenarios: scenarios::all(), ..Options::default() };
        let emulator = Emulator::start(options).await.unwrap();
        let environment = emulator.create_environment("items").unwrap();
        let agent = emulator.create_agent("official").unwrap();
        let session = emulator.create_scenario(&environment.id, &agent, "parallel", &[]).unwrap();

        // The claim, as an orchestrator makes it.
        let http = reqwest::Client::new();
        let work = format!("{}/v1/environments/{}/work", emulator.url(), environment.id);
        let poll = http.get(format!("{work}/poll")).bearer_auth(&environment.key).send().await.unwrap();
        let item: Value = poll.json().await.unwrap();
        let id = item["id"].as_str().unwrap();
        let ack = http.post(format!("{work}/{id}/ack")).bearer_auth(&environment.key).send().await.unwrap();
        assert_eq!(ack.status(), 200);
        let claimed = emulator.log().seen();

        let workdir = tempfile::tempdir().unwrap();
        let mut process = worker.start(
            Mode::Item,
            workdir.path(),
            &[
                ("ANTHROPIC_BASE_URL", &emulator.url()),
                ("ANTHROPIC_ENVIRONMENT_ID", environment.id.as_str()),
                ("ANTHROPIC_SESSION_ID", session.id().as_str()),
                ("ANTHROPIC_WORK_ID", id),
                ("ANTHROPIC_WORK_SECRET", item["secret"].as_str().unwrap()),
            ],
        );
        let status = tokio::time::timeout(PATIENCE, process.wait()).await.expect("the worker ends").unwrap();
        assert!(status.success(), "{worker:?}: {status}");
        let verdict = session.verdict().unwrap();
        assert!(verdict.passed(), "{worker:?}: {verdict:?}");
        assert_eq!(session.live_work(), None, "{worker:?} stops its item");
        for record in emulator.log().records().into_iter().filter(|record| record.number > claimed) {
            assert_eq!(record.credential, Some(CredentialKind::SessionsToken), "{worker:?}: {record:?}");
        }
        emulator.shutdown().await;
    }
}

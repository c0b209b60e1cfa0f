//! The official clients, used as applications use them.

use std::process::Stdio;
use std::time::Duration;

use remuda::emulator::{Emulator, Options};

use super::workers::{Worker, script};

const PATIENCE: Duration = Duration::from_secs(120);

async fn passes(language: Worker, options: Options) {
    let emulator = Emulator::start(options).await.unwrap();
    let client = script(language, "client", &[])
        .env("ANTHROPIC_BASE_URL", emulator.url())
        .env("ANTHROPIC_API_KEY", emulator.api_key())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output =
        tokio::time::timeout(PATIENCE, client.wait_with_output()).await.expect("the client ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.starts_with("ok"), "{language:?}: {said}");
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_creates_streams_confirms_interrupts_and_archives() {
    passes(Worker::Python, Options::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client_creates_streams_confirms_interrupts_and_archives() {
    passes(Worker::TypeScript, Options::default()).await;
}

/// Every listing in pages of two, each after an empty one: clients must go by the cursor alone.
#[tokio::test(flavor = "multi_thread")]
async fn both_clients_follow_small_and_empty_pages() {
    let options = || Options { max_page: 2, empty_pages: true, ..Options::default() };
    tokio::join!(passes(Worker::Python, options()), passes(Worker::TypeScript, options()));
}

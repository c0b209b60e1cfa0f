//! Programs of the operator's, which run beside the shells.

use std::time::Duration;

use remuda::hand::wire::{CallRequest, CallStatus};
use serde_json::{Value, json};

use crate::fixture::Hand;

fn request(input: Value) -> CallRequest {
    CallRequest { tool: "program".to_owned(), input, thread: None, again: false, timeout_ms: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_its_variables_and_the_shells_do_not() {
    let hand = Hand::start();
    let script = "echo $ANTHROPIC_WORK_ID in $PWD; echo oops >&2";
    let program = json!({"argv": ["/bin/sh", "-c", script], "env": {"ANTHROPIC_WORK_ID": "work_1"}});
    let result = hand.tool("program", program).await;
    assert!(!result.is_error);
    assert_eq!(result.text(), format!("work_1 in {}\noops", hand.workdir.display()));
    assert_eq!(hand.tool("bash", json!({"command": "env | grep -c ANTHROPIC"})).await.text(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_end_is_told() {
    let hand = Hand::start();
    let run = async |argv: Value| hand.tool("program", json!({"argv": argv})).await;
    let result = run(json!(["/bin/sh", "-c", "echo bye; exit 3"])).await;
    assert!(result.is_error && result.text() == "bye\nprogram: it exited with status 3", "{result:?}");
    let result = run(json!(["/bin/sh", "-c", "kill -9 $$"])).await;
    assert!(result.is_error && result.text() == "program: it was killed by signal 9", "{result:?}");
    let result = run(json!(["/does/not/exist"])).await;
    assert!(result.is_error && result.text().contains("could not be started"), "{result:?}");
    let result = run(json!(["/bin/sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"])).await;
    assert!(!result.is_error && result.text().starts_with("[output truncated]\n"));
    assert!(result.text().len() < 110_000, "{}", result.text().len());
}

/// Its own end, that of one that does not listen, and that of what it has started.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_asks_first_and_then_kills_with_all_it_started() {
    let hand = Hand::start();
    for (id, script) in [
        ("polite", "trap 'echo asked; exit 0' TERM; echo > polite; while :; do sleep 0.05; done"),
        ("deaf", "trap '' TERM; sleep 300 & echo > deaf; while :; do sleep 0.05; done"),
    ] {
        let id = id.into();
        let program = request(json!({"argv": ["/bin/sh", "-c", script]}));
        let running = tokio::spawn({
            let (client, id, program) =
                (hand.client.clone(), remuda_actors::ids::CallId::clone(&id), program);
            async move { client.call(&id, &program).await }
        });
        while !hand.path(id.as_str()).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // It is a call like others, and keeps its sandbox from being frozen.
        assert_eq!(hand.client.health().await.unwrap().running, std::slice::from_ref(&id));
        let ended = hand.client.cancel(&id, "enough").await.unwrap();
        let CallStatus::Finished { result, .. } = ended else { panic!("{ended:?}") };
        assert!(result.text().ends_with("program: it was ended (enough)"), "{result:?}");
        assert_eq!(result.text().contains("asked"), id.as_str() == "polite", "{result:?}");
        assert_eq!(running.await.unwrap().unwrap().result, result);
    }

    assert_eq!(hand.client.health().await.unwrap().background, 0);
}

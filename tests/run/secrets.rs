//! That no credential is where it should not be.

use std::os::unix::fs::PermissionsExt as _;

use remuda::emulator::{CallRequest, StopReason};
use serde_json::json;

use crate::bench::{Bench, PATIENCE};

/// Everything that anyone on the host, or the agent, could get to see while a session is served.
#[tokio::test(flavor = "multi_thread")]
async fn row_10_and_11_no_credential_is_logged_passed_on_or_in_reach_of_a_tool() {
    let bench = Bench::new().await;
    let mut command = bench.command(&["--max-idle", "300ms", "--log-format", "json"]);
    command.env("RUST_LOG", "trace");
    let running = bench.start(command);
    let session = bench.session();
    let look = "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; \
                find / \\( -path /usr -o -path /proc -o -path /sys -o -path /dev \\) -prune -o -type f -readable \
                -exec cat {} + 2>/dev/null | tr -c '[:print:]\\n' '?' | grep -a sk-ant";
    let calls = session.call(vec![CallRequest::tool("bash", json!({ "command": look }))]).unwrap();
    let seen = session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered").result.text();
    assert!(seen.contains("HOME=/workspace"), "{seen}");
    let tokens = ["sk-ant-oat01-", "sk-ant-req-", "sk-ant-api"];
    assert!(!tokens.iter().any(|token| seen.contains(token)), "{seen}");

    let processes = std::process::Command::new("ps").args(["-eww", "-o", "args"]).output().unwrap();
    let arguments = String::from_utf8_lossy(&processes.stdout).into_owned();
    assert!(arguments.contains("launch"), "the sandbox is there");
    assert!(!tokens.iter().any(|token| arguments.contains(token)), "{arguments}");
    let pid = running.pid.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        let environment = std::fs::read_to_string(format!("/proc/{child}/environ")).unwrap_or_default();
        assert!(!environment.contains("ANTHROPIC"), "{environment}");
    }
    let state = bench.dir.path().join("state");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);

    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    let log = running.stop().await.stderr;
    assert!(log.lines().count() > 50, "the log is there");
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "no JSON: {line}");
        assert!(
            !line.contains(&bench.environment.key) && !tokens.iter().any(|token| line.contains(token)),
            "{line}"
        );
    }
}

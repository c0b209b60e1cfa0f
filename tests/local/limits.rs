//! What a sandbox may use, and that it gets no more.

use remuda::launch::Limits;
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn a_fork_bomb_meets_its_limit_and_the_sandbox_goes_on() {
    let bench = Bench::with(|options| options.limits = Limits { processes: 100, ..Limits::default() });
    let sandbox = bench.sandbox("sesn_1.1").await;
    let bomb = "b() { b | b & }; b; sleep 1; ls / >/dev/null && echo over";
    let bomb = sandbox.tool("bash", json!({"command": bomb, "timeout_ms": 8000})).await.result.text();
    assert!(bomb.contains("Resource temporarily unavailable") || bomb.contains("timed out"), "{bomb}");
    // The hand itself is not concerned, and a new shell begins where nothing of the bomb is left.
    let file = sandbox.tool("write", json!({"file_path": "f", "content": "x"})).await;
    assert!(!file.result.is_error, "{file:?}");
    let restarted = sandbox.tool("bash", json!({"restart": true})).await;
    assert!(!restarted.result.is_error, "{restarted:?}");
    assert_eq!(sandbox.bash("ls -d /workspace; echo fine").await, "/workspace\nfine");
    bench.close().await;
}

#[tokio::test]
async fn a_gigabyte_of_output_is_cut_and_costs_nothing() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let printed = sandbox.bash("head -c 1G /dev/zero | tr '\\0' x; echo; echo end").await;
    assert!(printed.starts_with("[output truncated]") && printed.ends_with("end") && printed.len() < 103_000);
    let health = sandbox.hand.health().await.expect("health");
    assert!(health.rss_bytes < 32 << 20, "{} bytes", health.rss_bytes);
    bench.close().await;
}

#[tokio::test]
async fn memory_and_file_size_are_limited() {
    let limits = Limits { memory_bytes: 256 << 20, file_bytes: 1 << 20, ..Limits::default() };
    let bench = Bench::with(|options| options.limits = limits);
    let sandbox = bench.sandbox("sesn_1.1").await;
    let large = sandbox.bash("python3 -c 'x = bytearray(400 << 20); print(len(x))' 2>&1 | tail -1").await;
    assert!(
        large.contains("MemoryError")
            || large.contains("Killed")
            || large == "(no output)"
            || large.is_empty(),
        "{large}"
    );
    assert_eq!(
        sandbox.bash("python3 -c 'x = bytearray(100 << 20); print(len(x))'").await,
        (100 << 20).to_string()
    );
    let file = sandbox.bash("head -c 2M /dev/zero > f; stat -c %s f").await;
    assert!(file.ends_with(&(1 << 20).to_string()), "{file}");
    assert_eq!(sandbox.bash("ulimit -c; echo fine").await, "0\nfine");
    bench.close().await;
}

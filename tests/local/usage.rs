//! What sandboxes are said to use.

use std::time::Duration;

use remuda::providers::local::Cgroups;
use remuda_actors::ports::SandboxProvider;

use crate::bench::Bench;

#[tokio::test]
async fn time_memory_and_files_are_counted_wherever_the_figures_come_from() {
    for cgroups in [Cgroups::Any, Cgroups::Unified, Cgroups::Older, Cgroups::None] {
        let bench = Bench::on(cgroups, |_| {});
        let sandbox = bench.sandbox("sesn_1.1").await;
        let usage = async || bench.provider.usage(&sandbox.id).await.expect("usage");
        let idle = usage().await;
        assert!((100 << 10..64 << 20).contains(&idle.memory_bytes), "{cgroups:?}: {idle:?}");
        assert!(idle.disk_bytes < 1 << 20, "{idle:?}");

        // Of processes that end and are reaped, too.
        sandbox.bash("bash -c 'for ((i = 0; i < 200000; i++)); do :; done'").await;
        let busy = usage().await;
        assert!(busy.cpu >= idle.cpu + Duration::from_millis(50), "{cgroups:?}: {idle:?}, {busy:?}");

        sandbox.bash("DATA=$(head -c 40M /dev/zero | tr '\\0' x); echo ${#DATA}").await;
        let large = usage().await;
        assert!(large.memory_bytes >= idle.memory_bytes + (38 << 20), "{cgroups:?}: {idle:?}, {large:?}");
        sandbox.bash("unset DATA; echo").await;

        sandbox
            .bash("for d in /workspace /mnt/memory /tmp; do head -c 2M /dev/urandom > $d/f; done; sync")
            .await;
        sandbox.bash("ln /workspace/f /workspace/again; ln -s /usr /workspace/usr").await;
        let stored = usage().await.disk_bytes - idle.disk_bytes;
        assert!((6 << 20..7 << 20).contains(&stored), "{stored}");
        // What only lies in the cache holds no memory.
        let cached = usage().await.memory_bytes;
        sandbox.bash("head -c 60M /dev/urandom > /workspace/large; cat /workspace/large > /dev/null").await;
        assert!(usage().await.memory_bytes < cached + (30 << 20), "{cgroups:?}");
        sandbox.bash("rm /workspace/*").await;
        let removed = usage().await.disk_bytes;
        assert!(removed < idle.disk_bytes + (5 << 20), "{removed}");
        bench.close().await;
    }
}

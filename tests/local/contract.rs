//! The contract that every provider keeps, kept by this one.

use remuda::launch::Isolation;
use remuda::providers::local::Cgroups;
use remuda_actors::testing::contract;

use crate::bench::Bench;

#[tokio::test]
async fn with_namespaces() {
    let bench = Bench::new();
    contract::provider(bench.provider.clone()).await;
}

#[tokio::test]
async fn without_isolation() {
    let bench = Bench::with(|options| options.isolation = Isolation::None);
    contract::provider(bench.provider.clone()).await;
}

#[tokio::test]
async fn with_the_older_cgroups_and_without_any() {
    for cgroups in [Cgroups::Older, Cgroups::None] {
        let bench = Bench::on(cgroups, |_| {});
        contract::provider(bench.provider.clone()).await;
    }
}

/// A state directory may be deep, while the kernel takes only short names of sockets.
#[tokio::test]
async fn in_a_deep_folder() {
    for isolation in [Isolation::Namespaces, Isolation::None] {
        let deep = "a-folder-with-a-long-name/".repeat(6);
        let bench = Bench::with(|options| {
            options.dir = options.dir.join(deep);
            options.isolation = isolation;
        });
        let sandbox = bench.sandbox("sesn_0123456789abcdefghijklmnopqrstuvwxyz.1").await;
        assert_eq!(sandbox.bash("echo deep").await, "deep");
        bench.close().await;
    }
}

//! The contract that every journal keeps, kept by this one.

use std::sync::Arc;

use remuda::store::{Durability, Store};
use remuda_actors::testing::contract;

#[tokio::test]
async fn with_each_durability() {
    for durability in [Durability::Always, Durability::EverySecond] {
        let dir = tempfile::tempdir().expect("temporary folder");
        let store = Store::open_with(dir.path(), durability).expect("open");
        contract::journal(Arc::new(store)).await;
    }
}

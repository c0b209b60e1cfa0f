//! A short run of `examples/chaos`: real processes, every fault, fixed dice.

#[path = "../../examples/chaos/harness/mod.rs"]
mod harness;

use std::time::Duration;

use harness::{Fault, Plan};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_for_a_while_every_invariant_holds() {
    let plan = Plan {
        remuda: env!("CARGO_BIN_EXE_remuda").into(),
        faults_for: Duration::from_secs(20),
        seed: 4,
        sessions: 8,
        processes: 3,
        faults: Fault::all(),
        settle: Duration::from_secs(120),
    };
    let verdict = Box::pin(harness::run(plan)).await.unwrap();
    println!("{verdict}");
    assert!(verdict.holds(), "seed 4, see above");
}

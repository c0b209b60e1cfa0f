//! A provider that fails for a while.

use std::time::Duration;

use remuda_actors::notice::Notice;
use remuda_actors::ports::ProviderError;
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{Brain, Strike, call};
use tokio::sync::broadcast::Receiver;

use crate::stage::{ENVIRONMENT, World, ended, next};

fn unavailable() -> ProviderError {
    ProviderError::Unavailable { what: "could not reach the engine".to_owned(), source: "refused".into() }
}

/// The next state of the circuit for creating, with the reason.
async fn circuit(notices: &mut Receiver<Notice>) -> (&'static str, String) {
    next(notices, |notice| match notice {
        Notice::Circuit { operation: "create", image: None, to, reason, .. } => {
            Some((*to, reason.to_string()))
        }
        _ => None,
    })
    .await
}

fn queue(world: &World, count: usize) {
    for n in 0..count {
        let brain = Brain::new().turn([call(&format!("call_{n}"), &format!("echo {n}"))]);
        world.control.queue(ENVIRONMENT, &format!("sesn_{n}"), &format!("work_{n}"), brain);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_opens_the_circuit_and_a_probe_closes_it_again() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    // Five open it; then two probes fail.
    for _ in 0..7 {
        world.provider.faults.next("create", Strike::Fail(unavailable()));
    }
    queue(&world, 20);
    assert_eq!(circuit(&mut notices).await, ("open", "could not reach the engine: refused".to_owned()));
    let view = tree.snapshot().circuits.remove(0);
    assert_eq!((view.operation, view.state), ("create", "open"));
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(world.provider.count("create"), 5, "twenty sessions want one, and nobody asks");
    let mut states = Vec::new();
    while states.last() != Some(&"closed") {
        states.push(circuit(&mut notices).await.0);
    }
    assert_eq!(states, ["half_open", "open", "half_open", "open", "half_open", "closed"]);
    for _ in 0..20 {
        let (outcome, reason) = ended(&mut notices).await;
        assert_eq!(outcome, Outcome::Finished, "{reason}");
    }
    for n in 0..20 {
        assert_eq!(world.control.texts(&format!("sesn_{n}")), [n.to_string()], "a short outage costs a wait");
    }
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_is_told_to_the_agent_with_its_cause_and_deletes_still_pass() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    queue(&world, 1);
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    for _ in 0..100 {
        world.provider.faults.next("create", Strike::Fail(unavailable()));
    }
    for n in 1..=6 {
        let brain = Brain::new().turn([call("a", "echo a")]);
        world.control.queue(ENVIRONMENT, &format!("sesn_{n}"), &format!("work_{n}"), brain);
    }
    assert_eq!(circuit(&mut notices).await.0, "open");
    let deletes = world.provider.count("delete");
    for _ in 0..6 {
        ended(&mut notices).await;
    }
    let mut told_of_the_circuit = 0;
    for n in 1..=6 {
        let said = world.control.texts(&format!("sesn_{n}")).remove(0);
        let cause = said.strip_prefix("not run: no sandbox could be started: ").expect("it says so");
        assert!(cause.ends_with("could not reach the engine: refused"), "{said}");
        told_of_the_circuit += usize::from(
            cause.starts_with("the provider `fake` was given up ")
                && cause.contains(" ago as unable to start sandboxes, and is tried again in "),
        );
    }
    assert!(told_of_the_circuit >= 3, "{told_of_the_circuit}");
    assert_eq!(tree.snapshot().circuits[0].state, "open");
    assert_eq!(world.provider.count("delete"), deletes + 6, "what may be there is deleted all the same");
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_is_given_up_like_one_that_fails() {
    let mut world = World::new();
    world.settings.breaker.failures = 3;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for _ in 0..3 {
        world.provider.faults.next("create", Strike::Hang);
    }
    queue(&world, 3);
    let (to, reason) = circuit(&mut notices).await;
    assert_eq!((to, &*reason), ("open", "no answer from the sandbox provider within 60s"));
    for _ in 0..3 {
        assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_single_sandboxes_do_not_open_it() {
    let world = World::new();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    for _ in 0..20 {
        let refused = ProviderError::Refused { what: "its name is too long".to_owned() };
        world.provider.faults.next("create", Strike::Fail(refused));
    }
    queue(&world, 20);
    for _ in 0..20 {
        ended(&mut notices).await;
    }
    assert_eq!(world.provider.count("create"), 20);
    assert_eq!(tree.snapshot().circuits[0].state, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_sleeping_sandbox_is_woken_though_none_can_be_made() {
    let mut world = World::new();
    world.settings.session.max_idle = None;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    queue(&world, 1);
    next(&mut notices, |notice| matches!(notice, Notice::Sandbox { to: "standby", .. }).then_some(())).await;
    for _ in 0..100 {
        world.provider.faults.next("create", Strike::Fail(unavailable()));
    }
    world.control.queue(ENVIRONMENT, "sesn_a", "work_a", Brain::new().turn([call("a", "echo a")]));
    world.control.queue(ENVIRONMENT, "sesn_b", "work_b", Brain::new().turn([call("b", "echo b")]));
    assert_eq!(circuit(&mut notices).await.0, "open");
    let again = remuda_actors::event::Event::Call(call("again", "echo again"));
    world.control.emit("sesn_0", again);
    next(&mut notices, |notice| match notice {
        Notice::Posted { call, .. } if call.as_str() == "again" => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(world.control.texts("sesn_0"), ["0", "again"]);
    assert_eq!(world.provider.count("resume"), 1);
}

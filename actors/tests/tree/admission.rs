//! Who is let in, and how many at once.

use std::sync::Arc;
use std::time::Duration;

use remuda_actors::admission::Environment;
use remuda_actors::notice::Notice;
use remuda_actors::ports::Pressure;
use remuda_actors::session::end::Outcome;
use remuda_actors::testing::{Brain, FakePressure, Stage, Strike, call};
use remuda_actors::{StartError, Tree};

use crate::stage::{ENVIRONMENT, World, call_started, ended, next};

/// Queues so many sessions, each of which runs for so many seconds and is idle for a minute then.
fn queue(world: &World, environment: &str, count: usize, seconds: usize) {
    for n in 0..count {
        let (session, work) = (format!("sesn_{environment}_{n}"), format!("work_{environment}_{n:03}"));
        let brain =
            Brain::new().turn([call(&format!("call_{environment}_{n}"), &format!("sleep {seconds}"))]);
        world.control.queue(environment, &session, &work, brain);
    }
}

/// Slots held by each environment.
fn held(tree: &Tree) -> Vec<usize> {
    tree.snapshot().admission.environments.iter().map(|share| share.held).collect()
}

#[tokio::test(start_paused = true)]
async fn slots_are_shared_by_weight_under_load() {
    let mut world = World::new();
    world.settings.max_sessions = 8;
    let heavy = Environment { id: "env_heavy".into(), weight: 3.try_into().expect("not zero") };
    world.settings.environments = vec![heavy, "env_light".into()];
    // The heavy one comes first and has everything to itself.
    queue(&world, "env_heavy", 100, 20);
    let tree = world.tree().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(held(&tree), [8, 0], "what nobody else asks for may be used");
    queue(&world, "env_light", 100, 40);
    // Every session that ran then has ended twice over.
    tokio::time::sleep(Duration::from_secs(200)).await;
    let mut heavy = Vec::new();
    for _ in 0..40 {
        heavy.push(held(&tree)[0]);
        assert_eq!(tree.snapshot().free_slots, 0);
        tokio::time::sleep(Duration::from_secs(17)).await;
    }
    // A slot that comes free while a poll is in flight goes to whoever waits at that moment.
    assert!(heavy.iter().all(|held| (5..=7).contains(held)), "{heavy:?}");
    let mean = heavy.iter().sum::<usize>() as f64 / heavy.len() as f64;
    assert!((5.8..=6.2).contains(&mean), "{heavy:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_with_work_is_served_though_idle_ones_are_asked_with_the_same_slot() {
    let mut world = World::new();
    world.settings.max_sessions = 1;
    world.settings.environments = ["env_1", "env_2", "env_3"].map(Environment::from).into();
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for environment in ["env_3", "env_1", "env_3"] {
        let begun = tokio::time::Instant::now();
        world.control.queue(environment, "sesn_1", "work_1", Brain::new());
        assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
        assert!(begun.elapsed() < Duration::from_secs(65), "{environment} took {:?}", begun.elapsed());
    }
    queue(&world, "env_2", 5, 1);
    let begun = tokio::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    }
    // Each takes 61 s, and each free slot is used for one look into another queue at most.
    assert!(begun.elapsed() < Duration::from_secs(5 * 63), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_sessions_starts_a_few_sandboxes_at_a_time_in_order() {
    let mut world = World::new();
    world.settings.admission.max_starts = 3.try_into().expect("not zero");
    for _ in 0..9 {
        world.provider.faults.next("create", Strike::Delay(Duration::from_secs(10)));
    }
    queue(&world, ENVIRONMENT, 9, 1);
    let tree = world.tree().await;
    for started in [3, 6, 9] {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.provider.count("create"), started);
        assert_eq!(tree.snapshot().admission.starting, 3);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(tree.snapshot().admission.starting, 0);
    let created: Vec<_> = world.provider.requests().into_iter().filter(|(of, _)| *of == "create").collect();
    assert!(created.is_sorted(), "{created:?}");
    assert_eq!(world.provider.sandboxes().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_makes_room_for_the_next_at_its_deadline() {
    let mut world = World::new();
    world.settings.admission.max_starts = 1.try_into().expect("not zero");
    world.provider.faults.next("create", Strike::Hang);
    queue(&world, ENVIRONMENT, 1, 1);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.control.queue(ENVIRONMENT, "sesn_2", "work_2", Brain::new().turn([call("b", "echo two")]));
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(world.provider.count("create"), 1, "it waits");
    call_started(&mut notices, "b").await;
    assert_eq!(world.provider.count("create"), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_while_the_host_is_short_of_memory_and_what_runs_goes_on() {
    let mut world = World::new();
    let pressure = Arc::new(FakePressure::default());
    world.settings.admission.pressure = Some(Arc::clone(&pressure) as _);
    queue(&world, ENVIRONMENT, 1, 30);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    call_started(&mut notices, &format!("call_{ENVIRONMENT}_0")).await;
    pressure.set(Pressure::High { reason: "3 MiB are free; expected at least 512 MiB".into() });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let paused = tree.snapshot().admission.paused.expect("it is paused");
    assert_eq!(&*paused, "3 MiB are free; expected at least 512 MiB");
    world.control.queue(ENVIRONMENT, "sesn_2", "work_2", Brain::new());
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished, "a session that runs is served to its end");
    assert!(matches!(world.control.stage("work_2"), Some(Stage::Queued { .. })), "the queue keeps it");
    let polls = world.control.count("poll");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.control.count("poll"), polls, "it is not even asked for");
    pressure.set(Pressure::Normal);
    let begun = tokio::time::Instant::now();
    next(&mut notices, |notice| matches!(notice, Notice::AdmissionResumed).then_some(())).await;
    next(&mut notices, |notice| matches!(notice, Notice::Claimed { .. }).then_some(())).await;
    assert!(begun.elapsed() <= Duration::from_secs(2));
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_told_once() {
    let mut world = World::new();
    let pressure = Arc::new(FakePressure::default());
    world.settings.admission.pressure = Some(Arc::clone(&pressure) as _);
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    pressure.set(Pressure::High { reason: "no".into() });
    tokio::time::sleep(Duration::from_secs(60)).await;
    let told = std::iter::from_fn(|| notices.try_recv().ok());
    assert_eq!(told.filter(|notice| matches!(notice, Notice::AdmissionPaused { .. })).count(), 1);
    tokio::time::timeout(Duration::from_secs(5), tree.drain(Duration::from_secs(1)))
        .await
        .expect("it drains");
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_held_counts_even_if_it_is_more_than_there_may_be() {
    let mut world = World::new();
    queue(&world, ENVIRONMENT, 3, 300);
    let tree = world.tree().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(tree);
    world.settings.max_sessions = 2;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.control.queue(ENVIRONMENT, "sesn_2", "work_2", Brain::new());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(tree.snapshot().sessions.len(), 3, "what was claimed is served");
    assert_eq!((held(&tree), tree.snapshot().free_slots), (vec![3], 0));
    for _ in 0..3 {
        assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
        let held = held(&tree)[0];
        assert!(held <= 2, "{held}");
    }
    assert_eq!(ended(&mut notices).await.0, Outcome::Finished);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_named_twice_is_refused() {
    let mut world = World::new();
    world.settings.environments.push(ENVIRONMENT.into());
    let refused = Tree::start(world.ports(), world.settings.clone()).await.unwrap_err();
    assert!(matches!(&refused, StartError::DuplicateEnvironment { id } if id.as_str() == ENVIRONMENT));
}

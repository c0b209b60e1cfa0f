//! Items that a worker of their own serves.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use remuda_actors::OnDrain;
use remuda_actors::event::Input;
use remuda_actors::fault::Fault;
use remuda_actors::ids::EnvironmentId;
use remuda_actors::notice::Notice;
use remuda_actors::ports::{
    ControlPlane as _, Errand, Execution, Limits, Program, Route, Router, Session, SessionFacts, WorkItem,
};
use remuda_actors::session::end::Outcome;
use remuda_actors::supervision::ActorKind;
use remuda_actors::testing::{Brain, FakeControl, Sabotage, Stage, call};
use remuda_actors::tool::ToolResult;
use tokio::sync::oneshot;

use crate::stage::{ENVIRONMENT, World, ended, next, settle};

/// Sessions of agent `own` have a worker of their own; of agent `odd`, another sandbox.
#[derive(Debug)]
struct Agents(Execution);

impl Router for Agents {
    fn may_delegate(&self, environment: &EnvironmentId) -> bool {
        environment.as_str() == ENVIRONMENT
    }

    fn route(&self, _: &EnvironmentId, session: &Session) -> Arc<Route> {
        Arc::new(match session.facts.agent.as_deref() {
            Some("own") => Route { execution: self.0.clone(), ..Route::default() },
            Some("odd") => Route {
                limits: Limits { processes: Some(7), ..Limits::default() },
                max_idle: Some(Some(Duration::from_secs(1))),
                ..Route::default()
            },
            _ => Route::default(),
        })
    }
}

/// Workers that do these things, one after the other, in the words of the fake hand.
#[derive(Debug)]
struct Scripts(Mutex<VecDeque<&'static str>>);

impl Program for Scripts {
    fn call(&self, _: &WorkItem) -> Result<(Arc<str>, Input), Fault> {
        let mut scripts = self.0.lock().expect("nobody panicked");
        // The last one stays.
        let script = if scripts.len() > 1 { scripts.pop_front() } else { scripts.front().copied() };
        let json = serde_json::json!({"command": script}).to_string();
        let raw = serde_json::value::RawValue::from_string(json).expect("it is JSON");
        Ok(("program".into(), Input::Json(raw.into())))
    }
}

fn scripts(scripts: &[&'static str]) -> Execution {
    Execution::Sandboxed(Arc::new(Scripts(Mutex::new(scripts.iter().copied().collect()))))
}

impl World {
    fn routed(mut self, execution: Execution) -> Self {
        self.settings.router = Some(Arc::new(Agents(execution)));
        self
    }

    /// Queues an item of a session whose agent is this.
    fn queue(&self, agent: &str, brain: Brain) {
        let facts = SessionFacts { agent: Some(agent.into()), ..SessionFacts::default() };
        self.control.describe("sesn_1", facts);
        self.control.queue(ENVIRONMENT, "sesn_1", "work_1", brain);
    }
}

/// Beats for an item as its worker would.
async fn beat(control: &FakeControl) {
    let item = WorkItem {
        id: "work_1".into(),
        environment: ENVIRONMENT.into(),
        target: remuda_actors::ports::Target::Session("sesn_1".into()),
        credential: None,
    };
    control.heartbeat(&item, None).await.expect("nobody else has beaten");
}

#[tokio::test(start_paused = true)]
async fn row_17_a_worker_has_the_lease_to_itself_and_its_sandbox_stays_awake() {
    let world = World::new().routed(scripts(&["sleep 100 && exit 0"]));
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.queue("own", Brain::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.control.count("heartbeat"), 0, "the first beat is the worker's");
    beat(&world.control).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!world.provider.is_frozen("sesn_1.1"), "a worker runs");
    assert_eq!(world.control.count("stream"), 0);
    let (outcome, _) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Finished);
    assert_eq!(world.control.count("heartbeat"), 1);
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped), "it did not do so itself");
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_session_of_the_trees_own_is_served_as_its_route_says() {
    let mut world = World::with_herd().routed(scripts(&["exit 1"]));
    world.settings.herd.park_for = Duration::ZERO;
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.queue("odd", Brain::new().turn([call("sevt_1", "echo hello")]));
    let begun = tokio::time::Instant::now();
    let (outcome, _) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Finished);
    assert!(begun.elapsed() < Duration::from_secs(10), "its own idle time holds");
    assert_eq!(world.control.texts("sesn_1"), ["hello"]);
    assert!(world.control.count("heartbeat") > 0);
    let made =
        world.provider.requests().iter().any(|(what, id)| *what == "create" && id.as_str() == "sesn_1.1");
    assert!(made, "a blank sandbox is not what it is to have");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_exits_at_once_is_started_three_times() {
    let world = World::new().routed(scripts(&["exit 3"]));
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.queue("own", Brain::new());
    for start in 1..=3 {
        let number = next(&mut notices, |notice| match notice {
            Notice::WorkerEnded { number, failed: true, .. } => Some(*number),
            _ => None,
        });
        assert_eq!(number.await, start);
    }
    let (outcome, reason) = ended(&mut notices).await;
    assert!(outcome == Outcome::Failed && reason.contains("failed 3 times"), "{reason}");
    assert_eq!(world.control.stage("work_1"), Some(Stage::Stopped));
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_lease_lapses_is_ended_and_its_item_comes_again() {
    let world = World::new().routed(scripts(&["sleep 100000", "exit 0"]));
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.queue("own", Brain::new());
    settle().await;
    beat(&world.control).await;
    let (outcome, _) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Lost);
    assert_eq!(world.control.count("stop"), 0);
    let (outcome, _) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Finished, "the next worker is well");
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_worker_outlives_the_process_that_started_it() {
    let mut world = World::new().routed(scripts(&["sleep 100 && exit 0"]));
    world.settings.on_drain = OnDrain::Leave;
    let tree = world.tree().await;
    world.queue("own", Brain::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    beat(&world.control).await;
    tree.drain(Duration::from_secs(5)).await;
    drop(tree);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(!world.provider.is_frozen("sesn_1.1"), "it works on");
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    let (outcome, reason) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Finished, "{reason}");
    let workers = world.provider.runs().iter().filter(|(_, call)| call.as_str().contains(".worker.")).count();
    assert_eq!(workers, 1, "it was never started again");
    world.assert_clean(&tree);
}

/// A command that runs for a while, unless it is cut.
#[derive(Debug, Default)]
struct Errands(AtomicUsize);

#[async_trait]
impl Errand for Errands {
    async fn run(&self, _: &WorkItem, cut: oneshot::Receiver<()>) -> ToolResult {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            _ = cut => ToolResult::error("cut"),
            () = tokio::time::sleep(Duration::from_secs(60)) => ToolResult::ok("done"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_on_this_host_needs_no_sandbox() {
    let errands = Arc::new(Errands::default());
    let world = World::new().routed(Execution::Hosted(Arc::clone(&errands) as _));
    let tree = world.tree().await;
    let mut notices = tree.subscribe();
    world.queue("own", Brain::new());
    let (outcome, _) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Finished);
    assert_eq!(errands.0.load(Ordering::Relaxed), 1);
    assert_eq!(world.provider.runs(), []);
    world.assert_clean(&tree);
}

#[tokio::test(start_paused = true)]
async fn a_command_on_this_host_is_ended_with_the_process_and_its_item_lapses() {
    let errands = Arc::new(Errands::default());
    let world = World::new().routed(Execution::Hosted(Arc::clone(&errands) as _));
    let tree = world.tree().await;
    world.queue("own", Brain::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let drained = tree.drain(Duration::from_secs(5)).await;
    assert_eq!(drained.handed_back, 1);
    assert_eq!(world.control.count("stop"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_fails_is_followed_by_one_that_finds_its_worker() {
    let world = World::new().routed(scripts(&["sleep 100 && exit 0"]));
    let tree = world
        .sabotaged(Sabotage::new({
            let looks = AtomicUsize::new(0);
            move |actor, event| {
                let is_it = actor == ActorKind::Worker && event == "looked";
                is_it && looks.fetch_add(1, Ordering::Relaxed) == 3
            }
        }))
        .await;
    let mut notices = tree.subscribe();
    world.queue("own", Brain::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    beat(&world.control).await;
    let (outcome, _) = ended(&mut notices).await;
    assert_eq!(outcome, Outcome::Finished);
    let workers = world.provider.runs().iter().filter(|(_, call)| call.as_str().contains(".worker.")).count();
    assert_eq!(workers, 1);
    world.assert_clean(&tree);
}

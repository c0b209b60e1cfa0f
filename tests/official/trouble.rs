//! The official workers under fault rules: what they survive, and what they do when they lose their lease.

use std::time::Duration;

use remuda::emulator::scenario::Scenario;
use remuda::emulator::{Emulator, FaultAction, FaultRule, Operation, Options, SessionHandle};

use super::scenarios;
use super::workers::{Mode, Process, Worker};

const PATIENCE: Duration = Duration::from_secs(90);

/// Held up by a client for longer than a short lease.
const WAITING: &str = "
name: waiting
turns:
  - message: go
    steps:
      - call:
          tool: bash
          input: { command: echo at last }
          permission: ask
          confirm: { result: allow, after: 6s }
          expect: { text: at last }
";

/// An emulator, a session of a scenario, and a worker that polls for it.
async fn serve(
    worker: Worker,
    scenario: &str,
    rules: Vec<FaultRule>,
) -> (Emulator, SessionHandle, Process, tempfile::TempDir) {
    let mut scenarios = scenarios::all();
    scenarios.push(Scenario::parse("waiting", WAITING).unwrap());
    let options = Options { scenarios, lease_ttl: Duration::from_secs(2), ..Options::default() };
    let emulator = Emulator::start(options).await.unwrap();
    for rule in rules {
        emulator.faults().add(rule).unwrap();
    }
    let environment = emulator.create_environment("trouble").unwrap();
    let agent = emulator.create_agent("official").unwrap();
    let workdir = tempfile::tempdir().unwrap();
    let path = worker.workspace(workdir.path());
    let session = emulator.create_scenario(&environment.id, &agent, scenario, &[("WORKDIR", &path)]).unwrap();
    let variables = [
        ("ANTHROPIC_BASE_URL", emulator.url()),
        ("ANTHROPIC_ENVIRONMENT_ID", environment.id.to_string()),
        ("ANTHROPIC_ENVIRONMENT_KEY", environment.key.clone()),
    ];
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let process = worker.start(Mode::Poll, workdir.path(), &variables);
    (emulator, session, process, workdir)
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_cut_streams_and_refusals_do_not_show_in_the_result() {
    for worker in Worker::ALL {
        let rules = vec![
            FaultRule::on(Operation::Poll).nth(1).answer(503),
            FaultRule::on(Operation::Ack).nth(1).then(FaultAction::DropAnswer),
            FaultRule::on(Operation::GetSession).nth(1).answer_raw(429, &[("retry-after-ms", "10")], ""),
            FaultRule::on(Operation::Heartbeat).nth(1).then(FaultAction::Drop),
            FaultRule::on(Operation::StreamEvents).nth(1).then(FaultAction::CutStream(4)),
            FaultRule::on(Operation::StreamEvents).nth(2).then(FaultAction::DuplicateFrames),
            FaultRule::on(Operation::ListEvents).nth(2).answer(500),
            FaultRule::on(Operation::PostEvents).nth(2).then(FaultAction::DropAnswer),
            FaultRule::on(Operation::PostEvents).nth(4).answer(502),
        ];
        let (emulator, session, process, _workdir) = serve(worker, "readonly", rules).await;
        let verdict = session.wait_verdict(PATIENCE).await;
        let verdict = verdict.unwrap_or_else(|| panic!("{worker:?}: {:?}", session.transcript(&[])));
        assert!(verdict.passed(), "{worker:?}: {verdict:?}");
        session.wait_released(PATIENCE).await.expect("the worker lets go");
        process.end().await;
        emulator.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_its_lease_stops_nothing() {
    for worker in Worker::ALL {
        let rules = vec![FaultRule::on(Operation::Heartbeat).nth(2).then(FaultAction::UsurpLease)];
        let (emulator, session, process, _workdir) = serve(worker, "waiting", rules).await;
        let lost = emulator.log().wait_for(PATIENCE, |records| {
            let beats = records.iter().filter(|record| record.operation == Operation::Heartbeat);
            beats.filter(|record| record.status() == Some(412)).map(|record| record.number).next()
        });
        let lost = lost.await.expect("the second beat comes too late");
        // The usurper never beats, so the work lapses and the same worker is offered it anew.
        let acked = emulator.log().wait_for(PATIENCE, |records| {
            records
                .iter()
                .find(|record| record.operation == Operation::Ack && record.number > lost)
                .map(|_| ())
        });
        acked.await.expect("the work comes back");
        let stops: Vec<_> = emulator.log().of(Operation::Stop);
        assert!(stops.is_empty(), "{worker:?}: {stops:?}");
        let verdict = session.wait_verdict(PATIENCE).await.expect("the scenario ends");
        assert!(verdict.passed(), "{worker:?}: {verdict:?}");
        process.end().await;
        emulator.shutdown().await;
    }
}

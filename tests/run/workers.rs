//! Sessions that a worker of their own serves, and what becomes of workers that fail.

use std::path::PathBuf;
use std::time::Duration;

use remuda::emulator::{CredentialKind, Operation, Options, StopReason};
use serde_json::json;

use crate::bench::{Bench, PATIENCE, Running, remuda, until};

/// Takes the lease, as a worker does, and prints what it is told.
const BEAT: &str = r#"
token=$(printf '%s===' "$ANTHROPIC_WORK_SECRET" | tr '_-' '/+' | base64 -d 2>/dev/null | sed 's/.*:"\(.*\)".*/\1/')
address=${ANTHROPIC_BASE_URL#http://}
ask() {
  exec 3<>"/dev/tcp/${address%:*}/${address#*:}"
  printf '%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$1" "$token" >&3
  cat <&3
}
work=/v1/environments/$ANTHROPIC_ENVIRONMENT_ID/work/$ANTHROPIC_WORK_ID
ask "POST $work/heartbeat?expected_last_heartbeat=NO_HEARTBEAT"
"#;

impl Bench {
    /// Serves with one rule: every session by this shell script.
    fn served_by(&self, execution: &str, script: &str) -> Running {
        self.serving(execution, script, &[])
    }

    fn serving(&self, execution: &str, script: &str, arguments: &[&str]) -> Running {
        let network = if execution == "worker" { "sandbox-network = 'host'" } else { "" };
        let command = toml_list(&["/bin/bash", "-c", script]);
        let rule =
            format!("[[route]]\nname = 'all'\nexecution = '{execution}'\n{network}\ncommand = {command}\n");
        let config = self.file("config.toml", &rule);
        let mut command = self.command(&["--config", config.to_str().unwrap()]);
        command.args(arguments);
        self.start(command)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Requests of remuda's and its workers' of this kind, by who made them.
    fn asked(&self, operation: Operation, credential: CredentialKind) -> usize {
        let records = self.emulator.log().of(operation);
        records.iter().filter(|record| record.credential == Some(credential)).count()
    }
}

/// A list of strings, as TOML has it.
fn toml_list(texts: &[&str]) -> String {
    // JSON's strings are TOML's.
    serde_json::to_string(texts).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_holds_the_lease_by_itself_and_says_when_it_is_done() {
    let bench = Bench::new().await;
    let running = bench.served_by("worker", &format!("{BEAT}\nenv | grep ^ANTHROPIC_ | cut -d= -f1 | sort"));
    let session = bench.session();
    session.wait_released(PATIENCE).await.expect("it is stopped when its worker has ended");
    assert_eq!(
        bench.asked(Operation::Heartbeat, CredentialKind::SessionsToken),
        1,
        "the worker's, and no other"
    );
    assert_eq!(bench.emulator.log().of(Operation::StreamEvents).len(), 0, "remuda serves nothing itself");
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("rule 1 `all`"), "{}", ended.stderr);
    // The secret is nowhere to be read.
    assert!(!ended.stderr.contains("sessions_token") && !ended.stderr.contains("sk-ant"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_exits_at_once_is_started_again_and_then_given_up() {
    let bench = Bench::new().await;
    let running = bench.served_by("worker", "echo what a pity; exit 3");
    let session = bench.session();
    session.wait_released(PATIENCE).await.expect("it is stopped");
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.matches("a session's worker failed").count(), 3, "{}", ended.stderr);
    let why = "its worker failed 3 times before its first beat: program: it exited with status 3";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
    assert!(ended.stderr.contains("what a pity"), "{}", ended.stderr);
    let stops = bench.emulator.log().of(Operation::Stop);
    assert_eq!(stops.last().unwrap().json(), json!({"force": true}));
}

/// It beats once and never again, and does not care.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_goes_on_after_its_lease_is_ended_and_nothing_is_stopped() {
    let lease_ttl = Duration::from_secs(2);
    let bench = Bench::with(Options { lease_ttl, ..Options::default() }).await;
    // Once only: the second worker of the session is well.
    let script =
        format!("{BEAT}\n[ -e again ] && exit 0\ntouch again; trap '' TERM; while :; do sleep 1; done");
    let mut command = bench.keeping(&["--drain", "release", "--warm", "0"]);
    let rule = format!(
        "[[route]]\nexecution = 'worker'\nsandbox-network = 'host'\ncommand = {}\n",
        toml_list(&["/bin/bash", "-c", &script])
    );
    command.arg("--config").arg(bench.file("config.toml", &rule));
    let running = bench.start(command);
    let session = bench.session();
    session.wait_released(PATIENCE).await.expect("it came again, to the same files, and was served");
    let stops = bench.emulator.log().of(Operation::Stop).len();
    assert_eq!(stops, 1, "only the item that was served is stopped");
    let ended = running.stop().await;
    // Whichever is noticed first: that the item is in the queue, or that the session is there under another one.
    let noticed = ["the lease expired", "the session came back under another work item"];
    assert!(noticed.iter().any(|reason| ended.stderr.contains(reason)), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_this_host_gets_the_item_on_its_input() {
    let bench = Bench::new().await;
    let said = bench.dir.path().join("said");
    let path = said.display();
    let script = format!("cat > {path}.item; env | grep ^ANTHROPIC_ > {path}.env; {BEAT}");
    let running = bench.served_by("command", &script);
    let session = bench.session();
    session.wait_released(PATIENCE).await.expect("it is stopped");
    let read = |suffix: &str| std::fs::read_to_string(format!("{path}.{suffix}")).unwrap();
    let item: serde_json::Value = serde_json::from_str(&read("item")).unwrap();
    assert_eq!(item["type"], "work");
    assert_eq!(item["environment_id"], bench.environment.id.as_str());
    assert_eq!(item["data"], json!({"type": "session", "id": session.id()}));
    assert!(item["secret"].is_string());
    let variables = read("env");
    assert!(
        variables.contains("ANTHROPIC_WORK_ID=") && !variables.contains("ENVIRONMENT_KEY"),
        "{variables}"
    );
    assert_eq!(running.sandboxes(), Vec::<PathBuf>::new(), "nothing is made for it");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_no_rule_is_for_is_served_as_ever() {
    let bench = Bench::new().await;
    let rule = "[[route]]\nname = 'others'\nmetadata = { kind = 'special' }\nexecution = 'command'\ncommand = 'false'\n\
                [[route]]\nmetadata = { kind = 'quick' }\nmax-idle = '200ms'\nsandbox-processes = 20\n";
    let config = bench.file("config.toml", rule);
    let running = bench.run(&["--config", config.to_str().unwrap()]);
    let body = json!({
        "environment_id": bench.environment.id, "agent": bench.agent, "metadata": {"kind": "quick"},
    });
    let session = bench.emulator.create_session_with(&body).unwrap();
    session.message("ulimit -u; for i in $(seq 40); do sleep 5 & done 2>&1 | tail -1").unwrap();
    session.wait_idle(PATIENCE).await.expect("its turn ends");
    session.wait_released(PATIENCE).await.expect("its item is stopped after its own idle time");
    let said = session.events().into_iter().filter(|event| event.kind() == "agent.message");
    let said: Vec<_> = said.map(|event| String::from_utf8(event.json().to_vec()).unwrap()).collect();
    assert!(said[0].contains("20\\n") || said[0].contains("Resource temporarily"), "{said:?}");
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("rule=\"rule 2\""), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_worker_serves_an_item_where_it_runs() {
    let bench = Bench::new().await;
    let session = bench.session();
    let http = reqwest::Client::new();
    let work = format!("{}/v1/environments/{}/work", bench.emulator.url(), bench.environment.id);
    let poll = http.get(format!("{work}/poll")).bearer_auth(&bench.environment.key).send().await.unwrap();
    let item: serde_json::Value = poll.json().await.unwrap();
    let id = item["id"].as_str().unwrap();
    http.post(format!("{work}/{id}/ack")).bearer_auth(&bench.environment.key).send().await.unwrap();
    let claimed = bench.emulator.log().seen();
    let workdir = bench.dir.path().join("here");
    std::fs::create_dir(&workdir).unwrap();
    let child = remuda(&["worker", "--max-idle", "200ms", "--workdir"])
        .arg(&workdir)
        .env("ANTHROPIC_BASE_URL", bench.emulator.url())
        .env("ANTHROPIC_ENVIRONMENT_ID", bench.environment.id.as_str())
        .env("ANTHROPIC_SESSION_ID", session.id().as_str())
        .env("ANTHROPIC_WORK_ID", id)
        .env("ANTHROPIC_WORK_SECRET", item["secret"].as_str().unwrap())
        .spawn()
        .unwrap();
    let bash = |command: &str| vec![remuda::emulator::CallRequest::tool("bash", json!({"command": command}))];
    let calls = session.call(bash("pwd; echo > made; env | grep -c ^ANTHROPIC_")).unwrap();
    let resolved = session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered");
    assert_eq!(resolved.result.text(), format!("{}\n0", workdir.canonicalize().unwrap().display()));
    assert!(workdir.join("made").exists());
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for record in bench.emulator.log().records().into_iter().filter(|record| record.number > claimed) {
        assert_eq!(record.credential, Some(CredentialKind::SessionsToken), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_our_own_worker_stops_its_item_when_it_is_told_to_end() {
    let bench = Bench::new().await;
    let script = format!("exec {} worker", env!("CARGO_BIN_EXE_remuda"));
    let running = bench.serving("command", &script, &["--grace", "100ms"]);
    let session = bench.session();
    until("it is held", || bench.asked(Operation::Heartbeat, CredentialKind::SessionsToken) > 0).await;
    let ended = tokio::spawn(running.stop());
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    let ended = ended.await.unwrap();
    assert_eq!(ended.code, Some(75), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_explained_and_mistakes_in_them_are_told_with_their_lines() {
    let bench = Bench::new().await;
    let session = bench.file(
        "session.json",
        r#"{"id": "sesn_1", "environment_id": "env_1", "agent": {"id": "agent_1", "name": "coder"}, "metadata": {}}"#,
    );
    let config = bench.file(
        "config.toml",
        "max-sessions = 5\n[[route]]\nenvironment = 'env_2'\n[[route]]\nagent = 'coder'\nstandby-after = '1s'\n",
    );
    let explain = async |config: &PathBuf, session: &PathBuf| {
        crate::bench::finish(remuda(&["explain", "--config"]).arg(config).arg(session)).await
    };
    let ended = explain(&config, &session).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.stdout,
        "rule 1 does not match: `environment` is env_1, expected env_2\nrule 2 applies:\n  execution = brokered\n  \
         standby-after = 1s\n  everything else as the flags say\n"
    );
    let none = bench.file("none.toml", "[[route]]\nenvironment = 'env_2'\n");
    let ended = explain(&none, &session).await;
    assert!(
        ended.stdout.ends_with("no rule applies: brokered, and everything as the flags say\n"),
        "{ended:?}"
    );
    let wrong = bench.file("wrong.toml", "[[route]]\nagent = 5\n[[route]]\n\n[[route]]\nagent = 'x'\n");
    for ended in [
        explain(&wrong, &session).await,
        crate::bench::finish(&mut bench.command(&["--config", wrong.to_str().unwrap()])).await,
    ] {
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains("line 2: rule 1: `agent`: expected a string"), "{}", ended.stderr);
        assert!(ended.stderr.contains("line 5: rule 3 can never match: rule 2 matches"), "{}", ended.stderr);
    }
    let ended = explain(&config, &config).await;
    assert!(ended.code == Some(78) && ended.stderr.contains("holds no session"), "{ended:?}");
    // A worker without a way to the control plane, and a rule for an environment of somebody else's.
    let cut_off = bench.file("cut.toml", "[[route]]\nexecution = 'worker'\ncommand = 'w'\n");
    let ended = crate::bench::finish(&mut bench.command(&["--config", cut_off.to_str().unwrap()])).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("hint: add `sandbox-network = \"host\"`"), "{}", ended.stderr);
    let running = bench.run(&["--config", none.to_str().unwrap()]);
    until("it polls", || !bench.emulator.log().of(Operation::Poll).is_empty()).await;
    let ended = running.stop().await;
    assert!(ended.stderr.contains("this rule matches nothing here"), "{}", ended.stderr);
}

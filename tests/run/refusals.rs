//! What it says when it cannot start or go on, and with which exit code.

use std::process::Stdio;

use remuda::emulator::Operation;
use tokio::io::AsyncWriteExt as _;

use crate::bench::{Bench, finish, remuda, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_with_a_hint_and_never_repeated() {
    let bench = Bench::new().await;
    let ended = finish(bench.command(&[]).env("ANTHROPIC_ENVIRONMENT_KEY", "sk-ant-oat01-wrong")).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("error: could not poll for work\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the control plane refused our credential (HTTP 401)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: check `--environment-id`"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("wrong"), "{}", ended.stderr);
    assert_eq!(bench.emulator.log().of(Operation::Poll).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_later_ends_it_after_its_sessions() {
    let bench = Bench::new().await;
    let running = bench.run(&[]);
    until("it polls", || !bench.emulator.log().of(Operation::Poll).is_empty()).await;
    assert!(bench.emulator.revoke(&bench.environment.key));
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_cannot_be_reached_is_named() {
    let bench = Bench::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let mut command = bench.command(&["--start-timeout", "1s"]);
    let ended = finish(command.env("ANTHROPIC_BASE_URL", &url)).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.stderr.contains("error: could not reach the control plane\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("Connection refused"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: check `--base-url`"), "{}", ended.stderr);
}

#[tokio::test]
async fn mistakes_in_the_arguments_are_named_and_suggest_what_was_meant() {
    for (arguments, said) in [
        (&["run", "--max-sesions", "5"][..], "'--max-sessions'"),
        (&["run", "--max-sessions", "0"], "0 is not in 1..=100000"),
        (&["run", "--max-idle", "soon"], "invalid value 'soon' for '--max-idle <TIME>'"),
        (&["run", "--provider", "cloud"], "[possible values: local]"),
        (&["run"], "--environment-id <ID[:WEIGHT]>"),
        (&["runn"], "'run'"),
    ] {
        let ended = finish(&mut remuda(arguments)).await;
        assert_eq!(ended.code, Some(64), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.stderr);
    }
    let help = finish(&mut remuda(&["run", "--help"])).await;
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("--state-dir <DIR>") && help.stderr.is_empty());
}

#[tokio::test]
async fn a_key_is_never_an_argument() {
    let ended = finish(&mut remuda(&["run", "--environment-key", "sk-ant-oat01-abc"])).await;
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.contains("'--environment-key-file'"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("sk-ant-oat01-abc"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_refused_before_anything_is_sent() {
    let bench = Bench::new().await;
    let missing = finish(bench.command(&[]).env_remove("ANTHROPIC_ENVIRONMENT_KEY")).await;
    assert_eq!(missing.code, Some(78));
    assert!(missing.stderr.contains("ANTHROPIC_ENVIRONMENT_KEY is not set"), "{}", missing.stderr);
    for odd in ["", "two words", "line\nbreak"] {
        let ended = finish(bench.command(&[]).env("ANTHROPIC_ENVIRONMENT_KEY", odd)).await;
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains("is not one: expected one line"), "{}", ended.stderr);
    }
    let no_file = finish(&mut bench.command(&["--environment-key-file", "/does/not/exist"])).await;
    assert_eq!(no_file.code, Some(78));
    assert!(no_file.stderr.contains("could not read the key from /does/not/exist"), "{}", no_file.stderr);
    let url = finish(bench.command(&[]).env("ANTHROPIC_BASE_URL", "api.anthropic.com")).await;
    assert_eq!(url.code, Some(78));
    assert!(url.stderr.contains("`api.anthropic.com` is not a base URL"), "{}", url.stderr);
    assert_eq!(bench.emulator.log().seen(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_comes_from_a_file_or_from_standard_input() {
    let bench = Bench::new().await;
    let file = bench.dir.path().join("key");
    std::fs::write(&file, format!("{}\n", bench.environment.key)).unwrap();
    for source in [file.to_str().unwrap(), "-"] {
        let mut command = bench.command(&["--environment-key-file", source]);
        command.env_remove("ANTHROPIC_ENVIRONMENT_KEY").stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(bench.environment.key.as_bytes()).await.unwrap();
        drop(stdin);
        let polls = bench.emulator.log().of(Operation::Poll).len();
        until("it polls", || bench.emulator.log().of(Operation::Poll).len() > polls).await;
        let last = bench.emulator.log().of(Operation::Poll).pop().unwrap();
        assert!(last.credential.is_some(), "{last:?}");
        child.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_say_what_flags_say_and_comes_last() {
    let bench = Bench::new().await;
    let file = bench.dir.path().join("remuda.toml");
    let said = |text: &str| std::fs::write(&file, text).unwrap();
    let flags = ["--config", file.to_str().unwrap()];
    said("max-idle = \"1s\"\nmax-sesions = 5\n\nstandby-after = 15\nprovider = \"cloud\"\n");
    let ended = finish(&mut bench.command(&flags)).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let expected = [
        "line 2: there is no `max-sesions`; `max-sessions` is similar",
        "line 4: invalid value '15' for '--standby-after <TIME>': time unit needed",
        "line 5: invalid value 'cloud' for '--provider <PROVIDER>' [possible values: local]",
    ];
    assert!(expected.iter().all(|line| ended.stderr.contains(line)), "{}", ended.stderr);
    assert_eq!(bench.emulator.log().seen(), 0);

    // The file names a control plane and an environment that are not there, the environment the real ones.
    said("base-url = \"http://127.0.0.1:1\"\nenvironment-id = [\"env_other:2\"]\nmax-sessions = 3\n");
    let mut command = bench.command(&[]);
    command.env("REMUDA_CONFIG", &file).env("REMUDA_MAX_IDLE", "1s");
    let mut child = command.spawn().unwrap();
    until("it polls", || !bench.emulator.log().of(Operation::Poll).is_empty()).await;
    child.kill().await.unwrap();

    // And the other way round.
    let mut command = bench.command(&["--start-timeout", "1s", "--config", file.to_str().unwrap()]);
    let ended = finish(command.env_remove("ANTHROPIC_BASE_URL").env_remove("ANTHROPIC_ENVIRONMENT_ID")).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.stderr.contains("env_other"), "{}", ended.stderr);

    let missing = finish(&mut bench.command(&["--config", "/does/not/exist"])).await;
    assert_eq!(missing.code, Some(78));
    assert!(missing.stderr.contains("could not read /does/not/exist"), "{}", missing.stderr);
}

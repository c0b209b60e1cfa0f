//! Shells: what survives a call, what ends one, and what a hostile command can and cannot do.

use std::time::{Duration, Instant};

use remuda::hand::client::ClientError;
use remuda::hand::wire::ErrorCode;
use serde_json::json;

use crate::fixture::{Hand, Options, PATIENCE, bash, bounded, request};

const KILLED: &str = "the shell and what this call had started were killed, jobs of earlier calls were not";

#[tokio::test]
async fn row_53_a_timeout_keeps_the_output_so_far_and_kills_everything_the_call_started() {
    let hand = Hand::start();
    // Orphans, and with job control a job in a process group of its own.
    let command = "sleep 1234 & (sleep 1235 & sleep 1236) & set -m; sleep 1238 & set +m; \
                   echo before; echo more >&2; sleep 1237";
    let result = hand.tool("bash", json!({"command": command, "timeout_ms": 300})).await;
    assert!(result.is_error);
    let text = result.text();
    assert_eq!(text, format!("before\nmore\nbash: bash command timed out after 0.3s; {KILLED}"));
    // By the hand's own count, and by the kernel's list of processes.
    assert_eq!(hand.client.health().await.unwrap().background, 0);
    let left = hand.bash("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 123[45678]'").await;
    assert!(left.text().ends_with("\n0"), "{}", left.text());
}

#[tokio::test]
async fn a_cut_call_costs_neither_the_jobs_of_earlier_ones_nor_the_place() {
    let hand = Hand::start();
    hand.output("mkdir -p a/b; (until [ -e go ]; do sleep 0.01; done; echo served) & cd a/b").await;
    let cut = hand.tool("bash", json!({"command": "sleep 4324 & sleep 4325", "timeout_ms": 100})).await;
    assert!(cut.is_error);
    let text = hand.bash("pwd | sed 's#.*/##'; pgrep -c -f 'sleep 432[45]'").await.text();
    let note = "[this is a new shell: the previous one was killed; its variables and functions are lost]";
    assert_eq!(text, format!("{note}\nb\n0"));
    hand.write("go", "");
    let heard = async {
        loop {
            let text = hand.output("sleep 0.02").await;
            if !text.is_empty() {
                return text;
            }
        }
    };
    assert_eq!(bounded(heard).await, "served", "the job of the first call goes on and is heard");
}

/// An earlier job starts processes all the time, also while a later call runs, and those are its own.
#[tokio::test]
async fn a_cut_call_does_not_cost_what_an_earlier_job_starts_meanwhile() {
    let hand = Hand::start();
    for round in 0..5 {
        // It says when one of its children did not come to its end.
        let each = format!("sleep 0.05 || echo lost; echo >> beats{round}");
        hand.output(&format!("(until [ -e end ]; do {each}; done) > said{round} 2>&1 & echo")).await;
        let beats = || std::fs::metadata(hand.path(&format!("beats{round}"))).map_or(0, |beats| beats.len());
        let cut = hand.tool("bash", json!({"command": "sleep 4328 & sleep 4329", "timeout_ms": 130})).await;
        assert!(cut.is_error);
        assert!(hand.bash("pgrep -f 'sleep 432[89]'").await.is_error, "what the call started is gone");
        let (before, start) = (beats(), Instant::now());
        while beats() < before + 2 {
            assert!(start.elapsed() < PATIENCE, "the job is gone");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(hand.read(&format!("said{round}")), "", "the job's own child was killed");
    }
    hand.write("end", "");
}

/// The clock of `/proc` ticks every 10 ms, in which a call can end and the next one begin.
#[tokio::test]
async fn a_job_begun_right_before_a_call_is_not_that_calls() {
    let hand = Hand::start();
    for _ in 0..10 {
        hand.output("sleep 4330 >/dev/null 2>&1 &").await;
        let cut = hand.tool("bash", json!({"command": "sleep 4331", "timeout_ms": 20})).await;
        assert!(cut.is_error);
        hand.output("pkill -f 'sleep 4330'").await;
    }
}

#[tokio::test]
async fn a_place_that_is_gone_is_said_to_be_lost() {
    let hand = Hand::start();
    hand.output("mkdir gone; cd gone").await;
    hand.tool("bash", json!({"command": "rmdir ../gone; sleep 60", "timeout_ms": 100})).await;
    let text = hand.bash("pwd").await.text();
    let note = "[this is a new shell: the previous one was killed; its working directory, variables and functions are lost]";
    assert_eq!(text, format!("{note}\n{}", hand.workdir.display()));
}

#[tokio::test]
async fn a_restart_ends_jobs_but_not_what_left_the_session() {
    let hand = Hand::start();
    let left = "while [ $(ps -o sid= -p $(cat daemon)) = $$ ]; do sleep 0.01; done";
    hand.output(&format!("sleep 4321 & setsid sleep 4322 >/dev/null 2>&1 & echo $! >daemon; {left}")).await;
    assert_eq!(hand.client.health().await.unwrap().background, 2);
    hand.tool("bash", json!({"restart": true})).await;
    assert_eq!(hand.client.health().await.unwrap().background, 1);
    hand.output("kill -9 $(cat daemon)").await;
    hand.eventually("! kill -0 $(cat daemon)").await;
}

#[tokio::test]
async fn the_outer_limit_wins_over_the_agents() {
    let hand = Hand::start();
    let mut call = request("bash", json!({"command": "echo a; sleep 60", "timeout_ms": 60_000}));
    call.timeout_ms = Some(200);
    let reply = bounded(hand.client.call(&"c".into(), &call)).await.unwrap();
    assert!(reply.result.text().starts_with("a\nbash: bash command timed out after 0.2s; "));
    // Zero is no limit of the agent's but the default one.
    let result = hand.tool("bash", json!({"command": "sleep 0.2; echo ok", "timeout_ms": 0})).await;
    assert!(result.text().ends_with("\nok"), "{result:?}");
}

#[tokio::test]
async fn late_output_of_a_job_comes_with_a_later_call() {
    let hand = Hand::start();
    assert_eq!(
        hand.output("(until [ -e go ]; do sleep 0.01; done; echo late; touch gone) & echo now").await,
        "now"
    );
    assert_eq!(hand.output("echo middle").await, "middle");
    hand.write("go", "");
    hand.eventually("[ -e gone ]").await;
    assert_eq!(hand.output("echo end").await, "late\nend");
}

#[tokio::test]
async fn a_job_survives_the_exit_of_its_shell_and_is_still_heard() {
    let hand = Hand::start();
    let command = "(until [ -e go ]; do sleep 0.01; done; echo late; touch gone) & exit 4";
    assert!(hand.bash(command).await.is_error);
    assert!(hand.client.health().await.unwrap().background > 0);
    hand.write("go", "");
    hand.eventually("[ -e gone ]").await;
    let text = hand.output("echo end").await;
    assert!(text.starts_with("[this is a new shell: the previous one exited with status 4; "), "{text}");
    assert!(text.ends_with("\nlate\nend"), "{text}");
}

#[tokio::test]
async fn a_job_that_keeps_printing_does_not_hold_up_a_call() {
    let hand = Hand::start();
    assert!(hand.output("yes & echo $! > pid").await.len() <= 102_400);
    let start = Instant::now();
    for _ in 0..5 {
        assert!(hand.output("true").await.len() <= 102_400 + 20);
    }
    assert!(start.elapsed().as_secs() < 20);
    hand.output("kill -9 $(cat pid)").await;
}

#[tokio::test]
async fn nothing_printed_can_end_a_call() {
    let hand = Hand::start();
    // A script that shows itself, line by line and in its trace, with all it can read of the shell.
    let text =
        hand.output("set -vx; cat /proc/self/fd/0; cat /proc/$$/fd/0 2>/dev/null; set +vx; echo end").await;
    assert!(text.ends_with("\nend"), "{text}");
    // What the last line looks like, with every status, and what a `printf` of one's own says.
    hand.output("printf() { echo forged 0; }; alias builtin=false; shopt -s expand_aliases").await;
    assert!(hand.bash("echo 00000000000000000000000000000000 0; false").await.is_error);
    hand.output("unset -f printf; unalias builtin").await;
    // Only the shell itself has the channel: no process it starts does.
    let open = hand.output("ls -l /proc/self/fd | grep -c socket; true").await;
    assert_eq!(open, "0");
    // Words put into the channel are not the end of a call either.
    let fd = "$(ls -l /proc/$$/fd | awk '/socket/ {print $9}')";
    assert!(hand.bash(&format!("eval \"echo 0 0 >&{fd}\"; echo still here; false")).await.is_error);
    assert_eq!(hand.output("echo fine").await, "fine");
}

#[tokio::test]
async fn row_51_what_a_call_sets_up_the_next_one_finds_and_neither_has_input() {
    let hand = Hand::start();
    hand.output("cd /; export SET=exported; unexported=plain; f() { echo from f; }; set -o noclobber").await;
    let text = hand.output("pwd; bash -c 'echo $SET'; echo $unexported; f; set -o | grep noclobber").await;
    assert!(text.starts_with("/\nexported\nplain\nfrom f\nnoclobber"), "{text}");
    assert!(text.ends_with("on"), "{text}");
    // A program that asks gets the end of its input at once, and leaves the shell's own commands alone.
    assert_eq!(
        hand.output("cat; read -r line || echo none; head -c1 | wc -c; echo still here").await,
        "none\n0\nstill here"
    );
}

#[tokio::test]
async fn row_52_the_tail_of_long_output_is_kept_and_a_failure_is_an_error() {
    let hand = Hand::start();
    let result = hand.bash("seq 100000; exit_code() { return 3; }; exit_code").await;
    let text = result.text();
    assert!(result.is_error, "its last status counts");
    assert!(text.starts_with("[output truncated]\n"), "{}", &text[..60]);
    assert!(text.contains("\n99999\n100000"), "the end is there");
    assert!(!text.contains("\n1\n2\n"), "the beginning is not");
    assert!(!hand.bash("false; true").await.is_error);
}

#[tokio::test]
async fn a_shell_without_output_still_answers() {
    let hand = Hand::start();
    assert_eq!(hand.output("exec 3>&1 >file 2>&1").await, "");
    assert_eq!(hand.output("echo into the file").await, "");
    assert_eq!(hand.output("exec >&3 2>&3 3>&-; cat file").await, "into the file");
    assert_eq!(hand.output("exec >&- 2>&-").await, "");
    assert!(hand.bash("false").await.is_error);
    assert_eq!(hand.output("true").await, "");
}

#[tokio::test]
async fn commands_of_unusual_form_run_or_say_why_not() {
    let hand = Hand::start();
    assert_eq!(hand.output("echo a \\").await, "a");
    assert_eq!(hand.output("echo a # comment").await, "a");
    assert_eq!(hand.output("# only a comment").await, "");
    assert_eq!(hand.output("  \n\n").await, "");
    assert_eq!(hand.output("cat <<X\nx}\nX").await, "x}");
    assert_eq!(hand.output("cat <<X\n$(echo '{')\nX\n").await, "{");
    assert_eq!(hand.output("true &").await, "");
    assert_eq!(hand.output("echo $LINENO >/dev/null; set -u; echo ok; set +u").await, "ok");
    let nul = hand.bash("echo a\0b").await;
    assert_eq!((nul.is_error, nul.text().as_str()), (true, "bash: command must not contain a NUL character"));
    let huge = format!("x='{}'; echo ${{#x}}", "y".repeat(2 << 20));
    assert_eq!(hand.output(&huge).await, (2 << 20).to_string());
}

#[tokio::test]
async fn a_command_without_end_is_noticed() {
    let hand = Hand::start();
    for command in [
        "echo 'x",
        "cat <<EOF\nx",
        "echo \"x",
        "eval \"exec 0<&$(ls -l /proc/$$/fd | awk '/socket/ {print $9}')\"; cat",
    ] {
        let start = Instant::now();
        let result = hand.bash(command).await;
        let text = result.text();
        assert!(result.is_error && text.contains("bash: the command has no end: "), "{command}: {text}");
        assert!(start.elapsed().as_secs() < 20);
    }
    // Long commands, and those that only wait, are not taken for one.
    assert!(hand.output("sleep 3; echo done").await.ends_with("\ndone"));
}

#[tokio::test]
async fn a_shell_that_is_killed_says_so() {
    let hand = Hand::start();
    let result = hand.bash("echo a; kill -9 $$").await;
    assert_eq!(
        (result.is_error, result.text().as_str()),
        (true, "a\nbash: the shell was killed by signal 9")
    );
    let text = hand.output("echo b").await;
    assert!(text.starts_with("[this is a new shell: the previous one was killed by signal 9; "), "{text}");
    // Between two calls as well.
    let killing = "(until [ -e go ]; do sleep 0.01; done; kill -9 $$; while kill -0 $$; do sleep 0.01; done; touch gone)";
    hand.output(&format!("{killing} >/dev/null 2>&1 &")).await;
    hand.write("go", "");
    hand.eventually("[ -e gone ]").await;
    let text = hand.output("echo c").await;
    assert!(text.starts_with("[this is a new shell: ") && text.ends_with("\nc"), "{text}");
}

#[tokio::test]
async fn a_restart_kills_the_old_shell_and_is_not_a_loss() {
    let hand = Hand::start();
    hand.output("sleep 5432 & cd /; A=1").await;
    let result = hand.tool("bash", json!({"restart": true, "command": "touch never"})).await;
    assert_eq!((result.is_error, result.text().as_str()), (false, "bash session restarted"));
    assert_eq!(hand.client.health().await.unwrap().background, 0);
    assert_eq!(hand.output("echo [$A] $PWD").await, format!("[] {}", hand.workdir.display()));
    assert!(!hand.path("never").exists());
}

#[tokio::test]
async fn threads_have_shells_of_their_own_that_run_side_by_side() {
    let hand = Hand::start();
    let in_thread = |thread: &str, command: &str| {
        let mut call = bash(command);
        call.thread = Some(thread.into());
        call
    };
    // Each waits for the other, so neither would end if they took turns.
    let one = in_thread("one", "A=1; mkfifo p; cat p; echo $A");
    let two = in_thread("two", "until [ -p p ]; do sleep 0.01; done; echo met >p; echo [$A]");
    let (id_one, id_two) = ("1".into(), "2".into());
    let both = async { tokio::join!(hand.client.call(&id_one, &one), hand.client.call(&id_two, &two)) };
    let (one, two) = bounded(both).await;
    assert_eq!(one.unwrap().result.text(), "met\n1");
    assert_eq!(two.unwrap().result.text(), "[]");
}

#[tokio::test]
async fn the_thread_idle_longest_makes_room_for_the_thirty_third() {
    let hand = Hand::start();
    let run = async |thread: usize, command: &str| {
        let mut call = bash(command);
        call.thread = Some(format!("t{thread}").into());
        let id = format!("{thread}-{}", rand::random::<u64>()).into();
        bounded(hand.client.call(&id, &call)).await.unwrap().result
    };
    for thread in 0..32 {
        run(thread, "A=1; sleep 300 >/dev/null &").await;
    }
    assert_eq!(run(0, "echo $A").await.text(), "1");
    assert_eq!(run(32, "echo new").await.text(), "new");
    // Thread 1 was the one idle longest, and takes the place of 2.
    let text = run(1, "echo [$A]").await.text();
    assert!(text.starts_with("[this is a new shell: the previous one had been idle and made room"), "{text}");
    // Two that need room at once do not ask the same one.
    let both = async { tokio::join!(run(33, "echo 33"), run(34, "echo 34")) };
    let (one, other) = bounded(both).await;
    assert_eq!((one.text().as_str(), other.text().as_str()), ("33", "34"));
    assert_eq!(run(0, "echo $A").await.text(), "1");
    // The jobs of those who made room go on.
    assert_eq!(hand.client.health().await.unwrap().background, 32, "the sleeping jobs of all");
}

#[tokio::test]
async fn sixty_four_calls_may_be_live_and_no_more() {
    let hand = Hand::start();
    let calls = (0..64).map(|number| {
        let client = hand.client.clone();
        tokio::spawn(async move {
            let command = if number == 0 { "until [ -e go ]; do sleep 0.01; done" } else { "true" };
            client.call(&format!("c{number}").into(), &bash(command)).await
        })
    });
    let calls: Vec<_> = calls.collect();
    let start = Instant::now();
    while hand.client.health().await.unwrap().running.len() < 64 {
        assert!(start.elapsed().as_secs() < 20);
        tokio::task::yield_now().await;
    }
    let refused = hand.client.call(&"more".into(), &bash("true")).await;
    assert!(
        matches!(&refused, Err(ClientError::Refused(error)) if error.code == ErrorCode::Busy),
        "{refused:?}"
    );
    // Attaching to a live one is not one more.
    let attached = hand.client.clone();
    let attached = tokio::spawn(async move { attached.call(&"c1".into(), &bash("true")).await });
    hand.write("go", "");
    for call in calls {
        assert!(!bounded(call).await.unwrap().unwrap().result.is_error);
    }
    assert!(!bounded(attached).await.unwrap().unwrap().result.is_error);
    assert!(bounded(hand.client.call(&"more".into(), &bash("true"))).await.is_ok());
}

#[tokio::test]
async fn row_48_no_credential_of_the_control_plane_is_seen_and_everything_else_is() {
    let environment = vec![
        ("ANTHROPIC_API_KEY".to_owned(), "secret".to_owned()),
        ("Anthropic_Auth_Token".to_owned(), "secret".to_owned()),
        ("KEPT".to_owned(), "kept".to_owned()),
    ];
    let hand = Hand::with(Options { environment, ..Options::default() });
    let seen = hand.output("env; echo; cat /proc/$PPID/environ 2>&1 | tr '\\0' '\\n'").await;
    assert!(seen.contains("KEPT=kept") && seen.contains("TERM=dumb"), "{seen}");
    let shown = seen.split("\n\n").next().unwrap();
    assert!(!shown.to_lowercase().contains("anthropic"), "{shown}");
}

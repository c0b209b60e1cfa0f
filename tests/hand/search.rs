//! `glob` and `grep` at their limits.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use remuda::hand::wire::CallStatus;
use remuda_actors::ids::CallId;
use serde_json::json;

use crate::fixture::{Hand, Options, bounded, request};

#[tokio::test]
async fn globs_know_what_people_expect_of_them() {
    let hand = Hand::start();
    for name in ["a.rs", "src/b.rs", "src/x/c.rs", ".hidden/d.rs", "node_modules/e.rs", "src/x/f.txt"] {
        hand.write(name, "");
    }
    symlink("src/x", hand.path("link")).unwrap();
    symlink("/etc", hand.path("out")).unwrap();
    symlink("nowhere", hand.path("dangling")).unwrap();
    let names = async |input| {
        let text = hand.tool("glob", input).await.text();
        let prefix = format!("{}/", hand.workdir.display());
        let mut names: Vec<String> = text.lines().map(|line| line.replacen(&prefix, "", 1)).collect();
        names.sort();
        names.join(" ")
    };
    let rust = ".hidden/d.rs a.rs node_modules/e.rs src/b.rs src/x/c.rs";
    assert_eq!(names(json!({"pattern": "**/*.rs"})).await, rust);
    assert_eq!(names(json!({"pattern": "src/**/*.{rs,txt}"})).await, "src/b.rs src/x/c.rs src/x/f.txt");
    assert_eq!(names(json!({"pattern": "*/"})).await, ".hidden node_modules src");
    assert_eq!(names(json!({"pattern": "s*/**"})).await, "src src/b.rs src/x src/x/c.rs src/x/f.txt");
    assert_eq!(names(json!({"pattern": "[!s]*.rs"})).await, "a.rs");
    assert_eq!(names(json!({"pattern": "src/b.rs"})).await, "src/b.rs");
    assert_eq!(names(json!({"pattern": "*", "path": "src"})).await, "src/b.rs src/x");
    // Links are results where they lead to something inside, and the pattern may go through them by name.
    assert_eq!(names(json!({"pattern": "*"})).await, ".hidden a.rs link node_modules src");
    assert_eq!(names(json!({"pattern": "link/*.rs"})).await, "link/c.rs");
    for nothing in ["out/*", "dangling/*", "missing/*", "a.rs/*"] {
        assert_eq!(names(json!({"pattern": nothing})).await, "no matches");
    }
}

#[tokio::test]
async fn grep_passes_over_what_nobody_wants_searched() {
    let hand = Hand::start();
    hand.write(".gitignore", "ignored\n");
    for name in ["ignored", ".hidden", "sub/f", "node_modules/n", ".git/g"] {
        hand.write(name, "needle\n");
    }
    hand.write("binary", b"\0needle\n");
    hand.write("later", [b"needle\n".repeat(200).as_slice(), b"\0needle\n"].concat());
    hand.write("latin", b"needle \xff\n");
    hand.write("crlf", "needle\r\n");
    hand.write("open end", "x\nneedle");
    symlink("sub", hand.path("linked")).unwrap();
    let result = hand.tool("grep", json!({"pattern": "needle"})).await;
    let prefix = format!("{}/", hand.workdir.display());
    let text = result.text().replace(&prefix, "");
    let lines: Vec<&str> = text.split('\n').filter(|line| !line.starts_with("later:")).collect();
    let expected = [
        ".hidden:1:needle",
        "crlf:1:needle\r",
        "ignored:1:needle",
        "latin:1:needle \u{fffd}",
        "open end:2:needle",
        "sub/f:1:needle",
    ];
    assert_eq!(lines, expected);
    assert!(!text.contains("later:201"));
    let in_git = hand.tool("grep", json!({"pattern": "needle", "path": ".git"})).await.text();
    assert_eq!(in_git, format!("{prefix}.git/g:1:needle"));
    let bad = hand.tool("grep", json!({"pattern": "a(b"})).await;
    assert!(bad.is_error && bad.text().starts_with("grep: invalid regex: "), "{}", bad.text());
    let huge = hand.tool("grep", json!({"pattern": "(\\w{500}){500}"})).await;
    assert!(huge.is_error && huge.text().starts_with("grep: invalid regex: "), "{}", huge.text());
}

#[tokio::test]
async fn row_55_grep_output_ends_at_its_limit() {
    let hand = Hand::start();
    hand.write("f", "needle in a line of some length é\n".repeat(10_000));
    let text = hand.tool("grep", json!({"pattern": "needle"})).await.text();
    let last = "\n[output truncated at 102400 bytes]";
    assert!(text.ends_with(last));
    assert!((102_390..=102_400).contains(&(text.len() - last.len())), "{}", text.len());
    // Lines are found wherever they are in a file that is not searched in one piece.
    let lines: Vec<String> = (0..20_000).map(|number| format!("line {number} x")).collect();
    hand.write("f", lines.join("\n"));
    let text = hand.tool("grep", json!({"pattern": "^line 1999\\d x$"})).await.text();
    let expected =
        (19_990..20_000).map(|line| format!("{}:{}:line {line} x", hand.path("f").display(), line + 1));
    assert_eq!(text, expected.collect::<Vec<_>>().join("\n"));
    // A line that fits no buffer ends the search of its file, and the answer says so.
    hand.write("f", ["needle first\n", &"x".repeat(6 << 20), "\nneedle last\n"].concat());
    let text = hand.tool("grep", json!({"pattern": "needle"})).await.text();
    assert!(text.starts_with(&format!("{}:1:needle first\n[", hand.path("f").display())), "{text}");
    assert!(text.contains("was not searched to its end"), "{text}");
}

#[tokio::test]
async fn row_55_walks_end_at_their_limit_and_say_so() {
    let hand = Hand::start();
    hand.output("mkdir d; cd d; seq 51000 | xargs touch; cd ..; echo x >e").await;
    for (tool, input) in [
        ("glob", json!({"pattern": "**/nothing"})),
        ("grep", json!({"pattern": "nothing"})),
        ("glob", json!({"pattern": "d/*"})),
    ] {
        let text = hand.tool(tool, input).await.text();
        assert!(text.contains("[search stopped after 50000 entries; narrow path"), "{tool}: {text}");
    }
    let newest = hand.tool("glob", json!({"pattern": "d/*"})).await.text();
    assert_eq!(newest.lines().filter(|line| line.starts_with('/')).count(), 200);
    assert!(newest.contains("\n[the newest 200 of 50000 matches]\n"), "{newest}");
    assert!(hand.client.health().await.unwrap().rss_bytes < 32 << 20);
}

#[tokio::test]
async fn row_56_no_program_of_the_agents_making_takes_part_in_a_search() {
    // The search path leads to the working directory alone, where the agent put its own idea of `rg`.
    let prelude = "export PATH=\"$6\"".to_owned();
    let hand = Hand::with(Options { prelude, ..Options::default() });
    hand.write("f", "needle\n");
    let mark = hand.outside("ran");
    for name in ["rg", "grep", "find", "tar", "unzip"] {
        hand.write(name, format!("#!/bin/sh\n: >{}\n", mark.display()));
        std::fs::set_permissions(hand.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(hand.output("rg; echo $PATH").await, hand.workdir.display().to_string());
    assert!(mark.exists(), "the agent's own is found by a shell");
    std::fs::remove_file(&mark).unwrap();
    let found = hand.tool("grep", json!({"pattern": "needle"})).await.text();
    assert_eq!(found, format!("{}:1:needle", hand.path("f").display()));
    let found = hand.tool("glob", json!({"pattern": "f"})).await.text();
    assert_eq!(found, hand.path("f").display().to_string());
    assert!(!mark.exists(), "and by nothing else");
}

#[tokio::test]
async fn searches_can_be_cancelled_and_end_in_time() {
    let hand = Hand::start();
    // Ten gigabytes to search that take five megabytes of disk.
    hand.output("echo needle >a; seq 700000 >b; mkdir d; for i in $(seq 2000); do ln b d/$i; done").await;
    let mut call = request("grep", json!({"pattern": "needle|[0-9]+x"}));
    call.timeout_ms = Some(300);
    let reply = bounded(hand.client.call(&"timed".into(), &call)).await.unwrap();
    let text = reply.result.text();
    let (found, why) = text.split_once('\n').unwrap();
    assert_eq!(found, format!("{}:1:needle", hand.path("a").display()));
    assert!(
        reply.result.is_error && why.starts_with("grep: timed out after 0.3s; the lines above"),
        "{text}"
    );
    let (id, client) = (CallId::from("cancelled"), hand.client.clone());
    let slow = request("grep", json!({"pattern": "[0-9]+x"}));
    let asked = tokio::spawn(async move { client.call(&"cancelled".into(), &slow).await });
    while !matches!(hand.client.status(&id).await.unwrap(), Some(CallStatus::Running)) {
        assert!(!asked.is_finished(), "it is too fast to be cancelled");
        tokio::task::yield_now().await;
    }
    bounded(hand.client.cancel(&id, "")).await.unwrap();
    let result = bounded(asked).await.unwrap().unwrap().result;
    assert_eq!((result.is_error, result.text().as_str()), (true, "grep: the call was cancelled"));
}

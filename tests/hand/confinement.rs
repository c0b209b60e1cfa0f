//! File tools and the files interface, and those who try to get out of their folders.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use remuda::hand::client::ClientError;
use remuda::hand::wire::ErrorCode;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::fixture::{Hand, Options, bounded, request};

/// Time each race is given.
const RACE: Duration = Duration::from_millis(1500);

fn mode(hand: &Hand, name: &str) -> u32 {
    std::fs::metadata(hand.path(name)).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn row_55_failures_name_tool_path_and_reason_too_large_a_file_among_them() {
    let hand = Hand::start();
    hand.write("file", "x\n");
    hand.write("big", "y".repeat(300_000));
    hand.write("latin", b"a\xffb");
    symlink("loop", hand.path("loop")).unwrap();
    let long = "n".repeat(300);
    for (tool, input, expected) in [
        ("read", json!({"file_path": "none"}), "read: none: no such file or directory".to_owned()),
        ("read", json!({"file_path": "file/x"}), "read: file/x: not a directory".to_owned()),
        ("read", json!({"file_path": "."}), "read: .: not a regular file".to_owned()),
        ("read", json!({"file_path": "loop"}), "read: loop: too many levels of symbolic links".to_owned()),
        ("read", json!({"file_path": long}), format!("read: {long}: file name too long")),
        ("read", json!({"file_path": "a\u{0}b"}), "read: a\u{0}b: invalid argument".to_owned()),
        ("read", json!({"file_path": ""}), "read: file_path must not be empty".to_owned()),
        ("read", json!({"file_path": "/etc/passwd"}), "read: \"/etc/passwd\" is outside the session's working directory".to_owned()),
        ("read", json!({"file_path": "latin"}), "read: latin: not valid UTF-8 text (at byte 1); use bash to look at it".to_owned()),
        ("read", json!({"file_path": "big"}), "read: big: the file has 300000 bytes, more than the limit of 262144 bytes; use view_range to read a part of it".to_owned()),
        ("read", json!({"file_path": "big", "view_range": [1, 1]}), "read: big: line 1 alone has more than 262144 bytes; use bash to cut it".to_owned()),
        ("read", json!({"file_path": "file", "view_range": [1]}), "read: view_range must be [start_line, end_line]".to_owned()),
        ("write", json!({"file_path": ".", "content": ""}), "write: .: is a directory".to_owned()),
        ("write", json!({"file_path": "file/x", "content": ""}), "write: file/x: not a directory".to_owned()),
        ("edit", json!({"file_path": "file", "old_string": "z", "new_string": ""}), "edit: old_string not found in file".to_owned()),
        ("edit", json!({"file_path": "big", "old_string": "y", "new_string": ""}), "edit: big: the file has 300000 bytes, more than the limit of 262144 bytes".to_owned()),
        ("edit", json!({"file_path": "file", "old_string": "", "new_string": ""}), "edit: old_string must not be empty".to_owned()),
        ("bash", json!({}), "bash: command is required".to_owned()),
        ("bash", json!({"command": "true", "timeout_ms": -5}), "bash: timeout_ms must be a whole number, 0 or more, not -5".to_owned()),
        ("nope", json!({}), "unknown tool \"nope\"; this sandbox has bash, read, write, edit, glob, grep".to_owned()),
    ] {
        let result = hand.tool(tool, input).await;
        assert_eq!((result.is_error, result.text()), (true, expected));
    }
}

#[tokio::test]
async fn large_files_are_read_in_parts() {
    let hand = Hand::start();
    let lines: Vec<String> = (1..=100_000).map(|number| format!("line {number}")).collect();
    hand.write("big", lines.join("\n"));
    let range = async |first: i64, last: i64| {
        hand.tool("read", json!({"file_path": "big", "view_range": [first, last]})).await
    };
    assert_eq!(range(50_000, 50_001).await.text(), "line 50000\nline 50001");
    assert_eq!(range(99_999, 0).await.text(), "line 99999\nline 100000");
    assert_eq!(range(200_000, 0).await.text(), "");
    let all = range(1, 0).await;
    assert!(all.is_error && all.text().ends_with("narrow view_range"), "{}", all.text());
}

#[tokio::test]
async fn writing_keeps_permissions_and_leaves_nothing_behind() {
    let hand = Hand::with(Options { prelude: "umask 027".to_owned(), ..Options::default() });
    hand.write("script", "old");
    std::fs::set_permissions(hand.path("script"), PermissionsExt::from_mode(0o751)).unwrap();
    symlink("script", hand.path("link")).unwrap();
    let written = hand.tool("write", json!({"file_path": "link", "content": "né"})).await;
    assert_eq!(written.text(), "wrote 3 bytes to link");
    assert_eq!((hand.read("script").as_str(), mode(&hand, "script")), ("né", 0o751));
    assert!(std::fs::symlink_metadata(hand.path("link")).unwrap().is_symlink());
    hand.tool("write", json!({"file_path": "new/deep/file", "content": "x"})).await;
    assert_eq!((mode(&hand, "new/deep/file"), mode(&hand, "new/deep")), (0o640, 0o750));
    let edit = json!({"file_path": "script", "old_string": "n", "new_string": "N"});
    assert_eq!(hand.tool("edit", edit).await.text(), "edited script (1 replacement(s))");
    assert_eq!((hand.read("script").as_str(), mode(&hand, "script")), ("Né", 0o751));
    // Through a link that dangles inside, the file appears where it points.
    symlink("appears", hand.path("dangling")).unwrap();
    hand.tool("write", json!({"file_path": "dangling", "content": "here"})).await;
    assert_eq!(hand.read("appears"), "here");
    assert_eq!(hand.output("find . -name '.remuda*' | wc -l").await, "0");
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_file() {
    // Files may have 1 MiB, and not more.
    let prelude = "trap '' XFSZ; ulimit -f 1024".to_owned();
    let hand = Hand::with(Options { prelude, ..Options::default() });
    hand.write("file", "old");
    let content = "x".repeat(2 << 20);
    let result = hand.tool("write", json!({"file_path": "file", "content": content})).await;
    assert_eq!((result.is_error, result.text().as_str()), (true, "write: file: file too large"));
    let put = hand.client.put_file("file", None, content).await;
    assert!(matches!(&put, Err(ClientError::Refused(error)) if error.code == ErrorCode::Internal), "{put:?}");
    assert_eq!(hand.read("file"), "old");
    assert_eq!(hand.output("ls -A").await, "file");
}

#[tokio::test]
async fn row_50_other_roots_can_be_used_and_read_only_ones_not_written() {
    let side = tempfile::tempdir().unwrap();
    let side = side.path().canonicalize().unwrap();
    for name in ["extra", "skills"] {
        std::fs::create_dir(side.join(name)).unwrap();
        std::fs::write(side.join(name).join("f"), "text").unwrap();
    }
    let (extra, skills) = (side.join("extra"), side.join("skills"));
    let arguments = ["--allow-root", extra.to_str().unwrap(), "--read-only-root", skills.to_str().unwrap()];
    let arguments = arguments.map(str::to_owned).to_vec();
    let hand = Hand::with(Options { arguments, ..Options::default() });
    symlink(&skills, hand.path("s")).unwrap();
    let file = |folder: &std::path::Path| folder.join("f").to_str().unwrap().to_owned();
    for path in [file(&extra), file(&skills), "s/f".to_owned()] {
        assert_eq!(hand.tool("read", json!({"file_path": path})).await.text(), "text");
    }
    let path = file(&extra);
    assert!(!hand.tool("write", json!({"file_path": path, "content": "new"})).await.is_error);
    let refused = format!("is inside read-only directory {}", skills.display());
    for (tool, input) in [
        ("write", json!({"file_path": "s/f", "content": "new"})),
        ("write", json!({"file_path": "s/new", "content": "new"})),
        ("edit", json!({"file_path": "s/f", "old_string": "text", "new_string": "new"})),
    ] {
        let result = hand.tool(tool, input).await;
        assert!(result.is_error && result.text().ends_with(&refused), "{}", result.text());
    }
    let outside = hand.tool("read", json!({"file_path": "/etc/hostname"})).await.text();
    assert!(outside.ends_with("working directory and its other permitted directories"), "{outside}");
    // Staging is what the files interface is for.
    hand.client.put_file(&file(&skills), Some(0o444), "staged").await.unwrap();
    assert_eq!(hand.tool("read", json!({"file_path": "s/f"})).await.text(), "staged");
}

#[tokio::test]
async fn files_go_in_and_out_whole_and_stay_inside() {
    let hand = Hand::start();
    let client = &hand.client;
    let large: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    client.put_file("a dir/ü%.bin", Some(0o640), large.clone()).await.unwrap();
    assert_eq!(client.get_file("a dir/ü%.bin", 4 << 20).await.unwrap(), large);
    assert_eq!(mode(&hand, "a dir/ü%.bin"), 0o640);
    let absolute = hand.path("empty");
    client.put_file(absolute.to_str().unwrap(), None, "").await.unwrap();
    assert_eq!(client.get_file("empty", 10).await.unwrap(), "");
    hand.output("mkfifo pipe; ln -s /etc/passwd out; mkdir dir").await;
    let code = |error| match error {
        ClientError::Refused(error) => error.code,
        other => panic!("{other:?}"),
    };
    for (path, expected) in [
        ("none", ErrorCode::NotFound),
        ("pipe", ErrorCode::BadRequest),
        ("dir", ErrorCode::BadRequest),
        ("out", ErrorCode::Forbidden),
        ("../../etc/passwd", ErrorCode::Forbidden),
        ("/etc/passwd", ErrorCode::Forbidden),
    ] {
        let outcome = bounded(client.get_file(path, 1 << 20)).await;
        assert_eq!(code(outcome.unwrap_err()), expected, "get {path}");
        if path != "none" {
            assert_eq!(code(client.put_file(path, None, "x").await.unwrap_err()), expected, "put {path}");
        }
    }
}

/// Somebody swaps a folder, or a file, for a link to the outside as fast as they can, while the tools read,
/// write, edit and search through it. They may fail; they must never reach what is outside.
#[tokio::test(flavor = "multi_thread")]
async fn row_49_a_path_swapped_while_it_is_used_never_leads_outside() {
    let hand = Arc::new(Hand::start());
    let secret = hand.outside("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("f"), "secret").unwrap();
    std::fs::write(secret.join("only outside"), "secret").unwrap();
    hand.write("d/f", "inside");
    hand.write("file", "inside");
    hand.write("plain", "inside");
    hand.output("mkfifo plain.pipe").await;
    symlink(&secret, hand.path("d.link")).unwrap();
    symlink(secret.join("f"), hand.path("file.link")).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (hand, over) = (Arc::clone(&hand), Arc::clone(&over));
        std::thread::spawn(move || {
            let swap = |one: &str, other: &str| {
                let (one, other) = (hand.path(one), hand.path(other));
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            };
            let mut swaps = 0;
            while !over.load(Ordering::Relaxed) {
                swap("d", "d.link");
                swap("file", "file.link");
                // Opened as a file is, a pipe without a writer would be waited for.
                swap("plain", "plain.pipe");
                swaps += 1;
            }
            swaps
        })
    };
    let mut hammering = Vec::new();
    for number in 0..4 {
        let hand = Arc::clone(&hand);
        hammering.push(tokio::spawn(async move {
            let (start, mut reached) = (Instant::now(), 0);
            while start.elapsed() < RACE {
                for (tool, input) in [
                    ("read", json!({"file_path": "d/f"})),
                    ("read", json!({"file_path": "file"})),
                    ("read", json!({"file_path": "plain"})),
                    ("grep", json!({"pattern": "x", "path": "plain"})),
                    ("write", json!({"file_path": "d/f", "content": "inside"})),
                    ("write", json!({"file_path": format!("d/new{number}"), "content": "inside"})),
                    ("edit", json!({"file_path": "d/f", "old_string": "inside", "new_string": "inside"})),
                    ("grep", json!({"pattern": "secret", "path": "."})),
                    ("grep", json!({"pattern": "secret", "path": "d"})),
                    ("glob", json!({"pattern": "d/*"})),
                    ("glob", json!({"pattern": "**/*", "path": "d"})),
                ] {
                    let result = hand.tool(tool, input).await;
                    assert!(!result.text().contains("secret"), "{tool}: {}", result.text());
                    assert!(!result.text().contains("only outside"), "{tool}: {}", result.text());
                    reached += usize::from(!result.is_error);
                }
            }
            reached
        }));
    }
    for hammering in hammering {
        assert!(hammering.await.unwrap() > 20, "the race is not one");
    }
    over.store(true, Ordering::Relaxed);
    assert!(swapping.join().unwrap() > 100);
    assert_eq!(std::fs::read_dir(&secret).unwrap().count(), 2);
    for name in ["f", "only outside"] {
        assert_eq!(std::fs::read_to_string(secret.join(name)).unwrap(), "secret");
    }
}

#[tokio::test]
async fn row_54_a_pipe_keeps_nobody_waiting() {
    let hand = Hand::start();
    hand.output("mkfifo p; mkdir d; mkfifo d/p; echo needle >d/f").await;
    for (tool, input) in [
        ("read", json!({"file_path": "p"})),
        ("write", json!({"file_path": "p", "content": "x"})),
        ("edit", json!({"file_path": "p", "old_string": "x", "new_string": "y"})),
        ("grep", json!({"pattern": "x", "path": "p"})),
    ] {
        let result = hand.tool(tool, input).await;
        assert_eq!((result.is_error, result.text()), (true, format!("{tool}: p: not a regular file")));
    }
    let found = hand.tool("grep", json!({"pattern": "needle"})).await.text();
    assert_eq!(found, format!("{}:1:needle", hand.path("d/f").display()));
}

#[tokio::test]
async fn changes_of_a_thread_keep_their_order_and_reads_do_not_wait_for_them() {
    let hand = Hand::start();
    hand.write("f", "0");
    let client = hand.client.clone();
    let slow = tokio::spawn(async move {
        client
            .call(
                &"slow".into(),
                &request("bash", json!({"command": "until [ -e go ]; do sleep 0.01; done; cat f"})),
            )
            .await
    });
    let start = Instant::now();
    while hand.client.health().await.unwrap().running.is_empty() {
        assert!(start.elapsed().as_secs() < 20);
    }
    let client = hand.client.clone();
    let write = tokio::spawn(async move {
        client.call(&"write".into(), &request("write", json!({"file_path": "f", "content": "1"}))).await
    });
    while hand.client.health().await.unwrap().running.len() < 2 {
        assert!(start.elapsed().as_secs() < 20);
    }
    assert_eq!(hand.tool("read", json!({"file_path": "f"})).await.text(), "0");
    hand.write("go", "");
    assert_eq!(bounded(slow).await.unwrap().unwrap().result.text(), "0");
    bounded(write).await.unwrap().unwrap();
    assert_eq!(hand.read("f"), "1");
}

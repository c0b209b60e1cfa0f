//! The hand as a server: who may talk to it, and what it says to nonsense.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use remuda::hand::client::{ClientError, HandClient};
use remuda::hand::wire::{ErrorCode, PROTOCOL};
use secrecy::SecretString;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::fixture::{Hand, Options, bash, bounded, request, spawn};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn refused<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> ErrorCode {
    match outcome {
        Err(ClientError::Refused(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

/// The status and body of the answer to raw bytes.
async fn raw(hand: &Hand, bytes: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(hand.outside("s")).await.unwrap();
    // It may close before all has been sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = vec![0; 64 << 10];
    let count = bounded(stream.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn without_the_token_nothing_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("w")).unwrap();
    std::fs::write(root.join("token"), format!("{TOKEN}\n")).unwrap();
    let with_token = |path: &str| Options {
        arguments: vec!["--token-file".to_owned(), root.join(path).to_str().unwrap().to_owned()],
        ..Options::default()
    };
    let (process, address) = spawn(&root, &with_token("token"), "tcp:127.0.0.1:0").unwrap();
    let address = address.strip_prefix("tcp:").unwrap().parse().unwrap();
    let good = HandClient::tcp(address, &SecretString::from(TOKEN));
    assert_eq!(good.health().await.unwrap().protocol, PROTOCOL);
    assert_eq!(bounded(good.call(&"a".into(), &bash("echo a"))).await.unwrap().result.text(), "a");
    for wrong in ["", "0123456789abcdef0123456789abcdeg", "0123456789abcdef0123456789abcdef0"] {
        let bad = HandClient::tcp(address, &SecretString::from(wrong));
        assert_eq!(refused(bad.health().await), ErrorCode::Unauthorized);
        assert_eq!(refused(bad.call(&"b".into(), &bash("touch ran")).await), ErrorCode::Unauthorized);
        assert_eq!(refused(bad.get_file("x", 10).await), ErrorCode::Unauthorized);
        assert_eq!(refused(bad.cancel(&"b".into(), "").await), ErrorCode::Unauthorized);
    }
    drop(process);
    assert!(!root.join("w/ran").exists());
    // A unix socket can want one too.
    let listen = format!("unix:{}", root.join("s").display());
    let (process, _) = spawn(&root, &with_token("token"), &listen).unwrap();
    let client = HandClient::unix(root.join("s"));
    assert_eq!(refused(client.health().await), ErrorCode::Unauthorized);
    assert!(client.with_token(&SecretString::from(TOKEN)).health().await.is_ok());
    drop(process);
    let said = spawn(&root, &Options::default(), "tcp:127.0.0.1:0").map(|_| ()).unwrap_err();
    assert!(said.contains("on TCP needs a token"), "{said}");
    std::fs::write(root.join("short"), "abc").unwrap();
    let said = spawn(&root, &with_token("short"), "tcp:127.0.0.1:0").map(|_| ()).unwrap_err();
    assert!(said.contains("must hold one line") && !said.contains("abc"), "{said}");
}

#[tokio::test]
async fn nonsense_is_refused_in_words() {
    let hand = Hand::start();
    let post = |id: &str, body: &str| {
        format!("POST /v1/calls/{id} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    for (bytes, status, word) in [
        (post("a", "{"), 400, "in JSON"),
        (post("a", "{\"tool\":1,\"input\":{}}"), 400, "in JSON"),
        (post("a%2Fb", "{}"), 400, "a call's id has 1 to 128 characters"),
        (post("", "{}"), 400, "a call's id"),
        (post("%ff", "{}"), 400, "not UTF-8"),
        (post(&"x".repeat(129), "{}"), 400, "a call's id"),
        (
            "POST /v1/calls/a HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999\r\n\r\n".to_owned(),
            413,
            "33554432",
        ),
        (
            "PUT /v1/files/a HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999\r\n\r\n".to_owned(),
            413,
            "1073741824",
        ),
        (
            "PUT /v1/files/a?mode=xyz HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\nx".to_owned(),
            400,
            "mode=0644",
        ),
        ("GET /v1/nothing HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 404, "there is no GET /v1/nothing"),
        ("PATCH /v1/calls/a HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 404, "there is no PATCH"),
        ("GET /v1/calls/never HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 404, "never"),
    ] {
        let (code, body) = raw(&hand, bytes.as_bytes()).await;
        assert!(code == status && body.contains(word), "{bytes:.80}: {code} {body}");
    }
    // A body longer than announced room, piece by piece.
    let mut stream = UnixStream::connect(hand.outside("s")).await.unwrap();
    stream
        .write_all(b"POST /v1/calls/a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
    for _ in 0..40 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    bounded(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(hand.output("echo fine").await, "fine");
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_a_stale_one_is_replaced() {
    let mut hand = Hand::start();
    let socket = hand.outside("s");
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    let root = hand.workdir.parent().unwrap().to_path_buf();
    let listen = format!("unix:{}", socket.display());
    // Another journal, for it is the socket that is in question.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir(elsewhere.path().join("w")).unwrap();
    let said = spawn(elsewhere.path(), &Options::default(), &listen).map(|_| ()).unwrap_err();
    assert!(said.contains("somebody listens there already"), "{said}");
    hand.crash();
    assert!(socket.exists());
    hand.restart();
    assert_eq!(hand.output("echo back").await, "back");
    hand.stop();
    std::fs::write(&socket, "mine").unwrap();
    let said = spawn(&root, &Options::default(), &listen).map(|_| ()).unwrap_err();
    assert!(said.contains("something that is not a socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine");
}

#[tokio::test]
async fn wrong_arguments_and_missing_folders_have_codes_of_their_own() {
    let run = |arguments: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_remuda-hand")).args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap(), output.stdout)
    };
    let version = run(&["--version"]);
    assert_eq!(version.2, format!("remuda-hand {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    assert_eq!(version.0, 0);
    let (code, said, _) = run(&["serve", "--listen", "nowhere"]);
    assert!(code == 64 && said.starts_with("error: --listen takes unix:/path or tcp:IP:PORT"), "{said}");
    assert_eq!(run(&[]).0, 64);
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (code, said, _) = run(&[
        "serve",
        "--listen",
        "unix:/tmp/x",
        "--workdir",
        "/does/not/exist",
        "--state-dir",
        state.to_str().unwrap(),
    ]);
    assert!(
        code == 78 && said.contains("could not open the directory /does/not/exist: No such file"),
        "{said}"
    );
    let (workdir, state) = (dir.path().to_str().unwrap(), dir.path().join("w/state"));
    let state = state.to_str().unwrap();
    let (code, said, _) =
        run(&["serve", "--listen", "unix:/tmp/x", "--workdir", workdir, "--state-dir", state]);
    assert!(code == 78 && said.contains("lies in a folder that tools may use"), "{said}");
}

#[tokio::test]
async fn a_client_says_whether_its_request_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let nobody = HandClient::unix(&path);
    let error = nobody.health().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreached(_)) && !error.is_ambiguous());
    // One that takes requests and hangs up, and then one that says nothing.
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let answering = tokio::spawn(async move {
        for hang_up in [true, false] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 16];
            stream.read_exact(&mut head).await.unwrap();
            if !hang_up {
                // Held until the test is over.
                std::mem::forget(stream);
            }
        }
    });
    let error = nobody.call(&"a".into(), &bash("true")).await.unwrap_err();
    assert!(matches!(error, ClientError::Broken(_)) && error.is_ambiguous(), "{error:?}");
    let hasty = nobody.with_deadline(Duration::from_millis(100));
    let error = hasty.health().await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }) && error.is_ambiguous(), "{error:?}");
    answering.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_not_noticed() {
    let mut hand = Hand::start();
    let client = hand.client.clone();
    assert_eq!(bounded(client.call(&"a".into(), &bash("echo a"))).await.unwrap().result.text(), "a");
    hand.crash_and_restart();
    let reply = bounded(client.call(&"a".into(), &bash("echo a"))).await.unwrap();
    assert_eq!(reply.result.text(), "a");
    assert_eq!(
        bounded(client.call(&"r".into(), &request("read", json!({})))).await.unwrap().result.text(),
        "read: file_path is required (a string)"
    );
}

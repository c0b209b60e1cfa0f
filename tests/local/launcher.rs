//! The launcher, its child that becomes the hand, and what keeps the hand's own affairs from its tools.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use remuda::launch::Isolation;
use remuda_actors::ports::SandboxProvider as _;

use crate::bench::{Bench, hand, until};

#[test]
fn process_one_asks_for_its_orders_before_it_does_anything() {
    let (mut way, far_end) = UnixStream::pair().expect("sockets");
    way.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let inside = Command::new(hand())
        .arg("inside")
        .stdin(OwnedFd::from(far_end))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // By then it is tied to us. A launcher that died before that never gives any orders.
    way.read_exact(&mut [0]).expect("it asks");
    way.write_all(b"{}").expect("it listens");
    drop(way);
    let ended = inside.wait_with_output().expect("it ends");
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("could not read the launcher's orders"), "{said}");
}

/// A folder that is open in a process is a way to it, whatever else that process can see.
#[tokio::test]
async fn what_whoever_started_remuda_had_open_is_not_handed_on() {
    for isolation in [Isolation::Namespaces, Isolation::None] {
        let bench = Bench::with(|options| {
            // Before it becomes the launcher, it opens the host's root, and leaves it open for what it becomes.
            let hand = hand().display().to_string();
            let script = format!(
                "import os,sys\nos.dup2(os.open('/', os.O_RDONLY), 77, inheritable=True)\n\
                 os.execv('{hand}', ['{hand}'] + sys.argv[1:])"
            );
            options.program = "/usr/bin/python3".into();
            options.arguments = vec!["-c".to_owned(), script];
            options.isolation = isolation;
        });
        let sandbox = bench.sandbox("sesn_1.1").await;
        // The last one is the listing itself.
        let open = "python3 -c \"import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))\"";
        assert_eq!(sandbox.bash(open).await, "[0, 1, 2, 3]", "{isolation:?}");
        let launcher = format!("/proc/{}/fd/77", bench.keeper(&sandbox).launcher);
        assert!(std::fs::symlink_metadata(launcher).is_err(), "the launcher keeps it open");
        bench.close().await;
    }
}

#[tokio::test]
async fn tools_cannot_find_the_hands_socket_and_journal() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let journal = bench.folder(&sandbox).join("files/calls/journal");
    assert!(journal.exists() && bench.folder(&sandbox).join("run/hand.sock").exists(), "they are there");
    assert_eq!(sandbox.bash("ls -A /run; grep -c ' /run' /proc/self/mountinfo").await, "0");
    let names = r"\( -name hand.sock -o -name journal -o -name calls \)";
    let found = sandbox.bash(&format!("find / /proc/1/ -xdev {names} -not -path '/usr/*' 2>/dev/null")).await;
    assert_eq!(found, "");
    let holes = "for f in fd fd/3 fd/10 cwd root exe map_files; do ls /proc/1/$f/ >/dev/null 2>&1 && echo $f; done; \
                 for f in mem maps environ auxv; do head -c 1 /proc/1/$f >/dev/null 2>&1 && echo $f; done";
    assert_eq!(sandbox.bash(holes).await, "", "the hand lets its tools look into it");
    // It still writes there.
    assert!(std::fs::read_to_string(journal).expect("a journal").lines().count() > 4);
    bench.close().await;
}

/// Without isolation, tools are the hand's own user, and nothing can be hidden from them.
#[tokio::test]
async fn without_isolation_who_takes_the_place_of_the_hand_is_told_nothing() {
    let bench = Bench::with(|options| options.isolation = Isolation::None);
    let sandbox = bench.sandbox("sesn_1.1").await;
    let run = bench.folder(&sandbox).join("run");
    let script = "import os,socket\nos.unlink('hand.sock')\ns=socket.socket(socket.AF_UNIX)\ns.bind('hand.sock')\n\
                  s.listen()\nprint('taken', flush=True)\nos.close(1)\nc=s.accept()[0]\nopen('told','wb').write(c.recv(9999))";
    let taken = format!("cd {}; (python3 -c \"{script}\" 2>&1 &) | head -1", run.display());
    assert_eq!(sandbox.bash(&taken).await, "taken");
    let hand = bench.reopened().hand(&sandbox.id);
    let said = hand.health().await.expect_err("it is not the hand");
    let why = std::error::Error::source(&said).expect("a reason").to_string();
    assert!(why.contains("is not the hand that was started there"), "{why}");
    until(|| run.join("told").exists()).await;
    assert_eq!(std::fs::read_to_string(run.join("told")).expect("what it was told"), "");
    bench.close().await;
}

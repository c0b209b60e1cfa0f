//! What a tool in a sandbox can see and do.

use std::os::unix::fs::MetadataExt as _;

use remuda::launch::Network;
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn the_sandbox_is_an_ordinary_user_without_privileges() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    assert_eq!(
        sandbox.bash("id -u; id -g; id -un; hostname; pwd; echo $HOME").await,
        "1000\n1000\nagent\nsandbox\n/workspace\n/workspace"
    );
    let status = sandbox.bash("grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status").await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(sandbox.bash("unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1 | head -1; chown 0 /workspace 2>&1 | head -1").await.lines().count(), 3);
    bench.close().await;
}

#[tokio::test]
async fn on_the_host_it_runs_under_an_id_of_its_own_and_never_as_root() {
    let bench = Bench::new();
    let (one, two) = (bench.sandbox("sesn_1.1").await, bench.sandbox("sesn_2.1").await);
    let owner = |sandbox| std::fs::metadata(bench.workspace(sandbox)).expect("a workspace").uid();
    let me = rustix::process::geteuid();
    if me.is_root() {
        assert_ne!(owner(&one), owner(&two), "two sandboxes share an id");
        assert!(owner(&one) > 1_000_000_000 && owner(&two) > 1_000_000_000);
    } else {
        assert_eq!(owner(&one), me.as_raw());
    }
    one.bash("echo mine > /workspace/file").await;
    let written = std::fs::metadata(bench.workspace(&one).join("file")).expect("the file");
    assert_eq!(written.uid(), owner(&one));
    bench.close().await;
}

#[tokio::test]
async fn it_sees_a_read_only_system_and_its_own_folders() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let roots = sandbox.bash("ls -A /").await;
    let known = [
        "bin",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "mnt",
        "proc",
        "run",
        "sbin",
        "tmp",
        "usr",
        "var",
        "workspace",
    ];
    assert!(roots.lines().all(|name| known.contains(&name)), "{roots}");
    for place in ["/", "/usr/bin", "/etc", "/bin", "/lib", "/dev", "/run", "/var", "/mnt", "/proc/sys/kernel"]
    {
        let tried = sandbox.bash(&format!("touch {place}/x && echo written")).await;
        assert!(!tried.contains("written"), "{place}: {tried}");
    }
    for place in ["/workspace", "/mnt/memory", "/tmp", "/dev/shm", "/var/tmp"] {
        let tried = sandbox.bash(&format!("echo x > {place}/x && cat {place}/x && rm {place}/x")).await;
        assert_eq!(tried, "x", "{place}");
    }
    bench.close().await;
}

#[tokio::test]
async fn no_secret_of_the_host_is_readable() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    for secret in [
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/ssl/private",
        "/etc/ssh",
        "/etc/sudoers",
        "/root",
        "/home",
        "/boot",
        "/srv",
        "/opt",
        "/sys",
        "/proc/kcore",
        "/proc/1/mem",
        "/proc/1/environ",
        "/dev/sda",
        "/dev/kmsg",
        "/dev/mem",
    ] {
        let tried = sandbox.bash(&format!("head -c 100 {secret} || ls {secret}")).await;
        assert!(tried.contains("No such file") || tried.contains("Permission denied"), "{secret}: {tried}");
    }
    let passwd = sandbox.bash("cat /etc/passwd").await;
    assert_eq!(passwd.lines().count(), 3, "{passwd}");
    let token = std::fs::read_to_string(bench.folder(&sandbox).join("token")).expect("the token");
    let files = sandbox
        .bash(&format!("grep -rsl {token} / --exclude-dir=proc --exclude-dir=usr --exclude-dir=lib"))
        .await;
    assert_eq!(files, "", "the token is in a file");
    let processes = sandbox.bash("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'").await;
    assert!(processes.contains("PATH=") && !processes.contains(&token), "{processes}");
    bench.close().await;
}

#[tokio::test]
async fn it_sees_no_process_but_its_own_and_cannot_end_its_hand() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let commands = sandbox.bash("cat /proc/[0-9]*/comm").await;
    assert!(commands.lines().count() <= 5, "{commands}");
    let killed = sandbox.bash("kill -9 1; kill -TERM 1; kill -STOP 1; echo still here").await;
    assert!(killed.ends_with("still here"), "{killed}");
    assert_eq!(sandbox.bash("echo and well").await, "and well");
    bench.close().await;
}

#[tokio::test]
async fn nothing_of_the_host_is_in_its_environment() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let names = sandbox.bash("env | cut -d= -f1 | sort | grep -v '^_$'").await;
    assert_eq!(names, "HOME\nLANG\nLOGNAME\nPATH\nPWD\nSHELL\nSHLVL\nTERM\nTMPDIR\nUSER");
    bench.close().await;
}

#[tokio::test]
async fn it_has_a_loopback_of_its_own_and_no_way_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let outside = sandbox.bash(&format!("(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>&1 && echo reached")).await;
    assert!(outside.contains("Connection refused"), "the host's loopback: {outside}");
    let away = sandbox.bash("(exec 3<>/dev/tcp/192.0.2.1/80) 2>&1 && echo reached").await;
    assert!(away.contains("Network is unreachable"), "{away}");
    let own = "python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 & \
               for n in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null && echo reached && break; sleep 0.1; done";
    assert_eq!(sandbox.bash(own).await, "reached", "its own loopback");
    bench.close().await;
}

#[tokio::test]
async fn it_shares_the_hosts_network_when_asked_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let bench = Bench::with(|options| options.network = Network::Host);
    let sandbox = bench.sandbox("sesn_1.1").await;
    assert_eq!(
        sandbox.bash(&format!("(exec 3<>/dev/tcp/127.0.0.1/{port}) && echo reached")).await,
        "reached"
    );
    bench.close().await;
}

#[tokio::test]
async fn the_file_tools_work_in_the_workspace_and_in_memory_and_nowhere_else() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let wrote = sandbox.tool("write", json!({"file_path": "a/b.txt", "content": "hello\n"})).await;
    assert!(!wrote.result.is_error, "{wrote:?}");
    assert_eq!(sandbox.bash("cat a/b.txt").await, "hello");
    sandbox.bash("ln -s /etc/passwd link; ln -s /run/remuda run").await;
    for path in
        ["/etc/passwd", "link", "../etc/passwd", "/run/remuda/hand.sock", "run/calls/journal", "/tmp/x"]
    {
        let read = sandbox.tool("read", json!({"file_path": path})).await;
        assert!(read.result.is_error, "{path}: {read:?}");
    }
    let memory = sandbox.tool("write", json!({"file_path": "/mnt/memory/notes.md", "content": "kept"})).await;
    assert!(!memory.result.is_error, "{memory:?}");
    bench.close().await;
}

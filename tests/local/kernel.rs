//! What a tool can ask of the kernel.

use remuda::launch::{Isolation, Network};

use crate::bench::{Bench, hand};

/// Makes system calls by number and prints the number of each one's error.
async fn errors(bench: &Bench, calls: &[&str]) -> String {
    let sandbox = bench.sandbox("sesn_1.1").await;
    let lines: String = calls.iter().map(|call| format!("c({call})\n")).collect();
    let script = format!(
        "import ctypes\nl = ctypes.CDLL(None, use_errno=True)\ndef c(*a):\n r = l.syscall(*a)\n \
         print(ctypes.get_errno() if r < 0 else 'allowed', end=' ')\n{lines}"
    );
    sandbox.bash(&format!("python3 -c \"{script}\"")).await
}

#[tokio::test]
async fn what_is_not_divided_by_namespaces_is_refused() {
    let bench = Bench::new();
    let key = if cfg!(target_arch = "aarch64") {
        [217, 218, 219, 280, 241, 282]
    } else {
        [248, 249, 250, 321, 298, 323]
    };
    let [add_key, request_key, keyctl, bpf, perf, userfaultfd] = key;
    let calls = [
        format!("{add_key}, b'user', b'x', b'y', 1, -3"),
        format!("{request_key}, b'user', b'x', None, -3"),
        format!("{keyctl}, 0, -3, 0"),
        format!("{bpf}, 0, None, 0"),
        format!("{perf}, None, 0, -1, -1, 0"),
        format!("{userfaultfd}, 1"),
        // Of the newer ones every machine has the same numbers.
        "428, -100, b'/', 1".to_owned(),
        "430, b'tmpfs', 0".to_owned(),
        "442, -100, b'/', 0, None, 0".to_owned(),
        "425, 1, None".to_owned(),
    ];
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    assert_eq!(errors(&bench, &calls).await, "1 ".repeat(calls.len()));
    bench.close().await;
}

/// A virtual machine's way to its host belongs to no network namespace.
#[tokio::test]
async fn the_way_to_whoever_runs_this_host_as_a_virtual_machine_is_closed() {
    // 40 is the family of those sockets, 1 that of ordinary local ones.
    let socket = if cfg!(target_arch = "aarch64") { [198, 199] } else { [41, 53] };
    let [socket, pair] = socket;
    let calls = [
        format!("{socket}, 40, 1, 0"),
        // The kernel looks at the lower half of an argument alone.
        format!("{socket}, ctypes.c_ulong(40 | 1 << 32), 1, 0"),
        format!("{socket}, 1, 1, 0"),
        format!("{pair}, 1, 1, 0, (ctypes.c_int * 2)()"),
    ];
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    for network in [Network::None, Network::Host] {
        let bench = Bench::with(|options| options.network = network);
        assert_eq!(errors(&bench, &calls).await, "1 1 allowed allowed ", "{network:?}");
        bench.close().await;
    }
}

#[tokio::test]
async fn debuggers_work_on_ones_own_processes_and_not_on_the_hand() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    // 16 is to attach, 17 to let go.
    let script = "import ctypes,os,subprocess\np = subprocess.Popen(['sleep', '30'])\nt = ctypes.CDLL(None).ptrace\n\
                  print(t(16, p.pid, 0, 0), os.WIFSTOPPED(os.waitpid(p.pid, 0)[1]), t(17, p.pid, 0, 0), t(16, 1, 0, 0))\n\
                  p.kill()";
    assert_eq!(sandbox.bash(&format!("python3 -c \"{script}\"")).await, "0 True 0 -1");
    bench.close().await;
}

/// Keys are handed down from process to process, whatever ids those take.
#[tokio::test]
async fn a_key_of_whoever_started_remuda_is_not_there() {
    let [add_key, keyctl] = if cfg!(target_arch = "aarch64") { [217, 219] } else { [248, 250] };
    let search = format!(
        "import ctypes\nprint(ctypes.CDLL(None).syscall({keyctl}, 10, -3, b'user', b'remuda-test', 0))"
    );
    for isolation in [Isolation::Namespaces, Isolation::None] {
        let bench = Bench::with(|options| {
            // Before it becomes the launcher, it puts a key into a session keyring.
            let hand = hand().display().to_string();
            let script = format!(
                "import ctypes,os,sys\nc = ctypes.CDLL(None).syscall\nc({keyctl}, 1, None)\n\
                 if c({add_key}, b'user', b'remuda-test', b'secret', 6, -3) < 0: sys.exit('no keys here')\n\
                 os.execv('{hand}', ['{hand}'] + sys.argv[1:])"
            );
            options.program = "/usr/bin/python3".into();
            options.arguments = vec!["-c".to_owned(), script];
            options.isolation = isolation;
        });
        let sandbox = bench.sandbox("sesn_1.1").await;
        // Possession is what lets a process read a key, and looking for it in one's session keyring what shows that.
        let found = sandbox.bash(&format!("python3 -c \"{search}\"")).await;
        assert_eq!(found, "-1", "{isolation:?}");
        if isolation == Isolation::Namespaces {
            assert_eq!(sandbox.bash("cat /proc/keys").await, "", "not even the names of any are to be seen");
        }
        bench.close().await;
    }
}

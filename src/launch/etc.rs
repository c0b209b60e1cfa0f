//! The `/etc` of a sandbox: its own files, and those of the host's that programs cannot do without.

use std::io;
use std::path::Path;

use super::outside::INSIDE_ID;
use super::spec::Network;

/// What of the host's `/etc` a sandbox sees, read-only, where it exists. Everything here is public on any
/// installation: how to link programs, find alternatives, trust certificates, tell the time.
pub(super) const SHARED: [&str; 17] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "crypto-policies",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "os-release",
    "perl",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
];

/// What of the host's `/etc` a sandbox sees in addition when it shares the host's network.
pub(super) const SHARED_WITH_NETWORK: [&str; 1] = ["resolv.conf"];

/// Writes the sandbox's own files.
pub(super) fn write(etc: &Path, network: Network) -> io::Result<()> {
    let id = INSIDE_ID;
    let sources = if network == Network::Host { "files dns" } else { "files" };
    let files = [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n\
                 agent:x:{id}:{id}:agent:/workspace:/bin/bash\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        ("group", format!("root:x:0:\nagent:x:{id}:\nnogroup:x:65534:\n")),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned()),
        ("hostname", "sandbox\n".to_owned()),
        ("nsswitch.conf", format!("passwd: files\ngroup: files\nhosts: {sources}\nservices: files\n")),
    ];
    std::fs::create_dir_all(etc)?;
    files.iter().try_for_each(|(name, text)| std::fs::write(etc.join(name), text))
}

//! Looks for credentials where none may be: in what the processes of a sandbox were started with, and in its
//! files.

use std::fs;
use std::path::Path;

use super::sandboxes::{Sandbox, below};

/// What every credential of the control plane begins with.
const PREFIX: &[u8] = b"sk-ant-";

/// The largest file that is looked into, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What a search came to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Places that were looked at.
    pub(crate) searched: usize,
    /// Those that hold a credential.
    pub(crate) leaks: Vec<String>,
}

impl Found {
    fn look(&mut self, place: &Path) {
        let Ok(text) = fs::read(place) else { return };
        self.searched += 1;
        if text.windows(PREFIX.len()).any(|window| window == PREFIX) {
            self.leaks.push(format!("a credential in {}", place.display()));
        }
    }

    fn look_below(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
            if metadata.is_dir() {
                self.look_below(&path);
            } else if metadata.is_file() && metadata.len() <= MAX_FILE {
                self.look(&path);
            }
        }
    }
}

/// Searches the sandbox in a folder.
pub(crate) fn search(folder: &Path) -> Found {
    let mut found = Found::default();
    if let Some(sandbox) = Sandbox::open(folder) {
        let (launcher, hand) = (sandbox.launcher.pid, sandbox.hand.pid);
        for pid in below(hand).into_iter().chain([launcher, hand]) {
            for what in ["environ", "cmdline"] {
                found.look(Path::new(&format!("/proc/{pid}/{what}")));
            }
        }
    }
    found.look_below(folder);
    found
}

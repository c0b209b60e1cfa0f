//! The numbers a session is served by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::lease;
use crate::ports::CustomTool;

/// How a session is served.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How its lease is kept.
    pub lease: lease::Policy,
    /// The tools we run. Calls of others stay pending for whoever owns those.
    pub tools: BTreeSet<Arc<str>>,
    /// Of these, the ones that the operator has [declared](Self::declare), and where they run. Default none.
    pub custom: BTreeMap<Arc<str>, CustomTool>,
    /// Of these, the ones that only look: they run side by side. Default read, glob and grep.
    pub readers: BTreeSet<Arc<str>>,
    /// Of these, the ones that are run again if their sandbox is lost before they answer; the agent is told
    /// that nobody knows how far the others came. Default read, glob and grep.
    pub rerun: BTreeSet<Arc<str>>,
    /// Calls of one session at once. Default 8.
    pub parallel_calls: usize,
    /// How long a session that is in a turn may give no sign of life, while no call of ours runs, before its
    /// item is ended; none means for ever. Default 24 h: a person may have to confirm something.
    pub max_silence: Option<Duration>,
    /// How long a session may be idle after its turn before its item is ended; none means for ever.
    /// Default 60 s, as the official workers have it: a later message queues new work.
    pub max_idle: Option<Duration>,
    /// Attempts to retrieve the session. Default 5.
    pub retrieve_attempts: u32,
    /// How long the calls of an ending session may take to be cut and answered. Default 10 s.
    pub settle: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let of = |tools: &[&str]| tools.iter().copied().map(Arc::from).collect();
        let readers = ["read", "glob", "grep"];
        Self {
            lease: lease::Policy::default(),
            tools: of(&["bash", "read", "write", "edit", "glob", "grep"]),
            custom: BTreeMap::new(),
            readers: of(&readers),
            rerun: of(&readers),
            parallel_calls: 8,
            max_silence: Some(Duration::from_secs(24 * 3600)),
            max_idle: Some(Duration::from_secs(60)),
            retrieve_attempts: 5,
            settle: Duration::from_secs(10),
        }
    }
}

/// Whether a custom tool changes anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effects {
    /// It may: its calls run one after another, and none is run again when nobody knows how far it came.
    #[default]
    Unknown,
    /// It only looks: its calls run side by side, and again if need be.
    None,
}

impl Policy {
    /// Takes up a tool of the operator's under the name that agents call it by.
    pub fn declare(&mut self, name: Arc<str>, tool: CustomTool, effects: Effects) {
        self.tools.insert(Arc::clone(&name));
        if effects == Effects::None {
            self.readers.insert(Arc::clone(&name));
            self.rerun.insert(Arc::clone(&name));
        }
        self.custom.insert(name, tool);
    }
}

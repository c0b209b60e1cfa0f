//! What a rule is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use remuda_actors::ports::Limits;

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which of the file's rules it is, counted from 1.
    pub number: usize,
    /// What people call it.
    pub name: Option<String>,
    /// The sessions that it is for.
    pub when: When,
    /// What becomes of them.
    pub decision: Decision,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "rule {} `{name}`", self.number),
            None => write!(f, "rule {}", self.number),
        }
    }
}

/// The sessions that a rule is for: those of which all that is named here holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// The session's environment is one of these.
    pub environment: Option<BTreeSet<String>>,
    /// The id or the name of the session's agent is one of these.
    pub agent: Option<BTreeSet<String>>,
    /// The session's metadata has these keys with such values.
    pub metadata: BTreeMap<String, Wanted>,
}

impl When {
    /// Whether every session that `other` is for is one of ours, too.
    pub fn covers(&self, other: &Self) -> bool {
        let all_of = |ours: &Option<BTreeSet<String>>, theirs: &Option<BTreeSet<String>>| match (ours, theirs)
        {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => theirs.is_subset(ours),
        };
        let covered = |(key, ours): (&String, &Wanted)| match (ours, other.metadata.get(key)) {
            (_, None) | (Wanted::OneOf(_), Some(Wanted::Any)) => false,
            (Wanted::Any, Some(_)) => true,
            (Wanted::OneOf(ours), Some(Wanted::OneOf(theirs))) => theirs.is_subset(ours),
        };
        all_of(&self.environment, &other.environment)
            && all_of(&self.agent, &other.agent)
            && self.metadata.iter().all(covered)
    }
}

/// What a key of a session's metadata must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// There, whatever it is.
    Any,
    /// One of these.
    OneOf(BTreeSet<String>),
}

/// What a rule decides; whatever is none is as the flags say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Where the sandbox comes from.
    pub provider: Option<String>,
    /// What it is made from.
    pub image: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// How long no call must run before it is put in standby.
    pub standby_after: Option<Duration>,
    /// How long the session may be idle after its turn; zero means for ever.
    pub max_idle: Option<Duration>,
    /// By whom the session is served.
    pub mode: Mode,
}

/// By whom a session is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By the tree.
    #[default]
    Brokered,
    /// By a worker in its sandbox.
    Worker {
        /// The program and its arguments.
        command: Vec<String>,
        /// Variables that it gets beside its own, by name.
        variables: Vec<String>,
    },
    /// By a command on this host.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// Variables that it gets beside its own, by name.
        variables: Vec<String>,
    },
}

impl Mode {
    /// As it is written in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Brokered => "brokered",
            Self::Worker { .. } => "worker",
            Self::Command { .. } => "command",
        }
    }
}

impl fmt::Display for Decision {
    /// One line for each thing that is decided.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "execution = {}", self.mode.name())?;
        if let Mode::Worker { command, variables } | Mode::Command { command, variables } = &self.mode {
            write!(f, "\ncommand = {command:?}")?;
            if !variables.is_empty() {
                write!(f, "\nvariables = {variables:?}")?;
            }
        }
        let mut line = |key: &str, value: Option<String>| match value {
            Some(value) => write!(f, "\n{key} = {value}"),
            None => Ok(()),
        };
        let mib = |bytes: Option<u64>| bytes.map(|bytes| format!("{} MiB", bytes >> 20));
        let time = |time: Option<Duration>| time.map(|time| humantime::format_duration(time).to_string());
        line("provider", self.provider.clone())?;
        line("image", self.image.clone())?;
        line("sandbox-processes", self.limits.processes.map(|processes| processes.to_string()))?;
        line("sandbox-memory", mib(self.limits.memory_bytes))?;
        line("sandbox-file-size", mib(self.limits.file_bytes))?;
        let network = self.limits.network.map(|open| if open { "host" } else { "none" });
        line("sandbox-network", network.map(str::to_owned))?;
        line("standby-after", time(self.standby_after))?;
        line("max-idle", time(self.max_idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn when(environment: &[&str], metadata: &[(&str, &str)]) -> When {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let wanted = |value: &str| match value {
            "*" => Wanted::Any,
            value => Wanted::OneOf(set(&value.split('|').collect::<Vec<_>>())),
        };
        When {
            environment: Some(set(environment)).filter(|names| !names.is_empty()),
            agent: None,
            metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), wanted(value))).collect(),
        }
    }

    #[test]
    fn a_wider_rule_covers_a_narrower_one_and_not_the_other_way_round() {
        for (wide, narrow) in [
            (when(&[], &[]), when(&["a"], &[("k", "v")])),
            (when(&["a", "b"], &[]), when(&["a"], &[])),
            (when(&[], &[("k", "*")]), when(&[], &[("k", "v")])),
            (when(&[], &[("k", "v|w")]), when(&[], &[("k", "w"), ("l", "x")])),
        ] {
            assert!(wide.covers(&narrow), "{wide:?} {narrow:?}");
            assert!(!narrow.covers(&wide), "{narrow:?} {wide:?}");
        }
        assert!(!when(&["a"], &[]).covers(&when(&[], &[("k", "v")])), "they only overlap");
    }
}

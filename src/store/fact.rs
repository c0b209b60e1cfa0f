//! What is written: each fact as JSON under its kind, the same in the log and in the tables.
//!
//! The types of the port stay free of this. In particular a credential has no other way into bytes than
//! [`credential`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use remuda_actors::ids::{CallId, EnvironmentId, SandboxId, SessionId, WorkId};
use remuda_actors::ports::{HeartbeatToken, Record, Shelved, Target, WorkItem};
use remuda_actors::secret::Secret;
use remuda_actors::tool::ToolResult;
use serde::{Deserialize, Serialize};

/// One fact, as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Fact {
    Claimed {
        work: WorkId,
        environment: EnvironmentId,
        target: Target,
        #[serde(with = "credential")]
        credential: Option<Secret>,
    },
    Beat {
        work: WorkId,
        token: Option<HeartbeatToken>,
        ttl_ms: u64,
    },
    SandboxIntended {
        work: WorkId,
        instance: u32,
        sandbox: SandboxId,
    },
    CallStarted {
        work: WorkId,
        call: CallId,
        sandbox: SandboxId,
    },
    CallFinished {
        work: WorkId,
        call: CallId,
        result: Arc<ToolResult>,
    },
    CallPosted {
        work: WorkId,
        call: CallId,
    },
    Left {
        work: WorkId,
        session: SessionId,
        calls: BTreeMap<CallId, SandboxId>,
    },
    Ended {
        work: WorkId,
    },
    Shelved(Shelved),
    Unshelved {
        sandbox: SandboxId,
    },
}

impl Fact {
    /// What the port calls a record about `work`.
    pub(super) fn of(work: &WorkId, record: Record) -> Self {
        let work = work.clone();
        match record {
            Record::Claimed { item: WorkItem { id: _, environment, target, credential } } => {
                Self::Claimed { work, environment, target, credential }
            }
            Record::Beat { token, ttl } => {
                let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                Self::Beat { work, token, ttl_ms }
            }
            Record::SandboxIntended { instance, sandbox } => {
                Self::SandboxIntended { work, instance, sandbox }
            }
            Record::CallStarted { call, sandbox } => Self::CallStarted { work, call, sandbox },
            Record::CallFinished { call, result } => Self::CallFinished { work, call, result },
            Record::CallPosted { call } => Self::CallPosted { work, call },
            Record::Left { session, calls } => Self::Left { work, session, calls },
            Record::Ended => Self::Ended { work },
        }
    }

    /// The same as the port's record; none for what is said about the shelf.
    pub(super) fn into_record(self) -> Option<(WorkId, Record)> {
        Some(match self {
            Self::Claimed { work, environment, target, credential } => {
                let item = WorkItem { id: work.clone(), environment, target, credential };
                (work, Record::Claimed { item })
            }
            Self::Beat { work, token, ttl_ms } => {
                (work, Record::Beat { token, ttl: Duration::from_millis(ttl_ms) })
            }
            Self::SandboxIntended { work, instance, sandbox } => {
                (work, Record::SandboxIntended { instance, sandbox })
            }
            Self::CallStarted { work, call, sandbox } => (work, Record::CallStarted { call, sandbox }),
            Self::CallFinished { work, call, result } => (work, Record::CallFinished { call, result }),
            Self::CallPosted { work, call } => (work, Record::CallPosted { call }),
            Self::Left { work, session, calls } => (work, Record::Left { session, calls }),
            Self::Ended { work } => (work, Record::Ended),
            Self::Shelved(_) | Self::Unshelved { .. } => return None,
        })
    }
}

/// The one place where a credential becomes text that is written, and the one where it is read again.
mod credential {
    use remuda_actors::secret::Secret;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an earlier version wrote must stay readable: a change here needs a new format version.
    #[test]
    fn the_form_of_each_kind_is_part_of_the_format() {
        let forms = [
            r#"{"kind":"claimed","work":"w","environment":"e","target":{"session":"s"},"credential":"c"}"#,
            r#"{"kind":"claimed","work":"w","environment":"e","target":{"other":"t"},"credential":null}"#,
            r#"{"kind":"beat","work":"w","token":"t","ttl_ms":30000}"#,
            r#"{"kind":"sandbox_intended","work":"w","instance":1,"sandbox":"b"}"#,
            r#"{"kind":"call_started","work":"w","call":"c","sandbox":"b"}"#,
            r#"{"kind":"call_finished","work":"w","call":"c","result":{"is_error":false,"content":[{"type":"text","text":"x"}]}}"#,
            r#"{"kind":"call_posted","work":"w","call":"c"}"#,
            r#"{"kind":"left","work":"w","session":"s","calls":{"c":"b"}}"#,
            r#"{"kind":"ended","work":"w"}"#,
            r#"{"kind":"shelved","sandbox":"b","parked":null}"#,
            r#"{"kind":"shelved","sandbox":"b","parked":{"session":"s","instance":2,"disk_bytes":3,"memory_bytes":4}}"#,
            r#"{"kind":"unshelved","sandbox":"b"}"#,
        ];
        for form in forms {
            let fact: Fact = serde_json::from_str(form).unwrap();
            assert_eq!(serde_json::to_string(&fact).unwrap(), form);
            // The way through the port and back loses nothing either.
            if let Some((work, record)) = fact.into_record() {
                assert_eq!(serde_json::to_string(&Fact::of(&work, record)).unwrap(), form);
            }
        }
    }

    #[test]
    fn a_credential_is_written_and_never_printed() {
        let credential = Some(Secret::new("sk-ant-oat01-abc"));
        let (environment, target) = ("e".into(), Target::Session("s".into()));
        let fact = Fact::Claimed { work: "w".into(), environment, target, credential };
        assert!(serde_json::to_string(&fact).unwrap().contains("sk-ant-oat01-abc"));
        assert!(!format!("{fact:?}").contains("sk-ant"), "{fact:?}");
    }
}

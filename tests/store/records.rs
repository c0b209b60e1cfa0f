//! Records to append, and what a replay of them should tell.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use remuda::store::Store;
use remuda_actors::ids::{CallId, SandboxId, WorkId};
use remuda_actors::ports::{HeartbeatToken, Journal as _, Record, Replay, Shelved, Target, WorkItem};
use remuda_actors::secret::Secret;
use remuda_actors::tool::ToolResult;

/// What a journal should remember, in the simplest way there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) records: Vec<(WorkId, Record)>,
    pub(crate) shelf: Vec<Shelved>,
}

impl Model {
    pub(crate) fn append(&mut self, work: &WorkId, record: Record) {
        if let Record::SandboxIntended { sandbox, .. } = &record {
            self.unshelve(sandbox);
        }
        let is_claimed = self.any(work, |record| matches!(record, Record::Claimed { .. }));
        match &record {
            Record::Claimed { .. } if is_claimed => return,
            Record::Claimed { .. } => {}
            Record::Ended => return self.forget(work, |_| true),
            _ if !is_claimed => return,
            Record::Beat { token, .. } => {
                if self.any(work, |known| matches!(known, Record::Beat { token: t, .. } if t == token)) {
                    return;
                }
                self.forget(work, |known| matches!(known, Record::Beat { .. }));
            }
            Record::SandboxIntended { sandbox, .. } => {
                self.forget(
                    work,
                    |known| matches!(known, Record::SandboxIntended { sandbox: s, .. } if s == sandbox),
                );
                let intended = |(of, known): &(WorkId, Record)| {
                    of == work && matches!(known, Record::SandboxIntended { .. })
                };
                if self.records.iter().filter(|known| intended(known)).count() == 2
                    && let Some(oldest) = self.records.iter().position(intended)
                {
                    self.records.remove(oldest);
                }
            }
            Record::CallStarted { call, .. } => {
                if self.any(work, |known| starts(known, call)) {
                    return;
                }
            }
            Record::CallFinished { call, .. } => {
                if !self.any(work, |known| starts(known, call)) {
                    return;
                }
                self.forget(work, |known| finishes(known, call));
            }
            Record::CallPosted { call } => {
                self.forget(work, |known| starts(known, call) || finishes(known, call));
                return;
            }
            Record::Left { .. } => self.forget(work, |_| true),
        }
        self.records.push((work.clone(), record));
    }

    pub(crate) fn shelve(&mut self, shelved: Shelved) {
        self.unshelve(&shelved.sandbox);
        self.shelf.push(shelved);
    }

    pub(crate) fn unshelve(&mut self, sandbox: &SandboxId) {
        self.shelf.retain(|shelved| shelved.sandbox != *sandbox);
    }

    /// Every record and the shelf, as [`told`] has them.
    pub(crate) fn told(&self) -> Vec<String> {
        let records = self.records.iter().map(|(work, record)| line(work, record));
        records.chain(self.shelf.iter().map(|shelved| format!("{shelved:?}"))).collect()
    }

    fn any(&self, work: &WorkId, is: impl Fn(&Record) -> bool) -> bool {
        self.records.iter().any(|(of, record)| of == work && is(record))
    }

    fn forget(&mut self, work: &WorkId, is: impl Fn(&Record) -> bool) {
        self.records.retain(|(of, record)| of != work || !is(record));
    }
}

fn starts(record: &Record, of: &CallId) -> bool {
    matches!(record, Record::CallStarted { call, .. } if call == of)
}

fn finishes(record: &Record, of: &CallId) -> bool {
    matches!(record, Record::CallFinished { call, .. } if call == of)
}

/// Every record of a replay and its shelf, in order, in a form that can be compared.
pub(crate) fn told(replay: &Replay) -> Vec<String> {
    let records = replay.work.iter().map(|replayed| line(&replayed.work, &replayed.record));
    records.chain(replay.shelf.iter().map(|(shelved, _)| format!("{shelved:?}"))).collect()
}

fn line(work: &WorkId, record: &Record) -> String {
    match record {
        // Its `Debug` keeps the credential to itself.
        Record::Claimed { item } => {
            let credential = item.credential.as_ref().map(Secret::expose);
            format!("{work} {record:?} {credential:?}")
        }
        record => format!("{work} {record:?}"),
    }
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir).expect("the journal opens")
}

/// What a store tells.
pub(crate) async fn tell(store: &Store) -> Vec<String> {
    told(&store.replay().await.expect("replay"))
}

pub(crate) async fn append(store: &Store, work: &str, record: Record) {
    store.append(&work.into(), record).await.expect("append");
}

pub(crate) fn claimed(work: &str) -> Record {
    let item = WorkItem {
        id: work.into(),
        environment: "env_0123456789".into(),
        target: Target::Session(format!("sesn_{work}").into()),
        // About as long as a session's token.
        credential: Some(Secret::new(format!("sk-ant-{work}-").repeat(10))),
    };
    Record::Claimed { item }
}

pub(crate) fn beat(token: &str) -> Record {
    Record::Beat { token: Some(HeartbeatToken::new(token)), ttl: Duration::from_secs(120) }
}

pub(crate) fn intended(sandbox: &str) -> Record {
    Record::SandboxIntended { instance: 1, sandbox: sandbox.into() }
}

pub(crate) fn started(call: &str) -> Record {
    Record::CallStarted { call: call.into(), sandbox: "sandbox".into() }
}

pub(crate) fn finished(call: &str, output: &str) -> Record {
    Record::CallFinished { call: call.into(), result: Arc::new(ToolResult::ok(output)) }
}

pub(crate) fn left(call: &str) -> Record {
    Record::Left { session: "sesn_1".into(), calls: BTreeMap::from([(call.into(), "sandbox".into())]) }
}

pub(crate) fn posted(call: &str) -> Record {
    Record::CallPosted { call: call.into() }
}

/// Copies the files as a process finds them that starts after this one was killed.
pub(crate) fn image(of: &Path, to: &Path) {
    for file in ["journal.redb", "journal.log"] {
        std::fs::copy(of.join(file), to.join(file)).expect("copy");
    }
}

//! A journal in memory, which survives the trees that write it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::Faults;
use crate::ids::{SandboxId, WorkId};
use crate::ports::{Journal, JournalError, Record, Replay, Replayed, Shelved};

/// What every write takes: a journal that answers at once hides what is lost while one waits for it.
const LATENCY: Duration = Duration::from_micros(300);

/// A journal in memory, which survives the trees that write it.
#[derive(Debug, Default)]
pub struct FakeJournal {
    records: Mutex<Vec<(Instant, WorkId, Record)>>,
    shelf: Mutex<BTreeMap<SandboxId, (Instant, Shelved)>>,
    /// Faults to come; the operations are `append`, `shelve` and `unshelve`.
    pub faults: Faults<JournalError>,
}

impl FakeJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// The shelf.
    pub fn shelf(&self) -> Vec<Shelved> {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.values().map(|(_, shelved)| shelved.clone()).collect()
    }

    /// Appends a record that was made at `at`, and is as old as that when it is replayed.
    ///
    /// # Errors
    /// Those that were asked for.
    ///
    /// # Cancel safety
    /// As [`Journal::append`].
    pub async fn append_as_of(&self, at: Instant, work: &WorkId, record: Record) -> Result<(), JournalError> {
        let append = async {
            sleep(LATENCY).await;
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            if let Record::SandboxIntended { sandbox, .. } = &record {
                self.shelf.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox);
            }
            let is_claim = |(_, of, record): &(_, WorkId, Record)| {
                of == work && matches!(record, Record::Claimed { .. })
            };
            // What comes late, about work that is not claimed any more, tells nothing.
            let tells = matches!(record, Record::Claimed { .. }) || records.iter().any(is_claim);
            let ends = matches!(record, Record::Ended);
            if ends || (tells && matches!(record, Record::Left { .. })) {
                records.retain(|(_, of, _)| of != work);
            }
            if tells && !ends {
                records.push((at, work.clone(), record));
            }
            Ok(())
        };
        self.faults.around("append", append).await
    }

    /// Everything appended so far.
    pub fn records(&self) -> Vec<(WorkId, Record)> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().map(|(_, work, record)| (work.clone(), record.clone())).collect()
    }
}

#[async_trait]
impl Journal for FakeJournal {
    async fn append(&self, work: &WorkId, record: Record) -> Result<(), JournalError> {
        self.append_as_of(Instant::now(), work, record).await
    }

    async fn shelve(&self, shelved: &Shelved) -> Result<(), JournalError> {
        let shelve = async {
            sleep(LATENCY).await;
            let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.insert(shelved.sandbox.clone(), (Instant::now(), shelved.clone()));
            Ok(())
        };
        self.faults.around("shelve", shelve).await
    }

    async fn unshelve(&self, sandbox: &SandboxId) -> Result<(), JournalError> {
        let unshelve = async {
            sleep(LATENCY).await;
            self.shelf.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox);
            Ok(())
        };
        self.faults.around("unshelve", unshelve).await
    }

    async fn replay(&self) -> Result<Replay, JournalError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let replayed = records.iter().map(|(at, work, record)| Replayed {
            work: work.clone(),
            age: at.elapsed(),
            record: record.clone(),
        });
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelf.values().map(|(at, shelved)| (shelved.clone(), at.elapsed()));
        Ok(Replay { work: replayed.collect(), shelf: shelf.collect() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::journal(Arc::new(FakeJournal::new())).await;
    }
}

//! A journal in memory, which survives the trees that write it.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;

use super::Faults;
use crate::ids::WorkId;
use crate::ports::{Journal, JournalError, Record, Replayed};

/// A journal in memory, which survives the trees that write it.
#[derive(Debug, Default)]
pub struct FakeJournal {
    records: Mutex<Vec<(Instant, WorkId, Record)>>,
    /// Faults to come; the operation is `append`.
    pub faults: Faults<JournalError>,
}

impl FakeJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
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
        let append = async {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(record, Record::Ended) {
                records.retain(|(_, of, _)| of != work);
            } else {
                records.push((Instant::now(), work.clone(), record));
            }
            Ok(())
        };
        self.faults.around("append", append).await
    }

    async fn replay(&self) -> Result<Vec<Replayed>, JournalError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let replayed = records.iter().map(|(at, work, record)| Replayed {
            work: work.clone(),
            age: at.elapsed(),
            record: record.clone(),
        });
        Ok(replayed.collect())
    }
}

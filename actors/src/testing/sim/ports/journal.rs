//! The journal of one process.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::ids::{SandboxId, WorkId};
use crate::ports::{Journal, JournalError, Record, Replay, Shelved};
use crate::testing::sim::Operation;
use crate::testing::sim::fate::Failure;
use crate::testing::sim::life::{About, Life};

pub(super) struct Memory(pub(super) Arc<Life>);

#[async_trait]
impl Journal for Memory {
    async fn append(&self, work: &WorkId, record: Record) -> Result<(), JournalError> {
        let (life, at) = (&self.0, Instant::now());
        let about = About { operation: Operation::Append, subject: work.as_str(), call: None };
        let appended = life.ask(about, Failure::journal, || {
            let (journal, work, record) = (Arc::clone(&life.host.journal), work.clone(), record.clone());
            let (world, host) = (Arc::clone(&life.world), life.host.index);
            async move {
                journal.append_as_of(at, &work, record.clone()).await?;
                if let Record::CallFinished { call, result } = &record {
                    world.watch(|watch, _| watch.written(host, call, result));
                }
                Ok(())
            }
        });
        appended.await
    }

    async fn shelve(&self, shelved: &Shelved) -> Result<(), JournalError> {
        let life = &self.0;
        let about = About { operation: Operation::Shelve, subject: shelved.sandbox.as_str(), call: None };
        let done = life.ask(about, Failure::journal, || {
            let (journal, shelved) = (Arc::clone(&life.host.journal), shelved.clone());
            async move { journal.shelve(&shelved).await }
        });
        done.await
    }

    async fn unshelve(&self, sandbox: &SandboxId) -> Result<(), JournalError> {
        let life = &self.0;
        let about = About { operation: Operation::Unshelve, subject: sandbox.as_str(), call: None };
        let done = life.ask(about, Failure::journal, || {
            let (journal, sandbox) = (Arc::clone(&life.host.journal), sandbox.clone());
            async move { journal.unshelve(&sandbox).await }
        });
        done.await
    }

    async fn replay(&self) -> Result<Replay, JournalError> {
        self.0.host.journal.replay().await
    }
}

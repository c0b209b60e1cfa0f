//! The journal's front: opens the files, and passes what is appended to the [writer](super::writer).

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use rand::RngExt as _;
use remuda_actors::ids::{SandboxId, WorkId};
use remuda_actors::ports::{Journal, JournalError, Record, Replay, Shelved};
use tokio::sync::{Semaphore, oneshot};

use super::error::{Failure, StoreError};
use super::fact::Fact;
use super::files::Paths;
use super::inspect::{Identity, inspect};
use super::log::{Entry, Log, MAX_FACT};
use super::tables::Tables;
use super::writer::{Request, Writer, now};

/// How many records may wait for the writer; whoever comes next waits for a place.
const QUEUE: usize = 1024;

/// When a record is on the disk. That it survives this process is never in question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before its append returns, so that no loss of power loses it. An append then takes as long as the disk
    /// takes to sync, commonly 0.2 to 10 ms. For hosts that may lose power while their sandboxes, elsewhere,
    /// go on.
    Always,
    /// Within a second. A loss of power loses what came last, never what came before that; local sandboxes it
    /// ends anyway. Taking a sandbox off the shelf does not return before it is on the disk.
    #[default]
    EverySecond,
}

/// The durable journal: see [the module](super).
///
/// Dropping it waits until all that was appended is on the disk.
#[derive(Debug)]
pub struct Store {
    places: Arc<Semaphore>,
    /// None once it is being dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the journal in a state directory with the default durability; see
    /// [`open_with`](Self::open_with).
    ///
    /// # Errors
    /// [`StoreError`]. A file that is refused for what it is has not changed.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, Durability::default())
    }

    /// Opens the journal in a state directory, which must exist, and makes an empty one if there is none.
    ///
    /// Blocks while it reads the files: some 50 ms for 10,000 work items.
    ///
    /// # Errors
    /// [`StoreError`]. A file that is refused for what it is has not changed.
    pub fn open_with(dir: &Path, durability: Durability) -> Result<Self, StoreError> {
        let paths = Paths::of(dir);
        let (applied, logged) = recover(&paths)?;
        let writer = Writer::open(paths, durability, applied, &logged)?;
        let (requests, queue) = mpsc::channel();
        let thread = thread::Builder::new().name("journal".to_owned());
        let writer = thread
            .spawn(move || writer.run(&queue))
            .map_err(|source| StoreError::Io { path: dir.to_owned(), source })?;
        Ok(Self { places: Arc::new(Semaphore::new(QUEUE)), requests: Some(requests), writer: Some(writer) })
    }

    async fn write(&self, fact: Fact) -> Result<(), JournalError> {
        let at = now();
        let json = serde_json::to_vec(&fact).map_err(|error| failed(Failure::Unwritable(error)))?;
        if json.len() > MAX_FACT {
            return Err(failed(Failure::TooLarge { bytes: json.len(), limit: MAX_FACT }));
        }
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| failed(Failure::Stopped))?;
        let (done, answer) = oneshot::channel();
        self.ask(Request::Write { fact, json, at, done, place })?;
        match answer.await {
            Ok(written) => written.map_err(failed),
            Err(_) => Err(failed(Failure::Stopped)),
        }
    }

    fn ask(&self, request: Request) -> Result<(), JournalError> {
        let sent = self.requests.as_ref().map(|requests| requests.send(request));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(failed(Failure::Stopped)) }
    }
}

/// The number of the last fact in the tables, and what the log knows beyond it. Makes what is not there.
fn recover(paths: &Paths) -> Result<(u64, Vec<Entry>), StoreError> {
    let there =
        |path: &Path| path.try_exists().map_err(|source| StoreError::Io { path: path.to_owned(), source });
    let (has_tables, has_log) = (there(&paths.tables)?, there(&paths.log)?);
    let identity = match (has_tables, has_log) {
        (true, _) => inspect(&paths.tables)?,
        (false, true) => {
            let what = "it continues a journal.redb that is not there".to_owned();
            return Err(StoreError::Foreign { path: paths.log.clone(), what });
        }
        (false, false) => {
            let id = rand::rng().random();
            Tables::create(&paths.tables, id).map_err(|error| StoreError::of_redb(&paths.tables, error))?;
            Identity { id, applied: 0 }
        }
    };
    if !has_log && identity.applied > 0 {
        let what =
            format!("it is not there, and journal.redb has taken {} records over from it", identity.applied);
        return Err(StoreError::Corrupt { path: paths.log.clone(), what });
    }
    if !has_log {
        Log::create(&paths.log, identity.id)
            .map_err(|source| StoreError::Io { path: paths.log.clone(), source })?;
    }
    Ok((identity.applied, Log::read(&paths.log, identity.id, identity.applied)?))
}

fn failed(failure: impl Into<Arc<Failure>>) -> JournalError {
    JournalError::Write(Box::new(failure.into()))
}

#[async_trait]
impl Journal for Store {
    async fn append(&self, work: &WorkId, record: Record) -> Result<(), JournalError> {
        self.write(Fact::of(work, record)).await
    }

    async fn shelve(&self, shelved: &Shelved) -> Result<(), JournalError> {
        self.write(Fact::Shelved(shelved.clone())).await
    }

    async fn unshelve(&self, sandbox: &SandboxId) -> Result<(), JournalError> {
        self.write(Fact::Unshelved { sandbox: sandbox.clone() }).await
    }

    async fn replay(&self) -> Result<Replay, JournalError> {
        let (done, answer) = oneshot::channel();
        self.ask(Request::Replay { done })?;
        answer.await.unwrap_or_else(|_| Err(failed(Failure::Stopped)))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // The writer ends when nobody is left to ask it for something.
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            // If it panicked, that was said where it happened.
            let _ = writer.join();
        }
    }
}

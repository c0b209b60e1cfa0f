//! The thread that writes the journal.
//!
//! ```text
//! append ─┐             all that             one write to the log,
//! append ─┼─► queue ──► is queued ─────────► one sync if asked for ──► answers
//! shelve ─┘                                          │
//!                                                    └─ log too long ──► one commit to the tables,
//!                                                                        the log begins anew
//! ```
//!
//! # Invariants
//! - Whoever is answered with success finds the fact in the log or in the tables, whenever this process ends.
//! - What is in the log is also in `pending` until the tables hold it, so a checkpoint that fails loses
//!   nothing and is tried again.
//! - When a sandbox may have left the shelf, the log is synced before that is answered, whatever the
//!   durability: one that has been used must never again be taken for a blank one, not even after a loss of
//!   power.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{JournalError, Replay};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Durability;
use super::error::{Failure, StoreError, mend};
use super::fact::Fact;
use super::files::Paths;
use super::log::{Entry, Log};
use super::tables::Tables;

/// How long the log grows before the tables take it over. Records of 250 bytes make a checkpoint every 2,000,
/// which keeps others waiting for some 10 ms.
const CHECKPOINT_BYTES: u64 = 512 << 10;
/// How long the log may grow, by more than one batch, while the tables cannot be written; from then on
/// nothing is accepted.
const LOG_BYTES: u64 = 16 << 20;
/// How much is written together.
const BATCH_BYTES: usize = 1 << 20;
/// How long a record may stay unsynced, and how long to wait before the tables are tried again.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the writer is asked.
pub(super) enum Request {
    Write {
        fact: Fact,
        /// The fact as it is written.
        json: Vec<u8>,
        /// Wall-clock time in milliseconds.
        at: u64,
        done: oneshot::Sender<Result<(), Arc<Failure>>>,
        /// Its place in the queue, free again as soon as the request is taken.
        place: OwnedSemaphorePermit,
    },
    Replay {
        done: oneshot::Sender<Result<Replay, JournalError>>,
    },
}

/// The state of the thread.
pub(super) struct Writer {
    paths: Paths,
    durability: Durability,
    /// None after a failure, for redb then wants to be opened again.
    tables: Option<Tables>,
    log: Log,
    /// What is in the log.
    pending: Vec<Entry>,
    /// The sequence number of the last fact.
    last: u64,
    /// What may be on the shelf: all that is, and perhaps something whose shelving failed.
    shelf: HashSet<SandboxId>,
    /// When the log must be synced, if there is something to sync.
    sync_due: Option<Instant>,
    /// The tables are not tried again before.
    retry_due: Option<Instant>,
}

impl Writer {
    /// Opens the files for writing and brings the tables up to date with what was read from the log.
    pub(super) fn open(
        paths: Paths,
        durability: Durability,
        applied: u64,
        logged: &[Entry],
    ) -> Result<Self, StoreError> {
        let refused = |error| StoreError::of_redb(&paths.tables, error);
        let tables = Tables::open(&paths.tables).map_err(refused)?;
        tables.apply(logged).map_err(refused)?;
        let shelf = tables.shelf().map_err(refused)?;
        let failed = |source| StoreError::Io { path: paths.log.clone(), source };
        let mut log = Log::open(&paths.log).map_err(failed)?;
        log.truncate().map_err(failed)?;
        Ok(Self {
            durability,
            tables: Some(tables),
            log,
            pending: Vec::new(),
            last: logged.last().map_or(applied, |entry| entry.sequence),
            shelf,
            sync_due: None,
            retry_due: None,
            paths,
        })
    }

    /// Serves requests until nobody is left to make one.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let request = match self.sync_due {
                None => requests.recv().map_err(|RecvError| RecvTimeoutError::Disconnected),
                Some(due) => requests.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match request {
                Ok(request) => self.serve(request, requests),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.sync_due.is_some_and(|due| due <= Instant::now()) {
                self.sync();
            }
            if self.log.len() >= CHECKPOINT_BYTES && !self.is_waiting() {
                // It has said why it failed, and what is in the log is safe there.
                let _ = self.checkpoint();
            }
        }
        self.close();
    }

    /// Serves a request together with everything else that is queued.
    fn serve(&mut self, first: Request, requests: &Receiver<Request>) {
        let (mut entries, mut frames) = (Vec::new(), Vec::new());
        let (mut writes, mut replays) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write { fact, json, at, done, place } => {
                    drop(place);
                    let sequence = self.last + 1 + entries.len() as u64;
                    let entry = Entry { sequence, at, fact, json };
                    entry.frame(&mut frames);
                    entries.push(entry);
                    writes.push(done);
                }
                Request::Replay { done } => replays.push(done),
            }
            next = if frames.len() < BATCH_BYTES { requests.try_recv().ok() } else { None };
        }
        let written = self.write(entries, &frames).map_err(Arc::new);
        // Who has gone away since does not want to know.
        for done in writes {
            let _ = done.send(written.clone());
        }
        for done in replays {
            let _ = done.send(self.replay());
        }
    }

    /// Writes entries to the log: all, or none.
    fn write(&mut self, entries: Vec<Entry>, frames: &[u8]) -> Result<(), Failure> {
        let Some(last) = entries.last().map(|entry| entry.sequence) else { return Ok(()) };
        if self.log.len() + frames.len() as u64 > LOG_BYTES
            && (self.is_waiting() || self.checkpoint().is_err())
        {
            return Err(Failure::Full { path: self.paths.log.clone(), limit: LOG_BYTES });
        }
        let unshelved = self.follow_shelf(&entries);
        let sync = !unshelved.is_empty() || self.durability == Durability::Always;
        if let Err(source) = self.log.append(frames, sync) {
            self.shelf.extend(unshelved);
            // What the kernel failed to sync it may never try again, so the tables take over what was there
            // before.
            if !self.is_waiting() {
                let _ = self.checkpoint();
            }
            return Err(Failure::Log { path: self.paths.log.clone(), source });
        }
        self.last = last;
        self.pending.extend(entries);
        self.sync_due = if sync { None } else { self.sync_due.or_else(|| Some(Instant::now() + INTERVAL)) };
        Ok(())
    }

    /// Notes what entries put on the shelf, and returns what they take off it.
    fn follow_shelf(&mut self, entries: &[Entry]) -> Vec<SandboxId> {
        let mut unshelved = Vec::new();
        for entry in entries {
            match &entry.fact {
                Fact::Shelved(shelved) => drop(self.shelf.insert(shelved.sandbox.clone())),
                Fact::SandboxIntended { sandbox, .. } | Fact::Unshelved { sandbox } => {
                    unshelved.extend(self.shelf.take(sandbox));
                }
                _ => {}
            }
        }
        unshelved
    }

    /// Whether the tables failed just now.
    fn is_waiting(&self) -> bool {
        self.retry_due.is_some_and(|due| Instant::now() < due)
    }

    /// Syncs what no one asked to have synced.
    fn sync(&mut self) {
        self.sync_due = None;
        if let Err(error) = self.log.sync() {
            tracing::error!(error = %error, path = %self.paths.log.display(), "could not sync the journal");
            // As after a failed append.
            if self.checkpoint().is_err() {
                self.sync_due = Some(Instant::now() + INTERVAL);
            }
        }
    }

    /// Has the tables take over what is in the log. When this returns it survives the host.
    fn checkpoint(&mut self) -> Result<(), Failure> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.apply() {
            self.tables = None;
            self.retry_due = Some(Instant::now() + INTERVAL);
            let path = self.paths.tables.display();
            tracing::error!(error = %error, path = %path, "could not write the journal's tables");
            return Err(Failure::Tables { path: self.paths.tables.clone(), source: Box::new(error) });
        }
        self.pending.clear();
        self.sync_due = None;
        self.retry_due = None;
        if self.log.len() < 4 * CHECKPOINT_BYTES {
            self.log.rewind();
        } else if let Err(error) = self.log.truncate() {
            let path = self.paths.log.display();
            tracing::warn!(error = %error, path = %path, "could not shorten the journal's log");
        }
        Ok(())
    }

    fn apply(&mut self) -> Result<(), redb::Error> {
        opened(&mut self.tables, &self.paths)?.apply(&self.pending)
    }

    fn replay(&mut self) -> Result<Replay, JournalError> {
        self.checkpoint().map_err(|failure| JournalError::Write(Box::new(failure)))?;
        let unreadable = |what: String| {
            let path = &self.paths.tables;
            JournalError::Read { what: format!("{}: {what}; {}", path.display(), mend(path)) }
        };
        let tables = opened(&mut self.tables, &self.paths).map_err(|error| unreadable(error.to_string()))?;
        tables.replay(now()).map_err(unreadable)
    }

    /// Leaves everything in the tables, and on the disk.
    fn close(mut self) {
        let closed = match self.checkpoint() {
            Ok(()) => self.log.truncate(),
            Err(_) => self.log.sync(),
        };
        if let Err(error) = closed {
            tracing::error!(error = %error, path = %self.paths.log.display(), "could not close the journal");
        }
    }
}

/// The tables, opened again if they failed.
fn opened<'t>(tables: &'t mut Option<Tables>, paths: &Paths) -> Result<&'t Tables, redb::Error> {
    let open = match tables.take() {
        Some(open) => open,
        None => Tables::open(&paths.tables)?,
    };
    Ok(tables.insert(open))
}

/// Wall-clock time in milliseconds; zero for a clock that stands before 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::path::Path;

    use remuda_actors::ports::Shelved;
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::*;

    fn writer(dir: &Path) -> Writer {
        let paths = Paths::of(dir);
        Tables::create(&paths.tables, 1).unwrap();
        Log::create(&paths.log, 1).unwrap();
        Writer::open(paths, Durability::EverySecond, 0, &[]).unwrap()
    }

    fn write(writer: &mut Writer, fact: Fact) -> Result<(), Failure> {
        let json = serde_json::to_vec(&fact).unwrap();
        let entry = Entry { sequence: writer.last + 1, at: now(), fact, json };
        let mut frames = Vec::new();
        entry.frame(&mut frames);
        writer.write(vec![entry], &frames)
    }

    /// A log that nobody may write.
    fn unwritable() -> Log {
        let file = memfd_create("log", MemfdFlags::ALLOW_SEALING).unwrap();
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW).unwrap();
        Log::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))).unwrap()
    }

    fn shelved(sandbox: &str) -> Fact {
        Fact::Shelved(Shelved { sandbox: sandbox.into(), parked: None })
    }

    fn intended(sandbox: &str) -> Fact {
        Fact::SandboxIntended { work: "work".into(), instance: 1, sandbox: sandbox.into() }
    }

    #[test]
    fn what_leaves_the_shelf_is_on_the_disk_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        for sandbox in ["a", "b", "c"] {
            write(&mut writer, shelved(sandbox)).unwrap();
        }
        assert!(writer.sync_due.is_some(), "shelving can wait");
        write(&mut writer, intended("a")).unwrap();
        assert!(writer.sync_due.is_none(), "using what is on the shelf cannot");
        write(&mut writer, intended("a")).unwrap();
        write(&mut writer, Fact::Unshelved { sandbox: "a".into() }).unwrap();
        assert!(writer.sync_due.is_some(), "it is off the shelf already");
        write(&mut writer, Fact::Unshelved { sandbox: "b".into() }).unwrap();
        assert!(writer.sync_due.is_none(), "neither can deleting it");

        let working = std::mem::replace(&mut writer.log, unwritable());
        write(&mut writer, intended("c")).unwrap_err();
        writer.log = working;
        write(&mut writer, intended("c")).unwrap();
        assert!(writer.sync_due.is_none(), "what failed has not left the shelf");
        write(&mut writer, shelved("c")).unwrap();
        writer.close();

        let mut writer = Writer::open(Paths::of(dir.path()), Durability::EverySecond, 8, &[]).unwrap();
        assert_eq!(writer.shelf, HashSet::from(["c".into()]), "what is on the shelf is known at the start");
        write(&mut writer, intended("c")).unwrap();
        assert!(writer.sync_due.is_none());
    }

    #[test]
    fn a_log_that_cannot_be_emptied_is_bounded_and_goes_on_when_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        // Where there is nothing to open.
        let tables = std::mem::replace(&mut writer.paths.tables, dir.path().join("nowhere/journal.redb"));
        writer.tables = None;
        let long = || Fact::Ended { work: "x".repeat(1 << 20).into() };
        let written = (0..100).take_while(|_| write(&mut writer, long()).is_ok()).count();
        assert_eq!(written, 15, "and no more");
        assert!(matches!(write(&mut writer, long()), Err(Failure::Full { .. })));
        assert_eq!(writer.pending.len(), 15, "all that is in the log is kept");

        writer.paths.tables = tables;
        assert!(write(&mut writer, long()).is_err(), "it is not tried again at once");
        writer.retry_due = None;
        write(&mut writer, long()).unwrap();
        assert_eq!((writer.pending.len(), writer.last), (1, 16));
    }
}

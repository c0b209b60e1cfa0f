//! The tables: what all facts so far come to, in one redb file.
//!
//! | Table | Key | Value |
//! |---|---|---|
//! | `remuda-journal` | `version`, `id` or `applied` | a number |
//! | `records` | work, slot, call or sandbox | sequence, time, fact |
//! | `shelf` | sandbox | sequence, time, fact |
//!
//! # Invariants
//! - Facts are applied in the order of their sequence numbers and each at most once: `applied`, the number of
//!   the last one, changes in the same transaction.
//! - There are no rows of work without its claim, except what it left, and no result without the start of its call. What is said
//!   too late, after the end or the posting, leaves nothing behind.
//! - Commits have two phases. They cost one more sync, and a page that is not what was written is then always
//!   damage: with one phase redb would take it for a commit that was cut short, and go back to the one
//!   before.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{
    AccessGuard, Builder, Database, ReadableDatabase as _, ReadableTable as _, StorageError, Table,
    TableDefinition,
};
use remuda_actors::ids::{SandboxId, WorkId};
use remuda_actors::ports::{Replay, Replayed};

use super::fact::Fact;
use super::files;
use super::log::Entry;

/// Says what the file is: its name is that of the format.
pub(super) const FORMAT: TableDefinition<&str, u64> = TableDefinition::new("remuda-journal");
pub(super) const RECORDS: TableDefinition<Key, Row> = TableDefinition::new("records");
pub(super) const SHELF: TableDefinition<&str, Row> = TableDefinition::new("shelf");
pub(super) const VERSION: u64 = 1;

/// Work, slot, and the call or sandbox if the slot has several rows.
type Key = (&'static str, u8, &'static str);
/// Sequence, time in milliseconds, and the fact.
type Row = (u64, u64, &'static [u8]);

/// What kind of fact a row of `records` holds. Part of the format.
mod slot {
    pub(super) const CLAIM: u8 = 0;
    pub(super) const BEAT: u8 = 1;
    pub(super) const SANDBOX: u8 = 2;
    pub(super) const STARTED: u8 = 3;
    pub(super) const FINISHED: u8 = 4;
    pub(super) const LEFT: u8 = 5;
    pub(super) const END: u8 = 6;
}

/// Sandboxes remembered of one work item: the last, and the one before, which may not be deleted yet.
const SANDBOXES: usize = 2;
/// What redb may keep in memory. Rows are written once and read at the start, so more would not help.
const CACHE_BYTES: usize = 8 << 20;

/// How redb is set up here.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// The tables, open.
#[derive(Debug)]
pub(super) struct Tables {
    database: Database,
}

impl Tables {
    /// Makes empty tables.
    pub(super) fn create(path: &Path, id: u64) -> Result<(), redb::Error> {
        let database = builder().create_with_backend(FileBackend::new(files::prepare(path)?)?)?;
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut format = transaction.open_table(FORMAT)?;
            for (key, value) in [("version", VERSION), ("id", id), ("applied", 0)] {
                format.insert(key, value)?;
            }
            transaction.open_table(RECORDS)?;
            transaction.open_table(SHELF)?;
        }
        transaction.commit()?;
        database.close()?;
        Ok(files::publish(path)?)
    }

    /// Opens tables that were created or inspected before.
    pub(super) fn open(path: &Path) -> Result<Self, redb::Error> {
        let backend = FileBackend::new(files::open(path)?)?;
        Ok(Self { database: builder().create_with_backend(backend)? })
    }

    /// Applies what has not been applied yet. When this returns it survives the host; if it fails, nothing or
    /// everything was applied.
    pub(super) fn apply(&self, entries: &[Entry]) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut format = transaction.open_table(FORMAT)?;
            let mut rows =
                Rows { records: transaction.open_table(RECORDS)?, shelf: transaction.open_table(SHELF)? };
            let applied = format.get("applied")?.map_or(0, |applied| applied.value());
            for entry in entries.iter().filter(|entry| entry.sequence > applied) {
                rows.apply(entry)?;
            }
            if let Some(last) = entries.last() {
                format.insert("applied", applied.max(last.sequence))?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// The sandboxes on the shelf.
    pub(super) fn shelf(&self) -> Result<HashSet<SandboxId>, redb::Error> {
        let shelf = self.database.begin_read()?.open_table(SHELF)?;
        let sandboxes = shelf.iter()?.map(|row| Ok(row?.0.value().into()));
        sandboxes.collect()
    }

    /// Everything there is, at wall-clock time `now`; the error says what is wrong.
    pub(super) fn replay(&self, now: u64) -> Result<Replay, String> {
        let mut rows = self.rows().map_err(|error| error.to_string())?;
        rows.sort_unstable_by_key(|(sequence, ..)| *sequence);
        let mut replay = Replay::default();
        for (sequence, at, fact) in rows {
            // The clock may have been set back since.
            let age = Duration::from_millis(now.saturating_sub(at));
            match fact.map_err(|error| format!("record {sequence} is unreadable: {error}"))? {
                Fact::Shelved(shelved) => replay.shelf.push((shelved, age)),
                fact => {
                    let record = fact.into_record();
                    replay.work.extend(record.map(|(work, record)| Replayed { work, age, record }));
                }
            }
        }
        Ok(replay)
    }

    /// Sequence, time and fact of every row.
    fn rows(&self) -> Result<Vec<(u64, u64, serde_json::Result<Fact>)>, redb::Error> {
        let read = self.database.begin_read()?;
        let mut rows = Vec::new();
        let mut push = |row: AccessGuard<'_, Row>| {
            let (sequence, at, json) = row.value();
            rows.push((sequence, at, serde_json::from_slice(json)));
        };
        for row in read.open_table(RECORDS)?.iter()? {
            push(row?.1);
        }
        for row in read.open_table(SHELF)?.iter()? {
            push(row?.1);
        }
        Ok(rows)
    }
}

/// The tables that facts change, in one transaction.
struct Rows<'t> {
    records: Table<'t, Key, Row>,
    shelf: Table<'t, &'static str, Row>,
}

impl Rows<'_> {
    fn apply(&mut self, entry: &Entry) -> Result<(), StorageError> {
        match &entry.fact {
            Fact::Claimed { work, .. } => self.put(work, slot::CLAIM, "", entry),
            Fact::Beat { work, .. } => self.put(work, slot::BEAT, "", entry),
            Fact::SandboxIntended { work, sandbox, .. } => {
                self.shelf.remove(sandbox.as_str())?;
                self.put(work, slot::SANDBOX, sandbox.as_str(), entry)?;
                self.forget_old_sandboxes(work)
            }
            Fact::CallStarted { work, call, .. } => self.put(work, slot::STARTED, call.as_str(), entry),
            Fact::CallFinished { work, call, .. } => self.put(work, slot::FINISHED, call.as_str(), entry),
            Fact::CallPosted { work, call } => {
                self.records.remove((work.as_str(), slot::STARTED, call.as_str()))?;
                self.records.remove((work.as_str(), slot::FINISHED, call.as_str()))?;
                Ok(())
            }
            Fact::Left { work, .. } => {
                if self.records.get((work.as_str(), slot::CLAIM, ""))?.is_some() {
                    self.forget(work)?;
                    self.records.insert((work.as_str(), slot::LEFT, ""), entry.row())?;
                }
                Ok(())
            }
            Fact::Ended { work } => self.forget(work),
            Fact::Shelved(shelved) => {
                self.shelf.insert(shelved.sandbox.as_str(), entry.row())?;
                Ok(())
            }
            Fact::Unshelved { sandbox } => {
                self.shelf.remove(sandbox.as_str())?;
                Ok(())
            }
        }
    }

    fn put(&mut self, work: &WorkId, slot: u8, id: &str, entry: &Entry) -> Result<(), StorageError> {
        let work = work.as_str();
        let hangs_on = match slot {
            slot::CLAIM => None,
            slot::FINISHED => Some((work, slot::STARTED, id)),
            _ => Some((work, slot::CLAIM, "")),
        };
        if let Some(key) = hangs_on
            && self.records.get(key)?.is_none()
        {
            return Ok(());
        }
        let stays = self.records.get((work, slot, id))?.is_some_and(|row| match slot {
            // What others hang on keeps its place before them.
            slot::CLAIM | slot::STARTED => true,
            // A beat that is told again is as old as it was.
            slot::BEAT => row.value().2 == entry.json,
            _ => false,
        });
        if !stays {
            self.records.insert((work, slot, id), entry.row())?;
        }
        Ok(())
    }

    fn forget(&mut self, work: &WorkId) -> Result<(), StorageError> {
        let all = (work.as_str(), slot::CLAIM, "")..(work.as_str(), slot::END, "");
        self.records.retain_in(all, |_, _| false)
    }

    fn forget_old_sandboxes(&mut self, work: &WorkId) -> Result<(), StorageError> {
        let all = (work.as_str(), slot::SANDBOX, "")..(work.as_str(), slot::SANDBOX + 1, "");
        let sequences = self.records.range(all.clone())?.map(|row| Ok(row?.1.value().0));
        let mut sequences = sequences.collect::<Result<Vec<_>, StorageError>>()?;
        sequences.sort_unstable();
        if let Some(oldest_kept) = sequences.iter().rev().nth(SANDBOXES - 1) {
            self.records.retain_in(all, |_, (sequence, ..)| sequence >= *oldest_kept)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use remuda_actors::ports::Shelved;

    use super::*;

    fn entry(sequence: u64, at: u64, fact: Fact) -> Entry {
        let json = serde_json::to_vec(&fact).unwrap();
        Entry { sequence, at, fact, json }
    }

    fn shelved(sandbox: &str) -> Fact {
        Fact::Shelved(Shelved { sandbox: sandbox.into(), parked: None })
    }

    #[test]
    fn each_fact_is_applied_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tables");
        Tables::create(&path, 1).unwrap();
        let tables = Tables::open(&path).unwrap();
        let entries = [
            entry(1, 0, shelved("a")),
            entry(2, 0, Fact::Unshelved { sandbox: "a".into() }),
            entry(3, 0, shelved("b")),
        ];
        tables.apply(&entries[..2]).unwrap();
        // As after a commit that was told to have failed, and had not.
        tables.apply(&entries[..1]).unwrap();
        assert_eq!(tables.shelf().unwrap(), HashSet::new());
        tables.apply(&entries).unwrap();
        assert_eq!(tables.shelf().unwrap(), HashSet::from(["b".into()]));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_older() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tables");
        Tables::create(&path, 1).unwrap();
        let tables = Tables::open(&path).unwrap();
        tables.apply(&[entry(1, 5_000, shelved("a")), entry(2, 9_000, shelved("b"))]).unwrap();
        let ages: Vec<_> = tables.replay(7_000).unwrap().shelf.into_iter().map(|(_, age)| age).collect();
        assert_eq!(ages, [Duration::from_secs(2), Duration::ZERO]);
    }
}

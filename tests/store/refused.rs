//! Files that are refused, with one clear error, and stay as they are.

use std::fs;
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use redb::{Database, TableDefinition};
use remuda::store::{Store, StoreError};
use remuda_actors::ports::{Journal as _, JournalError};
use tempfile::TempDir;

use crate::records::{append, beat, claimed, finished, image, open, started, tell};

const TABLES: &str = "journal.redb";
const LOG: &str = "journal.log";
const FORMAT: TableDefinition<&str, u64> = TableDefinition::new("remuda-journal");

/// A folder with a journal that tells something.
async fn journal() -> TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = open(dir.path());
    for n in 0..30 {
        let work = format!("work_{n}");
        append(&store, &work, claimed(&work)).await;
        append(&store, &work, started("call")).await;
        append(&store, &work, finished("call", &"output ".repeat(n * 20))).await;
    }
    drop(store);
    dir
}

/// The folder's files and what is in them.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry"));
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().expect("name"), fs::read(entry.path()).expect("read")))
        .collect();
    files.sort();
    files
}

/// Tries to open a journal that must be refused and left alone.
#[track_caller]
fn refused(dir: &Path) -> StoreError {
    let before = files(dir);
    let refusal = Store::open(dir).expect_err("it must be refused");
    assert!(before == files(dir), "a refused journal is left as it is: {refusal}");
    refusal
}

/// The same, with the words that tell people what it is about.
#[track_caller]
fn refused_saying(dir: &Path, words: &[&str]) {
    let refusal = refused(dir).to_string();
    for word in words {
        assert!(refusal.contains(word), "expected `{word}` in: {refusal}");
    }
    assert_eq!(refusal.lines().count(), 1, "{refusal}");
}

#[tokio::test]
async fn what_is_no_journal() {
    for bytes in [&b""[..], b"redb", b"PNG is something else", &[0; 100_000]] {
        let dir = journal().await;
        fs::write(dir.path().join(TABLES), bytes).expect("write");
        refused_saying(dir.path(), &[TABLES, "not a journal of remuda", "expected a redb file", "move"]);
    }
    let dir = tempfile::tempdir().expect("temporary folder");
    let database = Database::create(dir.path().join(TABLES)).expect("create");
    let write = database.begin_write().expect("write");
    write.open_table(TableDefinition::<&str, &str>::new("recipes")).expect("table");
    write.commit().expect("commit");
    drop(database);
    refused_saying(dir.path(), &[TABLES, "not a journal of remuda", "remuda-journal"]);

    let dir = journal().await;
    fs::remove_file(dir.path().join(TABLES)).expect("remove");
    refused_saying(dir.path(), &[LOG, "not a journal of remuda", "not there"]);

    // What was in it may be all that is known of a call that runs.
    let dir = journal().await;
    fs::remove_file(dir.path().join(LOG)).expect("remove");
    refused_saying(dir.path(), &[LOG, "damaged", "not there", "journal.redb", "move"]);

    for bytes in [&b""[..], b"remuda-log", b"something else that is long enough to be one"] {
        let dir = journal().await;
        fs::write(dir.path().join(LOG), bytes).expect("write");
        refused_saying(dir.path(), &[LOG, "not a journal of remuda", "remuda-log 1"]);
    }
    let (dir, other) = (journal().await, journal().await);
    fs::copy(other.path().join(LOG), dir.path().join(LOG)).expect("copy");
    refused_saying(dir.path(), &[LOG, "belongs to"]);

    let dir = tempfile::tempdir().expect("temporary folder");
    fs::create_dir(dir.path().join(TABLES)).expect("create");
    let refusal = Store::open(dir.path()).expect_err("a folder is no file").to_string();
    assert!(refusal.contains(TABLES), "{refusal}");
    let refusal = Store::open(&dir.path().join("nowhere")).expect_err("there is no folder").to_string();
    assert!(refusal.contains("nowhere"), "{refusal}");
}

#[tokio::test]
async fn what_a_later_remuda_wrote() {
    let dir = journal().await;
    let database = Database::open(dir.path().join(TABLES)).expect("open");
    let write = database.begin_write().expect("write");
    write.open_table(FORMAT).expect("table").insert("version", 2).expect("insert");
    write.commit().expect("commit");
    drop(database);
    refused_saying(dir.path(), &[TABLES, "format version 2", "reads 1"]);

    let dir = journal().await;
    let log =
        fs::read_to_string(dir.path().join(LOG)).expect("read").replace("remuda-log 1", "remuda-log 12");
    fs::write(dir.path().join(LOG), log).expect("write");
    refused_saying(dir.path(), &[LOG, "format version 12", "reads 1"]);
}

#[tokio::test]
async fn what_was_cut_short() {
    let whole = journal().await;
    let bytes = fs::read(whole.path().join(TABLES)).expect("read");
    let dir = tempfile::tempdir().expect("temporary folder");
    image(whole.path(), dir.path());
    for len in [9, 10, 64, 100, 320, 512, 4095, 4096, bytes.len() / 2, bytes.len() - 4096, bytes.len() - 1] {
        fs::write(dir.path().join(TABLES), &bytes[..len]).expect("write");
        refused_saying(dir.path(), &[TABLES, "move journal.redb and journal.log out of"]);
    }
}

#[tokio::test]
async fn what_was_damaged_is_refused_wherever_it_matters() {
    let (running, seed) = (journal().await, rand::rng().random());
    let store = open(running.path());
    append(&store, "work_0", beat("1")).await;
    let folder = || tempfile::tempdir().expect("temporary folder");
    // As it is when a second process is killed, which has just taken over what was in the log of the first.
    let (killed, crashed, closed) = (folder(), folder(), folder());
    image(running.path(), killed.path());
    let second = open(killed.path());
    image(killed.path(), crashed.path());
    drop(second);
    image(killed.path(), closed.path());
    let told = tell(&store).await;
    assert_eq!(told.len(), 91);

    let mut rng = SmallRng::seed_from_u64(seed);
    let mut refusals = 0;
    for of in [&closed, &crashed].repeat(100) {
        let dir = folder();
        image(of.path(), dir.path());
        let mut bytes = fs::read(dir.path().join(TABLES)).expect("read");
        let at = rng.random_range(0..bytes.len());
        bytes[at] ^= 1 << rng.random_range(0..8);
        fs::write(dir.path().join(TABLES), &bytes).expect("write");
        let before = files(dir.path());
        match Store::open(dir.path()) {
            Err(refusal) => {
                assert!(before == files(dir.path()), "seed {seed}, byte {at}: {refusal}");
                refusals += 1;
            }
            Ok(store) => assert_eq!(tell(&store).await, told, "seed {seed}, byte {at}"),
        }
    }
    assert!(refusals > 20, "of 200, {refusals} were refused");
}

#[tokio::test]
async fn a_row_of_an_unknown_kind() {
    let dir = journal().await;
    let rows = TableDefinition::<(&str, u8, &str), (u64, u64, &[u8])>::new("records");
    let database = Database::open(dir.path().join(TABLES)).expect("open");
    let write = database.begin_write().expect("write");
    let row = (7, 0, &br#"{"kind":"moved","work":"work_1"}"#[..]);
    write.open_table(rows).expect("table").insert(("work_1", 1, ""), row).expect("insert");
    write.commit().expect("commit");
    drop(database);
    let error = open(dir.path()).replay().await.expect_err("it cannot be read");
    assert!(matches!(error, JournalError::Read { .. }), "{error:?}");
    for words in [TABLES, "record 7", "unknown variant `moved`", "move journal.redb"] {
        assert!(error.to_string().contains(words), "expected `{words}` in: {error}");
    }
}

#[tokio::test]
async fn a_journal_in_use() {
    let dir = journal().await;
    let store = open(dir.path());
    refused_saying(dir.path(), &[TABLES, "in use by another remuda"]);
    append(&store, "work", claimed("work")).await;
    assert_eq!(tell(&store).await.len(), 91, "its user is not disturbed");
}

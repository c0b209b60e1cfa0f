//! The contract of a journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::ids::{CallId, SandboxId, WorkId};
use crate::ports::{HeartbeatToken, Journal, Parked, Record, Replay, Shelved, Target, WorkItem};
use crate::secret::Secret;
use crate::tool::ToolResult;

/// The contract of a journal. What a replay may leave out or not makes no difference here.
///
/// # Panics
/// If the journal breaks it.
pub async fn journal(journal: Arc<dyn Journal>) {
    let journal = &*journal;
    let replay = journal.replay().await.expect("replay");
    assert!(replay.work.is_empty() && replay.shelf.is_empty(), "a fresh journal is empty: {replay:?}");
    order(journal).await;
    latest(journal).await;
    calls(journal).await;
    ends(journal).await;
    leaves(journal).await;
    names(journal).await;
    shelf(journal).await;
    together(journal).await;
}

async fn order(journal: &dyn Journal) {
    for work in ["work_b", "work_c", "work_a"] {
        append(journal, work, claimed(work)).await;
    }
    append(journal, "work_b", beat("b1")).await;
    append(journal, "work_b", claimed("work_b")).await;
    let replay = journal.replay().await.expect("replay");
    assert!(replay.work.iter().all(|record| record.age < Duration::from_secs(60)), "just now: {replay:?}");
    assert_eq!(Held::claims(&replay), ["work_b", "work_c", "work_a"], "the oldest come first");

    let held = Held::of(&replay, "work_c").expect("work that was claimed is held");
    assert_eq!((held.item.id.as_str(), held.item.environment.as_str()), ("work_c", "env_1"));
    assert_eq!(held.item.target, Target::Session("sesn of work_c".into()));
    assert_eq!(held.item.credential.as_ref().map(Secret::expose), Some("secret of work_c"));
    assert_eq!((held.beat, held.sandboxes.len(), held.calls.len()), (None, 0, 0));

    append(
        journal,
        "work_d",
        Record::Claimed {
            item: WorkItem { target: Target::Other("else".into()), credential: None, ..item("work_d") },
        },
    )
    .await;
    let held = read(journal, "work_d").await.expect("it is held");
    assert!(held.item.credential.is_none() && held.item.target == Target::Other("else".into()));
    for work in ["work_a", "work_b", "work_c", "work_d"] {
        append(journal, work, Record::Ended).await;
    }
}

async fn latest(journal: &dyn Journal) {
    append(journal, "work_1", claimed("work_1")).await;
    for token in ["1", "2", "2", "3"] {
        append(journal, "work_1", beat(token)).await;
    }
    for sandbox in ["s.1", "s.2", "s.3", "s.3"] {
        append(journal, "work_1", intended(sandbox)).await;
    }
    let held = read(journal, "work_1").await.expect("it is held");
    assert_eq!(
        held.beat,
        Some((Some(HeartbeatToken::new("3")), Duration::from_millis(30_500))),
        "the last beat"
    );
    let sandboxes: Vec<_> = held.sandboxes.iter().map(|(_, sandbox)| sandbox.as_str()).collect();
    let mut distinct = sandboxes.clone();
    distinct.dedup();
    assert!(distinct.ends_with(&["s.2", "s.3"]), "the last two, in their order: {sandboxes:?}");
    assert_eq!(held.sandboxes.last().map(|(instance, _)| *instance), Some(3));
    append(journal, "work_1", Record::Ended).await;
}

async fn calls(journal: &dyn Journal) {
    append(journal, "work_1", claimed("work_1")).await;
    for call in ["running", "done", "posted", "posted unseen"] {
        append(journal, "work_1", started(call)).await;
    }
    let long = ToolResult::ok("line of output\n".repeat(100_000));
    for (call, result) in [("done", long.clone()), ("posted", ToolResult::error("no"))] {
        append(journal, "work_1", finished(call, result)).await;
    }
    for call in ["posted", "posted unseen", "never heard of"] {
        append(journal, "work_1", Record::CallPosted { call: call.into() }).await;
    }
    // The answer may be on its way before its record is.
    append(journal, "work_1", finished("posted unseen", ToolResult::ok("late"))).await;
    let expected = BTreeMap::from([("running".into(), None), ("done".into(), Some(long.clone()))]);
    assert_eq!(read(journal, "work_1").await.expect("it is held").calls, expected);

    append(journal, "work_1", started("done")).await;
    append(journal, "work_1", finished("done", long)).await;
    append(journal, "work_1", Record::CallPosted { call: "posted".into() }).await;
    let held = read(journal, "work_1").await.expect("it is held");
    assert_eq!(held.calls, expected, "what is said twice is said once");
    append(journal, "work_1", Record::Ended).await;
}

async fn ends(journal: &dyn Journal) {
    for work in ["work_1", "work_10", "work"] {
        append(journal, work, claimed(work)).await;
        append(journal, work, beat("1")).await;
        append(journal, work, intended("s.1")).await;
        append(journal, work, started("call")).await;
        append(journal, work, finished("call", ToolResult::ok("x"))).await;
    }
    append(journal, "work_1", Record::Ended).await;
    append(journal, "work_1", Record::Ended).await;
    append(journal, "never heard of", Record::Ended).await;
    let replay = journal.replay().await.expect("replay");
    assert!(replay.work.iter().all(|record| record.work.as_str() != "work_1"), "it has ended: {replay:?}");
    assert_eq!(Held::claims(&replay), ["work_10", "work"], "the others have not");

    append(journal, "work_1", beat("late")).await;
    assert!(read(journal, "work_1").await.is_none(), "what is said too late brings nothing back");
    append(journal, "work_1", claimed("work_1")).await;
    let again = read(journal, "work_1").await.expect("it may be claimed again");
    assert_eq!((again.beat, again.sandboxes.len(), again.calls.len()), (None, 0, 0), "and begins anew");
    for work in ["work_1", "work_10", "work"] {
        append(journal, work, Record::Ended).await;
    }
    assert!(journal.replay().await.expect("replay").work.is_empty(), "everything has ended");
}

/// What an item leaves outlives it, until it is said that nothing does.
async fn leaves(journal: &dyn Journal) {
    let left = |call: &str| Record::Left {
        session: "sesn_1".into(),
        calls: BTreeMap::from([(call.into(), "s.1".into())]),
    };
    let replayed = async || {
        let replay = journal.replay().await.expect("replay");
        let calls = replay.work.into_iter().filter_map(|replayed| match replayed.record {
            Record::Left { calls, .. } => calls.into_keys().next(),
            _ => None,
        });
        calls.collect::<Vec<_>>()
    };
    append(journal, "work_1", left("too early")).await;
    assert!(replayed().await.is_empty(), "it was never claimed");
    append(journal, "work_1", claimed("work_1")).await;
    append(journal, "work_1", beat("1")).await;
    append(journal, "work_1", intended("s.1")).await;
    append(journal, "work_1", started("call")).await;
    append(journal, "work_1", left("call")).await;
    append(journal, "work_1", beat("late")).await;
    assert!(read(journal, "work_1").await.is_none(), "it is not held any more");
    assert_eq!(replayed().await, ["call".into()]);

    append(journal, "work_1", claimed("work_1")).await;
    let again = read(journal, "work_1").await.expect("it may be claimed again");
    assert_eq!((again.beat, again.sandboxes.len(), again.calls.len()), (None, 0, 0), "and begins anew");
    assert_eq!(replayed().await, ["call".into()], "with what it left still there");
    append(journal, "work_1", left("another")).await;
    assert_eq!(replayed().await, ["another".into()], "what it leaves last is all it leaves");
    append(journal, "work_1", Record::Ended).await;
    assert!(journal.replay().await.expect("replay").work.is_empty(), "everything has ended");
}

/// Identifiers are opaque.
async fn names(journal: &dyn Journal) {
    let names = ["", "/", "a/b", "a\0b", "a\0", "a", "ä", "\u{10FFFF}", "a b\n\"c\"\\"];
    for name in names {
        append(journal, name, claimed(name)).await;
        append(journal, name, intended(name)).await;
        append(journal, name, started(name)).await;
    }
    for name in names {
        let held = read(journal, name).await.expect("it is held");
        assert_eq!(held.sandboxes, [(0, SandboxId::from(name))], "{name:?}");
        assert_eq!(held.calls.keys().map(CallId::as_str).collect::<Vec<_>>(), [name]);
        append(journal, name, Record::Ended).await;
        assert!(read(journal, name).await.is_none(), "{name:?} has ended");
    }
    assert!(journal.replay().await.expect("replay").work.is_empty(), "everything has ended");
}

async fn shelf(journal: &dyn Journal) {
    let blank = |sandbox: &str| Shelved { sandbox: sandbox.into(), parked: None };
    let parked = Parked { session: "sesn_1".into(), instance: 2, disk_bytes: 3, memory_bytes: u64::MAX };
    let parked = Shelved { parked: Some(parked), ..blank("parked") };
    for shelved in [&blank("one"), &blank("two"), &blank("parked"), &parked] {
        journal.shelve(shelved).await.expect("shelve");
    }
    assert_eq!(shelved(journal).await, [blank("one"), parked.clone(), blank("two")], "the last word counts");
    let replay = journal.replay().await.expect("replay");
    assert!(replay.shelf.iter().all(|(_, age)| *age < Duration::from_secs(60)), "just now: {replay:?}");

    journal.unshelve(&"one".into()).await.expect("unshelve");
    journal.unshelve(&"one".into()).await.expect("unshelving what is not there is a success");
    append(journal, "work_1", claimed("work_1")).await;
    append(journal, "work_1", intended("two")).await;
    let rest = [parked.clone()];
    assert_eq!(shelved(journal).await, rest, "what a session is to have is off the shelf");
    let held = read(journal, "work_1").await.expect("it is held");
    assert_eq!(held.sandboxes, [(0, "two".into())], "and is the session's");

    append(journal, "work_1", Record::Ended).await;
    assert_eq!(shelved(journal).await, rest, "the end of the work does not put it back");
    journal.shelve(&blank("two")).await.expect("shelve");
    assert_eq!(shelved(journal).await, [parked, blank("two")], "it may be put back");
    for sandbox in ["two", "parked"] {
        journal.unshelve(&sandbox.into()).await.expect("unshelve");
    }
    assert_eq!(shelved(journal).await, []);
}

/// Many actors append at once.
async fn together(journal: &dyn Journal) {
    let works: Vec<_> = (0..200).map(|n| format!("work_{n:03}")).collect();
    join_all(works.iter().map(|work| async move {
        append(journal, work, claimed(work)).await;
        append(journal, work, started("call")).await;
        append(journal, work, beat(work)).await;
    }))
    .await;
    let replay = journal.replay().await.expect("replay");
    let claims: BTreeSet<_> = Held::claims(&replay).into_iter().collect();
    assert_eq!(claims, works.iter().map(String::as_str).collect(), "nobody's record is lost");
    for work in &works {
        let held = Held::of(&replay, work).expect("it is held");
        assert_eq!(held.beat.and_then(|(token, _)| token), Some(HeartbeatToken::new(work.as_str())));
        assert_eq!(held.calls.len(), 1);
    }
    join_all(works.iter().map(|work| append(journal, work, Record::Ended))).await;
    assert!(journal.replay().await.expect("replay").work.is_empty(), "everything has ended");
}

/// What a reader makes of the records about one work item.
#[derive(Debug)]
struct Held {
    item: WorkItem,
    beat: Option<(Option<HeartbeatToken>, Duration)>,
    sandboxes: Vec<(u32, SandboxId)>,
    calls: BTreeMap<CallId, Option<ToolResult>>,
}

impl Held {
    fn of(replay: &Replay, work: &str) -> Option<Self> {
        let mut held: Option<Self> = None;
        for replayed in replay.work.iter().filter(|replayed| replayed.work.as_str() == work) {
            let record = replayed.record.clone();
            match (&mut held, record) {
                (None, Record::Claimed { item }) => {
                    let (sandboxes, calls) = (Vec::new(), BTreeMap::new());
                    held = Some(Self { item, beat: None, sandboxes, calls });
                }
                (Some(held), Record::Beat { token, ttl }) => held.beat = Some((token, ttl)),
                (Some(held), Record::SandboxIntended { instance, sandbox }) => {
                    held.sandboxes.push((instance, sandbox));
                }
                (Some(held), Record::CallStarted { call, .. }) => drop(held.calls.entry(call).or_default()),
                (Some(held), Record::CallFinished { call, result }) => {
                    held.calls.entry(call).and_modify(|known| *known = Some((*result).clone()));
                }
                (Some(held), Record::CallPosted { call }) => drop(held.calls.remove(&call)),
                (held, Record::Left { .. }) => *held = None,
                (_, Record::Ended) => panic!("work that ended is not replayed: {replay:?}"),
                (Some(_), Record::Claimed { .. }) | (None, _) => {}
            }
        }
        held
    }

    /// The work items that were claimed, each once.
    fn claims(replay: &Replay) -> Vec<&str> {
        let mut claims = Vec::new();
        for replayed in &replay.work {
            if matches!(replayed.record, Record::Claimed { .. }) && !claims.contains(&replayed.work.as_str())
            {
                claims.push(replayed.work.as_str());
            }
        }
        claims
    }
}

async fn read(journal: &dyn Journal, work: &str) -> Option<Held> {
    Held::of(&journal.replay().await.expect("replay"), work)
}

async fn shelved(journal: &dyn Journal) -> Vec<Shelved> {
    let replay = journal.replay().await.expect("replay");
    let mut shelved: Vec<_> = replay.shelf.into_iter().map(|(shelved, _)| shelved).collect();
    shelved.sort_by(|a, b| a.sandbox.cmp(&b.sandbox));
    shelved
}

async fn append(journal: &dyn Journal, work: &str, record: Record) {
    journal.append(&WorkId::from(work), record).await.expect("append");
}

fn item(work: &str) -> WorkItem {
    WorkItem {
        id: work.into(),
        environment: "env_1".into(),
        target: Target::Session(format!("sesn of {work}").into()),
        credential: Some(Secret::new(format!("secret of {work}"))),
    }
}

fn claimed(work: &str) -> Record {
    Record::Claimed { item: item(work) }
}

fn beat(token: &str) -> Record {
    Record::Beat { token: Some(HeartbeatToken::new(token)), ttl: Duration::from_millis(30_500) }
}

/// The instance is what follows the dot of the sandbox's name.
fn intended(sandbox: &str) -> Record {
    let instance = sandbox.rsplit_once('.').and_then(|(_, n)| n.parse().ok()).unwrap_or_default();
    Record::SandboxIntended { instance, sandbox: sandbox.into() }
}

fn started(call: &str) -> Record {
    Record::CallStarted { call: call.into(), sandbox: "s.1".into() }
}

fn finished(call: &str, result: ToolResult) -> Record {
    Record::CallFinished { call: call.into(), result: Arc::new(result) }
}

//! Furnishes sandboxes with skills and copies of memory stores.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{Care, Fitted, Outfit, OutfitError, Outfitter};
use remuda_actors::session::end::Outcome;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Hands;
use super::document::{self, Skill, Store, Wanted};
use super::memory::{self, Copy, Deletes, Link, Scope, Stage};
use super::patient::Patient;
use super::record::{Page, Record, Records};
use super::skills::{self, Cache};
use super::trouble::Trouble;
use crate::cma::Client;
use crate::hand::client::{ClientError, HandClient};

/// Shortest time between two synchronizations of a sandbox's memory stores, as the official workers have it.
pub const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last synchronization may take, and how long what is left may be sent after it, as the official
/// workers have it.
const LAST: Duration = Duration::from_secs(30);

/// Archives of skills that are kept, in bytes altogether.
const CACHE_LIMIT: u64 = 1 << 30;

/// How sandboxes are furnished.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where archives of skills are kept.
    pub skills_dir: PathBuf,
    /// Where is written down what sandboxes have.
    pub records_dir: PathBuf,
    /// Least time between two synchronizations of a sandbox's memory stores; at least [`MIN_INTERVAL`]. None: sessions
    /// get no memory stores.
    pub memory_interval: Option<Duration>,
    /// What happens to memories whose files are deleted.
    pub memory_deletes: Deletes,
}

/// Why there can be no furnisher.
#[derive(Debug, thiserror::Error)]
#[error("could not use {}", path.display())]
pub struct SetupError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Furnishes sandboxes with skills and copies of memory stores.
#[derive(Debug)]
pub struct Furnisher {
    control: Arc<Client>,
    hands: Arc<dyn Hands>,
    records: Arc<Records>,
    cache: Arc<Cache>,
    interval: Option<Duration>,
    deletes: Deletes,
    begun: Instant,
    sandboxes: DashMap<SandboxId, Arc<Mutex<Kept>>>,
}

/// What is kept in mind of a sandbox while a session has it.
#[derive(Debug, Default)]
struct Kept {
    /// None before it was read.
    record: Option<Record>,
    synced: Option<Instant>,
    /// Whether calls have ended since.
    unsynced: bool,
}

impl Furnisher {
    /// Opens its folders, which are made if they are not there.
    ///
    /// # Errors
    /// [`SetupError`] names the folder that cannot be used.
    pub fn open(control: Arc<Client>, hands: Arc<dyn Hands>, options: Options) -> Result<Self, SetupError> {
        let at = |path: &PathBuf| {
            let path = path.clone();
            |source| SetupError { path, source }
        };
        let records = Records::open(options.records_dir.clone()).map_err(at(&options.records_dir))?;
        let cache = Cache::open(options.skills_dir.clone(), CACHE_LIMIT).map_err(at(&options.skills_dir))?;
        Ok(Self {
            control,
            hands,
            records: Arc::new(records),
            cache: Arc::new(cache),
            interval: options.memory_interval.map(|interval| interval.max(MIN_INTERVAL)),
            deletes: options.memory_deletes,
            begun: Instant::now(),
            sandboxes: DashMap::new(),
        })
    }

    fn kept(&self, sandbox: &SandboxId) -> Arc<Mutex<Kept>> {
        Arc::clone(&self.sandboxes.entry(sandbox.clone()).or_default())
    }

    /// What a sandbox was furnished with, read when it is asked for first.
    async fn record<'a>(&self, sandbox: &SandboxId, kept: &'a mut Kept) -> Result<&'a mut Record, Trouble> {
        let slot = &mut kept.record;
        if slot.is_none() {
            let read = self.records.read(sandbox).await;
            // Nobody knows what is in this sandbox.
            let lost =
                |error| Trouble::sandbox(format!("the record of what it is furnished with is lost: {error}"));
            *slot = Some(read.map_err(lost)?);
        }
        Ok(slot.get_or_insert_default())
    }

    async fn furnish(&self, outfit: &Outfit) -> Result<Fitted, Trouble> {
        let wanted = match &outfit.document {
            Some(document) => self.wanted(document.get())?,
            None => Wanted::default(),
        };
        let kept = self.kept(&outfit.sandbox);
        let mut kept = kept.lock().await;
        let record = self.record(&outfit.sandbox, &mut kept).await?;
        let is_done = outfit.document.is_none() || record.item.as_deref() == Some(outfit.item.id.as_str());
        if !is_done && !(wanted.is_empty() && record.is_empty()) {
            let hand = self.hands.client(&outfit.sandbox).await?;
            let link = Link { control: &self.control, hand: &hand, patient: Patient::new(outfit) };
            self.bring_stores(outfit, &link, record, &wanted.stores).await?;
            self.bring_skills(outfit, &hand, record, &wanted.skills).await?;
            record.item = Some(outfit.item.id.to_string());
            self.records.save(&outfit.sandbox, record).await?;
        }
        if record.is_empty() {
            self.sandboxes.remove(&outfit.sandbox);
            return Ok(Fitted::Plain);
        }
        // Whoever furnished it may have died before it was synchronized.
        kept.unsynced = is_done;
        kept.synced = (!is_done).then(Instant::now);
        Ok(Fitted::Tended)
    }

    fn wanted(&self, document: &str) -> Result<Wanted, Trouble> {
        let mut wanted = document::read(document).map_err(Trouble::supply)?;
        if self.interval.is_none() {
            wanted.stores.clear();
        }
        Ok(wanted)
    }

    /// Has the sandbox hold a copy of each of these stores, in step, and of no others.
    async fn bring_stores(
        &self,
        outfit: &Outfit,
        link: &Link<'_>,
        record: &mut Record,
        stores: &[Store],
    ) -> Result<(), Trouble> {
        if let Some(left) = record.copies.iter().find(|copy| copy.stage == Stage::Left) {
            return Err(Trouble::sandbox(format!("{} was left in it by an earlier session", left.path)));
        }
        let is_wanted = |copy: &Copy| stores.iter().any(|store| copy.is_of(store));
        while let Some(index) = record.copies.iter().position(|copy| !is_wanted(copy)) {
            link.hand.remove_tree(&record.copies[index].path).await?;
            record.copies.remove(index);
            self.records.save(&outfit.sandbox, record).await?;
        }
        if stores.is_empty() {
            return Ok(());
        }
        // They are closed before there is anything in them to be written.
        let closed: Vec<_> =
            stores.iter().filter(|store| store.read_only).map(|store| store.path.clone()).collect();
        link.hand.set_read_only(&closed).await?;
        for store in stores {
            let index = match record.copies.iter().position(|copy| copy.is_of(store)) {
                Some(index) => index,
                None => {
                    memory::check_vacant(link, store).await?;
                    record.copies.push(Copy::new(store));
                    self.records.save(&outfit.sandbox, record).await?;
                    record.copies.len() - 1
                }
            };
            record.copies[index].read_only = store.read_only;
            let stage = record.copies[index].stage;
            let page = Page { record, index, records: &self.records, sandbox: &outfit.sandbox };
            match stage {
                Stage::Made => self.sync(page, link, Scope::Between).await,
                Stage::Making | Stage::Left => memory::mount(page, link).await?,
            }
        }
        Ok(())
    }

    /// Has the sandbox hold these skills and no others. A session can do without one that cannot be had.
    async fn bring_skills(
        &self,
        outfit: &Outfit,
        hand: &HandClient,
        record: &mut Record,
        skills: &[Skill],
    ) -> Result<(), Trouble> {
        let (mut taken, mut brought) = (BTreeSet::new(), BTreeSet::new());
        for skill in skills {
            let fetched = match skills::fetch(&self.control, &self.cache, outfit, skill, &mut taken).await {
                Ok(fetched) => fetched,
                Err(error) => {
                    goes_without(outfit, skill, &error);
                    continue;
                }
            };
            if !record.skills.contains(&fetched.folder) {
                record.skills.push(fetched.folder.clone());
                self.records.save(&outfit.sandbox, record).await?;
            }
            match hand.put_tree(&fetched.folder, &fetched.stage, fetched.files).await {
                Ok(()) => drop(brought.insert(fetched.folder)),
                Err(error @ (ClientError::Refused(_) | ClientError::Unreadable(_))) => {
                    goes_without(outfit, skill, &error);
                    hand.remove_tree(&fetched.stage).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        while let Some(index) = record.skills.iter().position(|folder| !brought.contains(folder)) {
            hand.remove_tree(&record.skills[index]).await?;
            record.skills.swap_remove(index);
        }
        Ok(())
    }

    /// Brings one copy in step. What fails is tried again the next time.
    async fn sync(&self, page: Page<'_>, link: &Link<'_>, scope: Scope) {
        let store = page.record.copies[page.index].store.clone();
        if let Err(error) = memory::sync(page, link, self.deletes, scope, self.begun.elapsed()).await {
            tracing::warn!(store, %error, "a memory store was not synchronized");
        }
    }

    async fn sync_all(&self, outfit: &Outfit, link: &Link<'_>, record: &mut Record, scope: Scope) {
        for index in 0..record.copies.len() {
            let page = Page { record, index, records: &self.records, sandbox: &outfit.sandbox };
            self.sync(page, link, scope).await;
        }
    }

    async fn look_after(&self, outfit: &Outfit, care: Care) -> Result<(), Trouble> {
        let kept = self.kept(&outfit.sandbox);
        let mut kept = kept.lock().await;
        let kept = &mut *kept;
        match care {
            Care::CallEnded => {
                kept.unsynced = true;
                let interval = self.interval.unwrap_or(Duration::MAX);
                if kept.synced.is_some_and(|synced| synced.elapsed() < interval) {
                    return Ok(());
                }
            }
            Care::Still if !kept.unsynced => return Ok(()),
            Care::Still | Care::Farewell => {}
        }
        let record = self.record(&outfit.sandbox, kept).await?;
        if record.copies.is_empty() && care != Care::Farewell {
            return Ok(());
        }
        let hand = self.hands.client(&outfit.sandbox).await?;
        let link = Link { control: &self.control, hand: &hand, patient: Patient::new(outfit) };
        if care == Care::Farewell {
            self.part(outfit, &link, record).await?;
            self.sandboxes.remove(&outfit.sandbox);
        } else {
            self.sync_all(outfit, &link, record, Scope::Between).await;
            (kept.synced, kept.unsynced) = (Some(Instant::now()), false);
        }
        Ok(())
    }

    /// The session lets go of the sandbox: what it has is sent, and what it was given is taken out again.
    async fn part(&self, outfit: &Outfit, link: &Link<'_>, record: &mut Record) -> Result<(), Trouble> {
        let last = match outfit.outcome {
            // The next process goes on with it as it is.
            Some(Outcome::Left) => {
                let _ = timeout(LAST, self.sync_all(outfit, link, record, Scope::Between)).await;
                return Ok(());
            }
            Some(Outcome::Finished | Outcome::Stopped) => {
                timeout(LAST, self.sync_all(outfit, link, record, Scope::Last)).await
            }
            _ => Ok(()),
        };
        let flushed = timeout(LAST, self.sync_all(outfit, link, record, Scope::Flush)).await;
        if last.and(flushed).is_err() {
            tracing::warn!(sandbox = %outfit.sandbox, "changes to memories may be lost: sending them took too long");
        }
        for index in (0..record.copies.len()).rev() {
            let copy = &mut record.copies[index];
            if memory::may_go(link, copy).await? {
                link.hand.remove_tree(&copy.path).await?;
                record.copies.remove(index);
            } else {
                copy.stage = Stage::Left;
            }
            self.records.save(&outfit.sandbox, record).await?;
        }
        while let Some(folder) = record.skills.last() {
            link.hand.remove_tree(folder).await?;
            record.skills.pop();
        }
        record.item = None;
        self.records.save(&outfit.sandbox, record).await
    }
}

fn goes_without(outfit: &Outfit, skill: &Skill, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(sandbox = %outfit.sandbox, skill = skill.skill_id, error, "the session goes without a skill");
}

#[async_trait]
impl Outfitter for Furnisher {
    async fn fit(&self, outfit: &Outfit) -> Result<Fitted, OutfitError> {
        Ok(self.furnish(outfit).await?)
    }

    async fn tend(&self, outfit: &Outfit, care: Care) {
        if let Err(error) = self.look_after(outfit, care).await {
            tracing::warn!(sandbox = %outfit.sandbox, ?care, %error, "the sandbox's files were not looked after");
        }
    }

    async fn forget(&self, outfit: &Outfit) {
        self.sandboxes.remove(&outfit.sandbox);
        if let Err(error) = self.records.save(&outfit.sandbox, &Record::default()).await {
            tracing::warn!(sandbox = %outfit.sandbox, %error, "the record of a deleted sandbox is left");
        }
    }
}

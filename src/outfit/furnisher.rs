//! Furnishes sandboxes with skills and copies of memory stores.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use remuda_actors::ids::{SandboxId, SessionId};
use remuda_actors::ports::{Care, Fitted, Outfit, OutfitError, Outfitter};
use remuda_actors::session::end::Outcome;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::Hands;
use super::document::{self, Skill, Store, Wanted};
use super::memory::{self, Copy, Deletes, Link, Scope, Stage, Standing};
use super::patient::Patient;
use super::record::{Complete, Page, Record, Records};
use super::skills::{self, Cache};
use super::staging::{self, Staging, StagingOptions, Wish};
use super::trouble::Trouble;
use crate::cma::Client;
use crate::hand::client::ClientError;

/// Shortest time between two synchronizations of a sandbox's memory stores, as the official workers have it.
pub const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last synchronization may take, and how long what is left may be sent after it, as the official
/// workers have it.
const LAST: Duration = Duration::from_secs(30);

/// How long the collection of outputs may take.
pub const COLLECTING: Duration = Duration::from_secs(30);

/// Archives of skills that are kept, in bytes altogether.
const CACHE_LIMIT: u64 = 1 << 30;

/// How sandboxes are furnished.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where archives of skills are kept.
    pub skills_dir: PathBuf,
    /// Where is written down what sessions have.
    pub records_dir: PathBuf,
    /// Least time between two synchronizations of a sandbox's memory stores; at least [`MIN_INTERVAL`]. None: sessions
    /// get no memory stores.
    pub memory_interval: Option<Duration>,
    /// What happens to memories whose files are deleted.
    pub memory_deletes: Deletes,
    /// What sessions may bring in, and what is collected from them.
    pub staging: StagingOptions,
}

/// Why there can be no furnisher.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A folder cannot be used.
    #[error("could not use {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The TLS stack could not be set up.
    #[error("could not set up the HTTP client")]
    Http(#[source] reqwest::Error),
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
    staging: Staging,
    begun: Instant,
    sessions: DashMap<SessionId, Arc<Mutex<Kept>>>,
}

/// What is kept in mind of a session that is served.
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
    /// [`SetupError`] says what cannot be used.
    pub fn open(control: Arc<Client>, hands: Arc<dyn Hands>, options: Options) -> Result<Self, SetupError> {
        let at = |path: &PathBuf| {
            let path = path.clone();
            |source| SetupError::Folder { path, source }
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
            staging: Staging::new(options.staging).map_err(SetupError::Http)?,
            begun: Instant::now(),
            sessions: DashMap::new(),
        })
    }

    fn kept(&self, session: &SessionId) -> Arc<Mutex<Kept>> {
        Arc::clone(&self.sessions.entry(session.clone()).or_default())
    }

    /// What a session was furnished with, read when it is asked for first.
    async fn record<'a>(&self, session: &SessionId, kept: &'a mut Kept) -> Result<&'a mut Record, Trouble> {
        let slot = &mut kept.record;
        if slot.is_none() {
            *slot = Some(self.records.read(session).await?);
        }
        Ok(slot.get_or_insert_default())
    }

    async fn furnish(&self, outfit: &Outfit) -> Result<Fitted, Trouble> {
        let wanted = match &outfit.document {
            Some(document) => self.wanted(document.get())?,
            None => Wanted::default(),
        };
        let session = session(outfit)?;
        let kept = self.kept(session);
        let mut kept = kept.lock().await;
        let record = self.record(session, &mut kept).await?;
        let complete = Complete { item: outfit.item.id.clone(), sandbox: outfit.sandbox.clone() };
        let is_done = outfit.document.is_none() || record.complete.as_ref() == Some(&complete);
        let is_needed = !wanted.is_empty() || !record.is_empty() || self.staging.outputs.is_some();
        if !is_done && is_needed {
            let hand = self.hands.client(&outfit.sandbox).await?;
            let link = Link { control: &self.control, hand: &hand, patient: Patient::new(outfit) };
            self.bring_stores(session, &link, record, &wanted.stores).await?;
            self.bring_skills(session, &link, record, &wanted.skills).await?;
            self.bring_inputs(session, &link, record, &wanted.inputs, &outfit.sandbox).await?;
            record.complete = Some(complete);
            self.records.save(session, record).await?;
        }
        if record.is_empty() && self.staging.outputs.is_none() {
            self.sessions.remove(session);
            return Ok(Fitted::Plain);
        }
        // Whoever furnished it may have died before it was synchronized.
        kept.unsynced = is_done;
        kept.synced = (!is_done).then(Instant::now);
        Ok(Fitted::Tended)
    }

    fn wanted(&self, document: &str) -> Result<Wanted, Trouble> {
        let mut wanted = document::read(document, self.staging.has_inputs()).map_err(Trouble::supply)?;
        if self.interval.is_none() {
            wanted.stores.clear();
        }
        Ok(wanted)
    }

    /// Has the sandbox hold a copy of each of these stores, in step, and of no others.
    async fn bring_stores(
        &self,
        session: &SessionId,
        link: &Link<'_>,
        record: &mut Record,
        stores: &[Store],
    ) -> Result<(), Trouble> {
        for index in (0..record.copies.len()).rev() {
            // The sandbox may be another than the one that had them, with its files or without.
            let copy = &mut record.copies[index];
            let standing = memory::standing(link, copy).await?;
            if standing == Standing::Gone {
                copy.stage = Stage::Making;
            }
            let is_wanted = stores.iter().any(|store| copy.is_of(store));
            if is_wanted && standing != Standing::Foreign {
                continue;
            }
            if standing == Standing::There {
                link.hand.remove_tree(&copy.path).await?;
            }
            record.copies.remove(index);
            self.records.save(session, record).await?;
        }
        // They are closed before there is anything in them to be written.
        let closed: Vec<_> =
            stores.iter().filter(|store| store.read_only).map(|store| store.path.clone()).collect();
        if !closed.is_empty() {
            link.hand.set_read_only(&closed).await?;
        }
        for store in stores {
            let index = match record.copies.iter().position(|copy| copy.is_of(store)) {
                Some(index) => index,
                None => {
                    memory::check_vacant(link, store).await?;
                    record.copies.push(Copy::new(store));
                    self.records.save(session, record).await?;
                    record.copies.len() - 1
                }
            };
            record.copies[index].read_only = store.read_only;
            let stage = record.copies[index].stage;
            let page = Page { record, index, records: &self.records, session };
            match stage {
                Stage::Made => self.sync(page, link, Scope::Between).await,
                Stage::Making => memory::mount(page, link).await?,
            }
        }
        Ok(())
    }

    /// Has the sandbox hold these skills and no others. A session can do without one that cannot be had.
    async fn bring_skills(
        &self,
        session: &SessionId,
        link: &Link<'_>,
        record: &mut Record,
        skills: &[Skill],
    ) -> Result<(), Trouble> {
        let Link { control, hand, patient } = link;
        let (mut taken, mut brought) = (BTreeSet::new(), BTreeSet::new());
        for skill in skills {
            let fetched = match skills::fetch(control, &self.cache, patient, skill, &mut taken).await {
                Ok(fetched) => fetched,
                Err(error) => {
                    goes_without(session, skill, &error);
                    continue;
                }
            };
            if !record.skills.contains(&fetched.folder) {
                record.skills.push(fetched.folder.clone());
                self.records.save(session, record).await?;
            }
            match hand.put_tree(&fetched.folder, &fetched.stage, fetched.files).await {
                Ok(()) => drop(brought.insert(fetched.folder)),
                Err(error @ (ClientError::Refused(_) | ClientError::Unreadable(_))) => {
                    goes_without(session, skill, &error);
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

    /// Brings the session's inputs, once: they are the session's own from then on.
    async fn bring_inputs(
        &self,
        session: &SessionId,
        link: &Link<'_>,
        record: &mut Record,
        inputs: &[Wish],
        sandbox: &SandboxId,
    ) -> Result<(), Trouble> {
        if inputs.is_empty() || record.staged.as_ref() == Some(sandbox) {
            return Ok(());
        }
        // Another sandbox may have the files of the one before, as the session has changed them.
        self.staging.bring(link.hand, inputs, record.staged.is_none()).await?;
        record.staged = Some(sandbox.clone());
        self.records.save(session, record).await
    }

    /// Brings one copy in step. What fails is tried again the next time.
    async fn sync(&self, page: Page<'_>, link: &Link<'_>, scope: Scope) {
        let store = page.record.copies[page.index].store.clone();
        if let Err(error) = memory::sync(page, link, self.deletes, scope, self.begun.elapsed()).await {
            tracing::warn!(store, %error, "a memory store was not synchronized");
        }
    }

    async fn sync_all(&self, session: &SessionId, link: &Link<'_>, record: &mut Record, scope: Scope) {
        for index in 0..record.copies.len() {
            self.sync(Page { record, index, records: &self.records, session }, link, scope).await;
        }
    }

    async fn look_after(&self, outfit: &Outfit, care: Care) -> Result<(), Trouble> {
        let session = session(outfit)?;
        let kept = self.kept(session);
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
        let record = self.record(session, kept).await?;
        let is_ours = record.complete.as_ref().is_some_and(|complete| complete.sandbox == outfit.sandbox);
        if is_ours && (care == Care::Farewell || !record.copies.is_empty()) {
            let hand = self.hands.client(&outfit.sandbox).await?;
            let link = Link { control: &self.control, hand: &hand, patient: Patient::new(outfit) };
            if care == Care::Farewell {
                self.part(session, &link, record, outfit.outcome).await?;
            } else {
                self.sync_all(session, &link, record, Scope::Between).await;
                (kept.synced, kept.unsynced) = (Some(Instant::now()), false);
            }
        }
        if care == Care::Farewell {
            self.sessions.remove(session);
        }
        Ok(())
    }

    /// The session lets go of the sandbox: what it has is sent, and what it was given is taken out again.
    async fn part(
        &self,
        session: &SessionId,
        link: &Link<'_>,
        record: &mut Record,
        outcome: Option<Outcome>,
    ) -> Result<(), Trouble> {
        let last = match outcome {
            // The next process goes on with it as it is.
            Some(Outcome::Left) => {
                let _ = timeout(LAST, self.sync_all(session, link, record, Scope::Between)).await;
                return Ok(());
            }
            Some(Outcome::Finished | Outcome::Stopped) => {
                timeout(LAST, self.sync_all(session, link, record, Scope::Last)).await
            }
            _ => Ok(()),
        };
        let flushed = timeout(LAST, self.sync_all(session, link, record, Scope::Flush)).await;
        if last.and(flushed).is_err() {
            tracing::warn!(remuda.session.id = %session, "changes to memories may be lost: sending them took too long");
        }
        if let Some(outputs) = &self.staging.outputs {
            let collected = timeout(COLLECTING, staging::collect(link.hand, session, outputs)).await;
            let late = |_| Err(Trouble::sandbox(format!("it took more than {COLLECTING:?}")));
            if let Err(error) = collected.unwrap_or_else(late) {
                tracing::error!(remuda.session.id = %session, %error, "outputs were not collected");
            }
        }
        while let Some(copy) = record.copies.last() {
            // What is not known to be the copy any more is left to whoever made it so.
            if memory::standing(link, copy).await? != Standing::Foreign {
                link.hand.remove_tree(&copy.path).await?;
            }
            record.copies.pop();
            self.records.save(session, record).await?;
        }
        while let Some(folder) = record.skills.last() {
            link.hand.remove_tree(folder).await?;
            record.skills.pop();
        }
        record.complete = None;
        self.records.save(session, record).await
    }

    async fn drop_record(&self, outfit: &Outfit) -> Result<(), Trouble> {
        let session = session(outfit)?;
        let kept = self.kept(session);
        let mut kept = kept.lock().await;
        let record = self.record(session, &mut kept).await?;
        if record.complete.as_ref().is_none_or(|complete| complete.sandbox == outfit.sandbox) {
            *record = Record::default();
            self.records.save(session, record).await?;
        }
        self.sessions.remove(session);
        Ok(())
    }
}

/// Whose sandbox it is.
fn session(outfit: &Outfit) -> Result<&SessionId, Trouble> {
    let none = || Trouble::supply(format!("the work item {} is of no session", outfit.item.id));
    outfit.item.session().ok_or_else(none)
}

fn goes_without(session: &SessionId, skill: &Skill, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(remuda.session.id = %session, skill = skill.skill_id, error, "the session goes without a skill");
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
        if let Err(error) = self.drop_record(outfit).await {
            tracing::warn!(sandbox = %outfit.sandbox, %error, "the record of a deleted sandbox is left");
        }
    }
}

//! What is asked of the provider, the hand and the journal for one session's sandbox.
//!
//! Each request is a future that an actor's task awaits; each writes an intent down before it acts on it, and
//! may be dropped at any await.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::idle::Jobs;
use super::policy::{Background, Policy};
use super::signals::{Event, Unfit};
use crate::context::{Context, hand, provider};
use crate::event::Input;
use crate::fault::{Fault, FaultClass};
use crate::governor::Turns;
use crate::ids::{SandboxId, SessionId};
use crate::ledger::Entry;
use crate::ports::{
    CallReply, CallRequest, Care, CustomPlace, Fitted, Hand, Outfit, OutfitError, Parked, Record, Sandbox,
    SandboxSpec, Shelved,
};

/// Whose sandbox it is about.
pub(super) struct About {
    pub(super) context: Arc<Context>,
    pub(super) entry: Arc<Entry>,
    pub(super) session: SessionId,
}

impl About {
    fn within(&self) -> Duration {
        self.context.settings.deadlines.provider
    }

    /// The present instance; there is one from the first intent on.
    fn sandbox(&self) -> Result<SandboxId, Fault> {
        let sandbox = self.entry.sandbox().map(|(_, sandbox)| sandbox);
        sandbox.ok_or_else(|| Fault::new(FaultClass::Permanent, "no sandbox was ever intended"))
    }

    /// What is to be furnished.
    fn outfit(&self) -> Result<Outfit, Fault> {
        Ok(Outfit {
            item: self.entry.item.clone(),
            document: self.entry.document(),
            sandbox: self.sandbox()?,
            outcome: self.entry.end().map(|end| end.outcome()),
            turns: Turns::new(Arc::clone(&self.context.governor)),
        })
    }

    /// Writes down that a sandbox is about to be used, before it is: nobody after us would know whose it is. What
    /// was not heard of counts as not written: nothing was asked of the provider yet that could be looked up.
    async fn intend(&self, instance: u32, sandbox: SandboxId) -> Result<(), Fault> {
        let record = Record::SandboxIntended { instance, sandbox: sandbox.clone() };
        let intended = self.context.record(&self.entry.item.id, record).await;
        intended.map_err(|fault| Fault { class: FaultClass::Transient, ..fault })?;
        self.entry.write_sandbox(&sandbox);
        Ok(())
    }

    /// Whether a sandbox of that name is one that we may use.
    fn is_ours(&self, found: &Sandbox) -> bool {
        self.context.may_use(found, Some(&self.session))
    }
}

/// Gets an instance: a blank one if there is one, else a new one, with the files of the instance before it.
pub(super) async fn create(about: &About, instance: u32) -> Event {
    // A blank one is tried once, and only for a session that has had no other: it brings no files along.
    let is_first = about.entry.sandbox().is_none();
    let made = if is_first && about.context.herd.give_blank(&about.entry, instance) {
        wake(about, instance).await
    } else {
        make(about, instance).await
    };
    made.map_or_else(Event::CreateFailed, |()| Event::Created)
}

/// The name of a session's own sandbox.
fn name(about: &About, instance: u32) -> SandboxId {
    SandboxId::from(format!("{}.{instance}", about.session))
}

/// The number of a session's sandbox with a name of its own.
fn number(about: &About, sandbox: &SandboxId) -> Option<u32> {
    sandbox.as_str().strip_prefix(about.session.as_str())?.strip_prefix('.')?.parse().ok()
}

/// The number for the first instance of a session that has none: a name that means an earlier sandbox of the
/// session is not used again, neither while a call that was given to that one has no answer, nor while that one
/// is being deleted.
pub(super) fn first_instance(about: &About) -> u32 {
    let given = about.entry.given_calls();
    let given = given.iter().filter_map(|(_, sandbox)| number(about, sandbox));
    let shelf = about.context.herd.shelf();
    let used = shelf.all().filter_map(|sandbox| number(about, sandbox)).chain(given);
    used.max().map_or(1, |last| last.saturating_add(1))
}

async fn make(about: &About, instance: u32) -> Result<(), Fault> {
    let id = name(about, instance);
    about.entry.intend_sandbox(instance, id.clone());
    about.intend(instance, id.clone()).await?;
    let keeps = about.context.ports.provider.capabilities().keeps_files;
    let files_of = about.entry.previous_sandbox().filter(|_| keeps);
    let (owner, session) = (about.context.settings.owner.clone(), Some(about.session.clone()));
    let spec = SandboxSpec { id, owner, session, image: None, files_of };
    let made = about.context.create(&spec).await;
    made.map_err(|error| error.fault())?;
    if spec.files_of.is_some() {
        about.entry.forget_previous_sandbox();
    }
    Ok(())
}

/// Takes a blank sandbox into use. One that cannot be woken is nobody's once the next attempt has another
/// name for its instance, and then the reaper's.
async fn wake(about: &About, instance: u32) -> Result<(), Fault> {
    let blank = about.sandbox()?;
    about.intend(instance, blank.clone()).await?;
    let woken = provider(about.within(), about.context.ports.provider.resume(&blank)).await;
    woken.map_err(|error| Fault { class: FaultClass::Transient, ..error.fault() })
}

/// Finds out whether the present instance exists. First it is written down that it is used, if that is not known
/// to be so: it may come from the shelf, or an earlier incarnation may have been about to.
pub(super) async fn look_up(about: &About, instance: u32) -> Event {
    let found = async {
        if !about.entry.is_sandbox_written() {
            about.intend(instance, about.sandbox()?).await?;
        }
        find(about).await
    };
    match found.await {
        // Another's sandbox of that name is not ours to use.
        Ok(found) => Event::LookedUp { present: found.is_some_and(|found| about.is_ours(&found)) },
        Err(fault) => Event::LookUpFailed(fault),
    }
}

/// Whether the present instance exists, for all we know: a look-up that failed says nothing about what is there.
pub(super) async fn is_present(about: &About) -> bool {
    find(about).await.map_or(true, |found| found.is_some())
}

async fn find(about: &About) -> Result<Option<Sandbox>, Fault> {
    let id = about.sandbox()?;
    let found = provider(about.within(), about.context.ports.provider.find(&id)).await;
    found.map_err(|error| error.fault())
}

pub(super) async fn standby(about: &About) -> Event {
    let stood = async {
        let id = about.sandbox()?;
        let stood = provider(about.within(), about.context.ports.provider.standby(&id)).await;
        stood.map_err(|error| error.fault())
    };
    stood.await.map_or_else(Event::StandbyFailed, |()| Event::StoodBy)
}

pub(super) async fn resume(about: &About) -> Event {
    let resumed = async {
        let id = about.sandbox()?;
        let resumed = provider(about.within(), about.context.ports.provider.resume(&id)).await;
        resumed.map_err(|error| error.fault())
    };
    resumed.await.map_or_else(Event::ResumeFailed, |()| Event::Resumed)
}

/// Puts the present instance on the shelf for its session. From then on it is not this work item's any more.
pub(super) async fn shelve(about: &About, instance: u32) -> Event {
    let shelved = async {
        let sandbox = about.sandbox()?;
        let usage = provider(about.within(), about.context.ports.provider.usage(&sandbox)).await;
        let usage = usage.map_err(|error| error.fault())?;
        let (disk_bytes, memory_bytes) = (usage.disk_bytes, usage.memory_bytes);
        let parked = Parked { session: about.session.clone(), instance, disk_bytes, memory_bytes };
        let shelved = Shelved { sandbox, parked: Some(parked) };
        about.context.shelve(&shelved).await?;
        about.context.herd.put(shelved, Instant::now());
        about.entry.forget_sandbox();
        Ok(())
    };
    shelved.await.map_or_else(Event::ShelveFailed, |()| Event::Shelved)
}

/// Deletes every instance of which there may be something, unless it turns out to be another's.
pub(super) async fn delete(about: &About) -> Event {
    for id in about.entry.sandboxes() {
        if let Err(error) = about.context.delete(&id, Some(&about.session)).await {
            return Event::DeleteFailed(error.fault());
        }
    }
    if let (Some(outfitter), Ok(outfit)) = (&about.context.settings.outfitter, about.outfit()) {
        let _ = timeout(about.within(), outfitter.forget(&outfit)).await;
    }
    Event::Deleted
}

/// Furnishes the present instance.
pub(super) async fn fit(about: &About) -> Event {
    let within = about.context.settings.deadlines.fit;
    let fitted = async {
        let Some(outfitter) = &about.context.settings.outfitter else { return Ok(Fitted::Plain) };
        let outfit = about.outfit().map_err(OutfitError::Sandbox)?;
        let late = |_| {
            let fault = Fault::new(FaultClass::Ambiguous, format!("it took more than {within:?}"));
            Err(OutfitError::Sandbox(fault))
        };
        timeout(within, outfitter.fit(&outfit)).await.unwrap_or_else(late)
    };
    match fitted.await {
        Ok(fitted) => Event::Fitted(fitted),
        Err(OutfitError::Sandbox(fault)) => Event::FitFailed(Unfit { fault, of_sandbox: true }),
        Err(OutfitError::Supply(fault)) => Event::FitFailed(Unfit { fault, of_sandbox: false }),
    }
}

/// Looks after what the present instance is furnished with, for as long as that may take.
pub(super) async fn tend(about: &About, care: Care) {
    let limits = about.context.settings.deadlines.care;
    let within = if care == Care::Farewell { limits.farewell } else { limits.between };
    if let (Some(outfitter), Ok(outfit)) = (&about.context.settings.outfitter, about.outfit())
        && timeout(within, outfitter.tend(&outfit, care)).await.is_err()
    {
        tracing::warn!(sandbox = %outfit.sandbox, ?within, "looking after the sandbox's files took too long");
    }
}

/// What the jobs in the sandbox do, as far as it matters for standby.
pub(super) async fn inspect(about: &About, hand_of: Arc<dyn Hand>, policy: &Policy) -> Jobs {
    let Ok(health) = hand(about.within(), hand_of.health()).await else { return Jobs::Unknown };
    // No call of the session's runs, so these are somebody else's, such as a client of its MCP endpoint.
    if !health.running.is_empty() {
        return Jobs::Some { permille: 1000 };
    }
    if health.background == 0 {
        return Jobs::None;
    }
    if policy.background == Background::Hold {
        return Jobs::Some { permille: 0 };
    }
    let used = async || {
        let id = about.sandbox().ok()?;
        let usage = provider(about.within(), about.context.ports.provider.usage(&id)).await;
        Some((usage.ok()?.cpu, Instant::now()))
    };
    let Some((before, since)) = used().await else { return Jobs::Unknown };
    tokio::time::sleep(policy.window).await;
    let Some((after, now)) = used().await else { return Jobs::Unknown };
    let window = now.saturating_duration_since(since).as_micros().max(1);
    let permille = after.saturating_sub(before).as_micros() * 1000 / window;
    Jobs::Some { permille: u32::try_from(permille).unwrap_or(u32::MAX) }
}

/// Gives a call to the hand and waits for its answer, once it is written down that it was given. What is not
/// written down is not run.
pub(super) async fn call(
    about: &About,
    hand_of: Arc<dyn Hand>,
    sandbox: SandboxId,
    request: &CallRequest,
) -> Result<CallReply, Fault> {
    let call = &request.call;
    if !about.entry.is_call_written(call) {
        // Nothing is wrong with the sandbox, and what is not written down is not run. Nor is what has waited
        // here until it may be somebody else's to run.
        let started = Record::CallStarted { call: call.clone(), sandbox };
        let written = about.context.record(&about.entry.item.id, started).await;
        if let Err(fault) = written.and_then(|()| about.entry.fence(Instant::now())) {
            about.entry.close_call(call);
            return Err(Fault { class: FaultClass::Permanent, ..fault });
        }
        about.entry.write_call(call);
    }
    let within = request.timeout + about.context.settings.deadlines.hand;
    let custom = about.context.settings.session.custom.get(&request.tool);
    let request = match (custom.map(|tool| &tool.place), &request.input) {
        (Some(CustomPlace::Inside(custom)), Input::Json(input)) => {
            let (tool, input) = custom.request(input);
            &CallRequest { tool, input, ..request.clone() }
        }
        _ => request,
    };
    hand(within, hand_of.call(request)).await.map_err(|error| error.fault())
}

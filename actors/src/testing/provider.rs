//! A provider in memory, whose hands understand a few words of shell.
//!
//! | Command | Does |
//! |---|---|
//! | `sleep N` | runs for N seconds |
//! | `sleep N && COMMAND` | the same, and then does that |
//! | `exit N` | fails, unless N is 0 |
//! | `echo TEXT >>FILE` | adds a line to a file |
//! | `cat FILE` | answers what is in it; fails if there is no such file |
//! | anything else | answers its own text, without a leading `echo ` |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::Faults;
use crate::event::Input;
use crate::ids::{CallId, SandboxId, SessionId};
use crate::ports::{
    CallReply, CallRequest, Capabilities, Hand, HandError, HandHealth, Origin, OwnerId, ProviderError,
    Sandbox, SandboxProvider, SandboxSpec, Standby, Usage,
};
use crate::tool::ToolResult;

/// A provider in memory.
#[derive(Debug)]
pub struct FakeProvider {
    world: Arc<Mutex<World>>,
    capabilities: Capabilities,
    /// Faults to come; the operations are the names of the port's methods.
    pub faults: Faults<ProviderError>,
    /// The same for all hands: `call`, `cancel`, `health`.
    pub hand_faults: Arc<Faults<HandError>>,
}

#[derive(Debug, Default)]
struct World {
    sandboxes: BTreeMap<SandboxId, FakeSandbox>,
    requests: Vec<(&'static str, SandboxId)>,
    /// How often each call was started, in which sandbox.
    runs: Vec<(SandboxId, CallId)>,
    /// What every call came to, whether or not anybody heard of it.
    produced: BTreeMap<(SandboxId, CallId), Arc<ToolResult>>,
}

#[derive(Debug)]
struct FakeSandbox {
    owner: OwnerId,
    session: Option<SessionId>,
    created: Instant,
    frozen: bool,
    files: BTreeMap<String, Vec<String>>,
    /// Jobs that outlive their calls, and the part of a core they use.
    background: (u32, f64),
    thawed: Arc<Notify>,
    calls: BTreeMap<CallId, FakeCall>,
}

impl Drop for FakeSandbox {
    fn drop(&mut self) {
        self.thawed.notify_waiters();
    }
}

#[derive(Clone, Debug)]
struct FakeCall {
    done: watch::Receiver<Option<CallReply>>,
    cancel: Arc<watch::Sender<Option<String>>>,
}

impl Default for FakeProvider {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeProvider {
    /// A provider whose sandboxes can stand by.
    pub fn new() -> Self {
        Self {
            world: Arc::default(),
            capabilities: Capabilities { standby: Standby::Memory, keeps_files: true },
            faults: Faults::default(),
            hand_faults: Arc::default(),
        }
    }

    /// The sandboxes there are.
    pub fn sandboxes(&self) -> Vec<SandboxId> {
        lock(&self.world).sandboxes.keys().cloned().collect()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<(&'static str, SandboxId)> {
        lock(&self.world).requests.clone()
    }

    /// How many requests of an operation there were.
    pub fn count(&self, operation: &str) -> usize {
        lock(&self.world).requests.iter().filter(|(of, _)| *of == operation).count()
    }

    /// Every start of a call, in order.
    pub fn runs(&self) -> Vec<(SandboxId, CallId)> {
        lock(&self.world).runs.clone()
    }

    /// What a call came to in a sandbox, if it ended there.
    pub fn produced(&self, sandbox: &SandboxId, call: &CallId) -> Option<Arc<ToolResult>> {
        lock(&self.world).produced.get(&(sandbox.clone(), call.clone())).cloned()
    }

    /// The calls that run in a sandbox and that nobody has cut.
    pub fn running(&self, sandbox: &SandboxId) -> Vec<CallId> {
        let world = lock(&self.world);
        let calls = world.sandboxes.get(sandbox).into_iter().flat_map(|sandbox| &sandbox.calls);
        let running =
            calls.filter(|(_, call)| call.done.borrow().is_none() && call.cancel.borrow().is_none());
        running.map(|(id, _)| id.clone()).collect()
    }

    /// How many calls were started.
    pub fn starts(&self) -> usize {
        lock(&self.world).runs.len()
    }

    /// Whose a sandbox is, if it is there.
    pub fn owner(&self, sandbox: &SandboxId) -> Option<OwnerId> {
        lock(&self.world).sandboxes.get(sandbox).map(|sandbox| sandbox.owner.clone())
    }

    /// Every sandbox, whosever it is.
    pub fn all(&self) -> Vec<Sandbox> {
        lock(&self.world).sandboxes.iter().map(|(id, sandbox)| sandbox.describe(id)).collect()
    }

    /// A sandbox vanishes, with everything in it.
    pub fn lose(&self, sandbox: &str) {
        lock(&self.world).sandboxes.remove(&sandbox.into());
    }

    /// A sandbox has this many jobs of its own from now on, which use this part of a core.
    pub fn keep_busy(&self, sandbox: &str, jobs: u32, load: f64) {
        if let Some(sandbox) = lock(&self.world).sandboxes.get_mut(&sandbox.into()) {
            sandbox.background = (jobs, load);
        }
    }

    /// Whether a sandbox stands by.
    pub fn is_frozen(&self, sandbox: &str) -> bool {
        lock(&self.world).sandboxes.get(&sandbox.into()).is_some_and(|sandbox| sandbox.frozen)
    }

    fn request(&self, operation: &'static str, id: &SandboxId) {
        lock(&self.world).requests.push((operation, id.clone()));
    }

    fn freeze(&self, id: &SandboxId, frozen: bool) -> Result<(), ProviderError> {
        let mut world = lock(&self.world);
        let missing = || ProviderError::NotFound { id: id.clone() };
        let sandbox = world.sandboxes.get_mut(id).ok_or_else(missing)?;
        sandbox.frozen = frozen;
        sandbox.thawed.notify_waiters();
        Ok(())
    }
}

impl FakeSandbox {
    fn describe(&self, id: &SandboxId) -> Sandbox {
        let (owner, session) = (self.owner.clone(), self.session.clone());
        Sandbox { id: id.clone(), owner, session, age: self.created.elapsed() }
    }

    /// Whether another may have its files. One that was made blank got a session later, which is not known here.
    fn may_be_taken_over_by(&self, spec: &SandboxSpec) -> Result<(), ProviderError> {
        let is_same_session = self.session.is_none() || self.session == spec.session;
        if self.owner == spec.owner && spec.session.is_some() && is_same_session {
            return Ok(());
        }
        let what = format!("{} cannot take over the files of another owner's or session's sandbox", spec.id);
        Err(ProviderError::Refused { what })
    }

    /// What a command that concerns files comes to: another one, without any.
    fn do_files(&mut self, command: String) -> String {
        if let Some((text, file)) = command.strip_prefix("echo ").and_then(|rest| rest.split_once(" >>")) {
            self.files.entry(file.to_owned()).or_default().push(text.to_owned());
            return "exit 0".to_owned();
        }
        match command.strip_prefix("cat ").map(|file| self.files.get(file)) {
            Some(Some(lines)) => format!("echo {}", lines.join("\n")),
            Some(None) => "exit 1".to_owned(),
            None => command,
        }
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl SandboxProvider for FakeProvider {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError> {
        self.request("create", &spec.id);
        let create = async {
            let mut world = lock(&self.world);
            if world.sandboxes.contains_key(&spec.id) {
                return Err(ProviderError::AlreadyExists { id: spec.id.clone() });
            }
            if let Some(old) = spec.files_of.as_ref().and_then(|old| world.sandboxes.get(old)) {
                old.may_be_taken_over_by(spec)?;
            }
            let old = spec.files_of.as_ref().and_then(|old| world.sandboxes.remove(old));
            let taken =
                |mut old: FakeSandbox| (std::mem::take(&mut old.files), std::mem::take(&mut old.calls));
            let (files, mut calls) = old.map(taken).unwrap_or_default();
            calls.retain(|_, call| call.done.borrow().is_some());
            let sandbox = FakeSandbox {
                files,
                background: (0, 0.0),
                owner: spec.owner.clone(),
                session: spec.session.clone(),
                created: Instant::now(),
                frozen: false,
                thawed: Arc::default(),
                calls,
            };
            let described = sandbox.describe(&spec.id);
            world.sandboxes.insert(spec.id.clone(), sandbox);
            Ok(described)
        };
        self.faults.around("create", create).await
    }

    async fn find(&self, id: &SandboxId) -> Result<Option<Sandbox>, ProviderError> {
        self.request("find", id);
        let find = async { Ok(lock(&self.world).sandboxes.get(id).map(|sandbox| sandbox.describe(id))) };
        self.faults.around("find", find).await
    }

    async fn list(&self, owner: &OwnerId) -> Result<Vec<Sandbox>, ProviderError> {
        self.request("list", &"".into());
        let list = async {
            let world = lock(&self.world);
            let ours = world.sandboxes.iter().filter(|(_, sandbox)| sandbox.owner == *owner);
            Ok(ours.map(|(id, sandbox)| sandbox.describe(id)).collect())
        };
        self.faults.around("list", list).await
    }

    fn hand(&self, id: &SandboxId) -> Arc<dyn Hand> {
        let (world, faults) = (Arc::clone(&self.world), Arc::clone(&self.hand_faults));
        Arc::new(FakeHand { sandbox: id.clone(), world, faults })
    }

    async fn standby(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.request("standby", id);
        self.faults.around("standby", async { self.freeze(id, true) }).await
    }

    async fn resume(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.request("resume", id);
        self.faults.around("resume", async { self.freeze(id, false) }).await
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, ProviderError> {
        self.request("usage", id);
        let usage = async {
            let world = lock(&self.world);
            let sandbox =
                world.sandboxes.get(id).ok_or_else(|| ProviderError::NotFound { id: id.clone() })?;
            let cpu = sandbox.created.elapsed().mul_f64(sandbox.background.1);
            let disk_bytes = sandbox.files.values().flatten().map(|line| line.len() as u64 + 1).sum();
            Ok(Usage { cpu, memory_bytes: 1 << 20, disk_bytes })
        };
        self.faults.around("usage", usage).await
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.request("delete", id);
        let delete = async {
            lock(&self.world).sandboxes.remove(id);
            Ok(())
        };
        self.faults.around("delete", delete).await
    }
}

#[derive(Debug)]
struct FakeHand {
    sandbox: SandboxId,
    world: Arc<Mutex<World>>,
    faults: Arc<Faults<HandError>>,
}

impl FakeHand {
    /// The call, which is started if it is new.
    fn start(&self, request: &CallRequest) -> Result<(FakeCall, Origin), HandError> {
        let mut world = lock(&self.world);
        let missing = || HandError::Unreachable("there is no such sandbox".into());
        let sandbox = world.sandboxes.get_mut(&self.sandbox).ok_or_else(missing)?;
        if let Some(call) = sandbox.calls.get(&request.call) {
            let origin = if call.done.borrow().is_some() { Origin::Journal } else { Origin::Attached };
            return Ok((call.clone(), origin));
        }
        let said = sandbox.do_files(command(&request.input));
        let (tell, done) = watch::channel(None);
        let (cancel, cancelled) = watch::channel(None);
        let call = FakeCall { done, cancel: Arc::new(cancel) };
        sandbox.calls.insert(request.call.clone(), call.clone());
        world.runs.push((self.sandbox.clone(), request.call.clone()));
        let (world, key) = (Arc::clone(&self.world), (self.sandbox.clone(), request.call.clone()));
        let limit = request.timeout;
        #[expect(clippy::disallowed_methods, reason = "a sandbox's processes outlive whoever watches them")]
        tokio::spawn(async move {
            let reply = run(&said, limit, cancelled).await;
            lock(&world).produced.insert(key, Arc::clone(&reply.result));
            tell.send_replace(Some(reply));
        });
        Ok((call, Origin::Ran))
    }

    /// Waits until there is no such sandbox.
    async fn gone(&self) {
        while let Some(changed) = self.sandbox(|sandbox| Arc::clone(&sandbox.thawed).notified_owned()) {
            changed.await;
        }
    }

    fn sandbox<T>(&self, look: impl FnOnce(&FakeSandbox) -> T) -> Option<T> {
        lock(&self.world).sandboxes.get(&self.sandbox).map(look)
    }

    /// Waits until the sandbox runs, and fails if there is none.
    async fn awake(&self) -> Result<(), HandError> {
        loop {
            let thawed = {
                let world = lock(&self.world);
                let Some(sandbox) = world.sandboxes.get(&self.sandbox) else {
                    return Err(HandError::Unreachable("there is no such sandbox".into()));
                };
                if !sandbox.frozen {
                    return Ok(());
                }
                Arc::clone(&sandbox.thawed).notified_owned()
            };
            thawed.await;
        }
    }
}

#[async_trait]
impl Hand for FakeHand {
    async fn call(&self, request: &CallRequest) -> Result<CallReply, HandError> {
        let call = async {
            self.awake().await?;
            let (mut call, origin) = self.start(request)?;
            loop {
                let reply = call.done.borrow_and_update().clone();
                if let Some(reply) = reply {
                    self.awake().await?;
                    return Ok(CallReply { origin, ..reply });
                }
                tokio::select! {
                    biased;
                    changed = call.done.changed() => {
                        changed.map_err(|gone| HandError::Broken(Box::new(gone)))?;
                    }
                    () = self.gone() => return Err(HandError::Broken("the sandbox is gone".into())),
                }
            }
        };
        self.faults.around("call", call).await
    }

    async fn cancel(&self, call: &CallId, reason: &str) -> Result<(), HandError> {
        let cancel = async {
            self.awake().await?;
            let world = lock(&self.world);
            if let Some(call) = world.sandboxes.get(&self.sandbox).and_then(|sandbox| sandbox.calls.get(call))
            {
                call.cancel.send_replace(Some(reason.to_owned()));
            }
            Ok(())
        };
        self.faults.around("cancel", cancel).await
    }

    async fn health(&self) -> Result<HandHealth, HandError> {
        let health = async {
            self.awake().await?;
            let world = lock(&self.world);
            let sandbox = world.sandboxes.get(&self.sandbox);
            let background = sandbox.map_or(0, |sandbox| sandbox.background.0);
            let calls = sandbox.map(|sandbox| &sandbox.calls);
            let running = calls.into_iter().flatten().filter(|(_, call)| call.done.borrow().is_none());
            let running = running.map(|(id, _)| id.clone()).collect();
            Ok(HandHealth { running, background, rss_bytes: 0, private_bytes: 0 })
        };
        self.faults.around("health", health).await
    }
}

/// The command of a `bash` call.
fn command(input: &Input) -> String {
    let Input::Json(raw) = input else { return String::new() };
    let value: serde_json::Value = serde_json::from_str(raw.get()).unwrap_or_default();
    value.get("command").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

/// Runs a command to its end.
async fn run(command: &str, limit: Duration, mut cancelled: watch::Receiver<Option<String>>) -> CallReply {
    let begun = Instant::now();
    let (takes, command) = match command.strip_prefix("sleep ") {
        Some(rest) => {
            let (seconds, then) = rest.split_once(" && ").unwrap_or((rest, command));
            (seconds.parse().map_or(Duration::ZERO, Duration::from_secs_f64), then)
        }
        None => (Duration::ZERO, command),
    };
    let result = tokio::select! {
        biased;
        Ok(reason) = cancelled.wait_for(Option::is_some) => {
            let reason = reason.as_deref().unwrap_or_default();
            ToolResult::error(format!("bash: cancelled: {reason}"))
        }
        () = sleep(takes.min(limit)) => {
            if takes > limit {
                ToolResult::error("bash: timed out")
            } else if let Some(status) = command.strip_prefix("exit ") {
                ToolResult { is_error: status != "0", content: Vec::new() }
            } else {
                ToolResult::ok(command.strip_prefix("echo ").unwrap_or(command))
            }
        }
    };
    CallReply { result: Arc::new(result), run: begun.elapsed(), origin: Origin::Ran }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_contract() {
        contract::provider(Arc::new(FakeProvider::new())).await;
    }
}

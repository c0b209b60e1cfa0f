//! Sandboxes of one's own: notebooks in memory, with one tool that writes a line.
//!
//! # Invariants
//! - A call is run at most once: its answer is kept under its id, and asked for again it is not run again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use remuda_actors::event::Input;
use remuda_actors::ids::{CallId, SandboxId};
use remuda_actors::ports::{
    CallReply, CallRequest, Capabilities, Hand, HandError, HandHealth, Origin, OwnerId, ProviderError,
    Sandbox, SandboxProvider, SandboxSpec, Usage,
};
use remuda_actors::tool::ToolResult;
use serde::Deserialize;

/// The tool: writes a line into the notebook, and answers with it and its number.
pub(crate) const TOOL: &str = "note";

/// All notebooks there are.
#[derive(Debug, Default)]
pub(crate) struct Notebooks(Mutex<BTreeMap<SandboxId, Arc<Notebook>>>);

/// One notebook, and its own hand.
#[derive(Debug)]
struct Notebook {
    spec: SandboxSpec,
    created: Instant,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    lines: Vec<String>,
    answered: BTreeMap<CallId, Arc<ToolResult>>,
}

/// The arguments of the tool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    text: String,
}

impl Notebooks {
    fn all(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Arc<Notebook>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notebook {
    fn describe(&self) -> Sandbox {
        let SandboxSpec { id, owner, session, .. } = self.spec.clone();
        Sandbox { id, owner, session, age: self.created.elapsed() }
    }
}

#[async_trait]
impl SandboxProvider for Notebooks {
    fn name(&self) -> &'static str {
        "notebooks"
    }

    /// They cannot stand by, and none takes over the lines of another. The tree adapts.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError> {
        let notebook = Notebook { spec: spec.clone(), created: Instant::now(), pages: Mutex::default() };
        let sandbox = notebook.describe();
        let mut all = self.all();
        if all.contains_key(&spec.id) {
            return Err(ProviderError::AlreadyExists { id: spec.id.clone() });
        }
        all.insert(spec.id.clone(), Arc::new(notebook));
        Ok(sandbox)
    }

    async fn find(&self, id: &SandboxId) -> Result<Option<Sandbox>, ProviderError> {
        Ok(self.all().get(id).map(|notebook| notebook.describe()))
    }

    async fn list(&self, owner: &OwnerId) -> Result<Vec<Sandbox>, ProviderError> {
        let all = self.all();
        Ok(all.values().filter(|found| found.spec.owner == *owner).map(|found| found.describe()).collect())
    }

    fn hand(&self, id: &SandboxId) -> Arc<dyn Hand> {
        match self.all().get(id) {
            Some(notebook) => Arc::clone(notebook) as _,
            None => Arc::new(Nobody),
        }
    }

    async fn standby(&self, _: &SandboxId) -> Result<(), ProviderError> {
        Err(ProviderError::Refused { what: "notebooks cannot stand by".to_owned() })
    }

    async fn resume(&self, _: &SandboxId) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn usage(&self, _: &SandboxId) -> Result<Usage, ProviderError> {
        Ok(Usage::default())
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.all().remove(id);
        Ok(())
    }
}

#[async_trait]
impl Hand for Notebook {
    async fn call(&self, request: &CallRequest) -> Result<CallReply, HandError> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = |result, origin| Ok(CallReply { result, run: Duration::ZERO, origin });
        if let Some(result) = pages.answered.get(&request.call) {
            return reply(Arc::clone(result), Origin::Journal);
        }
        let note = match &request.input {
            Input::Json(json) => serde_json::from_str(json.get()).map_err(|error| error.to_string()),
            Input::Malformed(what) => Err(what.to_string()),
        };
        let result = match note {
            Ok(Note { text }) => {
                pages.lines.push(text.clone());
                ToolResult::ok(format!("{} {text}", pages.lines.len()))
            }
            Err(problem) => ToolResult::error(format!("{TOOL}: {problem}")),
        };
        let result = Arc::new(result);
        pages.answered.insert(request.call.clone(), Arc::clone(&result));
        reply(result, Origin::Ran)
    }

    /// A call that has run keeps its answer, and here each has as soon as it is there. One that has not come yet
    /// is answered now, so that it never will run.
    async fn cancel(&self, call: &CallId, reason: &str) -> Result<(), HandError> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let cancelled = || Arc::new(ToolResult::error(format!("{TOOL}: the call was cancelled ({reason})")));
        pages.answered.entry(call.clone()).or_insert_with(cancelled);
        Ok(())
    }

    async fn health(&self) -> Result<HandHealth, HandError> {
        Ok(HandHealth { running: Vec::new(), background: 0, rss_bytes: 0, private_bytes: 0 })
    }
}

/// The hand of a notebook that is not there.
#[derive(Debug)]
struct Nobody;

impl Nobody {
    fn missing<T>() -> Result<T, HandError> {
        Err(HandError::Unreachable("there is no such notebook".into()))
    }
}

#[async_trait]
impl Hand for Nobody {
    async fn call(&self, _: &CallRequest) -> Result<CallReply, HandError> {
        Self::missing()
    }

    async fn cancel(&self, _: &CallId, _: &str) -> Result<(), HandError> {
        Self::missing()
    }

    async fn health(&self) -> Result<HandHealth, HandError> {
        Self::missing()
    }
}

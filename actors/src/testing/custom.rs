//! Custom tools in memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

use crate::event::Input;
use crate::ids::{CallId, SessionId};
use crate::ports::{CallRequest, InsideTool, OutsideTool};
use crate::tool::ToolResult;

/// What became of a call of a [`FakeTool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Running,
    /// It was answered.
    Answered,
    /// It was dropped before that.
    Dropped,
}

/// A tool outside all sandboxes. Asked to wait for `"seconds"` it does, and then says its own name.
#[derive(Clone, Debug, Default)]
pub struct FakeTool(Arc<Mutex<Vec<(CallId, Fate)>>>);

impl FakeTool {
    /// One that nobody has asked for anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The calls that it was asked for, in this order.
    pub fn calls(&self) -> Vec<(CallId, Fate)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One call, which knows when it is dropped.
struct Running<'a>(&'a FakeTool, usize);

impl Running<'_> {
    fn set(&self, fate: Fate) {
        let mut calls = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, current @ Fate::Running)) = calls.get_mut(self.1) {
            *current = fate;
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.set(Fate::Dropped);
    }
}

#[async_trait]
impl OutsideTool for FakeTool {
    async fn call(&self, _: &SessionId, request: &CallRequest) -> ToolResult {
        let running = {
            let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push((request.call.clone(), Fate::Running));
            Running(self, calls.len() - 1)
        };
        let Input::Json(input) = &request.input else { return ToolResult::error("it has no arguments") };
        let input: serde_json::Value = serde_json::from_str(input.get()).unwrap_or_default();
        if let Some(seconds) = input.get("seconds").and_then(serde_json::Value::as_f64) {
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
        running.set(Fate::Answered);
        ToolResult::ok(&*request.tool)
    }
}

/// A tool in sandboxes: a `bash` call with the same arguments.
#[derive(Clone, Copy, Debug, Default)]
pub struct FakeInsideTool;

impl InsideTool for FakeInsideTool {
    fn request(&self, input: &RawValue) -> (Arc<str>, Input) {
        ("bash".into(), Input::Json(input.to_owned().into()))
    }
}

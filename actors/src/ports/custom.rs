//! Tools that the operator has declared, beside those that every sandbox has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

use crate::event::Input;
use crate::ids::SessionId;
use crate::ports::CallRequest;
use crate::tool::ToolResult;

/// A tool of the operator's.
#[derive(Clone, Debug)]
pub struct CustomTool {
    /// How long one call of it may take; none for as long as any other call.
    pub timeout: Option<Duration>,
    /// Where its calls run.
    pub place: CustomPlace,
}

/// Where the calls of a custom tool run.
#[derive(Clone, Debug)]
pub enum CustomPlace {
    /// In the session's sandbox, as calls of its hand: whatever holds for those holds for these.
    Inside(Arc<dyn InsideTool>),
    /// Outside. The session's sandbox is not needed for them, and may sleep meanwhile.
    Outside(Arc<dyn OutsideTool>),
}

/// A tool that runs in sandboxes.
pub trait InsideTool: fmt::Debug + Send + Sync + 'static {
    /// What to ask a sandbox's hand for, so that it runs the tool with these arguments: a tool of the hand's and its
    /// arguments. The same for the same arguments, for a hand refuses a call that comes again as another.
    fn request(&self, input: &RawValue) -> (Arc<str>, Input);
}

/// A tool that runs where no sandbox is.
#[async_trait]
pub trait OutsideTool: fmt::Debug + Send + Sync + 'static {
    /// Runs a call to its end. What goes wrong is an answer, too. It is asked once for each call, unless the request
    /// says that it may run again.
    ///
    /// # Cancel safety
    /// Dropped, because the call is cancelled or its time is up, it asks whoever runs the call to end it, and waits
    /// for nothing.
    async fn call(&self, session: &SessionId, request: &CallRequest) -> ToolResult;
}

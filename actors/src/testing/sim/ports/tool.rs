//! A tool outside all sandboxes, as one process reaches it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::ids::SessionId;
use crate::ports::{CallRequest, OutsideTool};
use crate::testing::sim::Operation;
use crate::testing::sim::fate::Failure;
use crate::testing::sim::life::{About, Life};
use crate::tool::ToolResult;

pub(super) struct Tool(pub(super) Arc<Life>);

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tool")
    }
}

#[async_trait]
impl OutsideTool for Tool {
    async fn call(&self, session: &SessionId, request: &CallRequest) -> ToolResult {
        let life = &self.0;
        life.alive().await;
        let process = (life.host.index, life.number);
        life.world.watch(|watch, findings| {
            watch.secret(&format_args!("{request:?}"), findings);
            watch.asking(process.0, request, &life.world.control, findings);
        });
        let about =
            About { operation: Operation::Outside, subject: session.as_str(), call: Some(&request.call) };
        let asked = life.ask(about, Failure::tool, || {
            let result = ToolResult::ok(format!("out of {}", request.call));
            async move { Ok(result) }
        });
        let result = asked.await.unwrap_or_else(|failed| failed);
        life.world.watch(|watch, _| watch.answered(process, &request.call, &Arc::new(result.clone())));
        result
    }
}

//! A call of a tool that runs outside: neither in the session's sandbox nor in this process.
//!
//! ```text
//! written down that it begins ──► asked ──► answered, cut, or its time is up ──► known ──► told, written down
//! ```
//!
//! Of a call that was asked for, whoever comes after us knows no more than that: no hand remembers it, and there is
//! nothing to attach to. So it is not asked for again, unless it only looks, and the agent is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::actor::SessionMsg;
use super::run::Cancellation;
use super::signals::Event;
use crate::context::Context;
use crate::ids::SandboxId;
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::ports::{CallRequest, OutsideTool, Record};
use crate::tool::ToolResult;
use ractor::ActorRef;

/// Stands where it is kept which sandbox a call was given to. No sandbox has this name: each has a dot in it.
const NO_SANDBOX: &str = "outside";

/// Runs a call, unless it may have begun before, and tells the session what it came to.
pub(super) async fn call(
    context: Arc<Context>,
    entry: Arc<Entry>,
    to: ActorRef<SessionMsg>,
    tool: Arc<dyn OutsideTool>,
    request: CallRequest,
    mut cut: oneshot::Receiver<Cancellation>,
) {
    let Some(session) = entry.item.session() else { return };
    let (call, since) = (request.call.clone(), Instant::now());
    let begun = begin(&context, &entry, &request).await;
    let (result, run) = match begun.map(|()| cut.try_recv().ok()) {
        // While it was written down, and so before anybody was asked.
        Ok(Some(why)) => (ToolResult::error(format!("not run: {}", why.reason())), None),
        Ok(None) => {
            let (session, call) = (session.clone(), call.clone());
            let tool_name = Arc::clone(&request.tool);
            context.notices.publish(Notice::CallStarted { session, call, tool: tool_name });
            let begun = Instant::now();
            (asked(&entry, &*tool, &request, cut).await, Some(begun.elapsed()))
        }
        Err(instead) => (instead, None),
    };
    let result = Arc::new(result);
    // First: should the actor fail before it hears of it, its successor knows.
    entry.finish_call(&call, Arc::clone(&result));
    context.notices.publish(Notice::CallFinished {
        session: session.clone(),
        call: call.clone(),
        tool: request.tool,
        is_error: result.is_error,
        run,
        took: since.elapsed(),
    });
    let finished = Event::Finished { call: call.clone(), result: Arc::clone(&result) };
    let _ = to.cast(SessionMsg::Event(finished));
    context.note(&entry.item.id, Record::CallFinished { call, result }).await;
}

/// Writes down that the call begins. What is not written down is not run, and neither is what has begun before.
async fn begin(context: &Context, entry: &Entry, request: &CallRequest) -> Result<(), ToolResult> {
    let call = &request.call;
    if entry.is_call_written(call) {
        return if request.again { Ok(()) } else { Err(unknown(request)) };
    }
    let sandbox = SandboxId::from(NO_SANDBOX);
    entry.intend_call(call.clone(), sandbox.clone());
    let written = context.record(&entry.item.id, Record::CallStarted { call: call.clone(), sandbox }).await;
    if let Err(fault) = written.and_then(|()| entry.fence(Instant::now())) {
        entry.close_call(call);
        return Err(ToolResult::error(format!("not run: {fault}")));
    }
    entry.write_call(call);
    Ok(())
}

/// Asks for the call, until it is answered or nobody waits any more.
async fn asked(
    entry: &Entry,
    tool: &dyn OutsideTool,
    request: &CallRequest,
    cut: oneshot::Receiver<Cancellation>,
) -> ToolResult {
    let Some(session) = entry.item.session() else { return unknown(request) };
    let cut = async {
        match cut.await {
            Ok(why) => why,
            // Nobody can cut it any more, so it runs to its end.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        // What it came to is better to know than that it was to be cut.
        biased;
        answered = timeout(request.timeout, tool.call(session, request)) => {
            answered.unwrap_or_else(|_| timed_out(request))
        }
        why = cut => ToolResult::error(format!("{}: the call was cancelled ({})", request.tool, why.reason())),
    }
}

fn timed_out(request: &CallRequest) -> ToolResult {
    let seconds = request.timeout.max(Duration::from_millis(1)).as_secs_f64();
    ToolResult::error(format!(
        "{}: timed out after {seconds}s; nobody knows how far the call came",
        request.tool
    ))
}

fn unknown(request: &CallRequest) -> ToolResult {
    ToolResult::error(format!(
        "{}: contact was lost while this call ran. Nobody knows how far it came; it was not run again",
        request.tool
    ))
}

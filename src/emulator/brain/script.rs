//! The scripted brain: plays one turn of a scenario and compares every result with what was expected.
//!
//! The first mismatch ends the scenario: the agent says so and the session rests. What clients do meanwhile
//! (confirmations, answers, interrupts) is done by the same task, through the same functions that serve a
//! client's request.

use std::sync::Arc;

use futures_util::future::join_all;
use remuda_actors::ids::CallId;
use remuda_actors::tool::ToolResult;
use serde_json::{Value, json};

use super::stage::{Missing, Stage, TurnOver};
use super::{Assigned, Script};
use crate::emulator::scenario::{
    Action, Answerer, Call, Confirmation, Deed, End, ResolutionName, Step, Turn,
};
use crate::emulator::session::{CallRequest, Resolution, Session, StopReason, parse};

/// Why a turn did not come to its planned end.
enum Stop {
    /// It is over, as was planned if `planned`.
    Over { planned: bool },
    /// Something was not as expected.
    Mismatch { call: Option<String>, expected: String, got: String },
}

impl From<TurnOver> for Stop {
    fn from(TurnOver: TurnOver) -> Self {
        Self::Over { planned: false }
    }
}

/// Plays the turn `script` is at.
pub(super) async fn play(mut stage: Stage, mut script: Script) -> Result<(), TurnOver> {
    let scenario = Arc::clone(&script.scenario);
    let Some(turn) = scenario.turns.get(script.turn) else {
        stage.say(&format!("The scenario {} has come to its end.", scenario.name))?;
        return stage.rest(StopReason::EndTurn, |_| {});
    };
    let played = match play_steps(&mut stage, &mut script, turn).await {
        Ok(()) => end(&mut stage, turn.end).map_err(Stop::from),
        Err(stop) => Err(stop),
    };
    match played {
        Ok(()) | Err(Stop::Over { planned: true }) => {}
        // Whatever ended it has noted so.
        Err(Stop::Over { planned: false }) => return Err(TurnOver),
        Err(Stop::Mismatch { call, expected, got }) => {
            let text = format!("Scenario failed: expected {expected}, got {got}");
            fail(&stage, call, expected, got);
            stage.say(&text)?;
            return stage.rest(StopReason::EndTurn, |_| {});
        }
    }
    join_all(turn.then.iter().map(|action| act(&stage, &script, action))).await;
    script.turn += 1;
    deliver(&stage, &script).await;
    Ok(())
}

/// Sends the message that starts the turn `script` is at, unless a client is to send it.
pub(super) async fn deliver(stage: &Stage, script: &Script) {
    let Some(turn) = script.scenario.turns.get(script.turn) else { return };
    let Some(message) = &turn.message else { return };
    stage.sleep(turn.after.0).await;
    post(stage, user_message(&script.variables.expand(message)));
}

async fn play_steps(stage: &mut Stage, script: &mut Script, turn: &Turn) -> Result<(), Stop> {
    for (n, step) in turn.steps.iter().enumerate() {
        match step {
            Step::Say(text) => stage.say(&script.variables.expand(text))?,
            Step::Wait(time) => {
                stage.think()?;
                stage.wait(time.0).await?;
            }
            Step::Call(call) => play_calls(stage, script, n, std::slice::from_ref(&**call)).await?,
            Step::Calls(calls) => play_calls(stage, script, n, calls).await?,
            Step::OpenThread(name) => {
                let id = stage.act(|session, at| session.create_thread(at, name))?;
                let got = || "the session has as many threads as it can".to_owned();
                let expected = || format!("the thread {name}");
                let id = id.ok_or_else(|| Stop::Mismatch { call: None, expected: expected(), got: got() })?;
                script.threads.insert(name.clone(), id.clone());
                stage.act(|session, _| {
                    if let Assigned::Script(kept) = &mut session.brain {
                        kept.threads.insert(name.clone(), id);
                    }
                })?;
            }
            Step::CloseThread(name) => {
                if let Some(id) = script.threads.get(name) {
                    stage.act(|session, at| session.terminate_thread(at, id))?;
                }
            }
        }
    }
    Ok(())
}

async fn play_calls(stage: &mut Stage, script: &Script, step: usize, calls: &[Call]) -> Result<(), Stop> {
    let planned = calls.iter().any(|call| call.expect.resolution == Some(ResolutionName::Interrupted));
    if planned {
        stage.act(|session, _| session.brain.plan_interrupt())?;
    }
    let ids = stage.call(calls.iter().map(|call| request(script, call)).collect())?;
    let within = calls.iter().map(|call| call.within.0).max().unwrap_or_default();
    let clients = join_all(calls.iter().zip(&ids).map(|(call, id)| clients(stage, script, call, id)));
    let (resolved, _) = tokio::join!(stage.resolved(&ids, within), clients);
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(Missing::TurnOver) => return Err(Stop::Over { planned: false }),
        Err(Missing::TimedOut) => {
            let pending = stage.pending();
            let late = calls.iter().zip(&ids).find(|(_, id)| pending.contains(id));
            let call = late.map(|(call, _)| describe(step, call));
            return Err(Stop::Mismatch {
                call,
                expected: format!("a result within {}", humantime::format_duration(within)),
                got: "none".into(),
            });
        }
    };
    for (call, resolved) in calls.iter().zip(&resolved) {
        call.check(resolved, &script.variables).map_err(|(expected, got)| Stop::Mismatch {
            call: Some(describe(step, call)),
            expected,
            got,
        })?;
    }
    // An interrupt ends the turn for every call of it, so nothing is left to play.
    if resolved.iter().any(|one| one.how == Resolution::Interrupted) && stage.act(|_, _| ()).is_err() {
        return Err(Stop::Over { planned });
    }
    Ok(())
}

/// `step 3, bash`: which call of a turn is meant.
fn describe(step: usize, call: &Call) -> String {
    format!("step {}, {}", step + 1, call.target().0)
}

fn request(script: &Script, call: &Call) -> CallRequest {
    let (name, custom) = call.target();
    let server = call.answer.as_ref().filter(|answer| answer.by == Answerer::Server);
    CallRequest {
        name: name.to_owned(),
        input: script.variables.expand_input(&call.input),
        custom,
        thread: call.thread.as_ref().and_then(|name| script.threads.get(name).cloned()),
        permission: call.permission,
        server_result: server.map(|answer| ToolResult {
            is_error: answer.is_error,
            ..ToolResult::ok(script.variables.expand(&answer.text))
        }),
        for_client: call.answer.is_some(),
    }
}

/// What clients do while a call waits: confirm it, answer it, and whatever else was planned.
async fn clients(stage: &Stage, script: &Script, call: &Call, id: &CallId) {
    let confirm = async {
        let Some(confirm) = &call.confirm else { return };
        stage.sleep(confirm.after.0).await;
        let allow = confirm.result == Confirmation::Allow;
        let mut event = json!({
            "type": "user.tool_confirmation",
            "tool_use_id": id,
            "result": if allow { "allow" } else { "deny" },
        });
        if let Some(message) = confirm.message.as_ref().filter(|_| !allow) {
            event["deny_message"] = Value::from(message.as_str());
        }
        post(stage, event);
    };
    let answer = async {
        let Some(answer) = call.answer.as_ref().filter(|answer| answer.by == Answerer::Client) else {
            return;
        };
        stage.sleep(answer.after.0).await;
        let (kind, key) = match call.target() {
            (_, true) => ("user.custom_tool_result", "custom_tool_use_id"),
            (_, false) => ("user.tool_result", "tool_use_id"),
        };
        let text = script.variables.expand(&answer.text);
        let content = json!([{"type": "text", "text": text}]);
        post(stage, json!({"type": kind, key: id, "is_error": answer.is_error, "content": content}));
    };
    let meanwhile = join_all(call.meanwhile.iter().map(|action| act(stage, script, action)));
    tokio::join!(confirm, answer, meanwhile);
}

async fn act(stage: &Stage, script: &Script, action: &Action) {
    stage.sleep(action.after.0).await;
    match &action.deed {
        Deed::Message(text) => post(stage, user_message(&script.variables.expand(text))),
        Deed::Interrupt => post(stage, json!({"type": "user.interrupt"})),
        Deed::StopWork | Deed::ForceStopWork | Deed::RevokeLease => {
            stage.shared().with(|world| {
                let found = world.sessions.get(stage.session());
                let Some((environment, work)) =
                    found.and_then(|found| Some((found.environment.clone(), found.live_work.clone()?)))
                else {
                    return;
                };
                // A work item that ended in the meantime needs nothing more.
                drop(match action.deed {
                    Deed::RevokeLease => world.revoke_lease(&environment, &work),
                    _ => world.stop(&environment, &work, matches!(action.deed, Deed::ForceStopWork)),
                });
            });
        }
    }
}

fn user_message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

/// Sends one event as a client would. A refusal is a mismatch: the scenario expected it to be accepted.
fn post(stage: &Stage, event: Value) {
    let kind = event["type"].as_str().unwrap_or_default().to_owned();
    let posted = parse(&json!([event]))
        .and_then(|events| stage.shared().with(|world| world.post(stage.session(), None, events)));
    if let Err(error) = posted {
        fail(stage, None, format!("the {kind} of the scenario to be accepted"), error.message().to_owned());
    }
}

fn fail(stage: &Stage, call: Option<String>, expected: String, got: String) {
    stage.shared().with(|world| {
        world.in_session(stage.session(), |session, _| {
            session.brain.fail_call(call, expected, got);
            session.changed.notify_waiters();
        })
    });
}

/// Ends the turn as planned. The script goes on at the same moment, so that whoever sees the idle session
/// sees the verdict too.
fn end(stage: &mut Stage, end: End) -> Result<(), TurnOver> {
    match end.stop_reason() {
        Some(reason) => stage.rest(reason, advance),
        None if end == End::Delete => {
            stage.rest(StopReason::EndTurn, advance)?;
            // At rest it can be deleted; a client that was faster is as good.
            drop(stage.shared().with(|world| world.delete_session(stage.session())));
            Ok(())
        }
        None => stage.act(|session, at| {
            advance(session);
            session.terminate(at);
        }),
    }
}

fn advance(session: &mut Session) {
    if let Assigned::Script(script) = &mut session.brain {
        script.advance();
    }
}

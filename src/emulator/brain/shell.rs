//! The default brain: a shell at the other end of a message.
//!
//! Each line of the message becomes one `bash` call, one after the other, and what they print becomes the
//! reply.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::stage::{Missing, Stage, TurnOver};
use crate::emulator::events::Event;
use crate::emulator::session::{CallRequest, StopReason};

/// How long one line may take, confirmation included.
const WITHIN: Duration = Duration::from_secs(600);

/// Runs every line of `messages` and replies with what they printed.
pub(super) async fn play(mut stage: Stage, messages: &[Arc<Event>]) -> Result<(), TurnOver> {
    let mut reply = Vec::new();
    for line in lines(messages) {
        let request = CallRequest::tool("bash", json!({"command": line}));
        let ids = stage.call(vec![request])?;
        match stage.resolved(&ids, WITHIN).await {
            Ok(resolved) => reply.extend(resolved.iter().map(|one| one.result.text())),
            Err(Missing::TurnOver) => return Err(TurnOver),
            Err(Missing::TimedOut) => {
                reply.push(format!("No result within {} s for: {line}", WITHIN.as_secs()));
                break;
            }
        }
    }
    let reply = if reply.is_empty() {
        "Send me commands: each line of your message runs in bash.".to_owned()
    } else {
        reply.join("\n")
    };
    stage.say(&reply)?;
    stage.rest(StopReason::EndTurn, |_| {})
}

fn lines(messages: &[Arc<Event>]) -> Vec<String> {
    let mut lines = Vec::new();
    for message in messages {
        let message = message.value();
        let blocks = message["content"].as_array().into_iter().flatten();
        let texts = blocks.filter_map(|block| block["text"].as_str());
        lines.extend(
            texts.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    #[test]
    fn every_line_that_is_not_blank_is_a_command() {
        let content = json!([{"type": "text", "text": "ls -l\n\n  pwd  "}, {"type": "text", "text": "date"}]);
        let Value::Object(fields) = json!({"content": content}) else { unreachable!("written as an object") };
        let event = |fields: Map<String, Value>| Arc::new(Event::new("sevt_1", "user.message", None, fields));
        assert_eq!(
            lines(&[event(fields.clone()), event(fields)]),
            ["ls -l", "pwd", "date", "ls -l", "pwd", "date"]
        );
    }
}

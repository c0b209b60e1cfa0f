//! A session's history with everything taken out that differs from run to run, so that two workers can be
//! compared line by line.
//!
//! Ids become numbers in order of appearance, times and statuses go, and the confirmations and results of one
//! batch of calls stand in the order of the calls, whichever came first.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::events::Event;

/// One line of a transcript. Calls are numbered from 1 in the order they were made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Entry {
    /// A client said something.
    User {
        /// Its content blocks.
        content: Value,
    },
    /// The agent said something.
    Agent {
        /// Its content blocks.
        content: Value,
    },
    /// The agent called a tool.
    Call {
        /// Its number.
        call: usize,
        /// The event's type: a tool of the set, or a custom one.
        kind: String,
        /// The tool's name.
        name: String,
        /// Its input.
        input: Value,
        /// What the permission policy said, if anything.
        permission: Value,
        /// Whether a child thread made it.
        child: bool,
    },
    /// A client confirmed a call.
    Confirmation {
        /// The call's number.
        call: usize,
        /// `allow` or `deny`.
        result: Value,
    },
    /// A call was answered.
    Result {
        /// The call's number.
        call: usize,
        /// The event's type: who answered.
        kind: String,
        /// Whether it failed.
        is_error: bool,
        /// Its content blocks.
        content: Value,
    },
    /// A client interrupted the turn.
    Interrupt,
    /// The turn ended.
    Idle {
        /// Why.
        stop_reason: String,
    },
    /// The session ended.
    Over {
        /// The event's type.
        kind: String,
    },
}

impl Entry {
    /// The place of a confirmation or result among those of its batch.
    fn place(&self) -> Option<(usize, u8)> {
        match self {
            Self::Confirmation { call, .. } => Some((*call, 0)),
            Self::Result { call, .. } => Some((*call, 1)),
            _ => None,
        }
    }
}

/// The transcript of `events`, with texts replaced.
pub(super) fn transcript(events: &[Arc<Event>], replace: &[(&str, &str)]) -> Vec<Entry> {
    let (mut entries, mut batch): (Vec<Entry>, Vec<Entry>) = (Vec::new(), Vec::new());
    let mut calls: Vec<String> = Vec::new();
    for event in events {
        let mut value = event.value();
        rewrite(&mut value, replace);
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let number =
            |calls: &[String], key: &str| calls.iter().position(|id| *id == value[key]).map_or(0, |n| n + 1);
        let entry = match event.kind() {
            "user.message" => Entry::User { content: value["content"].take() },
            "agent.message" => Entry::Agent { content: value["content"].take() },
            kind @ ("agent.tool_use" | "agent.custom_tool_use") => {
                calls.push(event.id().to_owned());
                Entry::Call {
                    call: calls.len(),
                    kind: kind.to_owned(),
                    name: text("name"),
                    child: value["session_thread_id"].is_string(),
                    permission: value["evaluated_permission"].take(),
                    input: value["input"].take(),
                }
            }
            "user.tool_confirmation" => {
                Entry::Confirmation { call: number(&calls, "tool_use_id"), result: value["result"].take() }
            }
            kind @ ("user.tool_result" | "agent.tool_result" | "user.custom_tool_result") => {
                let key =
                    if kind == "user.custom_tool_result" { "custom_tool_use_id" } else { "tool_use_id" };
                Entry::Result {
                    call: number(&calls, key),
                    kind: kind.to_owned(),
                    is_error: value["is_error"] == true,
                    content: value["content"].take(),
                }
            }
            "user.interrupt" => Entry::Interrupt,
            "session.status_idle" if value["stop_reason"]["type"] != "requires_action" => Entry::Idle {
                stop_reason: value["stop_reason"]["type"].as_str().unwrap_or_default().to_owned(),
            },
            kind @ ("session.status_terminated" | "session.deleted") => Entry::Over { kind: kind.to_owned() },
            _ => continue,
        };
        if entry.place().is_some() {
            batch.push(entry);
        } else {
            batch.sort_by_key(Entry::place);
            entries.append(&mut batch);
            entries.push(entry);
        }
    }
    batch.sort_by_key(Entry::place);
    entries.append(&mut batch);
    entries
}

fn rewrite(value: &mut Value, replace: &[(&str, &str)]) {
    match value {
        Value::String(text) => {
            for (from, to) in replace {
                if text.contains(from) {
                    *text = text.replace(from, to);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, replace)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rewrite(field, replace)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, kind: &'static str, fields: Value) -> Arc<Event> {
        let Value::Object(fields) = fields else { unreachable!("written as an object") };
        Arc::new(Event::new(id, kind, None, fields))
    }

    #[test]
    fn results_stand_in_the_order_of_their_calls_and_ids_become_numbers() {
        let call = |id, name: &str| event(id, "agent.tool_use", json!({"name": name, "input": {}}));
        let result = |id: &str, of: &str, text: &str| {
            let content = json!([{"type": "text", "text": text}]);
            event(id, "user.tool_result", json!({"tool_use_id": of, "is_error": false, "content": content}))
        };
        let idle =
            |id, reason: &str| event(id, "session.status_idle", json!({"stop_reason": {"type": reason}}));
        let one = [
            call("a", "x"),
            call("b", "y"),
            idle("c", "requires_action"),
            result("d", "b", "/w1/f"),
            result("e", "a", "first"),
            idle("f", "end_turn"),
        ];
        let other = [
            call("k", "x"),
            result("l", "k", "first"),
            call("m", "y"),
            result("n", "m", "/w2/f"),
            idle("o", "end_turn"),
        ];
        let one = transcript(&one, &[("/w1", "${WORKDIR}")]);
        let numbers: Vec<_> = one.iter().filter_map(Entry::place).collect();
        assert_eq!(numbers, [(1, 1), (2, 1)]);
        assert_eq!(one.len(), 5);
        // Serial calls are another conversation than parallel ones.
        assert_ne!(one, transcript(&other, &[("/w2", "${WORKDIR}")]));
        assert!(serde_json::to_string(&one).unwrap().contains("${WORKDIR}/f"));
    }
}

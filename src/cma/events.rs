//! A session's events, from the wire's JSON to the few kinds that the tree knows.

use std::sync::Arc;

use remuda_actors::event::{Call, CallKind, Event, IdleReason, Input, Permission, Verdict};
use serde_json::value::RawValue;

use super::wire::{CallEvent, ConfirmationEvent, EventType, IdleEvent, ResultEvent, ThreadEvent};

/// Reads one event. Types that nobody has to react to become [`Event::Activity`].
///
/// # Errors
/// What is wrong with it, if it is not an event at all, or one that matters and lacks what it is about.
pub(super) fn read(json: &str) -> Result<Event, String> {
    let EventType { kind } = parse("an event", json)?;
    Ok(match &*kind {
        "agent.tool_use" => Event::Call(call(CallKind::Toolset, json)?),
        "agent.custom_tool_use" => Event::Call(call(CallKind::Custom, json)?),
        // The last is the server's own answer, for example of a call that it closed after an interrupt.
        "user.tool_result" | "user.custom_tool_result" | "agent.tool_result" => {
            let ResultEvent { tool_use_id } = parse(&kind, json)?;
            Event::Answered { call: tool_use_id.into() }
        }
        "user.tool_confirmation" => {
            let ConfirmationEvent { tool_use_id, result } = parse(&kind, json)?;
            let verdict = if result.as_deref() == Some("allow") { Verdict::Allow } else { Verdict::Deny };
            Event::Confirmed { call: tool_use_id.into(), verdict }
        }
        "user.interrupt" => {
            let ThreadEvent { session_thread_id } = parse(&kind, json)?;
            Event::Interrupted { thread: session_thread_id.filter(|id| !id.is_empty()).map(Into::into) }
        }
        "session.thread_status_terminated" => match thread(&kind, json)? {
            Some(thread) => Event::ThreadTerminated { thread: thread.into() },
            None => return Err(format!("`{kind}` without `session_thread_id`")),
        },
        "session.thread_status_running"
        | "session.thread_status_idle"
        | "session.thread_status_rescheduled" => match thread(&kind, json)? {
            Some(thread) => Event::ThreadStatus { thread: thread.into() },
            None => Event::Activity,
        },
        "session.status_idle" => {
            let IdleEvent { stop_reason } = parse(&kind, json)?;
            let reason = match stop_reason.and_then(|reason| reason.kind).as_deref() {
                Some("requires_action") => IdleReason::RequiresAction,
                _ => IdleReason::TurnEnded,
            };
            Event::Idle { reason }
        }
        "session.status_running" => Event::Running,
        "session.status_terminated" => Event::Terminated,
        "session.deleted" => Event::Deleted,
        _ => Event::Activity,
    })
}

fn parse<'a, T: serde::Deserialize<'a>>(what: &str, json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| format!("{what} that cannot be read: {error}"))
}

fn thread(kind: &str, json: &str) -> Result<Option<String>, String> {
    let ThreadEvent { session_thread_id } = parse(kind, json)?;
    Ok(session_thread_id.filter(|id| !id.is_empty()))
}

fn call(kind: CallKind, json: &str) -> Result<Call, String> {
    let CallEvent { id, name, input, evaluated_permission, session_thread_id } = parse("a tool call", json)?;
    let permission = match evaluated_permission.as_deref() {
        // Null is treated as absent.
        None | Some("allow") => Permission::Allow,
        Some("deny") => Permission::Deny,
        Some(_) => Permission::Ask,
    };
    Ok(Call {
        id: id.into(),
        kind,
        name: name.unwrap_or_default().into(),
        input: input.map_or_else(|| Input::Malformed("`input` is missing".into()), arguments),
        permission,
        thread: session_thread_id.filter(|id| !id.is_empty()).map(Into::into),
    })
}

fn arguments(raw: &RawValue) -> Input {
    if raw.get().starts_with('{') {
        return Input::Json(Arc::from(raw.to_owned()));
    }
    let what = match raw.get().as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    };
    Input::Malformed(format!("`input` must be an object, not {what}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(json: &str) -> Call {
        match read(json) {
            Ok(Event::Call(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_call_keeps_its_arguments_to_the_letter() {
        let call = call(
            r#"{"id":"sevt_1","type":"agent.tool_use","processed_at":null,"name":"bash",
                "input":{"command": "a\u00e9", "n": 1.50},"evaluated_permission":"ask",
                "evaluation":{"type":"auto"},"session_thread_id":"sthr_2"}"#,
        );
        assert_eq!((call.id.as_str(), &*call.name, call.kind), ("sevt_1", "bash", CallKind::Toolset));
        assert_eq!(call.permission, Permission::Ask);
        assert_eq!(call.thread.as_ref().map(|thread| thread.as_str()), Some("sthr_2"));
        assert!(
            matches!(call.input, Input::Json(raw) if raw.get() == r#"{"command": "a\u00e9", "n": 1.50}"#)
        );
    }

    #[test]
    fn row_36_unknown_permissions_hold_a_call() {
        let with = |value: &str| {
            let json = format!(r#"{{"id":"a","type":"agent.tool_use","name":"x","input":{{}}{value}}}"#);
            call(&json).permission
        };
        assert_eq!(with(""), Permission::Allow);
        assert_eq!(with(r#","evaluated_permission":"allow""#), Permission::Allow);
        assert_eq!(with(r#","evaluated_permission":"deny""#), Permission::Deny);
        assert_eq!(with(r#","evaluated_permission":"ask""#), Permission::Ask);
        assert_eq!(with(r#","evaluated_permission":"two_person_rule""#), Permission::Ask);
    }

    #[test]
    fn row_39_a_null_permission_is_an_absent_one() {
        let json = r#"{"id":"a","type":"agent.tool_use","name":"x","input":{},"evaluated_permission":null}"#;
        assert_eq!(call(json).permission, Permission::Allow);
    }

    #[test]
    fn a_call_without_usable_arguments_can_still_be_answered() {
        for (input, what) in [
            ("", "`input` is missing"),
            (r#","input":[1]"#, "`input` must be an object, not an array"),
            (r#","input":"ls""#, "`input` must be an object, not a string"),
            (r#","input":null"#, "`input` is missing"),
            (r#","input":7"#, "`input` must be an object, not a number"),
        ] {
            let json = format!(r#"{{"id":"a","type":"agent.tool_use","name":"bash"{input}}}"#);
            assert!(matches!(call(&json).input, Input::Malformed(said) if &*said == what), "{json}");
        }
    }

    #[test]
    fn row_34_every_kind_of_answer_closes_its_call() {
        for json in [
            r#"{"type":"user.tool_result","tool_use_id":"a","content":[{"type":"text","text":"x"}]}"#,
            r#"{"type":"user.custom_tool_result","custom_tool_use_id":"a"}"#,
            r#"{"type":"agent.tool_result","tool_use_id":"a","is_error":true}"#,
        ] {
            assert!(matches!(read(json), Ok(Event::Answered { call }) if call.as_str() == "a"), "{json}");
        }
    }

    #[test]
    fn row_38_every_verdict_but_allow_is_a_denial() {
        for (result, expected) in [
            (r#","result":"allow""#, Verdict::Allow),
            (r#","result":"deny""#, Verdict::Deny),
            (r#","result":"maybe""#, Verdict::Deny),
            ("", Verdict::Deny),
        ] {
            let json = format!(r#"{{"type":"user.tool_confirmation","tool_use_id":"a"{result}}}"#);
            assert!(
                matches!(read(&json), Ok(Event::Confirmed { verdict, .. }) if verdict == expected),
                "{json}"
            );
        }
    }

    #[test]
    fn every_stop_reason_but_one_ends_the_turn() {
        let idle = |reason: &str| match read(&format!(r#"{{"type":"session.status_idle"{reason}}}"#)) {
            Ok(Event::Idle { reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            idle(r#","stop_reason":{"type":"requires_action","event_ids":["a"]}"#),
            IdleReason::RequiresAction
        );
        for reason in ["end_turn", "retries_exhausted", "budget_reached", "refusal", "something_new"] {
            assert_eq!(idle(&format!(r#","stop_reason":{{"type":"{reason}"}}"#)), IdleReason::TurnEnded);
        }
        assert_eq!(idle(""), IdleReason::TurnEnded);
        assert_eq!(idle(r#","stop_reason":null"#), IdleReason::TurnEnded);
    }

    #[test]
    fn threads_statuses_and_the_rest() {
        let terminated = r#"{"type":"session.thread_status_terminated","session_thread_id":"t"}"#;
        assert!(matches!(read(terminated), Ok(Event::ThreadTerminated { .. })));
        let running = r#"{"type":"session.thread_status_running","session_thread_id":"t","agent_name":"x"}"#;
        assert!(matches!(read(running), Ok(Event::ThreadStatus { .. })));
        assert!(matches!(read(r#"{"type":"user.interrupt"}"#), Ok(Event::Interrupted { thread: None })));
        let one = r#"{"type":"user.interrupt","session_thread_id":"t"}"#;
        assert!(matches!(read(one), Ok(Event::Interrupted { thread: Some(_) })));
        assert!(matches!(read(r#"{"type":"session.status_running"}"#), Ok(Event::Running)));
        assert!(matches!(read(r#"{"type":"session.status_terminated"}"#), Ok(Event::Terminated)));
        assert!(matches!(read(r#"{"type":"session.deleted"}"#), Ok(Event::Deleted)));
        for kind in ["agent.message", "span.model_request_start", "agent.mcp_tool_use", "something.new"] {
            assert!(matches!(read(&format!(r#"{{"type":"{kind}","id":7}}"#)), Ok(Event::Activity)));
        }
    }

    #[test]
    fn what_is_no_event_says_why() {
        for (json, why) in [
            ("", "an event that cannot be read"),
            ("[]", "an event that cannot be read"),
            (r#"{"id":"a"}"#, "missing field `type`"),
            (r#"{"type":"agent.tool_use","name":"bash"}"#, "missing field `id`"),
            (r#"{"type":"user.tool_result"}"#, "missing field `tool_use_id`"),
            (r#"{"type":"session.thread_status_terminated"}"#, "without `session_thread_id`"),
        ] {
            let said = read(json).unwrap_err();
            assert!(said.contains(why), "{json}: {said}");
        }
    }
}

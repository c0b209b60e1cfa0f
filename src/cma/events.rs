//! A session's events, from the wire's JSON to the few kinds that the tree knows.

use std::borrow::Cow;
use std::sync::Arc;

use remuda_actors::event::{Call, CallKind, Event, IdleReason, Input, Permission, Verdict};
use remuda_actors::ids::ThreadId;
use serde_json::value::RawValue;

use super::wire::{
    self, CallEvent, ConfirmationEvent, EventType, IdleEvent, InterruptEvent, ResultEvent, StopReason,
    ThreadEvent,
};

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
            let ResultEvent { tool_use_id, custom_tool_use_id } = parse(&kind, json)?;
            let call = tool_use_id.text_if_any().or_else(|| custom_tool_use_id.text_if_any());
            let call = call.ok_or_else(|| format!("`{kind}` without `tool_use_id`"))?;
            Event::Answered { call: call.into_owned().into() }
        }
        "user.tool_confirmation" => {
            let ConfirmationEvent { tool_use_id, result } = parse(&kind, json)?;
            let is_allowed = result.text_if_any().as_deref() == Some("allow");
            let verdict = if is_allowed { Verdict::Allow } else { Verdict::Deny };
            Event::Confirmed { call: tool_use_id.into(), verdict }
        }
        // If it cannot be told which one is meant, all are: what runs on although it was stopped is worse.
        "user.interrupt" => {
            let InterruptEvent { id } = parse(&kind, json)?;
            let id = id.text_if_any().unwrap_or_default().into_owned().into();
            Event::Interrupted { id, thread: thread(&kind, json)? }
        }
        "session.thread_status_terminated" => match thread(&kind, json)? {
            Some(thread) => Event::ThreadTerminated { thread },
            None => return Err(format!("`{kind}` without `session_thread_id`")),
        },
        "session.thread_status_running"
        | "session.thread_status_idle"
        | "session.thread_status_rescheduled" => match thread(&kind, json)? {
            Some(thread) => Event::ThreadStatus { thread },
            None => Event::Activity,
        },
        "session.status_idle" => {
            let IdleEvent { stop_reason } = parse(&kind, json)?;
            let reason =
                stop_reason.raw().and_then(|raw| serde_json::from_str::<StopReason<'_>>(raw.get()).ok());
            let reason = match reason.and_then(|reason| reason.kind.text_if_any()).as_deref() {
                Some("requires_action") => IdleReason::RequiresAction,
                _ => IdleReason::TurnEnded,
            };
            Event::Idle { reason }
        }
        "session.status_running" => Event::Running,
        "session.status_terminated" => Event::Terminated,
        "session.deleted" => Event::Deleted,
        "agent.message" | "agent.thinking" => Event::Generating,
        _ => Event::Activity,
    })
}

fn parse<'a, T: serde::Deserialize<'a>>(what: &str, json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| format!("{what} that cannot be read: {error}"))
}

fn thread(kind: &str, json: &str) -> Result<Option<ThreadId>, String> {
    let ThreadEvent { session_thread_id } = parse(kind, json)?;
    Ok(named(session_thread_id.text_if_any()))
}

/// The thread that an id means; an empty one is none.
fn named(id: Option<Cow<'_, str>>) -> Option<ThreadId> {
    id.filter(|id| !id.is_empty()).map(|id| id.into_owned().into())
}

/// Whatever is wrong with a call that has an id, it can be answered.
fn call(kind: CallKind, json: &str) -> Result<Call, String> {
    let CallEvent { id, name, input, evaluated_permission, session_thread_id } = parse("a tool call", json)?;
    let permission = match evaluated_permission.text().as_ref().map(Option::as_deref) {
        // Null is treated as absent.
        Ok(None | Some("allow")) => Permission::Allow,
        Ok(Some("deny")) => Permission::Deny,
        Ok(Some(_)) | Err(_) => Permission::Ask,
    };
    let (name, thread) = (name.text(), session_thread_id.text());
    let unusable = |field: &str, found: &str| {
        Input::Malformed(format!("`{field}` must be a string, not {found}").into())
    };
    let input = match (&name, &thread) {
        (Err(found), _) => unusable("name", found),
        // It must not run in another thread's shell.
        (_, Err(found)) => unusable("session_thread_id", found),
        _ => input.raw().map_or_else(|| Input::Malformed("`input` is missing".into()), arguments),
    };
    Ok(Call {
        id: id.into(),
        kind,
        name: name.ok().flatten().unwrap_or_default().into(),
        input,
        permission,
        thread: named(thread.ok().flatten()),
    })
}

fn arguments(raw: &RawValue) -> Input {
    if raw.get().starts_with('{') {
        return Input::Json(Arc::from(raw.to_owned()));
    }
    Input::Malformed(format!("`input` must be an object, not {}", wire::kind(raw)).into())
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
    fn a_call_with_a_field_of_another_type_is_held_or_answered() {
        let with =
            |fields: &str| call(&format!(r#"{{"id":"a","type":"agent.tool_use","input":{{}},{fields}}}"#));
        for permission in ["7", r#"{"type":"ask"}"#, "true", r#"["allow"]"#] {
            let call = with(&format!(r#""name":"bash","evaluated_permission":{permission}"#));
            assert_eq!(call.permission, Permission::Ask, "{permission}");
        }
        for (fields, what) in [
            (r#""name":7"#, "`name` must be a string, not a number"),
            (
                r#""name":"bash","session_thread_id":{"id":"t"}"#,
                "`session_thread_id` must be a string, not an object",
            ),
        ] {
            assert!(matches!(with(fields).input, Input::Malformed(said) if &*said == what), "{fields}");
        }
        assert!(
            read(r#"{"id":7,"type":"agent.tool_use","name":"bash","input":{}}"#).is_err(),
            "nobody to answer"
        );
    }

    #[test]
    fn fields_of_another_type_cost_no_event() {
        let denied = r#"{"type":"user.tool_confirmation","tool_use_id":"a","result":true}"#;
        assert!(matches!(read(denied), Ok(Event::Confirmed { verdict: Verdict::Deny, .. })));
        let interrupt = r#"{"type":"user.interrupt","session_thread_id":7}"#;
        assert!(matches!(read(interrupt), Ok(Event::Interrupted { thread: None, .. })));
        for reason in ["7", r#""requires_action""#, r#"{"type":7}"#, "[]"] {
            let idle = format!(r#"{{"type":"session.status_idle","stop_reason":{reason}}}"#);
            assert!(matches!(read(&idle), Ok(Event::Idle { reason: IdleReason::TurnEnded })), "{idle}");
        }
        for ids in [
            r#""tool_use_id":"a","custom_tool_use_id":"a""#,
            r#""custom_tool_use_id":"a","tool_use_id":null"#,
            r#""custom_tool_use_id":"a","tool_use_id":7"#,
        ] {
            let answered = format!(r#"{{"type":"user.custom_tool_result",{ids}}}"#);
            assert!(matches!(read(&answered), Ok(Event::Answered { call }) if call.as_str() == "a"), "{ids}");
        }
        assert!(read(r#"{"type":"user.tool_result","content":[]}"#).is_err());
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
        assert!(matches!(read(r#"{"type":"user.interrupt"}"#), Ok(Event::Interrupted { thread: None, .. })));
        let one = r#"{"type":"user.interrupt","session_thread_id":"t"}"#;
        assert!(matches!(read(one), Ok(Event::Interrupted { thread: Some(_), .. })));
        assert!(matches!(read(r#"{"type":"session.status_running"}"#), Ok(Event::Running)));
        assert!(matches!(read(r#"{"type":"session.status_terminated"}"#), Ok(Event::Terminated)));
        assert!(matches!(read(r#"{"type":"session.deleted"}"#), Ok(Event::Deleted)));
        for kind in ["span.model_request_start", "agent.mcp_tool_use", "something.new"] {
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
            (r#"{"type":"user.tool_result"}"#, "without `tool_use_id`"),
            (r#"{"type":"session.thread_status_terminated"}"#, "without `session_thread_id`"),
        ] {
            let said = read(json).unwrap_err();
            assert!(said.contains(why), "{json}: {said}");
        }
    }
}

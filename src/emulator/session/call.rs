//! Tool calls: what is asked, who may answer, and what became of it.
//!
//! ```text
//!  Asked ──allow──▶ Open ──result──▶ resolved
//!    └──deny, interrupt─────────────▶ resolved
//! ```
//!
//! A call is resolved exactly once. One that needs no client (its permission is denied outright, or the server
//! answers it) is resolved as it is emitted and never makes the session wait.

use remuda_actors::ids::{CallId, ThreadId};
use remuda_actors::tool::ToolResult;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::emulator::auth::Kind;

/// What the permission policy made of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Run it.
    Allow,
    /// Wait for a confirmation.
    Ask,
    /// Never run it.
    Deny,
}

/// A tool call to emit.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// The tool's name.
    pub name: String,
    /// Its input.
    pub input: Map<String, Value>,
    /// Whether it is an `agent.custom_tool_use`.
    pub custom: bool,
    /// The child thread that makes it; none for the primary thread.
    pub thread: Option<ThreadId>,
    /// Its permission; none takes it from the agent's tool policies, and leaves it out if there are none.
    pub permission: Option<Permission>,
    /// A result the server gives itself, as for a web search; nobody else is asked.
    pub server_result: Option<ToolResult>,
    /// Whether the answer is expected from a client other than the session's worker.
    pub for_client: bool,
}

impl CallRequest {
    /// A call of one of the toolset's tools, on the primary thread.
    pub fn tool(name: impl Into<String>, input: Value) -> Self {
        let input = match input {
            Value::Object(input) => input,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        Self {
            name: name.into(),
            input,
            custom: false,
            thread: None,
            permission: None,
            server_result: None,
            for_client: false,
        }
    }

    /// A call of a custom tool, on the primary thread.
    pub fn custom(name: impl Into<String>, input: Value) -> Self {
        Self { custom: true, ..Self::tool(name, input) }
    }
}

/// Whether a call may be answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::emulator) enum Gate {
    /// It may.
    Open,
    /// Only after a confirmation that allows it.
    Asked,
}

/// One tool call.
#[derive(Clone, Debug)]
pub(in crate::emulator) struct Call {
    pub(in crate::emulator) id: CallId,
    pub(in crate::emulator) name: String,
    pub(in crate::emulator) custom: bool,
    pub(in crate::emulator) thread: Option<ThreadId>,
    pub(in crate::emulator) gate: Gate,
    pub(in crate::emulator) for_client: bool,
    /// The turn it belongs to.
    pub(super) turn: u64,
    pub(in crate::emulator) resolved: Option<Resolved>,
}

impl Call {
    pub(in crate::emulator) fn is_pending(&self) -> bool {
        self.resolved.is_none()
    }
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// How it came about.
    pub how: Resolution,
    /// The result the agent sees.
    pub result: ToolResult,
}

/// How a call was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A client posted a result with this kind of credential; none is an in-process client.
    Answered(Option<Kind>),
    /// Its permission or a confirmation denied it.
    Denied,
    /// The turn was interrupted.
    Interrupted,
    /// The server answered it itself.
    Server,
}

/// The permission fields of a call's event: none at all when no policy applies.
pub(super) fn permission_fields(
    asked: Option<Permission>,
    agent: &Value,
    name: &str,
) -> (Permission, Map<String, Value>) {
    let policy = policy_of(agent, name);
    let evaluation = |permission| match (permission, policy) {
        (Permission::Allow, Some("auto")) => {
            json!({"type": "auto", "evaluated_permission": {"type": "allow"}})
        }
        (Permission::Ask, Some("auto")) => {
            json!({"type": "auto", "evaluated_permission": {"type": "ask", "reason_code": "indeterminate"}})
        }
        (Permission::Allow, _) => json!({"type": "always_allow"}),
        (Permission::Ask, _) => json!({"type": "always_ask"}),
        (Permission::Deny, _) => {
            json!({"type": "auto", "evaluated_permission": {"type": "deny", "reason_code": "high_risk"}})
        }
    };
    let (permission, word) = match (asked, policy) {
        (Some(Permission::Allow), _) => (Permission::Allow, "allow"),
        (Some(Permission::Ask), _) => (Permission::Ask, "ask"),
        (Some(Permission::Deny), _) => (Permission::Deny, "deny"),
        (None, Some("always_ask")) => (Permission::Ask, "ask"),
        (None, Some(_)) => (Permission::Allow, "allow"),
        // Left out, never null: one official worker takes null for permission and the other waits for ever.
        (None, None) => return (Permission::Allow, Map::new()),
    };
    let fields = [
        ("evaluated_permission".to_owned(), Value::from(word)),
        ("evaluation".to_owned(), evaluation(permission)),
    ];
    (permission, Map::from_iter(fields))
}

/// The permission policy an agent's toolset has for a tool.
fn policy_of<'a>(agent: &'a Value, name: &str) -> Option<&'a str> {
    let toolsets = agent["tools"].as_array()?;
    let toolset = toolsets.iter().find(|tool| tool["type"] == "agent_toolset_20260401")?;
    let own = toolset["configs"].as_array().into_iter().flatten().find(|config| config["name"] == name);
    let policy = own.map_or(&Value::Null, |config| &config["permission_policy"]["type"]).as_str();
    policy
        .or_else(|| toolset["default_config"]["permission_policy"]["type"].as_str())
        .or(Some("always_allow"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_follows_the_agents_policies_and_is_left_out_without_any() {
        let agent = json!({"tools": [{
            "type": "agent_toolset_20260401",
            "default_config": {"permission_policy": {"type": "auto"}},
            "configs": [{"name": "bash", "permission_policy": {"type": "always_ask"}}, {"name": "read"}],
        }]});
        let of = |asked, agent: &Value, name| permission_fields(asked, agent, name);
        let (permission, fields) = of(None, &agent, "bash");
        assert_eq!((permission, &fields["evaluated_permission"]), (Permission::Ask, &json!("ask")));
        assert_eq!(fields["evaluation"], json!({"type": "always_ask"}));
        let (permission, fields) = of(None, &agent, "read");
        assert_eq!(permission, Permission::Allow);
        assert_eq!(fields["evaluation"]["type"], "auto");
        let (permission, fields) = of(Some(Permission::Deny), &agent, "read");
        assert_eq!((permission, &fields["evaluated_permission"]), (Permission::Deny, &json!("deny")));
        let (permission, fields) = of(None, &json!({"tools": []}), "bash");
        assert_eq!((permission, fields), (Permission::Allow, Map::new()));
    }
}

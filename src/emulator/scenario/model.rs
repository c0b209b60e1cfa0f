//! The shape of a scenario file. YAML and JSON share these types, and unknown keys are refused.
//!
//! ```yaml
//! name: greet
//! variables: { WHO: world }
//! turns:
//!   - message: please greet          # sent by the emulator unless a client already sent one
//!     steps:
//!       - say: I will run echo.      # agent.message
//!       - wait: 200ms                # the model thinks
//!       - call: { tool: bash, input: { command: "echo hello ${WHO}" }, expect: { text: "hello ${WHO}" } }
//!       - calls:                     # side by side
//!           - { tool: bash, input: { command: "rm -r /" }, permission: ask, confirm: { result: deny, after: 50ms } }
//!           - { custom: get_order, input: { id: 7 }, answer: { text: shipped } }
//!     end: end_turn
//!     then: [ { after: 100ms, do: stop_work } ]
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Map, Value};

use crate::emulator::session::{Permission, Resolution, StopReason};

/// A scenario: the turns of one session.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The name sessions choose it by, in `metadata.scenario`.
    pub name: String,
    /// What it shows.
    #[serde(default)]
    pub description: String,
    /// Its variables with their defaults; a session overrides one with `metadata["var.NAME"]`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Its turns, at least one.
    pub turns: Vec<Turn>,
}

/// One turn: from a message to an idle session.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The message that starts it, sent by the emulator; none waits for a client to send one.
    #[serde(default)]
    pub message: Option<String>,
    /// How long the emulator waits before it sends `message`.
    #[serde(default)]
    pub after: Pause,
    /// What the agent does.
    pub steps: Vec<Step>,
    /// How it ends.
    #[serde(default)]
    pub end: End,
    /// What clients do once it has ended.
    #[serde(default)]
    pub then: Vec<Action>,
}

/// One thing the agent does.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Says something.
    Say(String),
    /// Thinks for a while.
    Wait(Pause),
    /// Calls a tool and waits for its result.
    Call(Box<Call>),
    /// Calls several tools at once and waits for all their results.
    Calls(Vec<Call>),
    /// Starts a child thread under a name later calls refer to.
    OpenThread(String),
    /// Terminates a child thread.
    CloseThread(String),
}

/// One tool call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// A tool of the agent toolset; exactly one of this and `custom`.
    #[serde(default)]
    pub tool: Option<String>,
    /// A custom tool.
    #[serde(default)]
    pub custom: Option<String>,
    /// Its input.
    #[serde(default)]
    pub input: Map<String, Value>,
    /// The child thread that calls it; none is the primary thread.
    #[serde(default)]
    pub thread: Option<String>,
    /// Its permission; none takes it from the agent's policies.
    #[serde(default)]
    pub permission: Option<Permission>,
    /// The confirmation the emulator sends as a client.
    #[serde(default)]
    pub confirm: Option<Confirm>,
    /// Who else than the worker answers it, and what.
    #[serde(default)]
    pub answer: Option<Answer>,
    /// What its result must look like.
    #[serde(default)]
    pub expect: Expect,
    /// How long its result may take. Default 60 s.
    #[serde(default = "Call::within")]
    pub within: Pause,
    /// What clients do while it waits.
    #[serde(default)]
    pub meanwhile: Vec<Action>,
}

/// A confirmation sent by the emulator as a client.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// Allow or deny.
    pub result: Confirmation,
    /// How long after the call.
    #[serde(default)]
    pub after: Pause,
    /// The reason given with a denial.
    #[serde(default)]
    pub message: Option<String>,
}

/// The two confirmations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// Run it.
    Allow,
    /// Do not.
    Deny,
}

/// An answer that does not come from the worker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Who gives it.
    #[serde(default)]
    pub by: Answerer,
    /// How long after the call. The server answers at once.
    #[serde(default)]
    pub after: Pause,
    /// Its text.
    pub text: String,
    /// Whether it is a failure.
    #[serde(default)]
    pub is_error: bool,
}

/// Who answers a call the worker does not own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answerer {
    /// Another client, with a result it posts.
    #[default]
    Client,
    /// The server, as for a web search.
    Server,
}

/// What a call's result must look like. Keys that are not given are not checked, but for `is_error`, which
/// must be false unless it is said to be true.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Whether the result is a failure; `null` accepts either.
    #[serde(default, deserialize_with = "either")]
    pub is_error: Tri,
    /// The exact text.
    #[serde(default)]
    pub text: Option<String>,
    /// Texts that must occur.
    #[serde(default)]
    pub contains: Vec<String>,
    /// A regular expression that must match somewhere.
    #[serde(default)]
    pub matches: Option<Pattern>,
    /// How the call is resolved. Default: denied if its permission or confirmation says so, by the server if
    /// its answer does, answered otherwise.
    #[serde(default)]
    pub resolution: Option<ResolutionName>,
}

/// Yes, no, or either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tri {
    /// Must be true.
    True,
    /// Must be false.
    #[default]
    False,
    /// Not checked.
    Either,
}

fn either<'de, D: Deserializer<'de>>(from: D) -> Result<Tri, D::Error> {
    Ok(match Option::<bool>::deserialize(from)? {
        Some(true) => Tri::True,
        Some(false) => Tri::False,
        None => Tri::Either,
    })
}

/// How a call is resolved, in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolutionName {
    /// By a result somebody posted.
    Answered,
    /// By a denial.
    Denied,
    /// By an interrupt.
    Interrupted,
    /// By the server.
    Server,
}

impl ResolutionName {
    pub(super) fn of(resolution: Resolution) -> Self {
        match resolution {
            Resolution::Answered(_) => Self::Answered,
            Resolution::Denied => Self::Denied,
            Resolution::Interrupted => Self::Interrupted,
            Resolution::Server => Self::Server,
        }
    }
}

/// Something a client does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// How long it waits first.
    #[serde(default)]
    pub after: Pause,
    /// What it does.
    #[serde(rename = "do")]
    pub deed: Deed,
}

/// What a client can do.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Sends a `user.message`.
    Message(String),
    /// Sends a `user.interrupt`.
    Interrupt,
    /// Stops the session's work item, letting its holder finish.
    StopWork,
    /// Stops the session's work item at once.
    ForceStopWork,
    /// Takes the lease away from its holder, as if it had lapsed.
    RevokeLease,
}

/// How a turn ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Idle, with nothing left to say.
    #[default]
    EndTurn,
    /// Idle, because the model could not be reached.
    RetriesExhausted,
    /// Idle, because the budget is spent.
    BudgetReached,
    /// Idle, because the model refused.
    Refusal,
    /// The session is terminated.
    Terminate,
    /// The session is deleted.
    Delete,
}

impl End {
    /// The stop reason of an end that leaves the session idle.
    pub(in crate::emulator) fn stop_reason(self) -> Option<StopReason> {
        match self {
            Self::EndTurn => Some(StopReason::EndTurn),
            Self::RetriesExhausted => Some(StopReason::RetriesExhausted),
            Self::BudgetReached => Some(StopReason::BudgetReached),
            Self::Refusal => Some(StopReason::Refusal),
            Self::Terminate | Self::Delete => None,
        }
    }
}

/// A duration written for people, such as `200ms` or `1m 30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause(pub Duration);

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let parsed = humantime::parse_duration(&text);
        let expected = "a duration such as `200ms` or `1m 30s`";
        parsed.map(Self).map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &expected))
    }
}

/// A regular expression, kept with its text. Variables are put in when it is matched.
#[derive(Clone, Debug)]
pub struct Pattern(pub String);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        // A variable's `${NAME}` is no regular expression, so a letter stands in for it here.
        let sample = match Regex::new(r"\$\{\w+\}") {
            Ok(variable) => variable.replace_all(&text, "x").into_owned(),
            Err(error) => return Err(de::Error::custom(error)),
        };
        let parsed = Regex::new(&sample);
        parsed
            .map(|_| Self(text))
            .map_err(|error| de::Error::custom(format!("not a regular expression: {error}")))
    }
}

impl Call {
    fn within() -> Pause {
        Pause(Duration::from_secs(60))
    }

    /// The tool's name and whether it is a custom one. Checked when the scenario is loaded.
    pub(in crate::emulator) fn target(&self) -> (&str, bool) {
        match (&self.tool, &self.custom) {
            (Some(tool), _) => (tool, false),
            (None, custom) => (custom.as_deref().unwrap_or_default(), true),
        }
    }
}

//! Fault rules: what goes wrong, on which requests, and how often.
//!
//! The first rule that matches a request and is due decides; its actions happen in order. A rule counts the
//! requests it matches, so `nth`, `times` and `probability` speak about those alone. The generator behind
//! `probability` is seeded: the same requests in the same order meet the same faults.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use remuda_actors::ids::SessionId;
use serde::Deserialize;
use serde_json::Value;

use super::EmulatorError;
use super::operation::Operation;
use super::scenario::Pause;

/// Which requests a rule is about, and what happens to them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The operations; none means all.
    #[serde(default)]
    pub on: Vec<Operation>,
    /// The session, by id; work items count as their session's.
    #[serde(default)]
    pub session: Option<String>,
    /// Fires on this matching request alone, counted from 1.
    #[serde(default)]
    pub nth: Option<u64>,
    /// Fires at most this often.
    #[serde(default)]
    pub times: Option<u64>,
    /// Fires with this probability, from 0 to 1.
    #[serde(default)]
    pub probability: Option<f64>,
    /// What happens, in order.
    #[serde(rename = "do")]
    pub actions: Vec<FaultAction>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// Is answered like this, without taking effect.
    Answer(RawAnswer),
    /// Waits before it takes effect.
    Delay(Pause),
    /// Takes effect, then waits before it is answered.
    DelayAnswer(Pause),
    /// Is never answered and takes no effect; ends when its client gives up.
    Hang,
    /// Its connection is closed, and it takes no effect.
    Drop,
    /// Takes effect, but its connection is closed instead of an answer.
    DropAnswer,
    /// The stream ends after this many events.
    CutStream(usize),
    /// Bytes are put into the stream as they are.
    Inject(Injection),
    /// Every event of the stream is sent twice.
    DuplicateFrames,
    /// The lease of the session's work item lapses first.
    RevokeLease,
    /// Somebody else takes over the session's work first.
    UsurpLease,
}

/// An answer, byte for byte: no header is added that is not given, but for those HTTP itself needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default)]
    pub body: String,
}

/// Bytes to put into a stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// After how many events.
    #[serde(default)]
    pub after: usize,
    /// What, blank line and all.
    pub raw: String,
}

impl FaultRule {
    /// A rule about one operation.
    pub fn on(operation: Operation) -> Self {
        Self { on: vec![operation], ..Self::default() }
    }

    /// Only about this session.
    #[must_use]
    pub fn session(mut self, session: &SessionId) -> Self {
        self.session = Some(session.as_str().to_owned());
        self
    }

    /// Only on the `nth` matching request, counted from 1.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.nth = Some(nth);
        self
    }

    /// At most `times` times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// With this probability, from 0 to 1.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = Some(probability);
        self
    }

    /// Also does `action`.
    #[must_use]
    pub fn then(mut self, action: FaultAction) -> Self {
        self.actions.push(action);
        self
    }

    /// Answers with a status and an error envelope, as a proxy or an overloaded service would.
    #[must_use]
    pub fn answer(self, status: u16) -> Self {
        let body = r#"{"type":"error","error":{"type":"api_error","message":"injected fault"}}"#;
        let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
        self.then(FaultAction::Answer(RawAnswer { status, headers, body: body.to_owned() }))
    }

    /// Answers with these bytes.
    #[must_use]
    pub fn answer_raw(self, status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.then(FaultAction::Answer(RawAnswer { status, headers, body: body.to_owned() }))
    }

    /// Waits before taking effect.
    #[must_use]
    pub fn delay(self, time: Duration) -> Self {
        self.then(FaultAction::Delay(Pause(time)))
    }

    fn problem(&self) -> Option<String> {
        if self.actions.is_empty() {
            return Some("`do` must not be empty".into());
        }
        if self.nth == Some(0) {
            return Some("`nth` is counted from 1".into());
        }
        if self.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Some("`probability` must be from 0 to 1".into());
        }
        let bad = self.actions.iter().find_map(|action| match action {
            FaultAction::Answer(answer) if !(200..=599).contains(&answer.status) => Some(answer.status),
            _ => None,
        });
        bad.map(|status| format!("`do.answer.status` {status} is not from 200 to 599"))
    }
}

/// Names a rule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Armed {
    id: FaultId,
    rule: FaultRule,
    actions: Arc<[FaultAction]>,
    matched: u64,
    fired: u64,
}

#[derive(Debug)]
struct Rules {
    armed: Vec<Armed>,
    added: u64,
    rng: StdRng,
}

/// The rules in force.
#[derive(Debug)]
pub struct Faults {
    rules: Mutex<Rules>,
    /// How many rules there are, so that a request need not look when there are none.
    count: AtomicUsize,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        let rules = Rules { armed: Vec::new(), added: 0, rng: StdRng::seed_from_u64(seed) };
        Self { rules: Mutex::new(rules), count: AtomicUsize::new(0) }
    }

    /// Puts a rule in force.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if it has no action, or a number outside its limits.
    pub fn add(&self, rule: FaultRule) -> Result<FaultId, EmulatorError> {
        if let Some(problem) = rule.problem() {
            return Err(EmulatorError::Refused(format!("fault rule: {problem}")));
        }
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.added += 1;
        let id = FaultId(rules.added);
        let actions = rule.actions.clone().into();
        rules.armed.push(Armed { id, rule, actions, matched: 0, fired: 0 });
        self.count.store(rules.armed.len(), Ordering::Release);
        Ok(id)
    }

    /// Takes a rule out of force.
    pub fn remove(&self, id: FaultId) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.armed.retain(|armed| armed.id != id);
        self.count.store(rules.armed.len(), Ordering::Release);
    }

    /// How often a rule fired.
    pub fn fired(&self, id: FaultId) -> u64 {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.armed.iter().find(|armed| armed.id == id).map_or(0, |armed| armed.fired)
    }

    /// What happens to this request.
    pub(super) fn due(
        &self,
        operation: Operation,
        session: Option<&SessionId>,
    ) -> Option<Arc<[FaultAction]>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let Rules { armed, rng, .. } = &mut *rules;
        for Armed { rule, actions, matched, fired, .. } in armed {
            let about = rule.on.is_empty() || rule.on.contains(&operation);
            let named = rule.session.as_deref();
            if !about || named.is_some_and(|named| session.is_none_or(|session| session.as_str() != named)) {
                continue;
            }
            *matched += 1;
            let due = rule.nth.is_none_or(|nth| nth == *matched)
                && rule.times.is_none_or(|times| *fired < times)
                && rule.probability.is_none_or(|probability| rng.random_bool(probability));
            if due {
                *fired += 1;
                return Some(Arc::clone(actions));
            }
        }
        None
    }
}

/// A file of rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<FaultRule>,
}

/// Reads rules from a JSON file, `{"rules": [{"on": ["heartbeat"], "nth": 2, "do": [{"answer": {"status": 503}}]}]}`.
///
/// # Errors
/// The file and the place in it.
pub fn load_faults(path: &Path) -> Result<Vec<FaultRule>, EmulatorError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| EmulatorError::Read { path: path.to_owned(), source })?;
    let fail = |message: String| EmulatorError::Faults { path: path.to_owned(), message };
    let tree: Value = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
    let file: File = serde_path_to_error::deserialize(tree).map_err(|error| fail(error.to_string()))?;
    for (n, rule) in file.rules.iter().enumerate() {
        if let Some(problem) = rule.problem() {
            return Err(fail(format!("rules[{n}]: {problem}")));
        }
    }
    Ok(file.rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fires(rule: FaultRule, requests: &[(Operation, &str)]) -> Vec<bool> {
        let faults = Faults::new(7);
        faults.add(rule).unwrap();
        let fires = |(operation, session): &(Operation, &str)| {
            faults.due(*operation, Some(&SessionId::from(*session))).is_some()
        };
        requests.iter().map(fires).collect()
    }

    #[test]
    fn rules_match_by_operation_session_and_count() {
        let (beat, poll) = (Operation::Heartbeat, Operation::Poll);
        let requests = [(beat, "a"), (poll, "a"), (beat, "b"), (beat, "a"), (beat, "a")];
        let rule = || FaultRule::on(beat).answer(500);
        let a = SessionId::from("a");
        assert_eq!(fires(rule(), &requests), [true, false, true, true, true]);
        assert_eq!(fires(rule().session(&a), &requests), [true, false, false, true, true]);
        assert_eq!(fires(rule().session(&a).nth(2), &requests), [false, false, false, true, false]);
        assert_eq!(fires(rule().times(2), &requests), [true, false, true, false, false]);
        let all = FaultRule { on: Vec::new(), ..rule() };
        assert_eq!(fires(all, &requests), [true; 5]);
    }

    #[test]
    fn chance_follows_its_seed() {
        let requests = [(Operation::Poll, "a"); 64];
        let rule = FaultRule::on(Operation::Poll).probability(0.5).answer(500);
        let once = fires(rule.clone(), &requests);
        assert_eq!(once, fires(rule, &requests));
        let hits = once.iter().filter(|hit| **hit).count();
        assert!((16..48).contains(&hits), "{hits} of 64");
    }

    #[test]
    fn files_are_read_and_their_errors_named() {
        let directory = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            let path = directory.path().join("faults.json");
            std::fs::write(&path, text).unwrap();
            load_faults(&path).map_err(|error| error.to_string())
        };
        let rules = load(
            r#"{"rules": [
                {"on": ["heartbeat", "ack"], "nth": 2, "do": [{"delay": "20ms"}, {"answer": {"status": 503}}]},
                {"session": "sesn_1", "do": ["hang"]},
                {"on": ["stream_events"], "do": [{"cut_stream": 3}, {"inject": {"raw": "data: {\n\n"}}, "duplicate_frames"]}
            ]}"#,
        )
        .unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[1].actions, [FaultAction::Hang]);
        let wrong = [
            (r#"{"rules": [{"on": ["sing"], "do": ["hang"]}]}"#, "rules[0].on[0]"),
            (r#"{"rules": [{"do": []}]}"#, "`do` must not be empty"),
            (r#"{"rules": [{"do": ["hang"], "nth": 0}]}"#, "counted from 1"),
            (r#"{"rules": [{"do": ["hang"], "probability": 2}]}"#, "from 0 to 1"),
            (r#"{"rules": [{"do": [{"answer": {"status": 20}}]}]}"#, "not from 200 to 599"),
            (r#"{"rules": [{"do": ["hang"], "when": 1}]}"#, "unknown field `when`"),
            ("{", "EOF"),
        ];
        for (text, message) in wrong {
            let error = load(text).unwrap_err();
            assert!(error.contains("faults.json") && error.contains(message), "{error}");
        }
    }
}

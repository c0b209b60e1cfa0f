//! A configured command, and what it is told of an item.

use std::collections::BTreeMap;

use remuda_actors::fault::{Fault, FaultClass};
use remuda_actors::ids::EnvironmentId;
use remuda_actors::ports::WorkItem;
use remuda_actors::secret::Secret;
use serde_json::{Value, json};

use crate::cma;
use crate::routing::Surroundings;

/// The variable that holds a queue's key.
const KEY: &str = "ANTHROPIC_ENVIRONMENT_KEY";

/// A configured command.
#[derive(Clone, Debug)]
pub struct Command {
    argv: Vec<String>,
    base_url: String,
    keys: BTreeMap<EnvironmentId, Secret>,
    /// Whether it gets the key, too.
    with_key: bool,
    /// What is passed on to it from our own environment.
    passed: BTreeMap<String, Secret>,
}

impl Command {
    /// A command that gets these variables beside those that name its item: the environment key if that is among them,
    /// and everything else as it is set here.
    ///
    /// # Errors
    /// The name of a variable that is not set here, or is not text.
    pub fn new(argv: &[String], variables: &[String], surroundings: &Surroundings) -> Result<Self, String> {
        let others = variables.iter().filter(|name| *name != KEY);
        let passed = others.map(|name| {
            let value = std::env::var(name).map_err(|_| name.clone())?;
            Ok((name.clone(), Secret::new(value)))
        });
        Ok(Self {
            argv: argv.to_vec(),
            base_url: surroundings.base_url.clone(),
            keys: surroundings.keys.clone(),
            with_key: variables.iter().any(|name| name == KEY),
            passed: passed.collect::<Result<_, String>>()?,
        })
    }

    /// The program and its arguments.
    pub fn argv(&self) -> &[String] {
        &self.argv
    }

    /// The variables for an item.
    ///
    /// # Errors
    /// A permanent fault if the item has no token of its own and the command is not to have the key.
    pub fn variables(&self, item: &WorkItem) -> Result<BTreeMap<String, Secret>, Fault> {
        let secret = self.secret(item);
        if secret.is_none() && !self.with_key {
            let message = format!(
                "the work item carries no session token, and the rule does not pass {KEY} on to be used instead"
            );
            return Err(Fault::new(FaultClass::Permanent, message));
        }
        let session = item.session().map(|session| session.as_str()).unwrap_or_default();
        let mut variables = self.passed.clone();
        let mut set = |name: &str, value: &str| drop(variables.insert(name.to_owned(), Secret::new(value)));
        set("ANTHROPIC_BASE_URL", &self.base_url);
        set("ANTHROPIC_ENVIRONMENT_ID", item.environment.as_str());
        set("ANTHROPIC_SESSION_ID", session);
        set("ANTHROPIC_WORK_ID", item.id.as_str());
        if let Some(secret) = &secret {
            set("ANTHROPIC_WORK_SECRET", secret.expose());
        }
        if let Some(key) = self.keys.get(&item.environment).filter(|_| self.with_key) {
            set(KEY, key.expose());
        }
        Ok(variables)
    }

    /// The item, as the queue describes items.
    pub fn describe(&self, item: &WorkItem) -> Value {
        let session = item.session().map(|session| session.as_str());
        json!({
            "id": item.id,
            "type": "work",
            "environment_id": item.environment,
            "data": {"type": "session", "id": session},
            "state": "starting",
            "metadata": {},
            "secret": self.secret(item).as_ref().map(Secret::expose),
        })
    }

    /// A secret around the item's own token; none if it has none, and the key was to be used in its place.
    fn secret(&self, item: &WorkItem) -> Option<Secret> {
        let key = self.keys.get(&item.environment).map(Secret::expose);
        let token = item.credential.as_ref().filter(|token| Some(token.expose()) != key)?;
        Some(cma::secret_of(token))
    }
}

#[cfg(test)]
mod tests {
    use remuda_actors::ports::Target;

    use super::*;

    fn item(credential: &str) -> WorkItem {
        WorkItem {
            id: "work_1".into(),
            environment: "env_1".into(),
            target: Target::Session("sesn_1".into()),
            credential: Some(Secret::new(credential)),
        }
    }

    fn command(variables: &[&str]) -> Command {
        let surroundings = Surroundings {
            base_url: "http://base".to_owned(),
            keys: BTreeMap::from([("env_1".into(), Secret::new("sk-ant-oat01-key"))]),
        };
        let variables: Vec<_> = variables.iter().map(|name| (*name).to_owned()).collect();
        Command::new(&["w".to_owned()], &variables, &surroundings).unwrap()
    }

    fn names(variables: &BTreeMap<String, Secret>) -> Vec<&str> {
        variables.keys().map(String::as_str).collect()
    }

    #[test]
    fn row_11_a_worker_gets_the_key_only_if_the_rule_names_it() {
        let official = [
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_ENVIRONMENT_ID",
            "ANTHROPIC_SESSION_ID",
            "ANTHROPIC_WORK_ID",
            "ANTHROPIC_WORK_SECRET",
        ];
        let variables = command(&[]).variables(&item("sk-ant-req-token")).unwrap();
        assert_eq!(names(&variables), official);
        assert!(!variables.values().any(|value| value.expose().contains("oat01")));
        let variables = command(&[KEY, "PATH"]).variables(&item("sk-ant-req-token")).unwrap();
        assert_eq!(variables[KEY].expose(), "sk-ant-oat01-key");
        assert!(variables.contains_key("PATH"));
    }

    #[test]
    fn an_item_without_a_token_needs_the_key() {
        let error = command(&[]).variables(&item("sk-ant-oat01-key")).unwrap_err();
        assert!(error.message.contains(KEY), "{error:?}");
        let variables = command(&[KEY]).variables(&item("sk-ant-oat01-key")).unwrap();
        assert!(!variables.contains_key("ANTHROPIC_WORK_SECRET"));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let surroundings = Surroundings { base_url: String::new(), keys: BTreeMap::new() };
        let names = ["REMUDA_NO_SUCH_VARIABLE".to_owned()];
        assert_eq!(Command::new(&[], &names, &surroundings).unwrap_err(), names[0]);
    }
}

//! Variables: `${NAME}` in a scenario's texts.
//!
//! Only declared names are replaced. Everything else stays as it is, because commands have variables of
//! their own.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The prefix of session metadata that sets a variable.
const METADATA_PREFIX: &str = "var.";

/// Values by name.
#[derive(Clone, Debug, Default)]
pub(in crate::emulator) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those a scenario declares, those every scenario has, and what a session's metadata sets.
    ///
    /// # Errors
    /// The names there are, if the metadata sets one that is not declared.
    pub(in crate::emulator) fn new(
        declared: &BTreeMap<String, String>,
        session: &str,
        environment: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut values = BTreeMap::from([
            ("ENVIRONMENT_ID".to_owned(), environment.to_owned()),
            ("SESSION_ID".to_owned(), session.to_owned()),
            // The working directory the agent is told of.
            ("WORKDIR".to_owned(), "/workspace".to_owned()),
        ]);
        values.extend(declared.iter().map(|(name, value)| (name.clone(), value.clone())));
        for (key, value) in metadata {
            let Some(name) = key.strip_prefix(METADATA_PREFIX) else { continue };
            let Some(known) = values.get_mut(name) else {
                let names: Vec<&str> = values.keys().map(String::as_str).collect();
                let names = names.join(", ");
                return Err(format!("metadata.{key}: the scenario has no variable {name}; it has {names}"));
            };
            value.clone_into(known);
        }
        Ok(Self(values))
    }

    /// `text` with every declared variable replaced.
    pub(in crate::emulator) fn expand<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.expand_with(text, Cow::Borrowed)
    }

    /// The same for a regular expression: values are escaped.
    pub(super) fn expand_pattern<'a>(&self, pattern: &'a str) -> Cow<'a, str> {
        self.expand_with(pattern, |value| Cow::Owned(regex::escape(value)))
    }

    /// The same for every text inside a tool's input.
    pub(in crate::emulator) fn expand_input(&self, input: &Map<String, Value>) -> Map<String, Value> {
        input.iter().map(|(key, value)| (key.clone(), self.expand_value(value))).collect()
    }

    fn expand_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.expand(text).into_owned()),
            Value::Array(items) => items.iter().map(|item| self.expand_value(item)).collect(),
            Value::Object(fields) => Value::Object(self.expand_input(fields)),
            other => other.clone(),
        }
    }

    fn expand_with<'a, 'v>(&'v self, text: &'a str, write: impl Fn(&'v str) -> Cow<'v, str>) -> Cow<'a, str> {
        if !text.contains("${") {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, after) = (&rest[..start], &rest[start + 2..]);
            out.push_str(before);
            match after.split_once('}').and_then(|(name, tail)| Some((self.0.get(name)?, tail))) {
                Some((value, tail)) => {
                    out.push_str(&write(value));
                    rest = tail;
                }
                None => {
                    out.push_str("${");
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(metadata: &[(&str, &str)]) -> Result<Variables, String> {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Variables::new(&BTreeMap::from([("WHO".into(), "world".into())]), "sesn_1", "env_1", &metadata)
    }

    #[test]
    fn only_declared_names_are_replaced() {
        let variables = variables(&[("var.WORKDIR", "/tmp/w.d"), ("other", "x")]).unwrap();
        assert_eq!(
            variables.expand("${WHO} in ${WORKDIR} of ${SESSION_ID}; ${HOME} ${x:-1} ${"),
            "world in /tmp/w.d of sesn_1; ${HOME} ${x:-1} ${"
        );
        assert_eq!(variables.expand_pattern("^${WORKDIR}/a$"), r"^/tmp/w\.d/a$");
        let input = json!({"command": "echo ${WHO}", "list": [{"deep": "${WHO}"}], "n": 1});
        let Value::Object(input) = input else { unreachable!("written as an object") };
        let expanded = Value::Object(variables.expand_input(&input));
        assert_eq!(expanded, json!({"command": "echo world", "list": [{"deep": "world"}], "n": 1}));
    }

    #[test]
    fn setting_an_undeclared_variable_names_those_there_are() {
        let error = variables(&[("var.WHOM", "x")]).unwrap_err();
        assert_eq!(
            error,
            "metadata.var.WHOM: the scenario has no variable WHOM; it has ENVIRONMENT_ID, SESSION_ID, WHO, WORKDIR"
        );
    }
}

//! What the rules say about one session, and why.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::rule::{Rule, Wanted, When};

/// What sessions are told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The session's environment.
    pub environment: String,
    /// Its agent's id.
    pub agent: Option<String>,
    /// Its agent's name.
    pub agent_name: Option<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A session as the API returns it, as much of it as matters here.
#[derive(Deserialize)]
struct Session {
    environment_id: String,
    #[serde(default)]
    agent: Option<Agent>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Agent {
    id: Option<String>,
    name: Option<String>,
}

impl Facts {
    /// What a session says of itself, in the API's JSON.
    ///
    /// # Errors
    /// Which field is missing or wrong.
    pub fn of_session(json: &[u8]) -> Result<Self, String> {
        let reader = &mut serde_json::Deserializer::from_slice(json);
        let session: Session = serde_path_to_error::deserialize(reader).map_err(|error| error.to_string())?;
        let (agent, agent_name) = session.agent.map(|agent| (agent.id, agent.name)).unwrap_or_default();
        let metadata = session.metadata.unwrap_or_default();
        Ok(Self { environment: session.environment_id, agent, agent_name, metadata })
    }
}

/// Why a rule does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Against {
    /// What was looked at.
    key: String,
    /// What it is; none if it is not there.
    is: Option<String>,
    /// What was expected.
    expected: String,
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.is {
            Some(is) => write!(f, "`{}` is {is}, expected {}", self.key, self.expected),
            None => write!(f, "`{}` is not there, expected {}", self.key, self.expected),
        }
    }
}

/// What one rule says about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It does not match, because of all this.
    No(Vec<Against>),
    /// It decides.
    Applies,
}

/// What the rules say about a session, up to the one that decides.
#[derive(Clone, Debug)]
pub struct Findings<'a>(pub Vec<(&'a Rule, Judgement)>);

impl<'a> Findings<'a> {
    /// Asks the rules one after another.
    pub fn of(rules: &'a [Rule], facts: &Facts) -> Self {
        let mut findings = Vec::new();
        for rule in rules {
            let against = rule.when.against(facts);
            if against.is_empty() {
                findings.push((rule, Judgement::Applies));
                break;
            }
            findings.push((rule, Judgement::No(against)));
        }
        Self(findings)
    }

    /// The rule that decides.
    pub fn decided_by(&self) -> Option<&'a Rule> {
        self.0.iter().find(|(_, judgement)| *judgement == Judgement::Applies).map(|(rule, _)| *rule)
    }
}

impl fmt::Display for Findings<'_> {
    /// A line for each rule that was asked, and what was decided.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (rule, judgement) in &self.0 {
            match judgement {
                Judgement::No(against) => {
                    let why: Vec<_> = against.iter().map(ToString::to_string).collect();
                    writeln!(f, "{rule} does not match: {}", why.join("; "))?;
                }
                Judgement::Applies => {
                    writeln!(f, "{rule} applies:")?;
                    for line in rule.decision.to_string().lines() {
                        writeln!(f, "  {line}")?;
                    }
                    writeln!(f, "  everything else as the flags say")?;
                }
            }
        }
        if self.decided_by().is_none() {
            writeln!(f, "no rule applies: brokered, and everything as the flags say")?;
        }
        Ok(())
    }
}

impl When {
    /// Everything that speaks against it; nothing if it matches.
    fn against(&self, facts: &Facts) -> Vec<Against> {
        let mut against = Vec::new();
        let list = |names: &std::collections::BTreeSet<String>| {
            names.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
        };
        if let Some(wanted) = &self.environment
            && !wanted.contains(&facts.environment)
        {
            let is = Some(facts.environment.clone());
            against.push(Against { key: "environment".to_owned(), is, expected: list(wanted) });
        }
        if let Some(wanted) = &self.agent {
            let names = || [&facts.agent, &facts.agent_name].into_iter().flatten();
            if !names().any(|name| wanted.contains(name)) {
                let is = names().cloned().collect::<Vec<_>>().join(", ");
                let is = Some(is).filter(|is| !is.is_empty());
                against.push(Against { key: "agent".to_owned(), is, expected: list(wanted) });
            }
        }
        for (key, wanted) in &self.metadata {
            let is = facts.metadata.get(key).cloned();
            let (matches, expected) = match wanted {
                Wanted::Any => (is.is_some(), "any value".to_owned()),
                Wanted::OneOf(wanted) => (is.as_ref().is_some_and(|is| wanted.contains(is)), list(wanted)),
            };
            if !matches {
                against.push(Against { key: format!("metadata.{key}"), is, expected });
            }
        }
        against
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::read;

    const SESSION: &str = r#"{
        "id": "sesn_1", "type": "session", "environment_id": "env_1", "status": "idle",
        "agent": {"id": "agent_1", "name": "coder", "version": 3},
        "metadata": {"team": "data"}, "resources": []
    }"#;

    #[test]
    fn the_first_match_decides_and_every_earlier_no_has_its_reasons() {
        let text = "
            [[route]]
            name = 'elsewhere'
            environment = ['env_2', 'env_3']
            agent = 'poet'
            [[route]]
            metadata = { team = 'ops', size = '*' }
            [[route]]
            name = 'data'
            agent = 'coder'
            metadata = { team = ['ops', 'data'] }
            standby-after = '5s'
            sandbox-memory = 4096
            [[route]]
            environment = 'env_1'
        ";
        let rules = read(text).unwrap();
        let facts = Facts::of_session(SESSION.as_bytes()).unwrap();
        let findings = Findings::of(&rules, &facts);
        assert_eq!(findings.decided_by().unwrap().number, 3);
        assert_eq!(
            findings.to_string(),
            "rule 1 `elsewhere` does not match: `environment` is env_1, expected env_2 or env_3; `agent` is agent_1, \
             coder, expected poet\n\
             rule 2 does not match: `metadata.size` is not there, expected any value; `metadata.team` is data, \
             expected ops\n\
             rule 3 `data` applies:\n  execution = brokered\n  sandbox-memory = 4096 MiB\n  standby-after = 5s\n  \
             everything else as the flags say\n"
        );
    }

    #[test]
    fn that_no_rule_matches_is_said() {
        let rules = read("[[route]]\nenvironment = 'env_2'\n").unwrap();
        let facts = Facts { environment: "env_1".to_owned(), ..Facts::default() };
        let said = Findings::of(&rules, &facts).to_string();
        assert!(said.ends_with("no rule applies: brokered, and everything as the flags say\n"), "{said}");
    }

    #[test]
    fn a_session_that_is_none_is_told_by_field() {
        for (text, expected) in [
            ("{}", "missing field `environment_id`"),
            (r#"{"environment_id": 5}"#, "environment_id: invalid type"),
            (r#"{"environment_id": "e", "metadata": {"a": 1}}"#, "metadata.a: invalid type"),
            ("nothing", "expected"),
        ] {
            let error = Facts::of_session(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

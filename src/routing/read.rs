//! From a file's tables to rules, with everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use remuda_actors::ports::Limits;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::rule::{Decision, Mode, Rule, Wanted};

/// The name of the tables in a file.
pub(crate) const TABLE: &str = "route";

/// Rules of one file, at most; every session is compared with all of them.
const MAX_RULES: usize = 1_000;

/// Where sandboxes can come from, and whether they have images there.
const PROVIDERS: &[(&str, bool)] = &[("local", false)];

/// What a rule may have, for whoever misspelt it.
const KEYS: &[&str] = &[
    "name",
    "environment",
    "agent",
    "metadata",
    "provider",
    "image",
    "execution",
    "command",
    "variables",
    "standby-after",
    "max-idle",
    "sandbox-processes",
    "sandbox-memory",
    "sandbox-file-size",
    "sandbox-network",
];

/// Something that is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where in the text, in bytes.
    pub at: usize,
    /// What is wrong, and what was expected.
    pub what: String,
}

/// The rules of a configuration file; whatever else is in it is not looked at.
///
/// # Errors
/// Everything that is wrong with them.
pub fn read(text: &str) -> Result<Vec<Rule>, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut mistakes: Vec<_> = errors
        .iter()
        .map(|error| Mistake {
            at: error.span().map_or(0, |span| span.start),
            what: error.message().to_owned(),
        })
        .collect();
    let found = table.into_inner().into_iter().find(|(name, _)| name.get_ref() == TABLE);
    let rules = found.map(|(_, value)| rules(value, &mut mistakes)).unwrap_or_default();
    if mistakes.is_empty() { Ok(rules) } else { Err(mistakes) }
}

/// The rules in the value of the file's `route`, as far as they can be read.
pub(crate) fn rules(value: Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) -> Vec<Rule> {
    let at = value.span().start;
    let DeValue::Array(tables) = value.into_inner() else {
        mistakes
            .push(Mistake { at, what: format!("`{TABLE}`: expected tables, each headed by `[[{TABLE}]]`") });
        return Vec::new();
    };
    if tables.len() > MAX_RULES {
        mistakes.push(Mistake { at, what: format!("`{TABLE}`: expected at most {MAX_RULES} rules") });
        return Vec::new();
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let (at, before) = (table.span().start, mistakes.len());
        let DeValue::Table(table) = table.into_inner() else {
            mistakes
                .push(Mistake { at, what: format!("`{TABLE}`: expected a table, headed by `[[{TABLE}]]`") });
            continue;
        };
        let mut reader = Reader { number: index + 1, at, mistakes };
        let rule = reader.rule(table);
        if mistakes.len() > before {
            // It may look wider or narrower than it is meant.
            continue;
        }
        if let Some(earlier) = rules.iter().find(|earlier| earlier.when.covers(&rule.when)) {
            let what = format!("{rule} can never match: {earlier} matches whenever it does, and comes first");
            mistakes.push(Mistake { at, what });
        }
        rules.push(rule);
    }
    rules
}

/// Reads one rule.
struct Reader<'a> {
    number: usize,
    at: usize,
    mistakes: &'a mut Vec<Mistake>,
}

impl Reader<'_> {
    fn wrong(&mut self, at: usize, key: &str, expected: &str) {
        let what = format!("rule {}: `{key}`: expected {expected}", self.number);
        self.mistakes.push(Mistake { at, what });
    }

    fn rule(&mut self, table: DeTable<'_>) -> Rule {
        let mut rule = Rule { number: self.number, ..Rule::default() };
        let (mut execution, mut command, mut variables, mut image_at) = (None, None, None, 0);
        let Decision { provider, image, limits, standby_after, max_idle, mode: _ } = &mut rule.decision;
        for (name, value) in table {
            let (at, key) = (value.span().start, name.get_ref().clone().into_owned());
            let value = value.into_inner();
            match &*key {
                "name" => rule.name = self.text(at, &key, value),
                "environment" => rule.when.environment = self.texts(at, &key, value).map(BTreeSet::from_iter),
                "agent" => rule.when.agent = self.texts(at, &key, value).map(BTreeSet::from_iter),
                "metadata" => rule.when.metadata = self.metadata(at, value),
                "provider" => {
                    let known = |name: &String| PROVIDERS.iter().any(|(known, _)| known == name);
                    *provider = self.text(at, &key, value);
                    if provider.as_ref().is_some_and(|name| !known(name)) {
                        self.wrong(at, &key, &format!("one of {}", providers()));
                    }
                }
                "image" => {
                    *image = self.text(at, &key, value);
                    image_at = at;
                }
                "execution" => execution = self.text(at, &key, value).map(|name| (at, name)),
                "command" => command = self.texts(at, &key, value).map(|texts| (at, texts)),
                "variables" => variables = self.texts(at, &key, value).map(|texts| (at, texts)),
                "standby-after" => *standby_after = self.time(at, &key, value),
                "max-idle" => *max_idle = self.time(at, &key, value),
                "sandbox-processes" => limits.processes = self.number(at, &key, value, 16, 1 << 22),
                "sandbox-memory" => {
                    limits.memory_bytes = self.number(at, &key, value, 64, 1 << 24).map(|mib| mib << 20);
                }
                "sandbox-file-size" => {
                    limits.file_bytes = self.number(at, &key, value, 1, 1 << 24).map(|mib| mib << 20);
                }
                "sandbox-network" => match self.text(at, &key, value).as_deref() {
                    Some("none") => limits.network = Some(false),
                    Some("host") => limits.network = Some(true),
                    Some(_) => self.wrong(at, &key, "`none` or `host`"),
                    None => {}
                },
                _ => {
                    let alike = KEYS.iter().max_by(|one, other| {
                        strsim::jaro_winkler(&key, one).total_cmp(&strsim::jaro_winkler(&key, other))
                    });
                    let alike = alike.map_or("", |alike| alike);
                    let what = format!("rule {}: there is no `{key}`; `{alike}` is similar", self.number);
                    self.mistakes.push(Mistake { at: name.span().start, what });
                }
            }
        }
        let name = provider.as_deref().unwrap_or(PROVIDERS[0].0);
        if image.is_some() && PROVIDERS.contains(&(name, false)) {
            self.wrong(image_at, "image", "nothing: the sandboxes of this provider have no images");
        }
        rule.decision.mode = self.mode(execution, command, variables, &rule.decision.limits);
        rule
    }

    /// By whom the session is served, from the keys that say so together.
    fn mode(
        &mut self,
        execution: Option<(usize, String)>,
        command: Option<(usize, Vec<String>)>,
        variables: Option<(usize, Vec<String>)>,
        limits: &Limits,
    ) -> Mode {
        let (at, name) = execution.unwrap_or((self.at, "brokered".to_owned()));
        if let Some((at, variables)) = &variables {
            for wrong in variables.iter().filter(|name| !may_be_passed(name)) {
                let expected = "names of variables, of the control plane's only ANTHROPIC_ENVIRONMENT_KEY";
                self.wrong(*at, "variables", &format!("{expected}, not `{wrong}`"));
            }
        }
        let variables_of =
            |variables: Option<(usize, Vec<String>)>| variables.map(|(_, names)| names).unwrap_or_default();
        match (&*name, command) {
            ("brokered", None) => {
                if let Some((at, _)) = variables {
                    self.wrong(at, "variables", "`execution` to be `worker` or `command`");
                }
                Mode::Brokered
            }
            ("brokered", Some((at, _))) => {
                self.wrong(at, "command", "`execution` to be `worker` or `command`");
                Mode::Brokered
            }
            ("worker" | "command", None) => {
                self.wrong(at, "execution", &format!("`command` beside it, which says what the {name} is"));
                Mode::Brokered
            }
            ("worker", Some((_, command))) => Mode::Worker { command, variables: variables_of(variables) },
            ("command", Some((_, command))) => {
                if *limits != Limits::default() {
                    self.wrong(
                        at,
                        "execution",
                        "no sandbox limits beside it: a command on this host has no sandbox",
                    );
                }
                Mode::Command { command, variables: variables_of(variables) }
            }
            _ => {
                self.wrong(at, "execution", "`brokered`, `worker` or `command`");
                Mode::Brokered
            }
        }
    }

    fn text(&mut self, at: usize, key: &str, value: DeValue<'_>) -> Option<String> {
        match value {
            DeValue::String(text) if !text.is_empty() => Some(text.into_owned()),
            _ => {
                self.wrong(at, key, "a string");
                None
            }
        }
    }

    fn texts(&mut self, at: usize, key: &str, value: DeValue<'_>) -> Option<Vec<String>> {
        let texts: Option<Vec<_>> = match value {
            DeValue::String(text) => Some(vec![text.into_owned()]),
            DeValue::Array(list) => list
                .into_iter()
                .map(|value| match value.into_inner() {
                    DeValue::String(text) => Some(text.into_owned()),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        let texts = texts.filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.is_empty()));
        if texts.is_none() {
            self.wrong(at, key, "a string, or a list of at least one");
        }
        texts
    }

    fn metadata(&mut self, at: usize, value: DeValue<'_>) -> BTreeMap<String, Wanted> {
        let DeValue::Table(table) = value else {
            self.wrong(at, "metadata", "a table of keys and values, as in `{ team = \"data\" }`");
            return BTreeMap::new();
        };
        let mut metadata = BTreeMap::new();
        for (key, value) in table {
            let at = value.span().start;
            let key = key.into_inner().into_owned();
            if let Some(texts) = self.texts(at, &format!("metadata.{key}"), value.into_inner()) {
                let any = texts.iter().any(|text| text == "*");
                metadata
                    .insert(key, if any { Wanted::Any } else { Wanted::OneOf(texts.into_iter().collect()) });
            }
        }
        metadata
    }

    fn time(&mut self, at: usize, key: &str, value: DeValue<'_>) -> Option<Duration> {
        let time = match value {
            DeValue::String(text) => humantime::parse_duration(&text).ok(),
            _ => None,
        };
        if time.is_none() {
            self.wrong(at, key, "a time, as in \"15s\"");
        }
        time
    }

    fn number(&mut self, at: usize, key: &str, value: DeValue<'_>, least: u64, most: u64) -> Option<u64> {
        let number = match value {
            DeValue::Integer(number) => {
                u64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
            }
            _ => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(at, key, &format!("a whole number from {least} to {most}"));
        }
        number
    }
}

/// Whether a variable may be passed to a worker. Of the control plane's own, what it needs it has anyway, and an API key
/// has no business on a worker's host; the environment key it gets if it is asked for.
fn may_be_passed(name: &str) -> bool {
    let is_name = !name.contains(['=', '\0']);
    let is_theirs = name.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("ANTHROPIC_"));
    is_name && (!is_theirs || name == "ANTHROPIC_ENVIRONMENT_KEY")
}

fn providers() -> String {
    PROVIDERS.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        read(text).unwrap_err().into_iter().map(|mistake| mistake.what).collect()
    }

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        let text = "
            max-sessions = 5
            [[route]]
            name = 'all of it'
            environment = 'env_1'
            agent = ['agent_1', 'coder']
            metadata = { team = 'data', size = '*', region = ['a', 'b'] }
            provider = 'local'
            execution = 'worker'
            command = ['python3', 'w.py']
            variables = ['ANTHROPIC_ENVIRONMENT_KEY', 'LANG']
            sandbox-processes = 1_00
            sandbox-memory = 64
            sandbox-file-size = 1
            sandbox-network = 'host'
            standby-after = '5s'
            max-idle = '0s'
        ";
        let rules = read(text).unwrap();
        let [rule] = &rules[..] else { panic!("{rules:?}") };
        assert_eq!(rule.to_string(), "rule 1 `all of it`");
        assert_eq!(rule.when.agent.as_ref().unwrap().len(), 2);
        assert_eq!(rule.when.metadata["size"], Wanted::Any);
        assert_eq!(
            rule.decision.to_string(),
            "execution = worker\ncommand = [\"python3\", \"w.py\"]\n\
             variables = [\"ANTHROPIC_ENVIRONMENT_KEY\", \"LANG\"]\nprovider = local\nsandbox-processes = 100\n\
             sandbox-memory = 64 MiB\nsandbox-file-size = 1 MiB\nsandbox-network = host\nstandby-after = 5s\n\
             max-idle = 0s"
        );
    }

    #[test]
    fn every_mistake_names_its_key_and_what_was_expected() {
        for (text, expected) in [
            ("route = 5", "`route`: expected tables, each headed by `[[route]]`"),
            ("route = [5]", "`route`: expected a table, headed by `[[route]]`"),
            ("[[route]]\nenviroment = 'x'", "rule 1: there is no `enviroment`; `environment` is similar"),
            ("[[route]]\nagent = 5", "rule 1: `agent`: expected a string, or a list of at least one"),
            ("[[route]]\nagent = []", "rule 1: `agent`: expected a string, or a list of at least one"),
            (
                "[[route]]\nmetadata = 'x'",
                "rule 1: `metadata`: expected a table of keys and values, as in `{ team = \"data\" }`",
            ),
            (
                "[[route]]\nmetadata = { a = 1 }",
                "rule 1: `metadata.a`: expected a string, or a list of at least one",
            ),
            ("[[route]]\nprovider = 'moon'", "rule 1: `provider`: expected one of `local`"),
            (
                "[[route]]\nimage = 'x'",
                "rule 1: `image`: expected nothing: the sandboxes of this provider have no images",
            ),
            (
                "[[route]]\nexecution = 'magic'",
                "rule 1: `execution`: expected `brokered`, `worker` or `command`",
            ),
            (
                "[[route]]\nexecution = 'worker'",
                "rule 1: `execution`: expected `command` beside it, which says what the worker is",
            ),
            (
                "[[route]]\ncommand = 'x'",
                "rule 1: `command`: expected `execution` to be `worker` or `command`",
            ),
            (
                "[[route]]\nexecution = 'command'\ncommand = 'x'\nsandbox-memory = 64",
                "rule 1: `execution`: expected no sandbox limits beside it: a command on this host has no sandbox",
            ),
            (
                "[[route]]\nexecution = 'worker'\ncommand = 'x'\nvariables = ['ANTHROPIC_API_KEY']",
                "rule 1: `variables`: expected names of variables, of the control plane's only ANTHROPIC_ENVIRONMENT_KEY, not `ANTHROPIC_API_KEY`",
            ),
            (
                "[[route]]\nsandbox-memory = 1",
                "rule 1: `sandbox-memory`: expected a whole number from 64 to 16777216",
            ),
            ("[[route]]\nsandbox-network = 'lan'", "rule 1: `sandbox-network`: expected `none` or `host`"),
            ("[[route]]\nstandby-after = 5", "rule 1: `standby-after`: expected a time, as in \"15s\""),
        ] {
            assert_eq!(mistakes(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_rule_that_can_never_match_is_a_mistake() {
        let text =
            "[[route]]\nname = 'wide'\nagent = ['a', 'b']\n[[route]]\nagent = 'b'\nenvironment = 'e'\n";
        assert_eq!(
            mistakes(text),
            ["rule 2 can never match: rule 1 `wide` matches whenever it does, and comes first"]
        );
        let text = "[[route]]\nstandby-after = '1s'\n[[route]]\nagent = 'b'\n";
        assert_eq!(
            mistakes(text),
            ["rule 2 can never match: rule 1 matches whenever it does, and comes first"]
        );
    }

    #[test]
    fn a_mistake_says_where_it_is() {
        let text = "a = 1\n[[route]]\nagent = 5\n";
        assert_eq!(read(text).unwrap_err()[0].at, text.find('5').unwrap());
    }
}

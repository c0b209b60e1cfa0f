//! The configuration file: what `remuda run` can be told by flags, by the same names.
//!
//! ```toml
//! max-sessions = 500
//! standby-after = "5s"
//! environment-id = ["env_1:3", "env_2"]
//! ```
//!
//! What a file says takes the place of a flag's default, so that it is read by the flag's own rules, and the
//! environment and the command line come before it. Every flag can also be set by a variable, `REMUDA_` and its name.
//! Beside them it may have rules that serve single sessions otherwise ([`routing`]), and tools of the operator's own
//! ([`custom`]), which no flag can say.
//!
//! All mistakes of a file are told at once, each with its line. No secret has a place in it: keys are named by file.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::custom::{self, Tools};
use crate::report::{Exit, Failure};
use crate::routing::{self, Rule};

/// The command that is configured so.
const COMMAND: &str = "run";

/// The flag that names the file, and so cannot stand in it.
const FILE: &str = "config";

/// Largest file that is read, in bytes; one in use has a few hundred.
const MAX_FILE: u64 = 1 << 20;

/// How alike (Jaro-Winkler, 0 to 1) a name must be to the one that may have been meant. The same bound as for flags.
const ALIKE: f64 = 0.8;

/// The command line with the values of the file that it names, if it names one, in place of defaults.
///
/// # Errors
///
/// If the file cannot be read, or anything in it makes no sense.
pub(super) fn configured(line: Command, arguments: &[OsString]) -> Result<Command, Failure> {
    let line = line.mut_subcommand(COMMAND, |command| command.mut_args(with_variable));
    let Some(path) = named(&line, arguments) else { return Ok(line) };
    let text = read_bounded(&path, MAX_FILE)
        .map_err(|failure| failure.hint("name another one with `--config`, or none"))?;
    let flags: Vec<_> = line.find_subcommand(COMMAND).into_iter().flat_map(Command::get_arguments).collect();
    let settings = Settings::read(&text, &flags);
    if !settings.mistakes.is_empty() {
        return Err(unusable(&path, &settings.mistakes));
    }
    Ok(line.mut_subcommand(COMMAND, |command| {
        settings.values.into_iter().fold(command, |command, (name, values)| {
            command.mut_arg(name, |flag| flag.default_values(values).required(false))
        })
    }))
}

/// Lets a flag that no variable sets yet be set by one.
fn with_variable(flag: Arg) -> Arg {
    match flag.get_long() {
        Some(name) if flag.get_env().is_none() => {
            let variable = format!("REMUDA_{}", name.replace('-', "_").to_uppercase());
            flag.env(variable).hide_env(true)
        }
        _ => flag,
    }
}

/// The file that the command line or the environment names. What else is wrong with them is told later.
fn named(line: &Command, arguments: &[OsString]) -> Option<PathBuf> {
    let line = line.clone().ignore_errors(true);
    let matches = line.try_get_matches_from(arguments).ok()?;
    matches.subcommand_matches(COMMAND)?.get_one::<PathBuf>(FILE).cloned()
}

/// The rules of a file, which has been found free of mistakes or is read for them alone.
///
/// # Errors
///
/// If the file cannot be read, or a rule makes no sense.
pub(super) fn rules(path: &Path) -> Result<Vec<Rule>, Failure> {
    let text = read_bounded(path, MAX_FILE)?;
    routing::read(&text).map_err(|mistakes| {
        let lines = mistakes.into_iter().map(|mistake| (line_of(&text, mistake.at), mistake.what));
        unusable(path, &lines.collect::<Vec<_>>())
    })
}

fn unusable(path: &Path, mistakes: &[(usize, String)]) -> Failure {
    let mut what = format!("{} cannot be used", path.display());
    for (line, mistake) in mistakes {
        let _ = write!(what, "\n  line {line}: {mistake}");
    }
    Failure::say(Exit::Configuration, what).hint(
        "`remuda run --help` says what each name means, and the README what a rule may have; names are those of the \
         flags without dashes",
    )
}

/// The tools that a file declares, which has been found free of mistakes.
///
/// # Errors
///
/// If the file cannot be read, or a token that it names.
pub(super) fn tools(path: &Path) -> Result<Tools, Failure> {
    let declared = custom::read(&read_bounded(path, MAX_FILE)?).unwrap_or_default();
    Tools::new(declared).map_err(|what| {
        Failure::say(Exit::Configuration, what)
            .hint("`token-file` names a file with nothing but the token in it")
    })
}

/// The text of a file that may not be larger than `most` bytes.
pub(super) fn read_bounded(path: &Path, most: u64) -> Result<String, Failure> {
    let refused = |error: std::io::Error| {
        let error = anyhow::Error::new(error).context(format!("could not read {}", path.display()));
        Failure::new(Exit::Configuration, error)
    };
    let too_large = || std::io::Error::other(format!("it is larger than {most} bytes"));
    if std::fs::metadata(path).map_err(refused)?.len() > most {
        return Err(refused(too_large()));
    }
    std::fs::read_to_string(path).map_err(refused)
}

/// What a file says.
#[derive(Debug, Default, PartialEq)]
struct Settings {
    /// By the identifier of the flag they belong to.
    values: Vec<(String, Vec<String>)>,
    /// By line, from 1 on.
    mistakes: Vec<(usize, String)>,
}

impl Settings {
    fn read(text: &str, flags: &[&Arg]) -> Self {
        let mut settings = Self::default();
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            settings.mistakes.push((line_of(text, at), error.message().to_owned()));
        }
        let declared = custom::read(text).err().unwrap_or_default().into_iter();
        settings.mistakes.extend(declared.map(|mistake| (line_of(text, mistake.at), mistake.what)));
        for (name, value) in table.into_inner() {
            if custom::TABLES.contains(&&**name.get_ref()) {
                continue;
            }
            let line = line_of(text, name.span().start);
            if name.get_ref() == routing::TABLE {
                let mut mistakes = Vec::new();
                drop(routing::rules(value, &mut mistakes));
                let lines = mistakes.into_iter().map(|mistake| (line_of(text, mistake.at), mistake.what));
                settings.mistakes.extend(lines);
                continue;
            }
            match setting(name.get_ref(), value, flags) {
                Ok(found) => settings.values.push(found),
                Err(mistake) => settings.mistakes.push((line, mistake)),
            }
        }
        settings.mistakes.sort();
        settings
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The flag of this name and what it is set to, or what is wrong with them.
fn setting(name: &str, value: Spanned<DeValue<'_>>, flags: &[&Arg]) -> Result<(String, Vec<String>), String> {
    let may_stand = |flag: &&&Arg| {
        let builtin = matches!(flag.get_action(), ArgAction::Help | ArgAction::Version);
        !builtin && flag.get_long().is_some_and(|long| long != FILE)
    };
    let known = || flags.iter().filter(may_stand).filter_map(|flag| Some((flag, flag.get_long()?)));
    let Some((flag, _)) = known().find(|(_, long)| *long == name) else {
        let alike = known().map(|(_, long)| (strsim::jaro_winkler(name, long), long));
        let nearest = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
        return Err(match nearest.filter(|(alike, _)| *alike >= ALIKE) {
            Some((_, meant)) => format!("there is no `{name}`; `{meant}` is similar"),
            None => format!("there is no `{name}`"),
        });
    };
    let values = words(value.into_inner())
        .ok_or_else(|| format!("`{name}`: expected a string, a number, true or false, or a list of these"))?;
    let takes_several = matches!(flag.get_action(), ArgAction::Append);
    if values.len() != 1 && !takes_several {
        return Err(format!("`{name}`: expected one value, not a list"));
    }
    check(flag, name, &values)?;
    Ok((flag.get_id().to_string(), values))
}

/// A value as it would stand on the command line.
fn words(value: DeValue<'_>) -> Option<Vec<String>> {
    Some(match value {
        DeValue::String(text) => vec![text.into_owned()],
        DeValue::Integer(number) => vec![number.to_string()],
        DeValue::Float(number) => vec![number.to_string()],
        DeValue::Boolean(yes) => vec![yes.to_string()],
        DeValue::Array(list) => {
            let one = |value: Spanned<DeValue<'_>>| match value.into_inner() {
                DeValue::Array(_) => None,
                value => words(value)?.pop(),
            };
            list.into_iter().map(one).collect::<Option<_>>()?
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}

/// Whether the flag takes these values.
fn check(flag: &Arg, name: &str, values: &[String]) -> Result<(), String> {
    let alone = Command::new(name.to_owned()).no_binary_name(true).arg(flag.clone().required(false));
    let line = values.iter().map(|value| format!("--{name}={value}"));
    alone.try_get_matches_from(line).map(drop).map_err(|error| {
        let text = error.to_string();
        let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Settings {
        let many = Arg::new("many").long("some-names").action(ArgAction::Append);
        let number = Arg::new("number").long("max-things").value_parser(clap::value_parser!(u32).range(1..));
        let time = Arg::new("time").long("idle").value_parser(humantime::parse_duration);
        let file = Arg::new("file").long(FILE);
        Settings::read(text, &[&many, &number, &time, &file])
    }

    #[test]
    fn values_are_those_of_flags() {
        let settings = read("max-things = 1_000\nidle = '5s'\nsome-names = ['a', 2]\n");
        assert_eq!(settings.mistakes, []);
        let value = |name: &str| settings.values.iter().find(|(id, _)| id == name).unwrap().1.join(" ");
        assert_eq!(
            (value("number"), value("time"), value("many")),
            ("1000".into(), "5s".into(), "a 2".into())
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let settings = read(
            "max-thing = 1\nmax-things = 0\n\nidle = 'soon'\nsome-names = [[1]]\nconfig = 'x'\n[table]\n",
        );
        assert_eq!(settings.values, []);
        let said: Vec<_> = settings.mistakes.iter().map(|(line, what)| format!("{line} {what}")).collect();
        assert_eq!(
            said,
            [
                "1 there is no `max-thing`; `max-things` is similar",
                "2 invalid value '0' for '--max-things <number>': 0 is not in 1..=4294967295",
                "4 invalid value 'soon' for '--idle <time>': expected number at 0",
                "5 `some-names`: expected a string, a number, true or false, or a list of these",
                "6 there is no `config`",
                "7 there is no `table`",
            ]
        );
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_line() {
        let settings = read("idle = '5s'\nmax-things\n");
        assert_eq!(settings.mistakes.len(), 1, "{settings:?}");
        assert_eq!(settings.mistakes[0].0, 2);
    }

    #[test]
    fn one_value_is_not_a_list() {
        assert_eq!(
            read("idle = ['1s', '2s']").mistakes,
            [(1, "`idle`: expected one value, not a list".into())]
        );
    }
}

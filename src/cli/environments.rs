//! The environments to serve and their keys, as flags.

use std::fmt;
use std::io::Read as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use remuda_actors::admission::Environment;
use remuda_actors::secret::Secret;

use crate::cma::Queue;
use crate::report::{Exit, Failure};

/// Where the key is taken from if no file is named.
pub(super) const KEY_VARIABLE: &str = "ANTHROPIC_ENVIRONMENT_KEY";

/// Which environments are served.
#[derive(Debug, Args)]
pub(super) struct EnvironmentArguments {
    /// The environment to serve (`env_…`). May be given several times, or several separated by commas, each with
    /// a weight (`env_…:3`): when slots are scarce they are shared in proportion to it.
    #[arg(
        long = "environment-id",
        env = "ANTHROPIC_ENVIRONMENT_ID",
        value_name = "ID[:WEIGHT]",
        value_delimiter = ',',
        required = true
    )]
    environments: Vec<Weighted>,

    /// A file that holds the environment's key, `-` for standard input; `ID=FILE` for one of several. Without it
    /// the key is taken from ANTHROPIC_ENVIRONMENT_KEY; it is never an argument, since everyone on a host can
    /// read those.
    #[arg(long = "environment-key-file", value_name = "[ID=]FILE")]
    key_files: Vec<KeyFile>,
}

/// An environment, as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Weighted(Environment);

/// Whose key is where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyFile {
    of: Option<String>,
    path: PathBuf,
}

impl FromStr for Weighted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, weight) = match text.trim().split_once(':') {
            None => (text.trim(), NonZeroU32::MIN),
            Some((id, weight)) => (
                id,
                weight.parse().map_err(|_| {
                    format!("the weight `{weight}` is not a whole number from 1 on, as in `env_…:3`")
                })?,
            ),
        };
        if id.is_empty() {
            return Err("the id is missing, as in `env_…`".to_owned());
        }
        Ok(Self(Environment { id: id.into(), weight }))
    }
}

impl FromStr for KeyFile {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A path may have an equals sign in it, an id has no slash.
        Ok(match text.split_once('=').filter(|(id, _)| !id.contains('/')) {
            Some((id, path)) => Self { of: Some(id.to_owned()), path: path.into() },
            None => Self { of: None, path: text.into() },
        })
    }
}

impl fmt::Display for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.id)
    }
}

impl EnvironmentArguments {
    /// The environments, each with the key that opens its queue.
    pub(super) fn read(&self) -> Result<Vec<(Environment, Queue)>, Failure> {
        let unknown =
            self.key_files.iter().filter_map(|file| file.of.as_ref()).find(|of| {
                !self.environments.iter().any(|environment| environment.0.id.as_str() == of.as_str())
            });
        if let Some(unknown) = unknown {
            let what = format!("`--environment-key-file` names `{unknown}`, which is not served");
            return Err(Failure::say(Exit::Configuration, what).hint("name it with `--environment-id`, too"));
        }
        let read = self.environments.iter().map(|Weighted(environment)| {
            let key = self.key(environment.id.as_str())?;
            let queue = Queue { environment: environment.id.clone(), key };
            Ok((environment.clone(), queue))
        });
        read.collect()
    }

    /// The key of an environment, from wherever it is.
    fn key(&self, id: &str) -> Result<Secret, Failure> {
        let own = self.key_files.iter().find(|file| file.of.as_deref() == Some(id));
        // Without a name a key is everyone's, and so only of use where there is one environment.
        let everyones = || self.key_files.iter().find(|file| file.of.is_none());
        let alone = self.environments.len() == 1;
        let text = match own.or_else(everyones).filter(|file| alone || file.of.is_some()) {
            Some(file) => read_key(&file.path),
            None if alone => {
                std::env::var(KEY_VARIABLE).with_context(|| format!("{KEY_VARIABLE} is not set"))
            }
            None => Err(anyhow::Error::msg(format!("no key is named for {id}, one of several environments"))),
        };
        let hint = if alone {
            format!("set {KEY_VARIABLE}, or name a file with `--environment-key-file`")
        } else {
            format!("name a file with `--environment-key-file {id}=FILE`")
        };
        let text = text.map_err(|error| Failure::new(Exit::Configuration, error).hint(hint))?;
        let key = text.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = format!(
                "the key of {id} is not one: expected one line of printable characters without spaces"
            );
            let hint = "copy it again from the Console, `sk-ant-oat01-…`";
            return Err(Failure::say(Exit::Configuration, what).hint(hint));
        }
        Ok(Secret::new(key))
    }
}

fn read_key(path: &Path) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("could not read the key from standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("could not read the key from {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_may_have_weights() {
        let of =
            |text: &str| text.parse::<Weighted>().map(|Weighted(of)| (of.id.to_string(), of.weight.get()));
        assert_eq!(of("env_1"), Ok(("env_1".to_owned(), 1)));
        assert_eq!(of(" env_1:3"), Ok(("env_1".to_owned(), 3)));
        for wrong in ["env_1:0", "env_1:x", "", ":3"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_file_may_name_its_environment() {
        let of = |text: &str| text.parse::<KeyFile>().unwrap();
        assert_eq!(of("env_1=/k"), KeyFile { of: Some("env_1".to_owned()), path: "/k".into() });
        assert_eq!(of("/a=b/k"), KeyFile { of: None, path: "/a=b/k".into() });
        assert_eq!(of("-"), KeyFile { of: None, path: "-".into() });
    }
}

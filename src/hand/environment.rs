//! The environment variables of the agent's commands.

use std::ffi::OsString;
use std::fmt;
use std::process::Command;

/// Beginning of the names that are kept from commands, in any case: the control plane's credentials.
const KEPT_BACK: &[u8] = b"ANTHROPIC_";

/// Variables without any of the control plane's. Shows names only, for other secrets may be among the values.
#[derive(Clone, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Sets these variables, and no others, for `command`.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env_clear().envs(self.0.iter().map(|(name, value)| (name, value)));
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<T: IntoIterator<Item = (OsString, OsString)>>(variables: T) -> Self {
        let kept_back = |name: &OsString| {
            let beginning = name.as_encoded_bytes().get(..KEPT_BACK.len());
            beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(KEPT_BACK))
        };
        Self(variables.into_iter().filter(|(name, _)| !kept_back(name)).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_of_the_control_plane_is_kept_and_no_value_shown() {
        let given = ["PATH", "ANTHROPIC_API_KEY", "anthropic_auth_token", "MY_ANTHROPIC_", "ANTHROPIC"];
        let environment: Environment =
            given.iter().map(|name| (OsString::from(name), OsString::from("value"))).collect();
        assert_eq!(format!("{environment:?}"), r#"{"PATH", "MY_ANTHROPIC_", "ANTHROPIC"}"#);
    }
}

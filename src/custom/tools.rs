//! From what is declared to what the tree is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use remuda_actors::ports::{CustomPlace, CustomTool};
use remuda_actors::session::{Effects, Policy};
use secrecy::SecretString;

use super::declared::{By, Declared, Reach, Server, Tool};
use super::inside::Inside;
use super::server;

/// Largest file with a token, in bytes.
const MAX_TOKEN: u64 = 64 << 10;

/// The tools that the operator has declared. Servers are reached by their first call, not before.
#[derive(Debug, Default)]
pub(crate) struct Tools(Vec<(Tool, CustomPlace)>);

impl Tools {
    /// Makes them ready.
    ///
    /// # Errors
    /// If a token cannot be read, in words.
    pub(crate) fn new(declared: Declared) -> Result<Self, String> {
        let mut outside = BTreeMap::new();
        let mut inside = BTreeMap::new();
        for Server { name, reach } in declared.servers {
            let reach = match reach {
                Reach::Inside(argv) => {
                    inside.insert(name, argv);
                    continue;
                }
                Reach::Command(argv) => server::Reach::Command(argv),
                Reach::Url(url, token) => {
                    let token = token.as_deref().map(token_in).transpose();
                    server::Reach::Url(url, token.map_err(|what| format!("mcp-server `{name}`: {what}"))?)
                }
            };
            outside.insert(name.clone(), Arc::new(server::Server::new(name, reach)));
        }
        let tools = declared.tools.into_iter().filter_map(|tool| {
            let name = tool.name.clone();
            let place = match &tool.by {
                By::Command(argv) => {
                    CustomPlace::Inside(Arc::new(Inside { name, argv: argv.clone(), mcp: None }))
                }
                By::Server { server, tool } => match (inside.get(server), outside.get(server)) {
                    (Some(argv), _) => {
                        let mcp = Some(tool.clone());
                        CustomPlace::Inside(Arc::new(Inside { name, argv: argv.clone(), mcp }))
                    }
                    (None, Some(server)) => {
                        let (tool, server) = (tool.clone(), Arc::clone(server));
                        CustomPlace::Outside(Arc::new(server::Remote { tool, server }))
                    }
                    // What was read has it.
                    (None, None) => return None,
                },
            };
            Some((tool, place))
        });
        Ok(Self(tools.collect()))
    }

    /// Tells the sessions of them.
    pub(crate) fn declare(self, policy: &mut Policy) {
        for (tool, place) in self.0 {
            let effects = if tool.read_only { Effects::None } else { Effects::Unknown };
            policy.declare(tool.name.into(), CustomTool { timeout: tool.timeout, place }, effects);
        }
    }
}

fn token_in(file: &Path) -> Result<SecretString, String> {
    let refused =
        |why: &dyn std::fmt::Display| format!("could not read the token from {}: {why}", file.display());
    if std::fs::metadata(file).map_err(|error| refused(&error))?.len() > MAX_TOKEN {
        return Err(refused(&format!("it is larger than {MAX_TOKEN} bytes")));
    }
    let token = std::fs::read_to_string(file).map_err(|error| refused(&error))?;
    let token = token.trim_end_matches(['\r', '\n']);
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(&"expected one line of printable characters"));
    }
    Ok(SecretString::from(token))
}

//! The tools and servers that a configuration file declares, and everything that is wrong with them.
//!
//! ```toml
//! [[tool]]
//! name = "get_order"
//! command = ["/usr/local/bin/get-order"]   # in the sandbox
//!
//! [[tool]]
//! name = "search"
//! server = "wiki"
//!
//! [[mcp-server]]
//! name = "wiki"
//! url = "https://wiki.example/mcp"
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The names of the tables in a file.
pub(crate) const TABLES: [&str; 2] = [TOOL, SERVER];
const TOOL: &str = "tool";
const SERVER: &str = "mcp-server";

/// Tools of one file, and servers, at most.
const MAX_TABLES: usize = 1_000;

/// What a tool may have, and a server, for whoever misspelt it.
const TOOL_KEYS: &[&str] = &["name", "command", "server", "tool", "timeout", "read-only"];
const SERVER_KEYS: &[&str] = &["name", "command", "url", "token-file", "inside"];

/// The names that are taken.
const TOOLSET: [&str; 8] = ["bash", "read", "write", "edit", "glob", "grep", "web_fetch", "web_search"];

/// Longest name of a tool, in characters, as the control plane has it.
const MAX_NAME: usize = 128;

/// Something that is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where in the text, in bytes.
    pub(crate) at: usize,
    /// What is wrong, and what was expected.
    pub(crate) what: String,
}

/// A tool, as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// What agents call it by.
    pub(crate) name: String,
    /// Who runs it.
    pub(crate) by: By,
    /// How long a call may take, if it says so.
    pub(crate) timeout: Option<Duration>,
    /// Whether it only looks.
    pub(crate) read_only: bool,
}

/// Who runs a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// An executable in the sandbox, with its arguments.
    Command(Vec<String>),
    /// A server, by which the tool has a name of its own.
    Server { server: String, tool: String },
}

/// A server, as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// What tools call it by.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) reach: Reach,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A command of this host, on its standard input and output.
    Command(Vec<String>),
    /// A command in the sandbox, started for each call.
    Inside(Vec<String>),
    /// An address of streamable HTTP, and the file with the token that it wants.
    Url(String, Option<PathBuf>),
}

/// All that a file declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) tools: Vec<Tool>,
    pub(crate) servers: Vec<Server>,
}

/// What a configuration file declares; whatever else is in it is not looked at, nor is it said that it is no TOML.
///
/// # Errors
/// Everything that is wrong with the tables.
pub(crate) fn read(text: &str) -> Result<Declared, Vec<Mistake>> {
    let (file, _) = DeTable::parse_recoverable(text);
    let (mut declared, mut mistakes, mut asked) = (Declared::default(), Vec::new(), Vec::new());
    for (key, value) in file.into_inner() {
        let key = key.into_inner();
        if !TABLES.contains(&&*key) {
            continue;
        }
        for (number, at, table) in tables(&key, value, &mut mistakes) {
            let mut reader = Reader { of: format!("{key} {number}"), at, mistakes: &mut mistakes };
            if key == TOOL {
                let tool = reader.tool(table);
                if let Some(Tool { by: By::Server { server, .. }, .. }) = &tool {
                    asked.push((at, format!("{key} {number}"), server.clone()));
                }
                declared.tools.extend(tool);
            } else {
                declared.servers.extend(reader.server(table));
            }
        }
    }
    let servers: BTreeSet<_> = declared.servers.iter().map(|server| &server.name).collect();
    // A server with a mistake in it is missing for that reason, which has been told.
    if mistakes.is_empty() {
        let missing = asked.into_iter().filter(|(_, _, server)| !servers.contains(server));
        mistakes.extend(missing.map(|(at, of, server)| {
            let what =
                format!("{of}: `server`: expected the name of a `[[{SERVER}]]`, and `{server}` is none");
            Mistake { at, what }
        }));
    }
    mistakes.extend(doubles(TOOL, text, declared.tools.iter().map(|tool| &tool.name)));
    mistakes.extend(doubles(SERVER, text, declared.servers.iter().map(|server| &server.name)));
    if mistakes.is_empty() { Ok(declared) } else { Err(mistakes) }
}

/// The tables of one name, with their numbers and places.
fn tables<'a>(
    key: &str,
    value: Spanned<DeValue<'a>>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<(usize, usize, DeTable<'a>)> {
    let at = value.span().start;
    let mut wrong = |at, what: &str| mistakes.push(Mistake { at, what: format!("`{key}`: expected {what}") });
    let DeValue::Array(values) = value.into_inner() else {
        wrong(at, &format!("tables, each headed by `[[{key}]]`"));
        return Vec::new();
    };
    if values.len() > MAX_TABLES {
        wrong(at, &format!("at most {MAX_TABLES} tables"));
        return Vec::new();
    }
    let mut tables = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let at = value.span().start;
        match value.into_inner() {
            DeValue::Table(table) => tables.push((index + 1, at, table)),
            _ => wrong(at, &format!("a table, headed by `[[{key}]]`")),
        }
    }
    tables
}

/// Names that are there twice.
fn doubles<'a>(key: &str, text: &str, names: impl Iterator<Item = &'a String>) -> Vec<Mistake> {
    let mut seen = BTreeSet::new();
    let doubles = names.filter(|name| !seen.insert(*name));
    // Where the last one of that name stands, or close to it.
    let at = |name: &str| text.rfind(name).unwrap_or(0);
    doubles
        .map(|name| Mistake { at: at(name), what: format!("`{key}`: there are two named `{name}`") })
        .collect()
}

/// Reads one table.
struct Reader<'a> {
    of: String,
    at: usize,
    mistakes: &'a mut Vec<Mistake>,
}

impl Reader<'_> {
    fn wrong(&mut self, at: usize, key: &str, expected: &str) {
        let what = format!("{}: `{key}`: expected {expected}", self.of);
        self.mistakes.push(Mistake { at, what });
    }

    fn tool(&mut self, table: DeTable<'_>) -> Option<Tool> {
        let before = self.mistakes.len();
        let (mut name, mut command, mut server, mut tool) = (None, None, None, None);
        let (mut timeout, mut read_only) = (None, false);
        for (key, value) in table {
            let (key_at, at, key) = (key.span().start, value.span().start, key.into_inner());
            let value = value.into_inner();
            match &*key {
                "name" => name = self.name(at, value),
                "command" => command = self.command(at, value),
                "server" => server = self.text(at, &key, value),
                "tool" => tool = self.text(at, &key, value).map(|tool| (at, tool)),
                "timeout" => timeout = self.time(at, &key, value),
                "read-only" => read_only = self.switch(at, &key, value),
                _ => self.unknown(key_at, &key, TOOL_KEYS),
            }
        }
        if before == self.mistakes.len() && name.is_none() {
            self.wrong(self.at, "name", "the name that agents call it by");
        }
        let by = match (command, server) {
            (Some(command), None) => {
                if let Some((at, _)) = tool {
                    self.wrong(at, "tool", "`server` beside it, by which the tool has this name");
                }
                Some(By::Command(command))
            }
            (None, Some(server)) => {
                let tool = tool.map(|(_, tool)| tool).or_else(|| name.clone()).unwrap_or_default();
                Some(By::Server { server, tool })
            }
            // What is there and no good has been told.
            _ if before < self.mistakes.len() => None,
            _ => {
                self.wrong(self.at, "command", "either this or `server`, which says who runs the tool");
                None
            }
        };
        let tool = Tool { name: name?, by: by?, timeout, read_only };
        (before == self.mistakes.len()).then_some(tool)
    }

    fn server(&mut self, table: DeTable<'_>) -> Option<Server> {
        let before = self.mistakes.len();
        let (mut name, mut command, mut url, mut token, mut inside) = (None, None, None, None, None);
        for (key, value) in table {
            let (key_at, at, key) = (key.span().start, value.span().start, key.into_inner());
            let value = value.into_inner();
            match &*key {
                "name" => name = self.text(at, &key, value),
                "command" => command = self.command(at, value),
                "url" => url = self.url(at, value),
                "token-file" => token = self.text(at, &key, value).map(|file| (at, PathBuf::from(file))),
                "inside" => inside = Some((at, self.switch(at, &key, value))),
                _ => self.unknown(key_at, &key, SERVER_KEYS),
            }
        }
        if before == self.mistakes.len() && name.is_none() {
            self.wrong(self.at, "name", "the name that tools call it by");
        }
        let reach = match (command, url) {
            (Some(command), None) => {
                if let Some((at, _)) = token {
                    self.wrong(at, "token-file", "`url` beside it, to which the token is sent");
                }
                Some(match inside {
                    Some((_, true)) => Reach::Inside(command),
                    _ => Reach::Command(command),
                })
            }
            (None, Some(url)) => {
                if let Some((at, true)) = inside {
                    self.wrong(at, "inside", "`command` beside it: only what is started can be inside");
                }
                Some(Reach::Url(url, token.map(|(_, file)| file)))
            }
            _ if before < self.mistakes.len() => None,
            _ => {
                self.wrong(self.at, "command", "either this or `url`, which says where the server is");
                None
            }
        };
        let server = Server { name: name?, reach: reach? };
        (before == self.mistakes.len()).then_some(server)
    }

    fn unknown(&mut self, at: usize, key: &str, known: &[&str]) {
        let alike = known
            .iter()
            .max_by(|one, other| strsim::jaro_winkler(key, one).total_cmp(&strsim::jaro_winkler(key, other)));
        let what = format!("{}: there is no `{key}`; `{}` is similar", self.of, alike.unwrap_or(&""));
        self.mistakes.push(Mistake { at, what });
    }

    /// The name of a tool, of which the control plane has an idea of its own.
    fn name(&mut self, at: usize, value: DeValue<'_>) -> Option<String> {
        let name = self.text(at, "name", value)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.len() > MAX_NAME || !name.chars().all(plain) {
            self.wrong(at, "name", &format!("1 to {MAX_NAME} ASCII letters, digits, `_` and `-`"));
            return None;
        }
        if TOOLSET.contains(&&*name) {
            self.wrong(at, "name", &format!("another name: `{name}` is a tool of the agent's own set"));
            return None;
        }
        if ["mcp__", "ant__"].iter().any(|taken| name.starts_with(taken)) {
            self.wrong(at, "name", "a name that does not begin with `mcp__` or `ant__`");
            return None;
        }
        Some(name)
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

    fn command(&mut self, at: usize, value: DeValue<'_>) -> Option<Vec<String>> {
        let word = |value: DeValue<'_>| match value {
            DeValue::String(text) if !text.contains('\0') => Some(text.into_owned()),
            _ => None,
        };
        let words: Option<Vec<_>> = match value {
            DeValue::Array(list) => list.into_iter().map(|value| word(value.into_inner())).collect(),
            value => word(value).map(|program| vec![program]),
        };
        let words = words.filter(|words| words.first().is_some_and(|program| !program.is_empty()));
        if words.is_none() {
            self.wrong(at, "command", "a program, or a list of a program and its arguments");
        }
        words
    }

    fn url(&mut self, at: usize, value: DeValue<'_>) -> Option<String> {
        let url = self.text(at, "url", value)?;
        let parsed = reqwest::Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if parsed.is_none() {
            self.wrong(at, "url", "an address, as in \"https://tools.example/mcp\"");
            return None;
        }
        Some(url)
    }

    fn time(&mut self, at: usize, key: &str, value: DeValue<'_>) -> Option<Duration> {
        let time = match value {
            DeValue::String(text) => humantime::parse_duration(&text).ok(),
            _ => None,
        };
        let time = time.filter(|time| !time.is_zero());
        if time.is_none() {
            self.wrong(at, key, "a time longer than nothing, as in \"15s\"");
        }
        time
    }

    fn switch(&mut self, at: usize, key: &str, value: DeValue<'_>) -> bool {
        if let DeValue::Boolean(yes) = value {
            return yes;
        }
        self.wrong(at, key, "true or false");
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_servers_are_read_as_they_are_written() {
        let text = "
            max-sessions = 5
            [[tool]]
            name = 'get_order'
            command = ['/usr/local/bin/get-order', '-v']
            timeout = '5s'
            read-only = true
            [[tool]]
            name = 'search'
            server = 'wiki'
            tool = 'wiki_search'
            [[tool]]
            name = 'lint'
            server = 'linter'
            [[mcp-server]]
            name = 'wiki'
            url = 'https://wiki.example/mcp'
            token-file = '/etc/wiki'
            [[mcp-server]]
            name = 'linter'
            command = 'linter'
            inside = true
            [[mcp-server]]
            name = 'local'
            command = ['npx', 'thing']
        ";
        let Declared { tools, servers } = read(text).unwrap();
        let by = |server: &str, tool: &str| By::Server { server: server.to_owned(), tool: tool.to_owned() };
        assert_eq!(tools[0].by, By::Command(vec!["/usr/local/bin/get-order".into(), "-v".into()]));
        assert_eq!((tools[0].timeout, tools[0].read_only), (Some(Duration::from_secs(5)), true));
        assert_eq!(
            (&tools[1].by, tools[1].timeout, tools[1].read_only),
            (&by("wiki", "wiki_search"), None, false)
        );
        assert_eq!(tools[2].by, by("linter", "lint"));
        let url = Reach::Url("https://wiki.example/mcp".into(), Some("/etc/wiki".into()));
        let reaches: Vec<_> = servers.into_iter().map(|server| server.reach).collect();
        let command = Reach::Command(vec!["npx".into(), "thing".into()]);
        assert_eq!(reaches, [url, Reach::Inside(vec!["linter".into()]), command]);
        assert_eq!(read("max-sessions = 5\n"), Ok(Declared::default()));
    }

    #[test]
    fn every_mistake_is_told_once_with_what_was_expected() {
        let tool = |text: &str| format!("[[tool]]\nname = 'a'\n{text}");
        let server = |text: &str| format!("[[mcp-server]]\nname = 's'\n{text}");
        for (text, expected) in [
            ("tool = 5".to_owned(), "`tool`: expected tables, each headed by `[[tool]]`"),
            ("tool = [5]".to_owned(), "`tool`: expected a table, headed by `[[tool]]`"),
            (
                "[[tool]]\ncommand = 'x'".to_owned(),
                "tool 1: `name`: expected the name that agents call it by",
            ),
            (
                "[[tool]]\nname = 'a b'\ncommand = 'x'".to_owned(),
                "tool 1: `name`: expected 1 to 128 ASCII letters, digits, `_` and `-`",
            ),
            (
                "[[tool]]\nname = 'bash'\ncommand = 'x'".to_owned(),
                "tool 1: `name`: expected another name: `bash` is a tool of the agent's own set",
            ),
            (tool("comand = 'x'"), "tool 1: there is no `comand`; `command` is similar"),
            (tool(""), "tool 1: `command`: expected either this or `server`, which says who runs the tool"),
            (
                tool("command = 'x'\nserver = 's'"),
                "tool 1: `command`: expected either this or `server`, which says who runs the tool",
            ),
            (
                tool("command = []"),
                "tool 1: `command`: expected a program, or a list of a program and its arguments",
            ),
            (
                tool("command = 'x'\ntool = 'y'"),
                "tool 1: `tool`: expected `server` beside it, by which the tool has this name",
            ),
            (
                tool("command = 'x'\ntimeout = '0s'"),
                "tool 1: `timeout`: expected a time longer than nothing, as in \"15s\"",
            ),
            (tool("command = 'x'\nread-only = 1"), "tool 1: `read-only`: expected true or false"),
            (
                tool("server = 's'"),
                "tool 1: `server`: expected the name of a `[[mcp-server]]`, and `s` is none",
            ),
            (
                format!("{}\n{}", tool("command = 'x'"), tool("command = 'x'")),
                "`tool`: there are two named `a`",
            ),
            (
                server(""),
                "mcp-server 1: `command`: expected either this or `url`, which says where the server is",
            ),
            (
                server("url = 'ftp://x'"),
                "mcp-server 1: `url`: expected an address, as in \"https://tools.example/mcp\"",
            ),
            (
                server("url = 'http://x'\ninside = true"),
                "mcp-server 1: `inside`: expected `command` beside it: only what is started can be inside",
            ),
            (
                server("command = 'x'\ntoken-file = 'y'"),
                "mcp-server 1: `token-file`: expected `url` beside it, to which the token is sent",
            ),
            (
                format!("{}\n{}", server("command = 'x'"), server("command = 'x'")),
                "`mcp-server`: there are two named `s`",
            ),
        ] {
            let mistakes: Vec<_> = read(&text).unwrap_err().into_iter().map(|mistake| mistake.what).collect();
            assert_eq!(mistakes, [expected], "{text}");
        }
    }
}

//! The arguments of `remuda-hand`, and its exit codes.
//!
//! | Code | Meaning |
//! |---|---|
//! | 0 | it was asked to end (SIGTERM or SIGINT) and did |
//! | 64 | the arguments are wrong |
//! | 78 | it could not start with what it was given |
//!
//! Once it serves, it prints `ready ADDRESS` as the only line on its standard output.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use super::server::{Listen, ServeOptions, run};

const USAGE: &str = "\
usage: remuda-hand serve --listen ADDRESS --workdir DIR --state-dir DIR [OPTION…]
       remuda-hand --version

  --listen ADDRESS      unix:/path/of/socket, or tcp:IP:PORT (port 0: any free one)
  --workdir DIR         where shells start and relative paths begin
  --state-dir DIR       where the journal is kept; not below any folder the tools may use
  --allow-root DIR      another folder that file tools may read and write; may be repeated
  --read-only-root DIR  a folder that file tools may only read; may be repeated
  --token-file FILE     its contents are the token every request must carry; needed with tcp:
";

const BAD_ARGUMENTS: u8 = 64;
const BAD_CONFIGURATION: u8 = 78;

/// Shortest token accepted, in bytes: 128 bits in base64 without padding.
const MIN_TOKEN_BYTES: usize = 22;

/// Runs `remuda-hand` with `arguments`, of which the first is the program's name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.skip(1).collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("--version" | "-V") => {
            say(&format!("remuda-hand {}", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Some("--help" | "-h") => {
            say(USAGE.trim_end());
            ExitCode::SUCCESS
        }
        Some("launch") => match &arguments[1..] {
            [folder] => crate::launch::launch(Path::new(folder)),
            _ => complain("`launch` takes the sandbox's folder", Some(USAGE), BAD_ARGUMENTS),
        },
        Some("inside") => crate::launch::inside(),
        Some("serve") => match parse(&arguments[1..]) {
            Ok(options) => serve(options),
            Err(problem) => complain(&problem, Some(USAGE), BAD_ARGUMENTS),
        },
        _ => complain("expected `serve` or `--version`", Some(USAGE), BAD_ARGUMENTS),
    }
}

fn serve(arguments: Arguments) -> ExitCode {
    let options = match arguments.into_options() {
        Ok(options) => options,
        Err(problem) => return complain(&problem, None, BAD_CONFIGURATION),
    };
    match run(options, |address| say(&format!("ready {address}")), asked_to_end) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut problem = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                problem.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            complain(&problem, None, BAD_CONFIGURATION)
        }
    }
}

/// Waits for SIGTERM or SIGINT. As process 1 the hand gets them only because it listens for them.
async fn asked_to_end() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without signals only SIGKILL ends it, which it survives by design.
        _ => std::future::pending().await,
    }
}

#[derive(Debug)]
struct Arguments {
    listen: Listen,
    workdir: PathBuf,
    state_dir: PathBuf,
    allow_roots: Vec<PathBuf>,
    read_only_roots: Vec<PathBuf>,
    token_file: Option<PathBuf>,
}

impl Arguments {
    /// Reads what the arguments name, and the environment, which becomes that of the shells.
    fn into_options(self) -> Result<ServeOptions, String> {
        let token = self.token_file.map(|path| {
            let token = std::fs::read_to_string(&path)
                .map_err(|error| format!("could not read the token file {}: {error}", path.display()))?;
            let token = token.trim_end_matches(['\r', '\n']);
            if token.len() < MIN_TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!(
                    "the token file {} must hold one line of at least {MIN_TOKEN_BYTES} printable characters",
                    path.display()
                ));
            }
            Ok(SecretString::from(token))
        });
        Ok(ServeOptions {
            listen: self.listen,
            token: token.transpose()?,
            workdir: self.workdir,
            allow_roots: self.allow_roots,
            read_only_roots: self.read_only_roots,
            state_dir: self.state_dir,
            environment: std::env::vars_os().collect(),
            max_processes: None,
        })
    }
}

fn parse(arguments: &[OsString]) -> Result<Arguments, String> {
    let (mut listen, mut workdir, mut state_dir, mut token_file) = (None, None, None, None);
    let (mut allow_roots, mut read_only_roots) = (Vec::new(), Vec::new());
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let name = name.to_string_lossy();
        let known =
            ["--listen", "--workdir", "--state-dir", "--allow-root", "--read-only-root", "--token-file"];
        if !known.contains(&name.as_ref()) {
            return Err(format!("unknown argument {name}"));
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let path = PathBuf::from(value);
        let once = match name.as_ref() {
            "--allow-root" => {
                allow_roots.push(path);
                continue;
            }
            "--read-only-root" => {
                read_only_roots.push(path);
                continue;
            }
            "--listen" => listen.replace(address(value)?).is_none(),
            "--workdir" => workdir.replace(path).is_none(),
            "--state-dir" => state_dir.replace(path).is_none(),
            _ => token_file.replace(path).is_none(),
        };
        if !once {
            return Err(format!("{name} can be given only once"));
        }
    }
    let missing = |name: &str| format!("{name} is missing");
    Ok(Arguments {
        listen: listen.ok_or_else(|| missing("--listen"))?,
        workdir: workdir.ok_or_else(|| missing("--workdir"))?,
        state_dir: state_dir.ok_or_else(|| missing("--state-dir"))?,
        allow_roots,
        read_only_roots,
        token_file,
    })
}

fn address(value: &OsStr) -> Result<Listen, String> {
    if let Some(path) = value.as_bytes().strip_prefix(b"unix:").filter(|path| !path.is_empty()) {
        return Ok(Listen::Unix(PathBuf::from(OsStr::from_bytes(path))));
    }
    let tcp = value.to_str().and_then(|value| value.strip_prefix("tcp:")?.parse().ok());
    tcp.map(Listen::Tcp)
        .ok_or_else(|| format!("--listen takes unix:/path or tcp:IP:PORT, not {:?}", value.to_string_lossy()))
}

/// Prints a line; nobody may be reading, which is their business.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

fn complain(problem: &str, usage: Option<&str>, code: u8) -> ExitCode {
    let mut err = std::io::stderr().lock();
    drop(writeln!(err, "error: {problem}").and_then(|()| match usage {
        Some(usage) => write!(err, "{usage}"),
        None => Ok(()),
    }));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Arguments, String> {
        parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_wrong_is_named() {
        let needed = ["--listen", "unix:/s", "--workdir", "/w", "--state-dir", "/j"];
        assert!(parsed(&needed).is_ok());
        let with = |more: &[&'static str]| parsed(&[&needed, more].concat()).unwrap_err();
        assert_eq!(parsed(&needed[..4]).unwrap_err(), "--state-dir is missing");
        assert_eq!(with(&["--workdir", "/x"]), "--workdir can be given only once");
        assert_eq!(with(&["--bogus", "1"]), "unknown argument --bogus");
        assert_eq!(with(&["--allow-root"]), "--allow-root needs a value");
        assert!(parsed(&["--listen", "http://x"]).unwrap_err().contains("unix:/path or tcp:IP:PORT"));
        assert_eq!(address(OsStr::new("tcp:[::1]:0")).unwrap(), Listen::Tcp("[::1]:0".parse().unwrap()));
    }
}

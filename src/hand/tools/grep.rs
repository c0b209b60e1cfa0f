//! `grep`: the lines of a file or tree that a regular expression matches.
//!
//! The search is built in and no `rg` from the sandbox is ever run. `.git`, `node_modules`, links, binary
//! files and over-long lines are passed over; ignore files are not heeded. The engine takes time linear in
//! the text, so no expression can hang it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkMatch};
use remuda_actors::tool::ToolResult;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use serde_json::Value;

use super::NO_MATCHES;
use super::arguments::Arguments;
use super::failure::Failure;
use super::limits::Limits;
use super::walk::{MAX_ENTRIES, Next, Walked, walk};
use crate::hand::confine::{Confinement, PathError, regular};

const TOOL: &str = "grep";

/// Text returned at most, in bytes, as the official toolset has it.
const MAX_OUTPUT_BYTES: usize = 102_400;

/// Longest line that is looked at, in bytes without its end, as the official toolset has it.
const MAX_LINE_BYTES: usize = 2_000;

/// Time one search may take, as the official toolset has it.
const MAX_TIME: Duration = Duration::from_secs(30);

/// A file with a NUL in this many bytes at its beginning is binary, as the official toolset has it. One
/// further on ends the search of that file.
const SNIFFED_BYTES: usize = 512;

/// Files up to this size are searched in memory; larger ones in pieces.
const WHOLE_BYTES: usize = 64 << 10;

/// Memory for one line of a larger file. What follows a longer line is not searched.
const MAX_BUFFER_BYTES: usize = 4 << 20;

/// Memory for the compiled expression and for its cache, each.
const MAX_REGEX_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Grep {
    matcher: RegexMatcher,
    path: String,
}

impl Grep {
    pub(crate) fn parse(input: Value) -> Result<Self, Failure> {
        let mut arguments = Arguments::new(TOOL, input, &["pattern", "path"])?;
        let pattern = arguments.pattern("pattern")?;
        let path = arguments.folder("path")?;
        let built = RegexMatcherBuilder::new()
            .line_terminator(Some(b'\n'))
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_REGEX_BYTES)
            .build(&pattern);
        let matcher = built.map_err(|error| arguments.problem(format!("invalid regex: {error}")))?;
        Ok(Self { matcher, path })
    }

    pub(crate) fn run(self, confinement: &Confinement, limits: &Limits) -> Result<ToolResult, Failure> {
        let given = self.path.as_str();
        let opened = confinement.at(Path::new(given), |place| {
            let stat = fstat(place.open(OFlags::PATH)?)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let folder = place.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
                return Ok((place.path.clone(), Start::Folder(folder)));
            }
            Ok((place.path.clone(), Start::File(place.open_regular()?.0)))
        });
        let (base, start) = match opened {
            Ok(found) => found,
            Err(PathError::System(Errno::NOENT)) => return Ok(ToolResult::ok(NO_MATCHES)),
            Err(error) => return Err(Failure::path(TOOL, given, error)),
        };
        let limits = limits.at_most(MAX_TIME);
        let mut search = Search::new(&self.matcher, &limits);
        let ended = match start {
            Start::File(file) => search.file(file, &base).map(|_| Walked::Done),
            Start::Folder(folder) => walk(&folder, TOOL, &limits, |entry| {
                if entry.name == ".git" || entry.name == "node_modules" {
                    return Ok(Next::Pass);
                }
                if entry.kind != FileType::RegularFile {
                    return Ok(Next::Enter);
                }
                // NONBLOCK and the check behind it: the file may have become a pipe since it was listed.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
                let opened = openat(entry.folder, entry.name, flags | OFlags::CLOEXEC, Mode::empty());
                if let Ok(file) = opened
                    && fstat(&file).is_ok_and(|stat| regular(&stat).is_ok())
                {
                    return search.file(file.into(), &base.join(entry.relative));
                }
                Ok(Next::Pass)
            }),
        };
        search.into_result(ended)
    }
}

enum Start {
    Folder(OwnedFd),
    File(File),
}

/// One search, file after file.
struct Search<'a> {
    matcher: &'a RegexMatcher,
    limits: &'a Limits,
    searcher: Searcher,
    /// The beginning of the file at hand.
    head: Vec<u8>,
    found: Found,
    /// Set when a limit interrupted the reading of a file.
    stopped: RefCell<Option<Failure>>,
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    text: String,
    /// Files of which a part was not searched.
    partly: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(matcher: &'a RegexMatcher, limits: &'a Limits) -> Self {
        let searcher = SearcherBuilder::new()
            .line_number(true)
            .bom_sniffing(false)
            .binary_detection(BinaryDetection::quit(0))
            .heap_limit(Some(MAX_BUFFER_BYTES))
            .build();
        let head = Vec::with_capacity(WHOLE_BYTES + 1);
        let stopped = RefCell::default();
        Self { matcher, limits, searcher, head, found: Found::default(), stopped }
    }

    fn file(&mut self, file: File, path: &Path) -> Result<Next, Failure> {
        self.limits.check(TOOL)?;
        self.head.clear();
        // What cannot be read is passed over, like what cannot be opened.
        if (&file).take(WHOLE_BYTES as u64 + 1).read_to_end(&mut self.head).is_err() {
            return Ok(Next::Pass);
        }
        if self.head[..self.head.len().min(SNIFFED_BYTES)].contains(&0) {
            return Ok(Next::Pass);
        }
        let shown = path.display().to_string();
        let sink = Lines { path: &shown, found: &mut self.found };
        let searched = if self.head.len() <= WHOLE_BYTES {
            self.searcher.search_slice(self.matcher, &self.head, sink)
        } else {
            let rest = Interruptible { file: &file, limits: self.limits, stopped: &self.stopped };
            self.searcher.search_reader(self.matcher, Cursor::new(&self.head).chain(rest), sink)
        };
        if let Some(failure) = self.stopped.take() {
            return Err(failure);
        }
        if searched.is_err() && self.found.partly.len() < 5 {
            self.found.partly.push(shown);
        }
        Ok(if self.found.text.len() > MAX_OUTPUT_BYTES { Next::Stop } else { Next::Pass })
    }

    /// What was found before a limit was reached is worth having.
    fn into_result(self, ended: Result<Walked, Failure>) -> Result<ToolResult, Failure> {
        let Found { mut text, partly } = self.found;
        let truncated = text.len() > MAX_OUTPUT_BYTES;
        if truncated {
            let end = (0..=MAX_OUTPUT_BYTES).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        let mut text = text.trim_end_matches('\n').to_owned();
        let mut add = |line: String| {
            let separator = if text.is_empty() { "" } else { "\n" };
            text.push_str(separator);
            text.push_str(&line);
        };
        if truncated {
            add(format!("[output truncated at {MAX_OUTPUT_BYTES} bytes]"));
        }
        for path in partly {
            add(format!("[{path} was not searched to its end: a line is too long or it cannot be read]"));
        }
        match ended {
            Ok(Walked::Done) => {}
            Ok(Walked::CutShort) => {
                add(format!("[search stopped after {MAX_ENTRIES} entries; narrow path]"));
            }
            Err(failure @ (Failure::TimedOut { .. } | Failure::Cancelled { .. })) if !text.is_empty() => {
                text.push_str(&format!("\n{failure}; the lines above are what was found before"));
                return Ok(ToolResult::error(text));
            }
            Err(failure) => return Err(failure),
        }
        if text.is_empty() {
            NO_MATCHES.clone_into(&mut text);
        }
        Ok(ToolResult::ok(text))
    }
}

/// Turns matches into lines of the answer.
struct Lines<'a> {
    path: &'a str,
    found: &'a mut Found,
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        let line = found.bytes();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            return Ok(true);
        }
        let number = found.line_number().unwrap_or(0);
        let line = String::from_utf8_lossy(line);
        self.found.text.push_str(&format!("{}:{number}:{line}\n", self.path));
        Ok(self.found.text.len() <= MAX_OUTPUT_BYTES)
    }
}

/// A file whose reading ends when the call has to.
struct Interruptible<'a> {
    file: &'a File,
    limits: &'a Limits,
    stopped: &'a RefCell<Option<Failure>>,
}

impl Read for Interruptible<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(failure) = self.limits.check(TOOL) {
            self.stopped.replace(Some(failure));
            // Not `Interrupted`: readers take that as a request to try again.
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(buffer)
    }
}

//! `glob`: the paths a pattern matches, newest first.
//!
//! Patterns know `*`, `?`, `[…]`, `{a,b}` and `**`, which crosses folders; names that begin with a dot are
//! like any other. A pattern that ends in `**` gives everything below and the folder itself.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use remuda_actors::tool::ToolResult;
use rustix::fs::{AtFlags, FileType, OFlags, fstat, statat};
use rustix::io::Errno;
use serde_json::Value;

use super::NO_MATCHES;
use super::arguments::Arguments;
use super::failure::Failure;
use super::limits::Limits;
use super::walk::{Entry, MAX_ENTRIES, Next, Walked, walk};
use crate::hand::confine::{Confinement, PathError};

const TOOL: &str = "glob";

/// Paths returned at most, as the official toolset has it.
const MAX_RESULTS: usize = 200;

/// Characters that make a component of a pattern more than a name.
const META: [char; 6] = ['*', '?', '[', '{', '}', '\\'];

#[derive(Debug)]
pub(crate) struct Glob {
    pattern: Pattern,
    path: String,
}

impl Glob {
    pub(crate) fn parse(input: Value) -> Result<Self, Failure> {
        let mut arguments = Arguments::new(TOOL, input, &["pattern", "path"])?;
        let pattern = arguments.pattern("pattern")?;
        let path = arguments.folder("path")?;
        Ok(Self { pattern: Pattern::parse(&pattern).map_err(|problem| arguments.problem(problem))?, path })
    }

    pub(crate) fn run(self, confinement: &Confinement, limits: &Limits) -> Result<ToolResult, Failure> {
        let given = self.path.as_str();
        let failed = |error| Failure::path(TOOL, given, error);
        let base = confinement.at(Path::new(given), |place| Ok(place.path.clone())).map_err(failed)?;
        // The pattern's literal beginning may lead through links, the rest of the walk may not.
        let mut start = base.clone();
        start.extend(&self.pattern.literal);
        let opened = confinement.at(&start, |place| {
            if !place.path.starts_with(&base) {
                return Err(Errno::NOENT.into());
            }
            place.open(OFlags::RDONLY | OFlags::DIRECTORY)
        });
        let root = match opened {
            Ok(root) => root,
            Err(PathError::System(Errno::NOENT | Errno::NOTDIR) | PathError::Outside { .. }) => {
                return Ok(ToolResult::ok(NO_MATCHES));
            }
            Err(error) => return Err(failed(error)),
        };
        let mut newest = Newest::default();
        if self.pattern.includes_start
            && let Ok(stat) = fstat(&root)
        {
            newest.add((stat.st_mtime, stat.st_mtime_nsec), start.clone());
        }
        let walked = walk(&root, TOOL, limits, |entry| {
            if self.pattern.matches(entry)
                && let Some(modified) = modified(entry, &start, &base, confinement)
            {
                newest.add(modified, start.join(entry.relative));
            }
            let depth = entry.relative.components().count();
            let deeper = self.pattern.max_depth.is_none_or(|most| depth < most);
            Ok(if deeper { Next::Enter } else { Next::Pass })
        })?;
        Ok(ToolResult::ok(newest.into_text(walked)))
    }
}

/// When the entry was last modified; none if it leads out of `base` or nowhere.
fn modified(entry: &Entry<'_>, start: &Path, base: &Path, confinement: &Confinement) -> Option<Modified> {
    let stat = if entry.kind == FileType::Symlink {
        let target = confinement.at(&start.join(entry.relative), |place| {
            if !place.path.starts_with(base) {
                return Err(Errno::NOENT.into());
            }
            Ok(fstat(place.open(OFlags::PATH)?)?)
        });
        target.ok()?
    } else {
        statat(entry.folder, entry.name, AtFlags::SYMLINK_NOFOLLOW).ok()?
    };
    Some((stat.st_mtime, stat.st_mtime_nsec))
}

#[derive(Debug)]
struct Pattern {
    /// The leading components without any special character.
    literal: PathBuf,
    /// What the path below them must match; for anything, and for folders only.
    any: Option<GlobMatcher>,
    folders: Option<GlobMatcher>,
    /// How many components a match has at most; none if any number.
    max_depth: Option<usize>,
    /// Whether the folder the walk starts from is a match itself.
    includes_start: bool,
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("pattern must not be empty".to_owned());
        }
        if pattern.starts_with('/') {
            let hint = "absolute pattern not permitted; pass a relative pattern (and optionally path)";
            return Err(hint.to_owned());
        }
        if pattern.split('/').any(|component| component == "..") {
            return Err("pattern must not contain \"..\"".to_owned());
        }
        let only_folders = pattern.ends_with('/');
        let components = pattern.split('/').filter(|component| !matches!(*component, "" | "."));
        let mut rest: Vec<&str> = components.collect();
        // The last component is looked for even if it is a plain name, for it may not be there.
        let literal = rest.iter().take(rest.len().saturating_sub(1));
        let literal = literal.take_while(|component| !component.contains(META)).count();
        let literal: PathBuf = rest.drain(..literal).collect();
        let glob = rest.join("/");
        let compiled = compile(&glob)?;
        // `x/**` means everything below `x` to the matcher, but to people `x` as well.
        let above = match glob.strip_suffix("/**") {
            Some(above) => Some(compile(above)?),
            None => None,
        };
        Ok(Self {
            literal,
            includes_start: glob == "**",
            max_depth: (!glob.contains("**")).then(|| glob.split('/').count()),
            folders: if only_folders { Some(compiled.clone()) } else { above },
            any: (!only_folders).then_some(compiled),
        })
    }

    fn matches(&self, entry: &Entry<'_>) -> bool {
        let is_match =
            |glob: &Option<GlobMatcher>| glob.as_ref().is_some_and(|glob| glob.is_match(entry.relative));
        is_match(&self.any) || (entry.kind == FileType::Directory && is_match(&self.folders))
    }
}

fn compile(glob: &str) -> Result<GlobMatcher, String> {
    let built = GlobBuilder::new(glob).literal_separator(true).empty_alternates(true).build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| format!("invalid pattern: {}", error.kind()))
}

/// A time of modification, in seconds and nanoseconds.
type Modified = (i64, u64);

/// A path to be returned. The greatest is the newest, and of equally old ones the first by name.
type Dated = (Modified, Reverse<PathBuf>);

/// The newest paths found so far.
#[derive(Default)]
struct Newest {
    /// The least is on top, to go first.
    kept: BinaryHeap<Reverse<Dated>>,
    found: usize,
}

impl Newest {
    fn add(&mut self, modified: Modified, path: PathBuf) {
        self.found += 1;
        self.kept.push(Reverse((modified, Reverse(path))));
        if self.kept.len() > MAX_RESULTS {
            self.kept.pop();
        }
    }

    fn into_text(self, walked: Walked) -> String {
        let found = self.found;
        let mut lines: Vec<String> = self.kept.into_sorted_vec().into_iter().map(line).collect();
        if found > MAX_RESULTS {
            lines.push(format!("[the newest {MAX_RESULTS} of {found} matches]"));
        }
        if lines.is_empty() {
            lines.push(NO_MATCHES.to_owned());
        }
        if walked == Walked::CutShort {
            lines.push(format!("[search stopped after {MAX_ENTRIES} entries; narrow path or pattern]"));
        }
        lines.join("\n")
    }
}

fn line(Reverse((_, Reverse(path))): Reverse<Dated>) -> String {
    // A path that is no text cannot be named to a tool anyway.
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_walks_no_further_than_it_can_match() {
        let parsed = |pattern| Pattern::parse(pattern).unwrap();
        assert_eq!(parsed("*.py").max_depth, Some(1));
        assert_eq!(parsed("src/*/x.rs").literal, Path::new("src"));
        assert_eq!(parsed("src/*/x.rs").max_depth, Some(2));
        assert_eq!(parsed("src/main.rs").literal, Path::new("src"));
        assert_eq!(parsed("./a//b/**").literal, Path::new("a/b"));
        assert_eq!(parsed("a/**/b").max_depth, None);
        assert!(parsed("d/**").includes_start && !parsed("d/*").includes_start);
    }

    #[test]
    fn patterns_that_leave_or_make_no_sense_are_refused() {
        let refused = |pattern| Pattern::parse(pattern).unwrap_err();
        assert!(refused("/etc/*").starts_with("absolute pattern not permitted"));
        assert!(refused("a/../b").contains("\"..\""));
        assert!(refused("a[").starts_with("invalid pattern: "));
        assert!(refused("").contains("empty"));
    }

    #[test]
    fn only_the_newest_are_kept_and_equal_ages_sort_by_name() {
        let mut newest = Newest::default();
        for index in 0..MAX_RESULTS + 5 {
            newest.add((i64::try_from(index / 2).unwrap(), 0), PathBuf::from(format!("/{index:04}")));
        }
        let text = newest.into_text(Walked::Done);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["/0204", "/0202", "/0203"]);
        assert_eq!(lines.len(), MAX_RESULTS + 1);
        assert_eq!(lines[MAX_RESULTS], "[the newest 200 of 205 matches]");
    }
}

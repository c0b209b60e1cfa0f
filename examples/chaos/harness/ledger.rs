//! What tools write about themselves, and how it is read.
//!
//! A line is `NUMBER MARK TIME NONCE .`: the number of the call, what it is at, the host's time in microseconds
//! since 1970, and a number that the tool made up on its own. The full stop shows that the line is whole: a full
//! disk or a kill may tear one.

use std::collections::BTreeMap;

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The call.
    pub(crate) number: u64,
    /// What it was at: `start`, `end`, or a step of a background job.
    pub(crate) mark: String,
    /// When, in microseconds since 1970.
    pub(crate) at_us: u64,
    /// Made up by the tool.
    pub(crate) nonce: String,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [number, mark, at, nonce, "."] = fields[..] else { return None };
        let (seconds, micros) = at.split_once('.')?;
        Some(Self {
            number: number.parse().ok()?,
            mark: mark.to_owned(),
            at_us: seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?,
            nonce: nonce.to_owned(),
        })
    }
}

/// All that one sandbox's tools wrote; sandboxes that took over its files are the same one here.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// The worker whose sandbox it was.
    pub(crate) worker: usize,
    /// The lines that are whole, in their order.
    pub(crate) lines: Vec<Line>,
}

impl Ledger {
    /// Reads a ledger's text.
    pub(crate) fn parse(worker: usize, text: &str) -> Self {
        Self { worker, lines: text.lines().filter_map(Line::parse).collect() }
    }

    /// How often each number and mark stands in it.
    pub(crate) fn counts(&self) -> BTreeMap<(u64, &str), usize> {
        let mut counts = BTreeMap::new();
        for line in &self.lines {
            *counts.entry((line.number, line.mark.as_str())).or_default() += 1;
        }
        counts
    }
}

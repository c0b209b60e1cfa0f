//! `read`: a file's exact text, a range of its lines, or a picture or PDF as a block of its own.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use remuda_actors::tool::{Block, Source, ToolResult};
use serde_json::Value;

use super::arguments::Arguments;
use super::failure::Failure;
use super::limits::Limits;
use crate::hand::confine::Confinement;

const TOOL: &str = "read";

/// Largest text returned, whole file or range, in bytes; also the largest file `edit` takes. The official
/// toolset's default.
pub(crate) const MAX_TEXT_BYTES: u64 = 262_144;

/// Largest picture, in bytes of the file: 5 MiB once in base64, as the official toolset has it.
const MAX_IMAGE_BYTES: u64 = 3_932_160;

/// Largest PDF, in bytes of the file, as the official toolset has it.
const MAX_PDF_BYTES: u64 = 20 << 20;

/// How much is read of a large file at a time.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Read {
    file_path: String,
    range: Option<LineRange>,
}

impl Read {
    pub(crate) fn parse(input: Value) -> Result<Self, Failure> {
        let mut arguments = Arguments::new(TOOL, input, &["file_path", "view_range"])?;
        let file_path = arguments.path("file_path")?;
        let range = match arguments.integers("view_range")?.as_deref() {
            None | Some([]) => None,
            Some([first, last]) => Some(LineRange::new(*first, *last)),
            Some(_) => {
                return Err(arguments.problem("view_range must be [start_line, end_line]".to_owned()));
            }
        };
        Ok(Self { file_path, range })
    }

    pub(crate) fn run(self, confinement: &Confinement, limits: &Limits) -> Result<ToolResult, Failure> {
        let given = self.file_path.as_str();
        let opened = confinement.at(Path::new(given), |place| {
            let (file, stat) = place.open_regular()?;
            Ok((file, u64::try_from(stat.st_size).unwrap_or(0), media(&place.path)))
        });
        let (mut file, size, media) = opened.map_err(|error| Failure::path(TOOL, given, error))?;
        if let Some(media) = media {
            let bytes = media.read(given, file, self.range.is_some(), limits)?;
            return Ok(ToolResult { is_error: false, content: vec![media.block(&bytes)] });
        }
        let text = match self.range {
            Some(range) if size > MAX_TEXT_BYTES => {
                let selected = range.stream(given, &mut file, limits)?;
                utf8(given, selected)?
            }
            range => {
                let text = utf8(given, whole(TOOL, given, file, size)?)?;
                match range {
                    Some(range) => range.of(text),
                    None => text,
                }
            }
        };
        Ok(ToolResult::ok(text))
    }
}

/// The contents of a file that may have at most [`MAX_TEXT_BYTES`].
pub(crate) fn whole(tool: &'static str, given: &str, file: File, size: u64) -> Result<Vec<u8>, Failure> {
    let too_large = |size: u64| {
        let hint = if tool == TOOL { "; use view_range to read a part of it" } else { "" };
        let reason =
            format!("the file has {size} bytes, more than the limit of {MAX_TEXT_BYTES} bytes{hint}");
        Failure::file(tool, given, reason)
    };
    if size > MAX_TEXT_BYTES {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // It may be growing while it is read.
    let read = file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::io(tool, given, &error))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// The bytes as text.
pub(crate) fn text(tool: &'static str, given: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::file(tool, given, format!("not valid UTF-8 text (at byte {at}); use bash to look at it"))
    })
}

fn utf8(given: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    text(TOOL, given, bytes)
}

/// Lines `first` to `last`, counted from 1 and split at `\n` alone; text behind the last `\n` is a line too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LineRange {
    first: u64,
    /// None: to the end.
    last: Option<u64>,
}

impl LineRange {
    fn new(first: i64, last: i64) -> Self {
        let first = u64::try_from(first).unwrap_or(0).max(1);
        Self { first, last: u64::try_from(last).ok().filter(|last| *last > 0) }
    }

    fn of(self, text: String) -> String {
        if self == Self::new(1, 0) {
            return text;
        }
        let mut selection = Selection::new(self);
        selection.feed(text.as_bytes());
        // Cutting at line ends leaves whole characters.
        String::from_utf8_lossy(&selection.selected).into_owned()
    }

    /// Reads no further than the range goes, and keeps only what is in it.
    fn stream(self, given: &str, file: &mut File, limits: &Limits) -> Result<Vec<u8>, Failure> {
        let mut selection = Selection::new(self);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            limits.check(TOOL)?;
            let count = file.read(&mut chunk).map_err(|error| Failure::io(TOOL, given, &error))?;
            let more = selection.feed(&chunk[..count]);
            if selection.selected.len() as u64 > MAX_TEXT_BYTES {
                let reason = if selection.line == self.first {
                    format!(
                        "line {} alone has more than {MAX_TEXT_BYTES} bytes; use bash to cut it",
                        self.first
                    )
                } else {
                    format!("the lines asked for have more than {MAX_TEXT_BYTES} bytes; narrow view_range")
                };
                return Err(Failure::file(TOOL, given, reason));
            }
            if count == 0 || !more {
                return Ok(selection.selected);
            }
        }
    }
}

/// Picks the lines of a range out of text that comes in pieces.
struct Selection {
    range: LineRange,
    /// The line the next byte belongs to.
    line: u64,
    selected: Vec<u8>,
}

impl Selection {
    fn new(range: LineRange) -> Self {
        Self { range, line: 1, selected: Vec::new() }
    }

    /// Takes the next piece; false once nothing further can be in the range.
    fn feed(&mut self, piece: &[u8]) -> bool {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            let is_last = self.range.last.is_some_and(|last| self.line >= last);
            if self.range.last.is_some_and(|last| self.line > last || self.range.first > last) {
                return false;
            }
            if self.line >= self.range.first {
                // The end of the last line separates it from nothing.
                let kept = if ends && is_last { &part[..part.len() - 1] } else { part };
                self.selected.extend_from_slice(kept);
                // One line can be larger than memory: the caller refuses at the limit.
                if self.selected.len() as u64 > MAX_TEXT_BYTES {
                    return true;
                }
            }
            self.line += u64::from(ends);
        }
        true
    }
}

/// Files that are returned as blocks instead of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Image(&'static str),
    Pdf,
}

fn media(path: &Path) -> Option<Media> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "png" => Media::Image("image/png"),
        "jpg" | "jpeg" => Media::Image("image/jpeg"),
        "gif" => Media::Image("image/gif"),
        "webp" => Media::Image("image/webp"),
        "pdf" => Media::Pdf,
        _ => return None,
    })
}

impl Media {
    fn read(self, given: &str, mut file: File, ranged: bool, limits: &Limits) -> Result<Vec<u8>, Failure> {
        let (what, limit) = match self {
            Self::Image(_) => ("images", MAX_IMAGE_BYTES),
            Self::Pdf => ("PDF files", MAX_PDF_BYTES),
        };
        if ranged {
            return Err(Failure::file(TOOL, given, format!("view_range does not apply to {what}")));
        }
        let mut bytes = Vec::new();
        loop {
            limits.check(TOOL)?;
            let read = file.by_ref().take(1 << 20).read_to_end(&mut bytes);
            let count = read.map_err(|error| Failure::io(TOOL, given, &error))?;
            if bytes.len() as u64 > limit {
                let reason = format!("larger than the limit of {limit} bytes for {what}");
                return Err(Failure::file(TOOL, given, reason));
            }
            if count == 0 {
                return Ok(bytes);
            }
        }
    }

    fn block(self, bytes: &[u8]) -> Block {
        let data = STANDARD.encode(bytes);
        match self {
            Self::Image(media_type) => {
                Block::Image { source: Source::Base64 { media_type: media_type.to_owned(), data } }
            }
            Self::Pdf => {
                let source = Source::Base64 { media_type: "application/pdf".to_owned(), data };
                Block::Document { source, title: None, context: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select(text: &str, first: i64, last: i64) -> String {
        LineRange::new(first, last).of(text.to_owned())
    }

    #[test]
    fn ranges_split_at_line_feeds_alone() {
        assert_eq!(select("1\n2\n3\n", 2, 3), "2\n3");
        assert_eq!(select("1\n2\n3\n", 2, -1), "2\n3\n");
        assert_eq!(select("1\n2\n3", 0, 99), "1\n2\n3");
        assert_eq!(select("1\n2\n", 3, 1), "");
        assert_eq!(select("1\r\n2\u{2028}x\n3", 2, 2), "2\u{2028}x");
    }

    proptest! {
        /// The streamed selection is what splitting, slicing and joining gives, however the text is cut.
        #[test]
        fn property_a_selection_does_not_depend_on_the_pieces(
            text in "[a\n]{0,40}", first in -2i64..12, last in -2i64..12, piece in 1usize..9,
        ) {
            let range = LineRange::new(first, last);
            let mut selection = Selection::new(range);
            for piece in text.as_bytes().chunks(piece) {
                selection.feed(piece);
            }
            let lines: Vec<&str> = text.split('\n').collect();
            let from = usize::try_from(range.first - 1).unwrap().min(lines.len());
            let to = range.last.map_or(lines.len(), |last| usize::try_from(last).unwrap().min(lines.len()));
            let expected = lines[from..to.max(from)].join("\n");
            prop_assert_eq!(String::from_utf8(selection.selected).unwrap(), expected);
        }
    }
}

//! What a thread's commands print, bounded to its end.
//!
//! One pipe serves a thread for all its shells, standard output and standard error alike, so their order is
//! kept and a background job that survives its shell still has somewhere to print. It is read all the time,
//! also between calls: what a job prints then belongs to the next call.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::ioctl_fionread;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;

/// Output kept of one call, in bytes: the last of it. The official toolset keeps 102,400 together with its
/// own end line, which has 52.
const KEPT_BYTES: usize = 102_400 - 52;

/// First line of an output of which the beginning was dropped, as the official toolset has it.
const TRUNCATED: &str = "[output truncated]\n";

/// How much is read at a time.
const CHUNK_BYTES: usize = 32 << 10;

/// The pipe of a thread, and the end of what came through it since it was last taken.
#[derive(Debug)]
pub(crate) struct Output {
    receiver: Receiver,
    sender: OwnedFd,
    tail: Tail,
}

impl Output {
    /// An open pipe.
    pub(crate) fn new() -> io::Result<Self> {
        let (receiver, sender) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only this end becomes non-blocking; the commands' end stays as commands expect it.
        Ok(Self { receiver: Receiver::from_owned_fd(receiver)?, sender, tail: Tail::default() })
    }

    /// The end that commands write to.
    pub(crate) fn sender(&self) -> io::Result<OwnedFd> {
        self.sender.try_clone()
    }

    /// Waits for output and takes some of it in.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn fill(&mut self) {
        // This process holds a sender, so the pipe cannot end; an error would be a defect, and stopping to
        // read is the harmless answer to it.
        if self.receiver.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.read();
    }

    /// Takes in what has been written by now, but not what a job goes on writing meanwhile.
    pub(crate) fn settle(&mut self) {
        let mut due = ioctl_fionread(self.receiver.as_fd()).unwrap_or(0);
        while due > 0 {
            match self.read() {
                0 => break,
                count => due = due.saturating_sub(count as u64),
            }
        }
    }

    /// The text of the output since it was last taken.
    pub(crate) fn text(&self) -> String {
        self.tail.clone().into_text()
    }

    /// The text of the output since the last time.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.tail).into_text()
    }

    fn read(&mut self) -> usize {
        let receiver = &self.receiver;
        self.tail.extend(|bytes| receiver.try_read_buf(bytes).unwrap_or(0))
    }
}

/// The last [`KEPT_BYTES`] of a stream.
#[derive(Clone, Debug, Default)]
struct Tail {
    /// Those bytes, and before them at most as many again that have not been moved out of the way yet.
    bytes: Vec<u8>,
    dropped: bool,
}

impl Tail {
    /// Lets `read` append up to [`CHUNK_BYTES`] and say how many they were.
    fn extend(&mut self, read: impl FnOnce(&mut Vec<u8>) -> usize) -> usize {
        self.bytes.reserve_exact(CHUNK_BYTES);
        let count = read(&mut self.bytes);
        // Moving once per `KEPT_BYTES` read keeps the cost per byte constant.
        if self.bytes.len() > 2 * KEPT_BYTES {
            self.trim();
        }
        count
    }

    fn trim(&mut self) {
        if let Some(excess) = self.bytes.len().checked_sub(KEPT_BYTES).filter(|excess| *excess > 0) {
            self.bytes.drain(..excess);
            self.dropped = true;
        }
    }

    fn into_text(mut self) -> String {
        self.trim();
        let mut bytes = self.bytes.as_slice();
        if self.dropped {
            // The cut may have gone through a character, of which at most three bytes are left.
            let inside = bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
            bytes = &bytes[inside..];
        }
        let text = String::from_utf8_lossy(&without_control_sequences(bytes)).into_owned();
        let text = text.trim_end_matches('\n');
        if self.dropped { format!("{TRUNCATED}{text}") } else { text.to_owned() }
    }
}

/// Leaves out the terminal's control sequences: `ESC [`, parameters, and the letter that ends them.
fn without_control_sequences(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(start) = rest.windows(2).position(|pair| pair == b"\x1b[") {
        let (before, sequence) = rest.split_at(start);
        kept.extend_from_slice(before);
        let body = &sequence[2..];
        let parameters = body.iter().take_while(|byte| (0x20..=0x3F).contains(*byte)).count();
        match body.get(parameters) {
            Some(0x40..=0x7E) => rest = &body[parameters + 1..],
            // No sequence after all.
            _ => {
                kept.extend_from_slice(b"\x1b[");
                rest = body;
            }
        }
    }
    kept.extend_from_slice(rest);
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(pieces: &[&[u8]]) -> String {
        let mut tail = Tail::default();
        for piece in pieces {
            for piece in piece.chunks(CHUNK_BYTES) {
                tail.extend(|bytes| {
                    bytes.extend_from_slice(piece);
                    piece.len()
                });
            }
        }
        tail.into_text()
    }

    #[test]
    fn clean_up_removes_colours_and_last_line_ends_only() {
        assert_eq!(text_of(&[b"\n\x1b[31mred\x1b[0m\x1b[2K x\n\n"]), "\nred x");
        assert_eq!(text_of(&[b"a\x1b[", b"31mb"]), "ab");
        assert_eq!(text_of(&[b"\x1b[\xff\x1b]x"]), "\u{1b}[\u{fffd}\u{1b}]x");
    }

    #[test]
    fn the_limit_itself_is_not_truncated() {
        let full = vec![b'x'; KEPT_BYTES];
        assert_eq!(text_of(&[&full]).len(), KEPT_BYTES);
        assert!(text_of(&[&full, b"y"]).starts_with("[output truncated]\nxx"));
    }

    #[test]
    fn a_cut_character_is_left_out() {
        let text = text_of(&["é".as_bytes(), &vec![b'x'; KEPT_BYTES - 1]]);
        assert_eq!(text, format!("{TRUNCATED}{}", "x".repeat(KEPT_BYTES - 1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Whatever the pieces, what is left is the end of the whole, in bounded memory.
        #[test]
        fn property_the_tail_is_the_end_of_everything(
            pieces in prop::collection::vec((0usize..40_000, b'a'..=b'z'), 0..12),
        ) {
            let pieces: Vec<Vec<u8>> = pieces.iter().map(|(count, byte)| vec![*byte; *count]).collect();
            let all = pieces.concat();
            let mut tail = Tail::default();
            for piece in pieces.iter().flat_map(|piece| piece.chunks(CHUNK_BYTES)) {
                tail.extend(|bytes| { bytes.extend_from_slice(piece); piece.len() });
                prop_assert!(tail.bytes.capacity() <= 2 * KEPT_BYTES + 2 * CHUNK_BYTES);
            }
            let end = String::from_utf8(all[all.len().saturating_sub(KEPT_BYTES)..].to_vec()).unwrap();
            let expected = if all.len() > KEPT_BYTES { format!("{TRUNCATED}{end}") } else { end };
            prop_assert_eq!(tail.into_text(), expected);
        }
    }
}

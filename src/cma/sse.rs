//! Server-sent events, decoded from a byte stream as it comes.

use bytes::{Buf, Bytes, BytesMut};

/// Largest frame, in bytes. Tool inputs of several megabytes are legitimate; a frame without an end is not.
pub(super) const MAX_FRAME: usize = 32 << 20;

/// One frame. Comments, ids and retry hints are dropped: the control plane sends none that mean anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The event's name; empty if it has none.
    pub(super) event: String,
    /// The data lines, joined by newlines.
    pub(super) data: String,
}

/// A frame was longer than [`MAX_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// The decoder's state between two chunks.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// Bytes of the buffer in which no line end was found.
    searched: usize,
    event: String,
    data: Option<String>,
    /// The last line ended in a carriage return, whose line feed may still come.
    after_return: bool,
}

impl Decoder {
    /// Takes a chunk in.
    pub(super) fn feed(&mut self, chunk: &Bytes) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete frame.
    ///
    /// # Errors
    /// [`TooLong`] if a frame does not end in time; the stream is of no use then.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, TooLong> {
        while let Some(line) = self.next_line() {
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if let Some(data) = self.data.take() {
                    return Ok(Some(Frame { event, data }));
                }
                continue;
            }
            let line = String::from_utf8_lossy(&line);
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.event),
                "data" => match &mut self.data {
                    None => self.data = Some(value.to_owned()),
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                },
                _ => {}
            }
            if self.data.as_ref().is_some_and(|data| data.len() > MAX_FRAME) {
                return Err(TooLong);
            }
        }
        if self.buffer.len() > MAX_FRAME { Err(TooLong) } else { Ok(None) }
    }

    /// The next complete line, without its end: a line feed, a carriage return, or both.
    fn next_line(&mut self) -> Option<BytesMut> {
        if self.after_return && !self.buffer.is_empty() {
            self.after_return = false;
            if self.buffer[0] == b'\n' {
                self.buffer.advance(1);
            }
        }
        let found = self.buffer[self.searched..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(found) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + found;
        self.searched = 0;
        let line = self.buffer.split_to(end);
        self.after_return = self.buffer[0] == b'\r';
        self.buffer.advance(1);
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for chunk in chunks {
            decoder.feed(&Bytes::copy_from_slice(chunk));
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push((frame.event, frame.data));
            }
        }
        frames
    }

    fn frame(event: &str, data: &str) -> (String, String) {
        (event.to_owned(), data.to_owned())
    }

    #[test]
    fn frames_end_with_a_blank_line_of_any_kind() {
        for end in ["\n", "\r", "\r\n"] {
            let text = format!("event: a{end}data: {{1}}{end}{end}event: b{end}data:2{end}{end}");
            assert_eq!(decode(&[text.as_bytes()]), [frame("a", "{1}"), frame("b", "2")]);
        }
    }

    #[test]
    fn comments_unknown_fields_and_frames_without_data_are_dropped() {
        let text = ": hello\nid: 7\nretry: 5\nevent: ping\n\nevent: x\ndata: 1\nfoo\n\n";
        assert_eq!(decode(&[text.as_bytes()]), [frame("x", "1")]);
    }

    #[test]
    fn data_lines_are_joined_and_only_one_space_is_taken_off() {
        assert_eq!(decode(&[b"data:  a\ndata\ndata: b\n\n"]), [frame("", " a\n\nb")]);
    }

    #[test]
    fn an_unfinished_frame_is_no_frame() {
        assert_eq!(decode(&[b"event: x\ndata: 1\n"]), []);
    }

    #[test]
    fn a_frame_without_an_end_is_refused() {
        let mut decoder = Decoder::default();
        decoder.feed(&Bytes::from(vec![b'x'; MAX_FRAME + 1]));
        assert_eq!(decoder.next_frame(), Err(TooLong));
        let mut decoder = Decoder::default();
        let line = Bytes::from([b"data: ".as_slice(), &vec![b'x'; 1 << 20], b"\n"].concat());
        let refused = (0..40).any(|_| {
            decoder.feed(&line);
            decoder.next_frame() == Err(TooLong)
        });
        assert!(refused);
    }

    proptest! {
        /// However the bytes are cut, the frames are the same, and no bytes make it panic.
        #[test]
        fn property_frames_do_not_depend_on_chunks(
            text in "((event|data|x|): ?[a-z é]{0,6}|)(\r\n|\n|\r)(data: [a-z]{0,4}\n\n|\r\n|\n){0,6}",
            cuts in prop::collection::vec(0usize..80, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&chunks), decode(&[bytes]));
        }

        #[test]
        fn property_any_bytes_are_taken(bytes: Vec<u8>) {
            decode(&[&bytes]);
        }
    }
}

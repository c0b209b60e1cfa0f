//! What tells two calls apart that came under one id.

use std::io;

use crate::hand::wire::CallRequest;

/// A fingerprint of what is asked for: tool, thread and input, but not how long it may take.
pub(super) fn digest(request: &CallRequest) -> u64 {
    let mut fingerprint = Fingerprint(0xcbf2_9ce4_8422_2325);
    // Writing to memory cannot fail, and neither can writing a value that was read from JSON.
    drop(serde_json::to_writer(&mut fingerprint, &(&request.tool, &request.thread, &request.input)));
    fingerprint.0
}

/// FNV-1a, for it tells apart calls that were mixed up, not calls made to look alike; and unlike std's
/// hashers it stays the same from one build to the next.
struct Fingerprint(u64);

impl io::Write for Fingerprint {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_tool_thread_and_input_alone() {
        let request = |tool: &str, thread: Option<&str>, input| CallRequest {
            tool: tool.to_owned(),
            input,
            thread: thread.map(Into::into),
            again: false,
            timeout_ms: None,
        };
        let input = serde_json::json!({"command": "true"});
        let one = digest(&request("bash", None, input.clone()));
        let later = CallRequest { again: true, timeout_ms: Some(5), ..request("bash", None, input.clone()) };
        assert_eq!(one, digest(&later));
        assert_ne!(one, digest(&request("bash", Some("t"), input.clone())));
        assert_ne!(one, digest(&request("read", None, input)));
        assert_ne!(one, digest(&request("bash", None, serde_json::json!({"command": "false"}))));
    }
}

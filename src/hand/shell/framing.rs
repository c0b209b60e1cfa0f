//! How a command is put to the shell, and how its end is told.
//!
//! The shell reads its script from a socket, one byte at a time as it must. A command becomes
//!
//! ```text
//! { COMMAND
//! } </dev/null
//! { \builtin printf '%s %s\n' NONCE $? >&0; } >/dev/null 2>&1
//! ```
//!
//! so it runs in the shell itself, with nothing to read; and the last line, which the shell reads only when
//! the command has ended, answers through the same socket. Because that is not the output:
//!
//! - nothing a command prints can be taken for its end, and echoing the script shows nothing of use: the
//!   nonce is new each time;
//! - a command may close or redirect the shell's output for good;
//! - tracing (`set -x`) and `DEBUG` traps do not show the last line.
//!
//! The command stands on the first line, behind the brace, because the shell's messages quote that line.

/// A command ready to be written to the shell.
#[derive(Debug)]
pub(crate) struct Frame {
    script: String,
    nonce: String,
}

impl Frame {
    /// Frames `command`, which holds no NUL.
    pub(crate) fn new(command: &str) -> Self {
        let nonce = format!("{:032x}", rand::random::<u128>());
        // Braces around nothing are a syntax error, which would end the shell.
        let body = if is_blank(command) { ":" } else { command };
        // A trailing backslash would swallow the line end that ends the command.
        let backslashes = body.len() - body.trim_end_matches('\\').len();
        let guard = if backslashes % 2 == 1 { "\n" } else { "" };
        let script = format!(
            "{{ {body}{guard}\n}} </dev/null\n{{ \\builtin printf '%s %s\\n' {nonce} $? >&0; }} >/dev/null 2>&1\n"
        );
        Self { script, nonce }
    }

    /// What to write to the shell.
    pub(crate) fn script(&self) -> &[u8] {
        self.script.as_bytes()
    }

    /// The command's exit status, once `told` holds the line that tells it.
    pub(crate) fn status(&self, told: &[u8]) -> Option<i32> {
        let mut lines = told.split_inclusive(|byte| *byte == b'\n');
        lines.find_map(|line| {
            let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
            line.strip_prefix(self.nonce.as_str())?.strip_prefix(' ')?.parse().ok()
        })
    }
}

/// Whether there is nothing to run: only empty lines and comments.
fn is_blank(command: &str) -> bool {
    command.lines().all(|line| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with('#')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_needs_the_nonce_and_a_whole_line() {
        let frame = Frame::new("true");
        let line = format!("{} 7\n", frame.nonce);
        assert_eq!(frame.status(line.as_bytes()), Some(7));
        assert_eq!(frame.status(format!("x\n{line}").as_bytes()), Some(7));
        assert_eq!(frame.status(line.trim_end().as_bytes()), None);
        assert_eq!(frame.status(format!("{} 7\n", Frame::new("true").nonce).as_bytes()), None);
    }

    #[test]
    fn a_command_cannot_swallow_what_follows_it() {
        let script = |command| String::from_utf8(Frame::new(command).script().to_vec()).unwrap();
        assert!(script("echo a").starts_with("{ echo a\n} </dev/null\n"));
        assert!(script("echo a\\").starts_with("{ echo a\\\n\n} </dev/null\n"));
        assert!(script("echo a\\\\").starts_with("{ echo a\\\\\n} </dev/null\n"));
        assert!(script(" # only this\n\n").starts_with("{ :\n}"));
    }
}

//! What a process was left open by whoever started it.
//!
//! Everything that this program opens itself is closed where it starts another program. What it was given, a shell's
//! redirection or a service's socket, is not, and would go down from process to process to the agent's own: a folder
//! among it is a way out of any sandbox.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

/// The last of the three streams that every process has.
const STANDARD_ERROR: RawFd = 2;

/// Closes all of it but the standard streams.
///
/// # Errors
/// If what is open cannot be listed.
///
/// # Safety
/// Nothing in this process may have been opened by itself.
#[expect(unsafe_code, reason = "what was inherited has no owner in this program")]
pub(crate) unsafe fn close() -> io::Result<()> {
    for fd in open()? {
        // SAFETY: it was open when it was listed, and nobody here owns it, as the caller promised.
        unsafe { rustix::io::close(fd) };
    }
    Ok(())
}

/// Keeps all of it from the programs that this process will start.
///
/// # Errors
/// If what is open cannot be listed.
pub(crate) fn keep_back() -> io::Result<()> {
    for fd in open()? {
        #[expect(unsafe_code, reason = "what was inherited has no owner in this program")]
        // SAFETY: it is used for one call, which does the same to whatever it means by then: ours are all marked.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        match fcntl_setfd(fd, FdFlags::CLOEXEC) {
            // Ours may have been closed since.
            Ok(()) | Err(Errno::BADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What is open besides the standard streams.
fn open() -> io::Result<Vec<RawFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut listing = Dir::new(rustix::fs::open("/proc/self/fd", flags, Mode::empty())?)?;
    let own = listing.fd()?.as_raw_fd();
    let mut open = Vec::new();
    while let Some(entry) = listing.read() {
        let number = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok());
        open.extend(number.filter(|number: &RawFd| *number > STANDARD_ERROR && *number != own));
    }
    Ok(open)
}

//! The session keyring, in which the kernel keeps keys and tickets for everything that a login started.

use std::io;

/// "Join a session keyring", of the operations there are.
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Leaves the session keyring that we came with for a new one without a name, which is empty: whoever has
/// inherited a keyring can read what is in it, under whatever id.
pub(super) fn leave() -> io::Result<()> {
    #[expect(unsafe_code, reason = "no crate offers this operation, and it takes no memory of ours")]
    // SAFETY: its one argument is a name, for which null is allowed; nothing is read or written.
    let joined =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match joined {
        -1 => match io::Error::last_os_error() {
            // A kernel without keyrings has none to leave.
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}

//! A sandbox's own loopback, which a new network namespace has but does not switch on.

use std::io;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// The loopback is always the first interface of its namespace.
const LOOPBACK: i32 = 1;

const RTM_NEWLINK: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;

/// Size of the request: a message header and an interface description.
const LENGTH: u32 = 16 + 16;

/// Switches it on.
pub(super) fn up() -> io::Result<()> {
    // Of the protocols that share this family, routing is the first, and the default.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &request(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 64];
    let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    refusal(answer.get(..length).unwrap_or_default()).map_or(Ok(()), Err)
}

/// "Set the flag `up` of the interface `LOOPBACK`, and tell whether you did", in the kernel's own byte order.
fn request() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(RTM_NEWLINK.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend([0; 8]); // sequence and port: there is one request, and one asker
    bytes.extend([0; 4]); // family and type: any
    bytes.extend(LOOPBACK.to_ne_bytes());
    bytes.extend(IFF_UP.to_ne_bytes());
    bytes.extend(IFF_UP.to_ne_bytes()); // which flags are meant
    bytes
}

/// What the kernel answered, if it refused: its errors are negative numbers after the header.
fn refusal(answer: &[u8]) -> Option<io::Error> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => None,
        (Some(NLMSG_ERROR), Some(code)) => Some(io::Error::from_raw_os_error(-code)),
        _ => Some(io::Error::other("the kernel's answer cannot be read")),
    }
}

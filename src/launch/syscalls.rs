//! The system calls that nothing in a sandbox is let through to.
//!
//! They need privileges that a sandbox does not have, or reach parts of the kernel that are not divided by
//! namespaces. They fail as they would for want of a privilege, so programs that try them go on without.
//! Everything else is allowed, debuggers and browsers included.
//!
//! Nor is anything let through to a virtual machine's way to its host (`AF_VSOCK`): that belongs to no network
//! namespace, and is open to everyone.
//!
//! A program may be one of the machine's older, 32-bit kind, which has calls of its own numbers. On x86 one of those
//! stands for all that sockets can do, with what is asked of it where a filter cannot look, so it is refused; what
//! was built for Linux 4.3 or newer has others.

use std::io;

use seccompiler::{BpfProgram, apply_filter, sock_filter};

/// The numbers of a call: of x86-64, its 32-bit kind, 64-bit ARM, and its 32-bit kind.
type Numbers = [Option<u32>; 4];

/// A call with numbers of its own on each.
const fn own(x86_64: u32, i386: u32, aarch64: u32, arm: u32) -> Numbers {
    [Some(x86_64), Some(i386), Some(aarch64), Some(arm)]
}

/// A call from the time since all have the same.
const fn same(number: u32) -> Numbers {
    [Some(number); 4]
}

/// What is refused. Source of the numbers: `arch/*/entry/syscalls/*.tbl` and `scripts/syscall.tbl` of Linux 6.18.
const REFUSED: [(&str, Numbers); 26] = [
    // Keyrings belong to users, not to namespaces.
    ("add_key", own(248, 286, 217, 309)),
    ("request_key", own(249, 287, 218, 310)),
    ("keyctl", own(250, 288, 219, 311)),
    // Programs inside the kernel, and ways to slow it down or look into it.
    ("bpf", own(321, 357, 280, 386)),
    ("perf_event_open", own(298, 336, 241, 364)),
    ("userfaultfd", own(323, 374, 282, 388)),
    // Another kernel, or more of this one.
    ("kexec_load", own(246, 283, 104, 347)),
    ("kexec_file_load", [Some(320), None, Some(294), Some(401)]),
    ("init_module", own(175, 128, 105, 128)),
    ("finit_module", own(313, 350, 273, 379)),
    ("delete_module", own(176, 129, 106, 129)),
    // Another view of the file system.
    ("mount", own(165, 21, 40, 21)),
    ("umount", [None, Some(22), None, None]),
    ("umount2", own(166, 52, 39, 52)),
    ("pivot_root", own(155, 217, 41, 218)),
    ("open_tree", same(428)),
    ("move_mount", same(429)),
    ("fsopen", same(430)),
    ("fsconfig", same(431)),
    ("fsmount", same(432)),
    ("fspick", same(433)),
    ("mount_setattr", same(442)),
    ("open_tree_attr", same(467)),
    // A file by its number, past every folder that is closed.
    ("open_by_handle_at", own(304, 342, 265, 371)),
    // What is asked of the kernel this way passes no filter, sockets of any family among it.
    ("io_uring_setup", same(425)),
    // Any socket, of whatever family.
    ("socketcall", [None, Some(102), None, None]),
];

/// The call that makes a socket, which is refused for one family.
const SOCKET: Numbers = own(41, 359, 198, 281);

/// How the kernel names a kind of machine: `AUDIT_ARCH_*` of `linux/audit.h`. The column of [`Numbers`] goes with it.
const X86_64: (u32, usize) = (0xc000_003e, 0);
const I386: (u32, usize) = (0x4000_0003, 1);
const AARCH64: (u32, usize) = (0xc000_00b7, 2);
const ARM: (u32, usize) = (0x4000_0028, 3);

/// The machine's own kind, and the older one whose programs it runs too.
const KINDS: [(u32, usize); 2] = if cfg!(target_arch = "aarch64") { [AARCH64, ARM] } else { [X86_64, I386] };

/// From here on the numbers of x86-64 mean the calls of a kind that hardly any kernel has any more.
const X32: u32 = 0x4000_0000;

/// Where in what a filter is given the number, the machine and the first argument stand. Of that the lower half,
/// which comes first on all of these machines, is what the kernel takes for a socket's family.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENT: u32 = 16;

/// Refuses them for this process and everything it starts, for good. The process must have one thread.
pub(super) fn refuse() -> io::Result<()> {
    apply_filter(&program()).map_err(io::Error::other)
}

/// The filter. Of every call but one it looks at nothing but the number and the machine, which lets the kernel find
/// out once and for all which calls it allows, and then not run it for those.
fn program() -> BpfProgram {
    let refused = ret(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs());
    let mut program = vec![load(MACHINE)];
    for (machine, column) in KINDS {
        let numbers: Vec<u32> = REFUSED.iter().filter_map(|(_, numbers)| numbers[column]).collect();
        let mut section = vec![load(NUMBER)];
        if machine == X86_64.0 {
            section.extend([jump(libc::BPF_JGE, X32, 0, 1), refused.clone()]);
        }
        for number in numbers {
            section.extend([jump(libc::BPF_JEQ, number, 0, 1), refused.clone()]);
        }
        if let Some(socket) = SOCKET[column] {
            section.extend([
                jump(libc::BPF_JEQ, socket, 0, 3),
                load(ARGUMENT),
                jump(libc::BPF_JEQ, libc::AF_VSOCK.unsigned_abs(), 0, 1),
                refused.clone(),
            ]);
        }
        section.push(ret(libc::SECCOMP_RET_ALLOW));
        // A section is far shorter than a jump can be.
        let past = u8::try_from(section.len()).unwrap_or(u8::MAX);
        program.push(jump(libc::BPF_JEQ, machine, 0, past));
        program.extend(section);
    }
    program.push(refused);
    program
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump(condition: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, value, yes, no)
}

fn ret(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Codes have eight bits.
    sock_filter { code: (code & 0xff) as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says to a call, by the few instructions that it is made of.
    fn verdict(machine: u32, number: u32, argument: u32) -> u32 {
        let program = program();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            at += 1;
            let skip = |is: bool| usize::from(if is { jt } else { jf });
            match u32::from(code) {
                0x20 => {
                    loaded = [(NUMBER, number), (MACHINE, machine), (ARGUMENT, argument)]
                        .into_iter()
                        .find_map(|(at, value)| (at == k).then_some(value))
                        .unwrap()
                }
                0x15 => at += skip(loaded == k),
                0x35 => at += skip(loaded >= k),
                0x06 => return k,
                code => panic!("{code:#x}"),
            }
        }
    }

    #[test]
    fn every_refused_call_fails_and_every_other_goes_through() {
        let (allow, refuse) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | 1);
        for (machine, column) in KINDS {
            let numbers: Vec<u32> = REFUSED.iter().filter_map(|(_, numbers)| numbers[column]).collect();
            for number in 0..600 {
                let expected = if numbers.contains(&number) { refuse } else { allow };
                assert_eq!(verdict(machine, number, 1), expected, "{machine:#x} {number}");
            }
        }
        assert_eq!(verdict(0x1234, 0, 1), refuse, "a machine that nobody has heard of");
        if KINDS[0] == X86_64 {
            assert_eq!(verdict(X86_64.0, X32, 1), refuse);
            assert_eq!(verdict(X86_64.0, X32 | 250, 1), refuse);
        }
    }

    #[test]
    fn a_socket_is_refused_for_its_family_alone() {
        let (allow, refuse) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | 1);
        for (machine, column) in KINDS {
            let socket = SOCKET[column].unwrap();
            for family in 0..64 {
                let expected = if family == 40 { refuse } else { allow };
                assert_eq!(verdict(machine, socket, family), expected, "{machine:#x} {family}");
                // To any other call the same number means something else.
                assert_eq!(verdict(machine, 0, family), allow);
            }
        }
    }

    #[test]
    fn the_machines_own_numbers_are_those_of_its_library() {
        let known = [
            ("add_key", libc::SYS_add_key),
            ("request_key", libc::SYS_request_key),
            ("keyctl", libc::SYS_keyctl),
            ("bpf", libc::SYS_bpf),
            ("perf_event_open", libc::SYS_perf_event_open),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("kexec_load", libc::SYS_kexec_load),
            ("kexec_file_load", libc::SYS_kexec_file_load),
            ("init_module", libc::SYS_init_module),
            ("finit_module", libc::SYS_finit_module),
            ("delete_module", libc::SYS_delete_module),
            ("mount", libc::SYS_mount),
            ("umount2", libc::SYS_umount2),
            ("pivot_root", libc::SYS_pivot_root),
            ("open_tree", libc::SYS_open_tree),
            ("move_mount", libc::SYS_move_mount),
            ("fsopen", libc::SYS_fsopen),
            ("fsconfig", libc::SYS_fsconfig),
            ("fsmount", libc::SYS_fsmount),
            ("fspick", libc::SYS_fspick),
            ("mount_setattr", libc::SYS_mount_setattr),
            ("open_by_handle_at", libc::SYS_open_by_handle_at),
            ("io_uring_setup", libc::SYS_io_uring_setup),
        ];
        let (_, column) = KINDS[0];
        for (name, number) in known {
            let ours = REFUSED.iter().find(|(refused, _)| *refused == name).and_then(|(_, own)| own[column]);
            assert_eq!(ours.map(libc::c_long::from), Some(number), "{name}");
        }
        assert_eq!(SOCKET[column].map(libc::c_long::from), Some(libc::SYS_socket));
    }
}

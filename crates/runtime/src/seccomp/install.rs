//! The one system call that loads a filter.

#![expect(unsafe_code, reason = "seccomp(2) has no safe wrapper")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// With it a failed synchronisation is `ESRCH`, not a thread id that could be taken for the
/// listener's descriptor (linux/seccomp.h, since Linux 5.7).
const FLAG_TSYNC_ESRCH: libc::c_ulong = 1 << 4;

/// Loads `code`; whatever positive number the kernel returns is the id of a thread that could not
/// be synchronised.
pub(super) fn load(code: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<()> {
    match seccomp(code, flags)? {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EBUSY)),
    }
}

/// Loads `code` and returns the descriptor that receives notifications.
pub(super) fn load_with_listener(
    code: &[libc::sock_filter],
    flags: libc::c_ulong,
) -> io::Result<OwnedFd> {
    let mut flags = flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if flags & libc::SECCOMP_FILTER_FLAG_TSYNC != 0 {
        flags |= FLAG_TSYNC_ESRCH;
    }
    let fd = seccomp(code, flags)?;
    // SAFETY: with NEW_LISTENER (and TSYNC_ESRCH if TSYNC) a result that is not an error is a new
    // descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn seccomp(code: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<i32> {
    let len = u16::try_from(code.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: code.as_ptr().cast_mut() };
    // SAFETY: `program` points at `len` instructions that outlive the call; the kernel copies and
    // checks them, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            &raw const program,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

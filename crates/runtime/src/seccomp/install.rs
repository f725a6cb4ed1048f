//! The one system call that loads a filter.

#![expect(unsafe_code, reason = "seccomp(2) has no safe wrapper")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Loads `code`.
pub(super) fn load(code: &[libc::sock_filter], flags: libc::c_ulong) -> io::Result<()> {
    seccomp(code, flags).map(drop)
}

/// Whether the kernel knows all of `flags`.
pub(super) fn knows(mut flags: libc::c_ulong) -> bool {
    // It is refused alone.
    if flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    let no_program = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel looks at the flags first, and then finds that it may not read address 0.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            no_program,
        )
    };
    result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Loads `code` and returns the descriptor that receives notifications.
pub(super) fn load_with_listener(
    code: &[libc::sock_filter],
    flags: libc::c_ulong,
) -> io::Result<OwnedFd> {
    let fd = seccomp(code, flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: with NEW_LISTENER a result that is not an error is a new descriptor that nobody else
    // owns.
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

//! The system calls of the floor that have no safe wrapper.

#![expect(unsafe_code, reason = "clone3(2), seccomp(2) and execve(2), bare")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

/// The namespaces of `runc spec`, but for the cgroup namespace, which comes after the joining.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;
/// `CLONE_INTO_CGROUP` (Linux 5.7).
const INTO_CGROUP: u64 = 0x2_0000_0000;
/// `BPF_RET | BPF_K` of linux/bpf_common.h.
const RETURN: u16 = 0x06;

fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Clones a child that runs `child` and exits with its answer.
pub(crate) fn clone(
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<i32> {
    // SAFETY: the structure is plain integers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = NAMESPACES as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(directory) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = directory.as_raw_fd() as u64;
    }
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM the child has its own copy of this process, which has one thread.
    let answer = check(unsafe { libc::syscall(libc::SYS_clone3, ptr::from_ref(&args), size) })?;
    if answer == 0 {
        let code = child();
        // SAFETY: _exit(2) has no preconditions.
        unsafe { libc::_exit(code) }
    }
    Ok(answer as i32)
}

/// Waits for the child; its exit code, or -1.
pub(crate) fn wait(child: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` lives across the call.
    check(unsafe { libc::waitpid(child, &raw mut status, 0) }.into())?;
    Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 })
}

/// Makes the cgroup that this process is in the root of what it sees.
pub(crate) fn new_cgroup_namespace() -> io::Result<()> {
    // SAFETY: no memory changes hands.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).map(drop)
}

/// No new privileges, and the shortest filter there is.
pub(crate) fn confine() -> io::Result<()> {
    let mut allow = [libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
    let program = libc::sock_fprog { len: 1, filter: allow.as_mut_ptr() };
    // SAFETY: the program lives across the calls.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        check(libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            ptr::from_ref(&program),
        ))?;
    }
    Ok(())
}

/// Executes `program` without arguments and environment; returns why it could not.
pub(crate) fn execute(program: &CStr) -> io::Error {
    let args = [program.as_ptr(), ptr::null()];
    let env = [ptr::null()];
    // SAFETY: both lists end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

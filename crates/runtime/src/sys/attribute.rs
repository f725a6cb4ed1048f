//! System calls that give a process its attributes, or ask a descriptor for one of its own.
#![expect(unsafe_code, reason = "raw system calls; everything above this module is safe")]

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use super::check;

/// The numbers of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SchedulerAttr {
    /// `SCHED_*`.
    pub(crate) policy: u32,
    /// `SCHED_FLAG_*`.
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    /// Nanoseconds, as the next two.
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// Sets how the process `pid` is scheduled, or with 0 this one (sched_setattr(2)).
pub(crate) fn set_scheduler(pid: i32, attr: SchedulerAttr) -> io::Result<()> {
    // SAFETY: `sched_attr` is plain integers, for which zero is valid.
    let mut args: libc::sched_attr = unsafe { mem::zeroed() };
    args.size = mem::size_of::<libc::sched_attr>() as u32;
    args.sched_policy = attr.policy;
    args.sched_flags = attr.flags;
    args.sched_nice = attr.nice;
    args.sched_priority = attr.priority;
    args.sched_runtime = attr.runtime;
    args.sched_deadline = attr.deadline;
    args.sched_period = attr.period;
    // SAFETY: `args` lives across the call and says its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, ptr::from_ref(&args), 0) }).map(drop)
}

/// Sets from which nodes this process' memory comes (set_mempolicy(2)): a mode with its flags, and
/// one bit for each node.
pub(crate) fn set_memory_policy(mode: c_int, nodes: &[u64]) -> io::Result<()> {
    let (mask, bits) = match nodes {
        [] => (ptr::null(), 0),
        // The kernel reads one bit less than it is told.
        nodes => (nodes.as_ptr(), nodes.len() * u64::BITS as usize + 1),
    };
    // SAFETY: the mask has as many bits as the call is told and lives across it.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// Which kind of namespace a descriptor is of, as its `CLONE_NEW*` flag (ioctl_nsfs(2)).
///
/// # Errors
/// `ENOTTY` for something that is no namespace.
pub(crate) fn namespace_kind(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: the request takes no argument.
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_NSTYPE) };
    Ok(check(answer.into())? as u64)
}

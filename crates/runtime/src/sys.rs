//! The system calls for which rustix has no safe wrapper.
#![expect(unsafe_code, reason = "raw system calls; everything above this module is safe")]

pub(crate) mod attribute;
#[cfg(all(target_arch = "x86_64", not(weaken)))]
pub(crate) mod entry;
pub(crate) mod memory;
pub(crate) mod monitor;
pub(crate) mod quota;

use std::ffi::{CStr, CString, c_int, c_long};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use crate::weak::weakened;

/// `CLONE_PIDFD`: hand out a descriptor of the child.
const CLONE_PIDFD: u64 = 0x1000;
/// `CLONE_INTO_CGROUP` (Linux 5.7): the child starts in a cgroup of the v2 hierarchy.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `CLONE_PARENT`: the new process is a sibling, a child of this process' parent.
pub(crate) const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

/// Turns the answer of a raw system call into a result.
fn check(answer: c_long) -> io::Result<c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// How the process of a descriptor has ended, as wait(2) reports it; `None` while that is not known,
/// which it is once somebody has waited for it.
///
/// # Errors
/// `ENOTTY` before Linux 6.13 (`PIDFD_GET_INFO`, include/uapi/linux/pidfd.h).
pub(crate) fn pidfd_exit_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    /// `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)`, of its first version's size.
    const GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
    /// `PIDFD_INFO_EXIT` (Linux 6.15).
    const EXIT: u64 = 1 << 3;
    /// `struct pidfd_info`, as far as its first version went.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: the number says how much the kernel may write, which is all of `info`.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    match check(c_long::from(answer)) {
        // The process is gone, and this kernel remembers nothing.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Ok((info.mask & EXIT != 0).then_some(info.exit_code)),
    }
}

/// Sets whose files are that this thread makes (setfsuid(2), setfsgid(2)).
///
/// # Errors
/// `EPERM` if they are not what was asked for afterwards: the calls themselves report nothing.
pub(crate) fn set_fs_ids(uid: u32, gid: u32) -> io::Result<()> {
    /// No id: asks for the present one.
    const ASK: u32 = u32::MAX;
    // SAFETY: the calls take plain numbers. The C library's wrappers change this thread alone.
    let (now_uid, now_gid) = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(ASK), libc::setfsgid(ASK))
    };
    if (now_uid as u32, now_gid as u32) == (uid, gid) {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

/// Ends the process even when the child's closure unwinds: the frames below belong to the parent.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        exit(255);
    }
}

/// Starts a child (clone3(2)) that runs `child` and exits with its answer.
///
/// `namespaces` are `CLONE_NEW*` flags and perhaps [`CLONE_PARENT`]; with `cgroup`, a directory of the v2 hierarchy, the child
/// starts inside it. The child has a copy of the whole memory, as after fork(2); since the process
/// has a single thread (the contract of this crate), it may allocate and take locks.
///
/// # Errors
/// Those of clone3(2).
pub(crate) fn clone3(
    namespaces: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain integers, for which zero is valid.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = namespaces | CLONE_PIDFD;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    // With CLONE_PARENT it is that of this process itself.
    if namespaces & CLONE_PARENT == 0 {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(directory) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = directory.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of the memory and of the stack;
    // `args` lives across the call.
    let answer = unsafe {
        libc::syscall(libc::SYS_clone3, ptr::from_ref(&args), mem::size_of::<libc::clone_args>())
    };
    if check(answer)? == 0 {
        let guard = ExitOnUnwind;
        let code = child();
        mem::forget(guard);
        exit(code);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((answer as i32, pidfd))
}

/// Starts a child that runs `child` and exits with its answer, by the clone(2) of fork(2): the
/// usual seccomp profiles refuse clone3(2), whose arguments they cannot see.
///
/// # Errors
/// Those of fork(2).
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the process has a single thread (the contract of this crate).
    let answer = unsafe { libc::fork() };
    if check(answer.into())? == 0 {
        let guard = ExitOnUnwind;
        let code = child();
        mem::forget(guard);
        exit(code);
    }
    Ok(answer)
}

/// As [`fork`], but the child is a sibling of this process: a child of its parent.
///
/// # Errors
/// Those of clone(2).
pub(crate) fn fork_sibling(child: impl FnOnce() -> i32) -> io::Result<i32> {
    let zero = 0_usize;
    // SAFETY: without CLONE_VM the child has its own copy of the memory and of the stack; the
    // process has a single thread (the contract of this crate).
    let answer = unsafe { libc::syscall(libc::SYS_clone, CLONE_PARENT, zero, zero, zero, zero) };
    if check(answer)? == 0 {
        let guard = ExitOnUnwind;
        let code = child();
        mem::forget(guard);
        exit(code);
    }
    Ok(answer as i32)
}

/// Leaves the process at once: no destructor, no `atexit`.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Moves this process into new namespaces (unshare(2)); `flags` are `CLONE_NEW*`.
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: with `CLONE_NEW*` flags only, no descriptor table or memory changes hands.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Attributes to change on a mount: `struct mount_attr` of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear first.
    pub(crate) clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave it.
    pub(crate) propagation: u64,
}

/// Changes the mount that `mount` is the root of; with `recursive`, those below it as well.
///
/// # Errors
/// Those of mount_setattr(2) (Linux 5.12).
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    attr: MountAttr,
    recursive: bool,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: 0,
    };
    set_mount_attr(mount, &attr, recursive)
}

/// Shows the files of the mount that `mount` is the root of with the owners that their ids have in
/// `user_namespace`: what is id 0 on disk is its root; with `recursive`, those below it as well.
///
/// # Errors
/// Those of mount_setattr(2): `EINVAL` when the file system maps no ids or the mount was ever
/// attached, `EPERM` when its ids are mapped already.
pub(crate) fn map_mount(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    set_mount_attr(mount, &attr, recursive)
}

fn set_mount_attr(
    mount: BorrowedFd<'_>,
    attr: &libc::mount_attr,
    recursive: bool,
) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path and `attr` live across the call, and the size is that of `attr`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(attr),
            mem::size_of::<libc::mount_attr>(),
        )
    };
    check(answer).map(drop)
}

/// Marks every descriptor from `first` on as close-on-exec (close_range(2), Linux 5.11).
pub(crate) fn cloexec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Takes a descriptor that the caller of this program left open for it, by its number.
///
/// # Errors
/// `EBADF` where there is none, or one of this program's own: those are close-on-exec.
pub(crate) fn take_inherited(number: c_int) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads a flag, of any number.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    if number < 3 || flags & c_long::from(libc::FD_CLOEXEC) != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // From now on it is this program's own.
    // SAFETY: as above, a flag.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and nothing in this program owns a descriptor without FD_CLOEXEC.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes, in a child, its copy of a descriptor that the parent owns.
///
/// The owner's destructor never runs in the child, because [`clone3`] leaves by [`exit`].
pub(crate) fn close_in_child(fd: BorrowedFd<'_>) {
    // SAFETY: the number is open, and nobody in this process uses it again.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Closes, in a child, every descriptor from 3 on except `keep`: the copies of what the parent owns.
///
/// As with [`close_in_child`], no owner's destructor runs in the child; descriptors that the child
/// itself opened must be closed before.
pub(crate) fn close_others_in_child(keep: &mut [u32]) -> io::Result<()> {
    keep.sort_unstable();
    let mut first = 3;
    for &mut number in keep {
        if number > first {
            close_range(first, number - 1, 0)?;
        }
        first = first.max(number + 1);
    }
    close_range(first, u32::MAX, 0)
}

/// Closes every descriptor from 3 on.
///
/// The owners of the closed descriptors must never run again: only a process that is about to
/// live in a loop of its own may call this.
pub(crate) fn close_from_three() -> io::Result<()> {
    close_range(3, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    if weakened("descriptors-kept") {
        return Ok(());
    }
    // SAFETY: no memory is involved; the callers document what becomes of the descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// The form that execve(2) expects: pointers, and a null pointer at the end.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Replaces the program by the one that a descriptor is of (execveat(2)); returns only the error.
pub(crate) fn fexecve(program: &OwnedFd, args: &[CString], env: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in a null pointer and live across the call, as do their strings.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Replaces the program (execve(2)); returns only the error.
pub(crate) fn execve(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in a null pointer and live across the call, as do their strings.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Gives every signal its default action and unblocks all: what a new program expects.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is always a valid action; the kernel refuses what cannot be changed.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_signal_mask(libc::SIG_UNBLOCK);
}

/// Blocks every signal, for [`next_signal`] to take them.
pub(crate) fn block_signals() {
    set_signal_mask(libc::SIG_BLOCK);
}

/// Unblocks every signal.
pub(crate) fn unblock_signals() {
    set_signal_mask(libc::SIG_UNBLOCK);
}

fn full_signal_set() -> libc::sigset_t {
    // SAFETY: sigfillset initialises the set it is given.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}

fn set_signal_mask(how: c_int) {
    let set = full_signal_set();
    // SAFETY: `set` is initialised; the old mask is not asked for.
    unsafe { libc::sigprocmask(how, &raw const set, ptr::null_mut()) };
}

/// Waits for a blocked signal and takes it: its number, or `None` after an interruption.
pub(crate) fn next_signal() -> Option<i32> {
    let set = full_signal_set();
    // SAFETY: `set` is initialised; the details are not asked for.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) };
    (signal > 0).then_some(signal)
}

/// Sends a signal (kill(2)) to a process by its number.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sends a signal through a process descriptor (pidfd_send_signal(2)).
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let nothing = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for the one that kill(2) would make.
    let answer = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, nothing, 0)
    };
    check(answer).map(drop)
}

/// Gives this process a session keyring of its own (keyctl(2)): the caller's holds the host's keys.
///
/// A kernel without keys has nothing to separate.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    let name = ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    let answer =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) };
    match check(answer) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// Sets the execution domain (personality(2)).
pub(crate) fn personality(persona: libc::c_ulong) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::personality(persona) }.into()).map(drop)
}

/// Sets the priority of this process' input and output (ioprio_set(2)).
pub(crate) fn set_io_priority(class: u16, level: u16) -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS`.
    const WHO_PROCESS: c_int = 1;
    let value = c_int::from(class) << 13 | c_int::from(level);
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

//! What a monitor asks of the C library: forking, leaving the session, signals as a descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long a thread that was joined may take to vanish from the kernel's list.
const THREAD_END_MAX: Duration = Duration::from_secs(10);

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The process that forked, with its child.
    Parent(Child),
    /// The new process.
    Child,
}

/// A forked process of our own.
#[derive(Debug)]
pub struct Child(libc::pid_t);

impl Child {
    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.0).expect("fork(2) gives a parent a positive number")
    }

    /// A descriptor of it, readable once it has ended.
    ///
    /// # Errors
    /// Of `pidfd_open(2)`.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        Ok(rustix::process::pidfd_open(self.pid(), rustix::process::PidfdFlags::empty())?)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Of `waitpid(2)`.
    pub fn wait(&self) -> io::Result<()> {
        loop {
            // SAFETY: a null status pointer is allowed.
            let waited = unsafe { libc::waitpid(self.0, ptr::null_mut(), 0) };
            match io::Error::last_os_error() {
                _ if waited == self.0 => return Ok(()),
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            }
        }
    }
}

/// Forks this process.
///
/// # Errors
/// `fork(2)`'s; and `InvalidInput` if the process has several threads, of which the child would
/// have only this one, and the locks that the others hold.
pub fn fork() -> io::Result<Fork> {
    let deadline = Instant::now() + THREAD_END_MAX;
    while std::fs::read_dir("/proc/self/task")?.count() != 1 {
        if Instant::now() > deadline {
            let reason = "a process with several threads cannot be forked";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        std::thread::yield_now();
    }
    // SAFETY: there are no other threads, so the child is as whole as its parent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent(Child(child))),
    }
}

/// Gives this process, which has one thread, a mount namespace of its own, in which a tmpfs of at
/// most `bytes` is mounted at `path`. It is gone with the process and its children.
///
/// # Errors
/// If the kernel refuses.
pub fn mount_memory(path: &std::path::Path, bytes: u64) -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    super::unshare(libc::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let options = std::ffi::CString::new(format!("mode=0755,size={bytes}"))?;
    mount("none", path, "tmpfs", MountFlags::NOSUID, options.as_c_str())?;
    Ok(())
}

/// Makes a forked process independent of whoever started it: a session of its own, `/` as its
/// directory, nothing on its standard streams, no signal blocked, and none of the descriptors that
/// our own parent left open for us (those are the ones without `FD_CLOEXEC`; ours all have it).
///
/// # Errors
/// If /proc or /dev/null cannot be used.
pub fn detach_from_session() -> io::Result<()> {
    rustix::process::setsid()?;
    crate::sys::unblock_signals();
    rustix::process::chdir("/")?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let mut inherited = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_string_lossy().parse::<i32>().unwrap_or(0);
        // SAFETY: F_GETFD only reads a flag, of any number.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if number > 2 && flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            inherited.push(number);
        }
    }
    for number in inherited {
        // SAFETY: nothing in this program owns a descriptor without FD_CLOEXEC.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Closes, in a forked process that ends with [`exit_now`], every descriptor from 3 on except
/// `kept`: what its parent held, a lock or the end of a pipe, is not to outlive that.
///
/// The owners of the others must not use them again.
///
/// # Errors
/// Of `close_range(2)`.
pub fn keep_only(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers = kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok());
    super::close_others_in_child(&mut numbers.filter(|number| *number > 2).collect::<Vec<_>>())
}

/// Sockets that whoever executed this program left open for it (sd_listen_fds(3)): none unless the
/// environment says that they are for this process. To be called once.
#[must_use]
pub fn inherited_sockets() -> Vec<OwnedFd> {
    const FIRST: i32 = 3;
    const SOCKETS_MAX: i32 = 64;
    let number = |name: &str| std::env::var(name).ok()?.parse::<i32>().ok();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let count = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(own)).unwrap_or(0);
    let mut sockets = Vec::new();
    for descriptor in FIRST..FIRST + count.clamp(0, SOCKETS_MAX) {
        // SAFETY: only sets a flag, of any number.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } == 0 {
            // SAFETY: it is open, as was just seen, and was left for this to take.
            sockets.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
    }
    sockets
}

/// Gives memory that is not used any more back to the kernel.
pub fn trim_memory() {
    // SAFETY: takes no pointers; glibc's allocator looks after its own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Collects the children that have ended, up to the first that is `spared`.
pub(crate) fn collect_others(spared: i32) {
    loop {
        // SAFETY: `info` is plain memory that the kernel fills; zero is valid for all of it, and
        // its pid stays zero when no child has ended.
        let ended = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            if libc::waitid(libc::P_ALL, 0, &raw mut info, look) < 0 { 0 } else { info.si_pid() }
        };
        if ended == 0 || ended == spared {
            return;
        }
        // SAFETY: a null status pointer is allowed.
        unsafe { libc::waitpid(ended, ptr::null_mut(), libc::WNOHANG) };
    }
}

/// Has the kernel collect the children of this process, which does not want to know of their ends.
pub(crate) fn ignore_children() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Ends a forked process without running what its parent registered for its own exit.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return, and touches nothing.
    unsafe { libc::_exit(code) }
}

/// Whether whoever is at the other end of a socket of this machine has read all that was written to
/// it (unix(7), `SIOCOUTQ`).
///
/// # Errors
/// Of `ioctl(2)`.
pub fn is_taken(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut queued: libc::c_int = 0;
    // SAFETY: the request writes one integer to where the pointer points.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) };
    match answer {
        0 => Ok(queued == 0),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals as a descriptor: they are blocked, and read one by one.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// The signals that are not passed on to a container: those that nobody can catch, those about
/// our own children, terminal and pipes, and those that a program gets for its own faults.
const OWN: [libc::c_int; 16] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGPIPE,
    libc::SIGURG,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
    libc::SIGPROF,
];
const LAST_STANDARD_SIGNAL: libc::c_int = 31;

impl SignalFd {
    /// All signals that are passed on to a container.
    ///
    /// # Errors
    /// Of `signalfd(2)`.
    pub fn forwarded() -> io::Result<Self> {
        Self::new((1..=LAST_STANDARD_SIGNAL).filter(|signal| !OWN.contains(signal)))
    }

    /// These, and that a child has ended.
    ///
    /// # Errors
    /// Of `signalfd(2)`.
    pub fn forwarded_and_children() -> io::Result<Self> {
        Self::new(
            (1..=LAST_STANDARD_SIGNAL)
                .filter(|signal| *signal == libc::SIGCHLD || !OWN.contains(signal)),
        )
    }

    /// Those that ask a process to end.
    ///
    /// # Errors
    /// Of `signalfd(2)`.
    pub fn ending() -> io::Result<Self> {
        Self::new([libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM])
    }

    /// Only changes of the terminal's size.
    ///
    /// # Errors
    /// Of `signalfd(2)`.
    pub fn window() -> io::Result<Self> {
        Self::new([libc::SIGWINCH])
    }

    fn new(signals: impl IntoIterator<Item = libc::c_int>) -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset makes a valid set of it; the numbers are signals; the other calls
        // read the set.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal; waits for it.
    ///
    /// # Errors
    /// Of `read(2)`.
    pub fn read(&mut self) -> io::Result<Signal> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes one whole structure, or nothing.
        let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if usize::try_from(read) != Ok(size) {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was written whole.
        let number = unsafe { info.assume_init() }.ssi_signo;
        let signal = i32::try_from(number).ok().and_then(Signal::from_named_raw);
        signal.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! From a prepared process to the program it runs: attributes, input and output, execve.

use std::array::from_fn;
use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use oci::runtime::{PosixRlimit, PosixRlimitType, Process};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, Uid, fchown};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::error::{Doing, Error};
use crate::inroot::{Root, file_type};
use crate::launch::Stdio;
use crate::mount::{is_null, new_null};
use crate::sync::FIRST_INHERITED;
use crate::sys;
use crate::terminal::{self, Pty};
use crate::user::{self, Identity};
use crate::weak::weakened;

/// Where a program is looked for when the environment does not say.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments and environment, ready for execve(2).
#[derive(Debug)]
pub(crate) struct Program {
    name: OsString,
    args: Vec<CString>,
    env: Vec<CString>,
    path: OsString,
    /// How many descriptors from 3 on it inherits.
    inherited: u32,
}

impl Program {
    /// Reads the specification; `home` becomes `HOME` unless the environment has one.
    ///
    /// # Errors
    /// Without arguments, and for text with a null character.
    pub(crate) fn new(process: &Process, home: &str) -> Result<Program, Error> {
        let args = process.args().as_deref().unwrap_or_default();
        let name = args.first().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Error::Spec("no command is specified".into()))?;
        let env = effective(process.env().as_deref().unwrap_or_default())?;
        let value = |key: &str| env.iter().find_map(|entry| entry.strip_prefix(key));
        let mut variables = c_strings(&env)?;
        if value("HOME=").is_none_or(str::is_empty) {
            variables.retain(|entry| entry.as_bytes() != b"HOME=");
            variables.extend(c_strings(&[format!("HOME={home}")])?);
        }
        Ok(Program {
            name: name.into(),
            args: c_strings(args)?,
            env: variables,
            path: value("PATH=").unwrap_or(PATH_DEFAULT).into(),
            inherited: 0,
        })
    }

    /// Lets it inherit this many descriptors from 3 on.
    pub(crate) fn inheriting(self, inherited: u32) -> Program {
        Program { inherited, ..self }
    }

    /// The environment, as the program gets it.
    pub(crate) fn env(&self) -> &[CString] {
        &self.env
    }

    /// Looks whether this user can execute it, where the container is only started later.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(crate) fn find(&self) -> Result<(), Error> {
        let look = |path: &[u8]| {
            let execute = Access::EXEC_OK;
            let status = rustix::fs::stat(path)?;
            if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                return Err(Errno::ACCESS.into());
            }
            Ok(rustix::fs::accessat(CWD, path, execute, AtFlags::EACCESS)?)
        };
        self.on_path(look).map_err(|error| Error::from_execve(&self.name, error))
    }

    /// Keeps the program from inheriting anything but what it is to inherit. To be called while
    /// every system call is still permitted.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn close_on_execute(&self) -> Result<(), Error> {
        sys::cloexec_from(FIRST_INHERITED + self.inherited)
            .doing(|| "close the descriptors on execve")
    }

    /// Executes it; returns only the error. It makes no other system call: a filter may hold.
    pub(crate) fn execute(&self) -> Error {
        let execute = |path: &[u8]| match CString::new(path) {
            Ok(path) => Err(sys::execve(&path, &self.args, &self.env)),
            Err(_) => Err(Errno::INVAL.into()),
        };
        let error = self.on_path(execute).err().unwrap_or_else(|| Errno::PROTO.into());
        Error::from_execve(&self.name, error)
    }

    /// As execvp(3): a name without a slash is tried in each directory of `PATH`; that it exists
    /// somewhere without being executable is only reported when no other directory has it.
    fn on_path(&self, attempt: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let name = self.name.as_bytes();
        if name.contains(&b'/') {
            return attempt(name);
        }
        let mut denied = None;
        for directory in self.path.as_bytes().split(|&byte| byte == b':') {
            let directory = if directory.is_empty() { b"." } else { directory };
            let Err(error) = attempt(&[directory, b"/", name].concat()) else { return Ok(()) };
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => denied = Some(error),
                _ => return Err(error),
            }
        }
        Err(denied.unwrap_or_else(|| Errno::NOENT.into()))
    }
}

/// The environment without what a later entry replaces: of two, programs take either.
fn effective(env: &[String]) -> Result<Vec<&str>, Error> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(env.len());
    for entry in env.iter().rev() {
        match entry.split_once('=') {
            Some(("", _)) => {
                return Err(Error::Spec("an environment variable has an empty name".into()));
            }
            None => {
                let text = format!("invalid environment variable: missing '=' in `{entry}`");
                return Err(Error::Spec(text));
            }
            Some((name, _)) if seen.insert(name) => kept.push(entry.as_str()),
            Some(_) => {}
        }
    }
    kept.reverse();
    Ok(kept)
}

fn c_strings(texts: &[impl AsRef<str>]) -> Result<Vec<CString>, Error> {
    let convert = |text: &_| {
        CString::new(AsRef::<str>::as_ref(text).as_bytes())
            .map_err(|_| Error::Spec("an argument or variable contains a null character".into()))
    };
    texts.iter().map(convert).collect()
}

/// Who the process runs as: `user` if given, else the specification's numbers.
///
/// # Errors
/// As [`user::resolve`].
pub(crate) fn identity(
    root: &Root,
    process: &Process,
    user: Option<&str>,
    group_add: &[String],
) -> Result<Identity, Error> {
    let mut identity = match user {
        Some(user) => user::resolve(root, user)?,
        None => {
            let user = process.user();
            Identity {
                uid: user.uid(),
                gid: user.gid(),
                groups: user.additional_gids().clone().unwrap_or_default(),
                home: if has_home(process) { String::new() } else { user::home(root, user.uid())? },
            }
        }
    };
    for gid in user::resolve_groups(root, group_add)? {
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(identity)
}

fn has_home(process: &Process) -> bool {
    let env = process.env().as_deref().unwrap_or_default();
    let last = env.iter().rev().find_map(|entry| entry.strip_prefix("HOME="));
    last.is_some_and(|home| !home.is_empty())
}

/// Makes the working directory if it is missing, as Docker does.
///
/// # Errors
/// When something else is in its place.
pub(crate) fn create_cwd(root: &Root, process: &Process) -> Result<(), Error> {
    let cwd = process.cwd();
    if !cwd.is_absolute() {
        return Err(Error::Spec(format!("the working directory `{}` is relative", cwd.display())));
    }
    match root.open(cwd, OFlags::PATH | OFlags::DIRECTORY) {
        Err(_) if weakened("cwd-by-path") => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            root.create_dir_all(cwd).map(drop)
        }
        Err(error) => {
            Err(Error::kernel(format!("open the working directory `{}`", cwd.display()), error))
        }
        Ok(_) => Ok(()),
    }
}

/// Enters the working directory and verifies that it is inside the root: a descriptor of the host
/// that leaked would lead outside (CVE-2024-21626).
///
/// # Errors
/// When it is missing or outside.
fn enter_cwd(root: &Root, process: &Process) -> Result<(), Error> {
    let cwd = process.cwd();
    let doing = || format!("enter the working directory `{}`", cwd.display());
    if weakened("cwd-by-path") {
        return rustix::process::chdir(cwd).doing(doing);
    }
    let directory = root.open(cwd, OFlags::PATH | OFlags::DIRECTORY).doing(doing)?;
    rustix::process::fchdir(&directory).doing(doing)?;
    // The kernel puts "(unreachable)" in front of what is not below the root.
    let real = rustix::process::getcwd(Vec::new()).doing(doing)?;
    if real.as_bytes().first() == Some(&b'/') {
        return Ok(());
    }
    let text = format!("the working directory `{}` is outside the root", cwd.display());
    Err(Error::Spec(text))
}

/// Enters the working directory and lets the process become its user; where root of a container may
/// not enter, its user may.
///
/// # Errors
/// As [`enter_cwd`], and those of `become_user`.
pub(crate) fn enter_cwd_as(
    root: &Root,
    process: &Process,
    become_user: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    match enter_cwd(root, process) {
        Ok(()) => become_user(),
        Err(Error::Kernel { source, .. }) if source.raw_os_error() == Some(libc::EACCES) => {
            become_user()?;
            enter_cwd(root, process)
        }
        Err(error) => Err(error),
    }
}

/// Sets the limits and the file mode mask.
///
/// # Errors
/// Names the limit that the kernel refused.
pub(crate) fn set_limits(process: &Process) -> Result<(), Error> {
    for limit in process.rlimits().iter().flatten() {
        set_limit(limit)?;
    }
    let mask = process.user().umask().unwrap_or(0o022);
    rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
    Ok(())
}

/// Raises the hard limits of the process `pid` that are below what it is to set itself: root of a
/// user namespace could not. It begins with those of this process.
///
/// # Errors
/// Names the limit; raising one needs `CAP_SYS_RESOURCE`.
pub(crate) fn raise_limits(pid: i32, process: &Process) -> Result<(), Error> {
    for limit in process.rlimits().iter().flatten() {
        let kind = resource(limit.typ());
        let own = getrlimit(kind);
        let wanted = value_of(limit);
        let above = |bound: Option<u64>| wanted.maximum.is_none_or(|wanted| Some(wanted) > bound);
        if own.maximum.is_none() || !above(own.maximum) {
            continue;
        }
        let raised = Rlimit { current: own.current, maximum: wanted.maximum };
        prlimit(rustix::process::Pid::from_raw(pid), kind, raised).doing(|| {
            let (kind, hard) = (limit.typ(), limit.hard());
            format!("raise the limit {kind} to {hard}, which needs CAP_SYS_RESOURCE")
        })?;
    }
    Ok(())
}

fn set_limit(limit: &PosixRlimit) -> Result<(), Error> {
    setrlimit(resource(limit.typ()), value_of(limit)).doing(|| {
        let (soft, hard) = (limit.soft(), limit.hard());
        format!("set the limit {} to {soft}:{hard}", limit.typ())
    })
}

fn value_of(limit: &PosixRlimit) -> Rlimit {
    let bound = |value: u64| (value != u64::MAX).then_some(value);
    Rlimit { current: bound(limit.soft()), maximum: bound(limit.hard()) }
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// Refuses limits that contradict each other.
///
/// # Errors
/// Names the limit.
pub(crate) fn check_limits(process: &Process) -> Result<(), Error> {
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (at, limit) in limits.iter().enumerate() {
        let kind = limit.typ();
        if limits[..at].iter().any(|other| other.typ() == kind) {
            return Err(Error::Spec(format!("process.rlimits: {kind} is named twice")));
        }
        if limit.soft() > limit.hard() {
            let text = format!("process.rlimits: the soft limit {kind} is above the hard one");
            return Err(Error::Spec(text));
        }
    }
    Ok(())
}

/// Opens the terminal if `stdio` asks for one.
///
/// # Errors
/// As [`terminal::open`].
pub(crate) fn open_terminal(root: &Root, stdio: &Stdio) -> Result<Option<Pty>, Error> {
    match *stdio {
        Stdio::Terminal { rows, cols, plain_newlines } => {
            terminal::open(root, (rows, cols), plain_newlines).map(Some)
        }
        Stdio::Fds { .. } => Ok(None),
    }
}

/// Puts descriptors 0, 1 and 2 in place, and gives pipes and the terminal to the user, so that it
/// can open `/dev/stdout` again.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn set_stdio(
    stdio: &Stdio,
    pty: Option<&Pty>,
    null: BorrowedFd<'_>,
    uid: u32,
) -> Result<(), Error> {
    let doing = || "put input and output in place";
    // One that is the host's null device becomes the container's, like one that is missing.
    let or_null = |fd: &Option<OwnedFd>| match fd {
        Some(fd) if is_null(fd.as_fd()).is_err() => above_stdio(fd.as_fd()),
        _ => above_stdio(null),
    };
    let [input, output, errors] = match (stdio, pty) {
        (Stdio::Fds { stdin, stdout, stderr }, _) => [stdin, stdout, stderr].map(or_null),
        (Stdio::Terminal { .. }, Some(pty)) => from_fn(|_| above_stdio(pty.slave.as_fd())),
        (Stdio::Terminal { .. }, None) => from_fn(|_| above_stdio(null)),
    };
    let [input, output, errors] = [input.doing(doing)?, output.doing(doing)?, errors.doing(doing)?];
    for file in [&input, &output, &errors] {
        let kind = file_type(file).doing(doing)?;
        if uid != 0 && (kind == FileType::Fifo || pty.is_some()) {
            // An id that is not mapped here cannot own anything.
            let _ = fchown(file, Some(Uid::from_raw(uid)), None);
        }
    }
    dup2_stdin(&input).doing(doing)?;
    dup2_stdout(&output).doing(doing)?;
    dup2_stderr(&errors).doing(doing)
}

/// Makes the terminal on descriptor 0 the controlling one of this process, which leads a session.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn take_terminal() -> Result<(), Error> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
        .doing(|| "make the terminal the controlling one")
}

/// A copy with a number that the three do not overwrite.
fn above_stdio(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// The null device as the container sees it; where it has none, for example because a volume
/// covers its `/dev`, one of its own.
///
/// Through a descriptor of the host's node, root inside could change that node's mode and owner
/// with fchmod(2). So the host's is only taken where no other can be made: in a user namespace,
/// whose root has no such right.
pub(crate) fn null_device(root: &Root, host: OwnedFd) -> OwnedFd {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let path = Path::new("/dev/null");
    let is_null = |node: &OwnedFd| is_null(node.as_fd()).is_ok();
    // Only what is the null device is opened: opening some devices has effects.
    let plain = root.open(path, OFlags::PATH | OFlags::NOFOLLOW).ok().filter(is_null);
    let opened = plain.and_then(|_| root.open(path, flags).ok()).filter(is_null);
    opened.or_else(|| new_null().ok()).unwrap_or(host)
}

/// The kernel's adjustment of how soon a process is killed when memory runs out.
///
/// Written by the parent, with the host's procfs.
///
/// # Errors
/// When the kernel refuses, for example to lower it without `CAP_SYS_RESOURCE`.
pub(crate) fn set_oom_score(pid: i32, process: &Process) -> Result<(), Error> {
    let Some(score) = process.oom_score_adj() else { return Ok(()) };
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
        .doing(|| format!("set the OOM score adjustment to {score}"))
}

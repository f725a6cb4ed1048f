//! A further process in a container that runs.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use oci::runtime::{Linux, LinuxSeccomp};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::attribute::{Affinity, Attributes, run_as_before};
use crate::cgroup::{Cgroup, Entry};
use crate::child::Confined;
use crate::credentials::Credentials;
use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::label::Labels;
use crate::launch::Stdio;
use crate::namespace::Birth;
use crate::parent::{compile, start};
use crate::process::{Process, Unstarted};
use crate::program::{self, Program};
use crate::sync::{Kept, Point, Sync};
use crate::{mount, rdt, sys};

/// A process to execute in a container; [`Exec::new`] gives the fields behind `stdio` a value that
/// asks for nothing.
#[derive(Debug)]
pub struct Exec<'a> {
    /// A process of the container, usually its first, in the caller's process namespace.
    pub pid: i32,
    /// A descriptor of that same process (pidfd_open(2)): by its number alone, another process
    /// could be meant by the time it is looked at.
    pub pidfd: BorrowedFd<'a>,
    /// What to execute, and how it is confined.
    pub process: &'a oci::runtime::Process,
    /// Input and output.
    pub stdio: Stdio,
    /// The container's section, whose personality, memory policy and Intel RDT group hold for this
    /// process too.
    pub linux: Option<&'a Linux>,
    /// The name of the container: of its group in the resctrl file system.
    pub id: &'a str,
    /// The container's system call filter; `None` for a privileged process.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// The container's cgroup; without one, the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// `user[:group]`, resolved in the container; in the place of `process.user`.
    pub user: Option<&'a str>,
    /// Further groups by name or number.
    pub group_add: &'a [String],
    /// How many descriptors from 3 on the program inherits.
    pub inherited: u32,
    /// Leaves the process in the session keyring of the caller.
    pub keep_keyring: bool,
}

impl<'a> Exec<'a> {
    /// This process in the container of the process `pid`.
    pub fn new(
        (pid, pidfd): (i32, BorrowedFd<'a>),
        process: &'a oci::runtime::Process,
        stdio: Stdio,
    ) -> Exec<'a> {
        Exec {
            pid,
            pidfd,
            process,
            stdio,
            linux: None,
            id: "",
            seccomp: None,
            cgroup: None,
            user: None,
            group_add: &[],
            inherited: 0,
            keep_keyring: false,
        }
    }
}

/// Every kind of namespace, and its name below `/proc/<pid>/ns`.
const KINDS: [(ThreadNameSpaceType, &str); 8] = [
    (ThreadNameSpaceType::USER, "user"),
    (ThreadNameSpaceType::PROCESS_ID, "pid"),
    (ThreadNameSpaceType::MOUNT, "mnt"),
    (ThreadNameSpaceType::NETWORK, "net"),
    (ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION, "ipc"),
    (ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME, "uts"),
    (ThreadNameSpaceType::CONTROL_GROUP, "cgroup"),
    (ThreadNameSpaceType::TIME, "time"),
];

/// The namespaces of the container, by its process.
#[derive(Debug)]
struct Target<'a> {
    pidfd: BorrowedFd<'a>,
    /// Those that are not the caller's: the others need not, and may not always, be joined.
    kinds: ThreadNameSpaceType,
}

impl<'a> Target<'a> {
    fn open(pid: i32, pidfd: BorrowedFd<'a>) -> Result<Self, Error> {
        let mut kinds = ThreadNameSpaceType::empty();
        for (kind, name) in KINDS {
            if is_other(pid, name).doing(|| format!("look at the namespaces of process {pid}"))? {
                kinds |= kind;
            }
        }
        // While the process is there, nothing else has its number: it was the one looked at.
        sys::pidfd_send_signal(pidfd, 0).doing(|| format!("look for the process {pid}"))?;
        Ok(Target { pidfd, kinds })
    }

    fn enter(&self, kinds: ThreadNameSpaceType) -> rustix::io::Result<()> {
        if kinds.is_empty() {
            return Ok(());
        }
        move_into_thread_name_spaces(self.pidfd, kinds)
    }

    /// Bears a process for the container. A user namespace is entered together with all others,
    /// while the caller's rights count for those that belong to its own.
    fn bear(&self, birth: Birth<'_>, child: impl FnOnce() -> i32) -> Result<Process, Error> {
        let process = self.kinds & ThreadNameSpaceType::PROCESS_ID;
        if self.enters_user_namespace() {
            return birth.beyond(child, || self.enter(self.kinds));
        }
        birth.elsewhere(child, || self.enter(process))
    }

    fn enters_user_namespace(&self) -> bool {
        self.kinds.contains(ThreadNameSpaceType::USER)
    }

    /// Joins, in the child, what it was not born in.
    fn join(&self) -> Result<(), Error> {
        let doing = || "join the namespaces of the container";
        if self.enters_user_namespace() {
            return crate::child::become_root_inside();
        }
        self.enter(self.kinds - ThreadNameSpaceType::PROCESS_ID).doing(doing)
    }
}

fn is_other(pid: i32, name: &str) -> std::io::Result<bool> {
    let inode = |path: &str| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    match inode(&format!("/proc/self/ns/{name}")) {
        Ok(own) => Ok(own != inode(&format!("/proc/{pid}/ns/{name}"))?),
        // A kernel without this kind.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Executes a process in a running container: in all its namespaces, in `cgroup`, confined as
/// `process` and `seccomp` say. The terminal's master, if any, comes with the [`Process`].
///
/// The calling process must have a single thread.
///
/// # Errors
/// As [`create`](crate::create) and [`Created::start`](crate::Created::start).
pub fn exec(exec: &Exec<'_>) -> Result<Process, Error> {
    program::check_limits(exec.process)?;
    let affinity = Affinity::read(exec.process.exec_cpu_affinity().as_ref())?;
    let filter = compile(exec.seccomp)?;
    let confined = Confined {
        filter: filter.as_ref(),
        attributes: Attributes::read(exec.process, exec.linux)?,
        labels: Labels::of(exec.process)?,
    };
    let null = mount::host_null()?;
    let target = Target::open(exec.pid, exec.pidfd)?;
    let (ours, theirs) = Sync::pair()?;
    let cgroup = exec.cgroup.and_then(Cgroup::v2_fd);
    let entry = exec.cgroup.map(Cgroup::entry).transpose()?;
    let birth = Birth { flags: 0, cgroup };
    let child = || {
        ours.close_in_child();
        let parts = (&target, entry, &affinity);
        let error = become_process(exec, parts, (confined, null), &theirs);
        theirs.fail(&error);
        error.exit_code()
    };
    let before = affinity.begin()?;
    let child = target.bear(birth, child);
    run_as_before(before)?;
    let child = child?;
    drop(theirs);
    let (pid, child) = (child.pid(), Unstarted::new(child));
    if let Some(rdt) = exec.linux.and_then(|linux| linux.intel_rdt().as_ref()) {
        rdt::join(rdt, exec.id, pid)?;
    }
    if target.enters_user_namespace() && rustix::process::geteuid().is_root() {
        exec.stdio.give_pipes(mount::IdMap::of(exec.pid)?.root());
    }
    let master = accompany(exec, pid, &ours).map_err(|e| ours.reported().unwrap_or(e))?;
    start(&ours)?;
    Ok(child.release().with_master(master))
}

fn accompany(exec: &Exec<'_>, pid: i32, socket: &Sync) -> Result<Option<OwnedFd>, Error> {
    program::set_oom_score(pid, exec.process)?;
    program::raise_limits(pid, exec.process)?;
    socket.expect(Point::Attached)?;
    socket.expect(Point::Ready)
}

/// Where the process goes: the container, its cgroup, its processors.
type Place<'a> = (&'a Target<'a>, Option<Entry>, &'a Affinity);

fn become_process(
    exec: &Exec<'_>,
    place: Place<'_>,
    (confined, null): (Confined<'_>, OwnedFd),
    sync: &Sync,
) -> Error {
    match set_up(exec, place, (confined, null), sync) {
        Ok(program) => program.execute(),
        Err(error) => error,
    }
}

// recipe: the same order as for a container's first process, without its mounts.
fn set_up(
    exec: &Exec<'_>,
    (target, entry, affinity): Place<'_>,
    (confined, null): (Confined<'_>, OwnedFd),
    sync: &Sync,
) -> Result<Program, Error> {
    sys::reset_signals();
    // Processes of the container must not look into this one, which still is the runtime
    // (CVE-2019-5736).
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the memory")?;
    rustix::process::setsid().doing(|| "start a session")?;
    if !exec.keep_keyring {
        confined.make_keyring()?;
    }
    entry.map_or(Ok(()), |entry| entry.enter())?;
    affinity.settle()?;
    sync.tell(Point::Attached, None)?;
    target.join()?;
    let root = Root::of_process()?;

    let pty = program::open_terminal(&root, &exec.stdio)?;
    let identity = program::identity(&root, exec.process, exec.user, exec.group_add)?;
    let program = Program::new(exec.process, &identity.home)?.inheriting(exec.inherited);
    let credentials = Credentials::new(exec.process, confined.filter)?;
    let null = program::null_device(&root, null);
    program::set_stdio(&exec.stdio, pty.as_ref(), null.as_fd(), identity.uid)?;
    confined.apply()?;
    program::enter_cwd_as(&root, exec.process, || credentials.become_user(&identity))?;
    drop((root, null, confined));
    let master = pty.map(|pty| pty.master);
    sync.tell_ready(master.as_ref(), Kept { gate: None, inherited: exec.inherited })?;
    drop(master);
    sync.expect(Point::Start)?;
    // The parent has raised what this process could not.
    program::set_limits(exec.process)?;
    credentials.confine()?;
    Ok(program)
}

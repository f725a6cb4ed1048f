//! A further process in a container that runs.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use oci::runtime::LinuxSeccomp;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, pidfd_open, set_dumpable_behavior};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::cgroup::Cgroup;
use crate::credentials::Credentials;
use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::launch::Stdio;
use crate::namespace::ChildrenElsewhere;
use crate::parent::{compile, start};
use crate::process::{Process, Unstarted};
use crate::program::{self, Program};
use crate::seccomp::Filter;
use crate::sync::{Point, Sync};
use crate::{mount, sys};

/// A process to execute in a container.
#[derive(Debug)]
pub struct Exec<'a> {
    /// A process of the container, usually its first, in the caller's process namespace.
    pub pid: i32,
    /// What to execute, and how it is confined.
    pub process: &'a oci::runtime::Process,
    /// The container's system call filter; `None` for a privileged process.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// The container's cgroup; without one, the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// Input and output.
    pub stdio: Stdio,
    /// `user[:group]`, resolved in the container; in the place of `process.user`.
    pub user: Option<&'a str>,
    /// Further groups by name or number.
    pub group_add: &'a [String],
}

/// What is joined inside the child; the process namespace is joined by being born in it.
const KINDS: ThreadNameSpaceType = ThreadNameSpaceType::USER
    .union(ThreadNameSpaceType::MOUNT)
    .union(ThreadNameSpaceType::NETWORK)
    .union(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION)
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(ThreadNameSpaceType::CONTROL_GROUP)
    .union(ThreadNameSpaceType::TIME);

/// The namespaces of the container, by its process.
#[derive(Debug)]
struct Target {
    pidfd: OwnedFd,
    kinds: ThreadNameSpaceType,
}

impl Target {
    fn open(pid: i32) -> Result<Target, Error> {
        let number = Pid::from_raw(pid).filter(|_| pid > 0);
        let number = number.ok_or_else(|| Error::Spec(format!("{pid} is no process")))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())
            .doing(|| format!("open the container's process {pid}"))?;
        let mut kinds = KINDS;
        // Joining the user namespace that one is in already is refused.
        if same_user_namespace(pid)? {
            kinds -= ThreadNameSpaceType::USER;
        }
        Ok(Target { pidfd, kinds })
    }

    fn enter(&self, kinds: ThreadNameSpaceType) -> rustix::io::Result<()> {
        move_into_thread_name_spaces(self.pidfd.as_fd(), kinds)
    }
}

fn same_user_namespace(pid: i32) -> Result<bool, Error> {
    let inode = |path: &str| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let doing = || format!("look at the namespaces of process {pid}");
    let theirs = inode(&format!("/proc/{pid}/ns/user")).doing(doing)?;
    Ok(theirs == inode("/proc/self/ns/user").doing(doing)?)
}

/// Executes a process in a running container: in all its namespaces, in `cgroup`, confined as
/// `process` and `seccomp` say. The terminal's master, if any, comes with the [`Process`].
///
/// The calling process must have a single thread.
///
/// # Errors
/// As [`create`](crate::create) and [`Created::start`](crate::Created::start).
pub fn exec(exec: &Exec<'_>) -> Result<Process, Error> {
    program::check_supported(exec.process)?;
    let filter = compile(exec.seccomp)?;
    let null = mount::host_null()?;
    let target = Target::open(exec.pid)?;
    let (ours, theirs) = Sync::pair()?;
    let elsewhere = ChildrenElsewhere::new(|| target.enter(ThreadNameSpaceType::PROCESS_ID))?;
    let directory = exec.cgroup.and_then(Cgroup::v2_fd);
    let (pid, pidfd) = sys::clone3(0, directory, || {
        ours.close_in_child();
        let error = become_process(exec, &target, (filter.as_ref(), null), &theirs);
        theirs.fail(&error);
        error.exit_code()
    })
    .doing(|| "clone the process")?;
    drop(elsewhere);
    drop(theirs);
    let child = Unstarted::new(Process::new(pid, pidfd));
    let master = accompany(exec, pid, &ours).map_err(|e| ours.reported().unwrap_or(e))?;
    start(&ours)?;
    Ok(child.release().with_master(master))
}

fn accompany(exec: &Exec<'_>, pid: i32, socket: &Sync) -> Result<Option<OwnedFd>, Error> {
    program::set_oom_score(pid, exec.process)?;
    if let Some(cgroup) = exec.cgroup {
        cgroup.attach(pid, cgroup.v2_fd().is_some())?;
    }
    socket.tell(Point::Attached, None)?;
    socket.expect(Point::Ready)
}

fn become_process(
    exec: &Exec<'_>,
    target: &Target,
    (filter, null): (Option<&Filter>, OwnedFd),
    sync: &Sync,
) -> Error {
    match set_up(exec, target, (filter, null), sync) {
        Ok(program) => program.execute(),
        Err(error) => error,
    }
}

// recipe: the same order as for a container's first process, without its mounts.
fn set_up(
    exec: &Exec<'_>,
    target: &Target,
    (filter, null): (Option<&Filter>, OwnedFd),
    sync: &Sync,
) -> Result<Program, Error> {
    sys::reset_signals();
    // Processes of the container must not look into this one, which still is the runtime
    // (CVE-2019-5736).
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the memory")?;
    rustix::process::setsid().doing(|| "start a session")?;
    target.enter(target.kinds).doing(|| "join the namespaces of the container")?;
    if target.kinds.contains(ThreadNameSpaceType::USER) {
        crate::child::become_root_inside()?;
    }
    let root = Root::of_process()?;
    sync.expect(Point::Attached)?;

    let pty = program::open_terminal(&root, &exec.stdio)?;
    let identity = program::identity(&root, exec.process, exec.user, exec.group_add)?;
    let program = Program::new(exec.process, &identity.home)?;
    let credentials = Credentials::new(exec.process, filter)?;
    let null = program::null_device(&root, null);
    program::set_stdio(&exec.stdio, pty.as_ref(), null.as_fd(), identity.uid)?;
    program::enter_cwd(&root, exec.process)?;
    program::set_attributes(exec.process)?;
    credentials.become_user(&identity)?;
    sync.tell(Point::Ready, pty.as_ref().map(|pty| &pty.master))?;
    drop((root, null, pty));
    sync.expect(Point::Start)?;
    credentials.confine()?;
    Ok(program)
}

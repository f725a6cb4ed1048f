//! A further process in a container that runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::runtime::{Linux, LinuxSeccomp, State};
use rustix::fs::{Mode, OFlags, readlinkat};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::attribute::{Affinity, Attributes, Scheduling, run_as_before};
use crate::cgroup::{Cgroup, Count, Entry};
use crate::child::Confined;
use crate::credentials::Credentials;
use crate::credentials::hide_memory;
use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::label::Labels;
use crate::launch::Stdio;
use crate::namespace::Birth;
use crate::parent::{compile, start};
use crate::process::{Process, Unstarted};
use crate::program::{self, Program};
use crate::seccomp::Filter;
use crate::seccomp::agent::Agent;
use crate::sync::{Kept, Point, Sync};
use crate::sys::memory::Given;
use crate::weak::weakened;
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
    /// The container's state, for the agent of a filter that notifies one.
    pub state: Option<&'a State>,
    /// The container's cgroup; without one, the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// Gives it a cgroup namespace of its own, in which its groups are all that a hierarchy shows:
    /// for a process that can mount one which the container joined after its namespace was made, or
    /// never.
    pub own_groups: bool,
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
            state: None,
            cgroup: None,
            own_groups: false,
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
    /// Its root, where that is not the root of a mount namespace to join.
    root: Option<OwnedFd>,
    /// Those that are not the caller's: the others need not, and may not always, be joined.
    kinds: ThreadNameSpaceType,
    own_groups: bool,
}

impl<'a> Target<'a> {
    fn open(exec: &Exec<'a>) -> Result<Self, Error> {
        let Exec { pid, pidfd, own_groups, .. } = *exec;
        let mut kinds =
            other_kinds(pid).doing(|| format!("look at the namespaces of process {pid}"))?;
        kinds.set(
            ThreadNameSpaceType::CONTROL_GROUP,
            kinds.contains(ThreadNameSpaceType::CONTROL_GROUP) && !own_groups,
        );
        let root = match kinds.contains(ThreadNameSpaceType::MOUNT) {
            true => None,
            false => Some(open_root(pid)?),
        };
        // While the process is there, nothing else has its number: it was the one looked at.
        sys::pidfd_send_signal(pidfd, 0).doing(|| format!("look for the process {pid}"))?;
        Ok(Target { pidfd, root, kinds, own_groups })
    }

    fn enter(&self, kinds: ThreadNameSpaceType) -> rustix::io::Result<()> {
        if kinds.is_empty() {
            return Ok(());
        }
        move_into_thread_name_spaces(self.pidfd, kinds)
    }

    fn enters_user_namespace(&self) -> bool {
        self.kinds.contains(ThreadNameSpaceType::USER)
    }

    /// Joins all of them; that of processes for the children of this process. A user namespace is
    /// entered together with all others, while the caller's rights count for those that belong to
    /// its own.
    fn join(&self) -> Result<(), Error> {
        self.enter(self.kinds).doing(|| "join the namespaces of the container")?;
        if self.enters_user_namespace() {
            crate::child::become_root_inside()?;
        }
        if self.own_groups {
            sys::unshare(libc::CLONE_NEWCGROUP).doing(|| "make the cgroup namespace")?;
        }
        let Some(root) = &self.root else { return Ok(()) };
        let doing = || "enter the root of the container";
        rustix::process::fchdir(root).doing(doing)?;
        rustix::process::chroot(".").doing(doing)
    }
}

fn open_root(pid: i32) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing(|| format!("open the root of process {pid}"))
}

/// Of which kinds the namespaces of the process `pid` are others than this one's: they are told
/// apart by what their links say, as `net:[4026531840]` (namespaces(7)).
fn other_kinds(pid: i32) -> rustix::io::Result<ThreadNameSpaceType> {
    let of = |process: &str| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(format!("/proc/{process}/ns"), flags, Mode::empty())
    };
    let (own, its) = (of("self")?, of(&pid.to_string())?);
    let mut kinds = ThreadNameSpaceType::empty();
    for (kind, name) in KINDS {
        match readlinkat(&own, name, Vec::new()) {
            Ok(own) if own == readlinkat(&its, name, Vec::new())? => {}
            Ok(_) => kinds |= kind,
            // A kernel without this kind.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(kinds)
}

/// Executes a process in a running container: in all its namespaces, in `cgroup`, confined as
/// `process` and `seccomp` say. The terminal's master, if any, comes with the [`Process`].
///
/// Whoever may trace processes of the container (`CAP_SYS_PTRACE`) may take over any process that
/// is seen there. So a *guide*, which is not seen there, does all that needs rights, gives them up,
/// and only then clones the process into the container. Where the system call filter forbids what
/// remains to be done, the process loads it by itself, and without no-new-privileges keeps
/// `CAP_SYS_ADMIN` until then.
///
/// The calling process must have a single thread.
///
/// # Errors
/// As [`create`](crate::create) and [`Created::start`](crate::Created::start).
pub fn exec(exec: &Exec<'_>) -> Result<Process, Error> {
    program::check_limits(exec.process)?;
    let affinity = Affinity::read(exec.process.exec_cpu_affinity().as_ref())?;
    let filter = compile(exec.seccomp)?;
    let agent = Agent::of(exec.seccomp, exec.state)?;
    let confined = Confined {
        filter: filter.as_ref(),
        attributes: Attributes::read(exec.process, exec.linux)?,
        labels: Labels::of(exec.process)?,
    };
    let scheduling = confined.attributes.scheduling;
    let null = mount::host_null()?;
    let target = Target::open(exec)?;
    let given = Given::find().doing(|| "find the arguments in memory")?;
    let (ours, theirs) = Sync::pair()?;
    let cgroup = exec.cgroup.and_then(Cgroup::v2_fd);
    let entry = exec.cgroup.map(Cgroup::entry).transpose()?;
    let before = affinity.begin()?;
    let guide = Birth { flags: 0, cgroup }.here(|| {
        ours.close_in_child();
        given.forget("");
        let arrived = set_up(exec, (&target, entry, &affinity), (confined, null), &theirs)
            .and_then(|visitor| visitor.send(exec.process, &theirs));
        report(arrived, &theirs)
    });
    run_as_before(before)?;
    let guide = Unstarted::new(guide?);
    drop(theirs);
    if target.enters_user_namespace() && rustix::process::geteuid().is_root() {
        exec.stdio.give_pipes(mount::IdMap::of(exec.pid)?.root());
    }
    let accompanied = accompany(exec, scheduling, guide, &ours);
    let (master, child) = accompanied.map_err(|e| ours.reported().unwrap_or(e))?;
    start(&ours, agent.as_ref(), (child.process().pid(), child.process().pidfd()))?;
    Ok(child.release().with_master(master))
}

/// The exit code, once the other side knows of an error.
fn report(result: Result<(), Error>, sync: &Sync) -> i32 {
    let Err(error) = result else { return 0 };
    sync.fail(&error);
    error.exit_code()
}

/// The recipe that faces `set_up`.
fn accompany(
    exec: &Exec<'_>,
    scheduling: Scheduling,
    guide: Unstarted,
    socket: &Sync,
) -> Result<(Option<OwnedFd>, Unstarted), Error> {
    let guide_pid = guide.process().pid();
    if exec.cgroup.map_or(Ok(false), |cgroup| cgroup.admit(guide_pid))? {
        socket.tell(Point::Admitted, None)?;
    }
    socket.expect(Point::Attached)?;
    let master = socket.expect(Point::Ready)?;
    let pid = socket.hear_pid()?;
    let number = pid.as_raw_pid();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).doing(|| "open the new process")?;
    let child = Unstarted::new(Process::new(number, pidfd));
    // What only this process may, and what is not inherited from the guide.
    program::raise_limits(number, exec.process)?;
    scheduling.apply(number)?;
    if let Some(rdt) = exec.linux.and_then(|linux| linux.intel_rdt().as_ref()) {
        rdt::join(rdt, exec.id, number)?;
    }
    guide.release().wait().doing(|| "wait for the guide of the process")?;
    Ok((master, child))
}

/// Where the process goes: the container, its cgroup, its processors.
type Place<'a> = (&'a Target<'a>, Option<Entry>, &'a Affinity);

/// What comes into the container.
struct Visitor<'a> {
    program: Program,
    credentials: Credentials<'a>,
    /// Whether the rights are given up before it is seen, rather than by itself.
    confined: bool,
    terminal: bool,
    count: Option<Count>,
}

// recipe: the same order as for a container's first process, without its mounts.
fn set_up<'a>(
    exec: &Exec<'_>,
    (target, entry, affinity): Place<'_>,
    (confined, null): (Confined<'a>, OwnedFd),
    sync: &Sync,
) -> Result<Visitor<'a>, Error> {
    sys::reset_signals();
    program::set_oom_score(getpid().as_raw_pid(), exec.process)?;
    // Processes of the container must not look into this one, which still is the runtime
    // (CVE-2019-5736), nor into what it clones.
    hide_memory()?;
    if !exec.keep_keyring {
        confined.make_keyring()?;
    }
    if entry.as_ref().is_some_and(Entry::waits) {
        sync.expect(Point::Admitted)?;
    }
    let count = match entry {
        // The namespace begins where this process is.
        Some(entry) if target.own_groups => entry.enter().map(|()| None)?,
        entry => entry.map_or(Ok(None), Entry::enter_uncounted)?,
    };
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
    let filter = confined.filter;
    drop((root, null, confined));
    let (terminal, master) = (pty.is_some(), pty.map(|pty| pty.master));
    let kept =
        Kept { inherited: exec.inherited, count: count.as_ref().map(AsFd::as_fd), gate: None };
    sync.tell_ready(master.as_ref(), kept)?;
    drop(master);
    program.close_on_execute()?;
    let gives_up = !weakened("rights-kept-when-seen");
    let confined =
        gives_up && filter.is_none_or(|filter| lets_arrive(filter, terminal, &credentials));
    if gives_up {
        credentials.limit()?;
    }
    if confined {
        credentials.load_filter(true, sync)?;
    }
    Ok(Visitor { program, credentials, confined, terminal, count })
}

/// Whether a process may do, under this filter, what is left between the guide's last step and the
/// program. One that notifies an agent is loaded by the program's own process, whose the agent is.
fn lets_arrive(filter: &Filter, terminal: bool, credentials: &Credentials<'_>) -> bool {
    let plain = [
        libc::SYS_write,
        libc::SYS_recvmsg,
        libc::SYS_setsid,
        libc::SYS_prlimit64,
        libc::SYS_umask,
        libc::SYS_close,
        libc::SYS_exit_group,
    ];
    !filter.notifies()
        && filter.permits(libc::SYS_clone, [sys::CLONE_PARENT, 0, 0, 0, 0, 0])
        && (!terminal || filter.permits(libc::SYS_ioctl, [0, libc::TIOCSCTTY, 0, 0, 0, 0]))
        && (!credentials.load_with_privilege() || filter.permits(libc::SYS_capset, [0; 6]))
        && plain.iter().all(|&call| filter.permits(call, [0; 6]))
}

impl Visitor<'_> {
    /// Clones it into the container, as a child of whoever cloned the guide.
    fn send(self, process: &oci::runtime::Process, sync: &Sync) -> Result<(), Error> {
        let pid = sys::fork_sibling(|| {
            let arrived = self.arrive(process, sync);
            let error = arrived.map_or_else(|error| error, |program| program.execute());
            report(Err(error), sync)
        })
        .doing(|| "clone the process")?;
        sync.tell_pid(pid);
        Ok(())
    }

    /// In the container.
    fn arrive(self, process: &oci::runtime::Process, sync: &Sync) -> Result<Program, Error> {
        self.count.map_or(Ok(()), Count::enter)?;
        sync.expect(Point::Start)?;
        rustix::process::setsid().doing(|| "start a session")?;
        if self.terminal {
            program::take_terminal()?;
        }
        // The parent has raised what this process could not.
        program::set_limits(process)?;
        if !self.confined {
            self.credentials.confine(false, sync)?;
        }
        Ok(self.program)
    }
}

//! The parent's half of the creation of a container; the child's stands in `child.rs`.

use std::error::Error as StdError;
use std::os::fd::{BorrowedFd, OwnedFd};

use oci::runtime::{LinuxNamespaceType, LinuxSeccomp, Spec};

use crate::attribute::Attributes;
use crate::cgroup::Cgroup;
use crate::child::{self, Confined, Prepared};
use crate::error::{Doing, Error};
use crate::label::Labels;
use crate::launch::Launch;
use crate::mount::{self, IdMap, Images, OnHost, Sources, Unmapped};
use crate::namespace::{Namespaces, Plan, write_id_maps};
use crate::process::{Process, Unstarted};
use crate::seccomp::agent::Agent;
use crate::seccomp::{self, Filter};
use crate::sync::{Heard, Point, Sync as Socket};
use crate::sys::memory::Given;
use crate::{label, netdev, program, rdt, sysctl};

/// What the caller does in the namespaces of a container that is being made.
pub(crate) type Furnish<'a> =
    dyn FnMut(&Namespaces<'_>) -> Result<(), Box<dyn StdError + Send + Sync>> + 'a;

/// Creates a container up to the point right before its program is executed.
///
/// `in_namespaces` runs in the caller, for network set-up and hooks, while the child mounts; the
/// child is already in its cgroup then.
///
/// The calling process must have a single thread: the child runs on a copy of its memory. Its
/// descriptors 0, 1 and 2 must be open.
///
/// # Errors
/// Whatever prevents the container; nothing of it is left then.
pub fn create(launch: &Launch<'_>, in_namespaces: &mut Furnish<'_>) -> Result<Created, Error> {
    let process = launch.spec.process().as_ref();
    let process = process.ok_or_else(|| Error::Spec("the process is missing".into()))?;
    let null = mount::host_null()?;
    let plan = Plan::new(launch.spec)?;
    check(launch.spec, process, &plan)?;
    mount::check(launch, &plan)?;
    let linux = launch.spec.linux().as_ref();
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let filter = compile(profile)?;
    let agent = Agent::of(profile, launch.state)?;
    // Root of a user namespace could not reach what belongs to the real one.
    let reach = (plan.maps_ids() || mount::maps_ids_itself(launch.spec))
        && rustix::process::geteuid().is_root();
    let mut sources = reach.then(|| Sources::make(launch, plan.maps_ids(), true)).transpose()?;
    if let Some(sources) = &mut sources {
        sources.make_foreign_sysfs(launch.spec, &plan)?;
    }
    let unmapped = sources.as_ref().map(|sources| sources.unmapped(launch)).transpose()?;
    if !plan.maps_ids() && unmapped.as_ref().is_some_and(|mounts| !mounts.is_empty()) {
        return Err(child::no_user_namespace());
    }
    let images = Images::open(launch.rootfs, launch.images)?;
    let filter = filter.as_ref();
    let (ours, theirs) = Socket::pair()?;

    let entry = launch.cgroup.map(Cgroup::entry).transpose()?;
    let seen = launch.init || plan.joined(LinuxNamespaceType::Pid).is_some();
    let given = seen.then(Given::find).transpose().doing(|| "find the arguments in memory")?;
    let attributes = Attributes::read(process, linux)?;
    let labels = Labels::of(process)?;
    let group = rdt::Group::make(launch.spec, launch.id)?;
    let confined = Confined { filter, attributes, labels };
    let (plan, images) = (&plan, images);
    let prepared =
        Prepared { launch, process, plan, confined, null, images: &images, sources, entry, given };
    // Dropped after the child, which may be busy in there.
    let shared = plan.shares_mounts().then(|| OnHost::before(launch.rootfs)).transpose()?.flatten();
    let child = clone(prepared, (&ours, &theirs))?;
    drop(theirs);
    let mounts = (unmapped.as_deref(), &images);
    let parts = (child.process(), mounts, &ours);
    let joined = group.as_ref().map_or(Ok(()), |group| group.add(child.process().pid()));
    let result = joined.and_then(|()| accompany(launch, plan, parts, in_namespaces));
    let master = result.map_err(|error| ours.reported().unwrap_or(error))?;
    if let Some(group) = group {
        group.keep();
    }
    let agent = agent.map(|agent| agent.of_first(child.process().pid()));
    Ok(Created { process: child, shared, images: images.shared(), socket: ours, master, agent })
}

fn clone(prepared: Prepared<'_>, (ours, theirs): (&Socket, &Socket)) -> Result<Unstarted, Error> {
    let plan = prepared.plan;
    let cgroup = prepared.launch.cgroup.and_then(Cgroup::v2_fd);
    let child = plan.clone(cgroup, || {
        ours.close_in_child();
        child::run(prepared, theirs)
    })?;
    Ok(Unstarted::new(child))
}

/// The recipe that faces `child::set_up`.
fn accompany(
    launch: &Launch<'_>,
    plan: &Plan,
    (child, (unmapped, images), socket): (&Process, (Option<&[Unmapped]>, &Images), &Socket),
    in_namespaces: &mut Furnish<'_>,
) -> Result<Option<OwnedFd>, Error> {
    let spec = launch.spec;
    if let Some(process) = spec.process() {
        program::set_oom_score(child.pid(), process)?;
        program::raise_limits(child.pid(), process)?;
    }
    // Point 1: only with a user namespace. Afterwards the child hides, and without privilege its
    // namespaces cannot be opened any more.
    let mut namespaces = Namespaces { pid: child.pid(), plan, net: None };
    if plan.maps_ids() {
        namespaces.net = Some(namespaces.net().doing(|| "open the network namespace")?);
        if let Some(linux) = spec.linux().as_ref().filter(|_| plan.is_new(LinuxNamespaceType::User))
        {
            write_id_maps(child.pid(), linux)?;
        }
        let root =
            unmapped.map(|mounts| map_files(launch, child.pid(), (mounts, images))).transpose()?;
        socket.tell(Point::Mapped, root.as_ref())?;
    }
    // Point 2: whoever looks at the child from now on finds it in its cgroup.
    if launch.cgroup.map_or(Ok(false), |cgroup| cgroup.admit(child.pid()))? {
        socket.tell(Point::Admitted, None)?;
    }
    socket.expect(Point::Attached)?;
    if let Some(cgroup) = launch.cgroup {
        cgroup.settle()?;
    }
    if plan.maps_ids() && unmapped.is_some() {
        mount::map_for_child(launch, child.pid(), socket)?;
    }
    // Point 3.
    if launch.oci.as_ref().is_some_and(|oci| oci.hooks_at.is_some()) {
        socket.expect(Point::Placed)?;
    }
    if spec.linux().as_ref().is_some_and(|linux| linux.net_devices().is_some()) {
        netdev::move_all(spec, &namespaces.net().doing(|| "open the network namespace")?)?;
    }
    in_namespaces(&namespaces).map_err(Error::Prepare)?;
    socket.tell(Point::Furnished, None)?;
    // Point 4.
    socket.expect(Point::Ready)
}

/// Makes the files that the container finds belong to its ids; gives its root file system.
fn map_files(
    launch: &Launch<'_>,
    pid: i32,
    (mounts, images): (&[Unmapped], &Images),
) -> Result<OwnedFd, Error> {
    let ids = IdMap::of(pid)?;
    launch.stdio.give_pipes(ids.root());
    mounts.iter().try_for_each(|mount| mount.map(&ids))?;
    if launch.map_rootfs {
        return mount::rootfs::make_mapped(launch.rootfs, images, &ids);
    }
    mount::rootfs::make(launch.rootfs, images)
}

/// Refuses what is wrong before anything is made.
pub(crate) fn check(
    spec: &Spec,
    process: &oci::runtime::Process,
    plan: &Plan,
) -> Result<(), Error> {
    let foreign = [
        (spec.solaris().is_some(), "solaris"),
        (spec.windows().is_some(), "windows"),
        (spec.vm().is_some(), "vm"),
        (spec.zos().is_some(), "zos"),
    ];
    if let Some((_, section)) = foreign.iter().find(|(given, _)| *given) {
        return Err(Error::Unsupported(format!("the section `{section}`, which is not Linux',")));
    }
    program::check_limits(process)?;
    sysctl::check(spec, plan)?;
    label::check_mounts(spec)?;
    netdev::check(spec, plan)
}

pub(crate) fn compile(profile: Option<&LinuxSeccomp>) -> Result<Option<Filter>, Error> {
    let filter = profile.map(seccomp::compile).transpose()?;
    match filter.as_ref().and_then(Filter::unknown_flag) {
        Some(flag) => Err(Error::Unsupported(format!("{flag} by this kernel"))),
        None => Ok(filter),
    }
}

/// A container that stands right before its program; dropping it kills it.
#[derive(Debug)]
pub struct Created {
    process: Unstarted,
    shared: Option<OnHost>,
    images: Images,
    socket: Socket,
    master: Option<OwnedFd>,
    agent: Option<Agent>,
}

impl Created {
    /// The first process, in the caller's process namespace.
    pub fn pid(&self) -> i32 {
        self.process.process().pid()
    }

    /// The master of the terminal; the first time only.
    pub fn take_master(&mut self) -> Option<OwnedFd> {
        self.master.take()
    }

    /// Lets it wait: at its gate, even after this process has ended; without one, for
    /// [`Waiting::start`], and it ends when that is dropped.
    pub(crate) fn hand_over(self) -> (Process, Waiting) {
        if let Some(shared) = self.shared {
            shared.keep();
        }
        let waiting = Waiting { socket: self.socket, agent: self.agent };
        (self.process.release().with_master(self.master).with_images(self.images), waiting)
    }

    /// Executes the program of a container without a gate.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::NotExecutable`] for the program itself; the container is
    /// gone then.
    pub fn start(self) -> Result<Process, Error> {
        let process = self.process.process();
        start(&self.socket, self.agent.as_ref(), (process.pid(), process.pidfd()))?;
        Ok(self.hand_over().0)
    }
}

/// The way to a container that waits for its creator to start it.
#[derive(Debug)]
pub(crate) struct Waiting {
    socket: Socket,
    agent: Option<Agent>,
}

impl Waiting {
    /// As [`Created::start`]; the container is stopped after an error.
    pub(crate) fn start(self, process: &Process) -> Result<(), Error> {
        start(&self.socket, self.agent.as_ref(), (process.pid(), process.pidfd()))
    }
}

/// Points 5 and 6: the child executes its program, or says why not.
pub(crate) fn start(
    socket: &Socket,
    agent: Option<&Agent>,
    process: (i32, BorrowedFd<'_>),
) -> Result<(), Error> {
    let told = socket.tell(Point::Start, None);
    if let (Ok(()), Some(agent)) = (&told, agent) {
        agent.introduce(process, socket)?;
    }
    match socket.hear(Point::Start)? {
        Heard::End => told,
        Heard::Point(_) => Err(Error::kernel("start the program", rustix::io::Errno::PROTO)),
    }
}

//! The child's half of the creation of a container; the parent's stands in `parent.rs`.

use std::os::fd::{AsFd as _, OwnedFd};

use oci::runtime::{LinuxNamespaceType, LinuxPersonalityDomain, Spec};
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::cgroup::Entry;
use crate::credentials::Credentials;
use crate::error::{Doing, Error};
use crate::launch::Launch;
use crate::mount::{self, Placement, Sources};
use crate::namespace::{Plan, enter_time_namespace};
use crate::program::{self, Program};
use crate::seccomp::Filter;
use crate::sync::{Kept, Point, Sync};
use crate::{hook, init};
use crate::{sys, sysctl, terminal};

/// `PER_LINUX32` of personality(2): uname(2) tells of a 32-bit machine.
const PER_LINUX32: libc::c_ulong = 0x8;

/// What the parent decides and opens before it clones.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) launch: &'a Launch<'a>,
    pub(crate) process: &'a oci::runtime::Process,
    pub(crate) plan: &'a Plan,
    pub(crate) filter: Option<&'a Filter>,
    /// The host's null device.
    pub(crate) null: OwnedFd,
    /// Made by the parent where the child's user could not reach them.
    pub(crate) sources: Option<Sources>,
    /// The way into the cgroup.
    pub(crate) entry: Option<Entry>,
}

/// Becomes the container; returns only an exit code, after a failure.
pub(crate) fn run(prepared: Prepared<'_>, sync: &Sync) -> i32 {
    let error = become_container(prepared, sync);
    sync.fail(&error);
    error.exit_code()
}

fn become_container(prepared: Prepared<'_>, sync: &Sync) -> Error {
    let init = prepared.launch.init;
    match set_up(prepared, sync) {
        Ok(program) if init => init::serve(sync, || {
            let error = program.execute();
            sync.fail(&error);
            error.exit_code()
        }),
        Ok(program) => program.execute(),
        Err(error) => error,
    }
}

// recipe: the order of these steps is the security of the container.
fn set_up(prepared: Prepared<'_>, sync: &Sync) -> Result<Program, Error> {
    let Prepared { launch, process, plan, filter, null, sources, entry } = prepared;
    let (spec, oci) = (launch.spec, launch.oci.as_ref());
    let (no_pivot, hooks_at) = oci.map_or((false, None), |oci| (oci.no_pivot, oci.hooks_at));
    sys::reset_signals();
    umask(Mode::empty());

    // Point 1: a process without a mapped id may do nothing.
    let mut files = None;
    if plan.maps_ids() {
        files = sync.expect(Point::Mapped)?;
    }
    // Point 2: before anything is made that is to be counted.
    entry.map_or(Ok(()), |entry| entry.enter())?;
    sync.tell(Point::Attached, None)?;
    plan.join()?;
    enter_cgroup_namespace(plan)?;
    if plan.maps_ids() {
        become_root_inside()?;
    }
    if let Some(linux) = spec.linux().as_ref().filter(|_| plan.is_new(LinuxNamespaceType::Time)) {
        enter_time_namespace(linux)?;
    }
    // Nobody in a joined namespace may look into this process, which still is the runtime.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the memory")?;
    rustix::process::setsid().doing(|| "start a session")?;
    if !oci.is_some_and(|oci| oci.keep_keyring) {
        sys::new_session_keyring().doing(|| "make a session keyring")?;
    }
    set_names(spec, plan)?;

    // The host's view ends with `enter`, unless hooks still need it.
    let mut sources = match sources {
        Some(sources) => sources,
        None => make_sources(launch, plan)?,
    };
    let files = files.map_or_else(|| mount::rootfs::make(launch.rootfs), Ok)?;
    sources.make_own(spec)?;
    let parameters = sysctl::open(spec)?;
    let root = match hooks_at {
        None => Sources::enter(&files, spec, no_pivot)?,
        Some(path) => Sources::show(&files, spec, path)?,
    };
    drop(files);

    let mut placement = Placement::new(launch, &root);
    placement.place_all(&mut sources)?;
    program::create_cwd(&root, process)?;
    let pty = program::open_terminal(&root, &launch.stdio)?;
    if let Some(pty) = &pty {
        terminal::bind_console(&root, pty.slave.as_fd())?;
    }
    placement.restrict(&sources)?;

    // Point 3: parameters of network interfaces need the interfaces.
    if hooks_at.is_some() {
        sync.tell(Point::Placed, None)?;
    }
    sync.expect(Point::Furnished)?;
    if hooks_at.is_some() {
        hook::run_create_container(launch)?;
        Sources::change_root(root.as_fd(), no_pivot)?;
    }
    sysctl::write(spec, parameters.as_ref())?;
    placement.finish()?;
    drop((placement, sources, parameters));

    let identity = program::identity(&root, process, launch.user, launch.group_add)?;
    let kept = Kept::of(oci);
    let program = Program::new(process, &identity.home)?.inheriting(kept.inherited);
    let credentials = Credentials::new(process, filter)?;
    let null = program::null_device(&root, null);
    program::set_stdio(&launch.stdio, pty.as_ref(), null.as_fd(), identity.uid)?;
    program::enter_cwd(&root, process)?;
    set_personality(spec)?;
    program::set_attributes(process)?;
    credentials.become_user(&identity)?;

    if oci.is_some() {
        program.find()?;
    }

    // Point 4: everything that can fail for the specification's sake is done.
    drop((root, null));
    let master = pty.map(|pty| pty.master);
    sync.tell_ready(master.as_ref(), kept)?;
    drop(master);
    // Point 5.
    match kept.gate {
        None => drop(sync.expect(Point::Start)?),
        Some(gate) => sync.await_start(gate)?,
    }
    let hooks = hook::start_container(launch, &program)?;
    credentials.confine()?;
    // They are files of the container: its confinement is theirs.
    hooks.run()?;
    Ok(program)
}

/// Makes the sources where no other user namespace, or no privilege, keeps the child from it.
fn make_sources(launch: &Launch<'_>, plan: &Plan) -> Result<Sources, Error> {
    let sources = Sources::make(launch, plan.maps_ids())?;
    match sources.unmapped(launch.spec)?.first() {
        None => Ok(sources),
        Some(_) if plan.maps_ids() => {
            Err(Error::Unsupported("mapping the ids of a mount without privilege".into()))
        }
        Some(_) => Err(Error::Spec("a mount with mapped ids needs a user namespace".into())),
    }
}

/// Becomes root of the user namespace: the caller's ids have no name in it.
pub(crate) fn become_root_inside() -> Result<(), Error> {
    let doing = || "become root of the user namespace";
    // Refused where groups cannot be dropped; then they are harmless.
    let _ = set_thread_groups(&[]);
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).doing(doing)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).doing(doing)
}

fn set_names(spec: &Spec, plan: &Plan) -> Result<(), Error> {
    let uts = LinuxNamespaceType::Uts;
    let own = plan.is_new(uts) || plan.joined(uts).is_some();
    let name = |name: &'_ Option<String>| name.clone().filter(|name| !name.is_empty());
    if let Some(name) = name(spec.hostname()) {
        require(own, "a host name needs a UTS namespace of the container's own")?;
        rustix::system::sethostname(name.as_bytes()).doing(|| format!("set host name `{name}`"))?;
    }
    if let Some(name) = name(spec.domainname()) {
        require(own, "a domain name needs a UTS namespace of the container's own")?;
        rustix::system::setdomainname(name.as_bytes())
            .doing(|| format!("set domain name `{name}`"))?;
    }
    Ok(())
}

fn require(condition: bool, text: &str) -> Result<(), Error> {
    if condition { Ok(()) } else { Err(Error::Spec(text.into())) }
}

fn enter_cgroup_namespace(plan: &Plan) -> Result<(), Error> {
    if plan.is_new(LinuxNamespaceType::Cgroup) {
        sys::unshare(libc::CLONE_NEWCGROUP).doing(|| "make the Cgroup namespace")?;
    }
    Ok(())
}

fn set_personality(spec: &Spec) -> Result<(), Error> {
    let linux = spec.linux().as_ref();
    let Some(personality) = linux.and_then(|linux| linux.personality().as_ref()) else {
        return Ok(());
    };
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    };
    sys::personality(domain).doing(|| "set the personality")
}

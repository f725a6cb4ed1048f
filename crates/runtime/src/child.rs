//! The child's half of the creation of a container; the parent's stands in `parent.rs`.

use std::os::fd::{AsFd as _, OwnedFd};

use oci::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::umask;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::attribute::{Attributes, run_anywhere};
use crate::cgroup::Entry;
use crate::credentials::{Credentials, hide_memory};
use crate::error::{Doing, Error};
use crate::label::Labels;
use crate::launch::Launch;
use crate::mount::{self, Images, Placement, Sources};
use crate::namespace::{Plan, enter_time_namespace};
use crate::program::{self, Program};
use crate::rtnetlink::switch_loopback_on;
use crate::seccomp::Filter;
use crate::sync::{Kept, Point, Sync};
use crate::sys::memory::Given;
use crate::weak::weakened;
use crate::{hook, init};
use crate::{sys, sysctl, terminal};

/// What the parent decides and opens before it clones.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) launch: &'a Launch<'a>,
    pub(crate) process: &'a oci::runtime::Process,
    pub(crate) plan: &'a Plan,
    pub(crate) confined: Confined<'a>,
    /// The host's null device.
    pub(crate) null: OwnedFd,
    /// Of the root file system, mounted where no rule for devices holds.
    pub(crate) images: &'a Images,
    /// Made by the parent where the child's user could not reach them.
    pub(crate) sources: Option<Sources>,
    /// The way into the cgroup.
    pub(crate) entry: Option<Entry>,
    /// Of the caller's; where there is somebody who could read it.
    pub(crate) given: Option<Given>,
}

/// What a process gets on the way to its program, besides its rights; read and checked before.
#[derive(Debug)]
pub(crate) struct Confined<'a> {
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) attributes: Attributes,
    pub(crate) labels: Option<Labels>,
}

impl Confined<'_> {
    /// A session keyring of the process' own, with its label.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn make_keyring(&self) -> Result<(), Error> {
        self.labels.as_ref().map_or(Ok(()), |labels| labels.label_keyrings(true))?;
        sys::new_session_keyring().doing(|| "make a session keyring")?;
        self.labels.as_ref().map_or(Ok(()), |labels| labels.label_keyrings(false))
    }

    /// Gives the process its attributes, and its label from execve(2) on.
    ///
    /// # Errors
    /// Names what the kernel refused.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        self.attributes.apply()?;
        self.labels.as_ref().map_or(Ok(()), Labels::apply)
    }
}

/// Becomes the container; returns only an exit code, after a failure.
pub(crate) fn run(prepared: Prepared<'_>, sync: &Sync) -> i32 {
    let error = become_container(prepared, sync);
    sync.fail(&error);
    error.exit_code()
}

fn become_container(prepared: Prepared<'_>, sync: &Sync) -> Error {
    let init = prepared.launch.init;
    let given = prepared.given.filter(|_| prepared.confined.filter.is_none_or(init::may_forget));
    match set_up(prepared, sync) {
        Ok(program) if init => init::serve(sync, given, || {
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
    let Prepared { launch, process, plan, confined, null, images, sources, entry, given } =
        prepared;
    let (spec, oci) = (launch.spec, launch.oci.as_ref());
    let hooks_at = oci.and_then(|oci| oci.hooks_at);
    sys::reset_signals();
    umask(Mode::empty());
    if let Some(given) = given {
        given.forget(if launch.init { init::NAME } else { "" });
    }

    // Point 1: a process without a mapped id may do nothing.
    let mut files = None;
    if plan.maps_ids() {
        files = sync.expect(Point::Mapped)?;
    }
    // Point 2: before anything is made that is to be counted.
    if entry.as_ref().is_some_and(Entry::waits) {
        sync.expect(Point::Admitted)?;
    }
    entry.map_or(Ok(()), Entry::enter)?;
    sync.tell(Point::Attached, None)?;
    run_anywhere();
    plan.join()?;
    enter_cgroup_namespace(plan)?;
    // While the files of this process in procfs are its own: changing ids hides them.
    if let Some(linux) = spec.linux().as_ref().filter(|_| plan.is_new(LinuxNamespaceType::Time)) {
        enter_time_namespace(linux)?;
    }
    if plan.maps_ids() {
        become_root_inside()?;
    }
    // Nobody in a joined namespace may look into this process, which still is the runtime.
    hide_memory()?;
    rustix::process::setsid().doing(|| "start a session")?;
    if !launch.keep_keyring && !weakened("keyring-kept") {
        confined.make_keyring()?;
    }
    set_names(spec, plan)?;
    if plan.is_new(LinuxNamespaceType::Network) {
        switch_loopback_on().doing(|| "switch the loopback link on")?;
    }

    // The host's view ends with `enter`, unless hooks still need it.
    let helped = sources.is_some() && plan.maps_ids();
    let mut sources = match sources {
        Some(sources) => sources,
        None => make_sources(launch, plan)?,
    };
    let files = files.map_or_else(|| mount::rootfs::make(launch.rootfs, images), Ok)?;
    sources.make_own(launch)?;
    let parameters = sysctl::open(spec)?;
    #[cfg(weaken)]
    crate::weak::place_by_path(launch);
    let shared = plan.shares_mounts();
    let root = match hooks_at {
        _ if shared => Sources::share(&files, launch.rootfs)?,
        None => Sources::enter(&files, launch)?,
        Some(path) => Sources::show(&files, spec, path)?,
    };
    if shared && hooks_at.is_none() {
        Sources::change_root(root.as_fd(), true)?;
    }
    drop(files);

    let mut placement = Placement::new(launch, &root, helped.then_some(sync));
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
        if launch.no_pivot && !shared {
            mount::take_kernel_files_away(hooks_at)?;
        }
        Sources::change_root(root.as_fd(), launch.no_pivot || shared)?;
    }
    sysctl::write(spec, parameters.as_ref())?;
    placement.finish()?;
    drop((placement, sources, parameters));

    let identity = program::identity(&root, process, launch.user, launch.group_add)?;
    let kept = Kept::of(oci);
    let program = Program::new(process, &identity.home)?.inheriting(kept.inherited);
    let credentials = Credentials::new(process, confined.filter)?;
    let null = program::null_device(&root, null);
    program::set_stdio(&launch.stdio, pty.as_ref(), null.as_fd(), identity.uid)?;
    if pty.is_some() {
        program::take_terminal()?;
    }
    confined.attributes.scheduling.apply(0)?;
    confined.apply()?;
    program::enter_cwd_as(&root, process, || credentials.become_user(&identity))?;
    program::set_limits(process)?;

    if oci.is_some() {
        program.find()?;
    }

    // Point 4: everything that can fail for the specification's sake is done.
    drop((root, null, confined));
    let master = pty.map(|pty| pty.master);
    sync.tell_ready(master.as_ref(), kept)?;
    drop(master);
    // Point 5.
    match kept.gate {
        None => drop(sync.expect(Point::Start)?),
        Some(gate) => sync.await_start(gate)?,
    }
    let hooks = hook::start_container(launch, &program)?;
    program.close_on_execute()?;
    credentials.confine(launch.init || hooks.is_some(), sync)?;
    // They are files of the container: its confinement is theirs.
    hooks.run()?;
    Ok(program)
}

/// Makes the sources where no other user namespace, or no privilege, keeps the child from it.
fn make_sources(launch: &Launch<'_>, plan: &Plan) -> Result<Sources, Error> {
    let sources = Sources::make(launch, plan.maps_ids(), false)?;
    match sources.unmapped(launch)?.first() {
        None => Ok(sources),
        Some(_) if plan.maps_ids() => {
            Err(Error::Unsupported("mapping the ids of a mount without privilege".into()))
        }
        Some(_) => Err(no_user_namespace()),
    }
}

/// Whose ids a mount is to have that brings no map of its own.
pub(crate) fn no_user_namespace() -> Error {
    Error::Spec("a mount with mapped ids needs a user namespace, or a map of its own".into())
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

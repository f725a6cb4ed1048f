//! From a bundle to a container that waits to be started.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci::Rootfs;
use oci::runtime::{ContainerState, Hook, LinuxNamespaceType, LinuxResources, Spec};

use super::cgroup_path::Place;
use super::record::{Access, Directory, Record};
use super::{Bundle, Console, Container, Error, checkpoint, delete, gate, stdio};
use crate::cgroup::Cgroup;
use crate::error::{Doing, Error as RuntimeError};
use crate::launch::{Launch, Oci};
use crate::parent::{Created, Waiting};
use crate::process::Process;
use crate::{hook, signal};

/// A container to create.
#[derive(Debug)]
pub struct Create<'a> {
    /// The state root.
    pub root: &'a Path,
    /// Unique below the state root.
    pub id: &'a str,
    /// What to create it from.
    pub bundle: Bundle,
    /// Who gets the terminal.
    pub console: Console,
    /// [`Started::start`] follows at once: nobody else is to start it.
    pub at_once: bool,
    /// Where the number of the first process is written; absent until it is whole.
    pub pid_file: Option<&'a Path>,
    /// A socket that is sent a descriptor of the first process.
    pub pidfd_socket: Option<&'a Path>,
    /// How many descriptors from 3 on are sockets of systemd's for the program; see
    /// [`check_inherited`](super::check_inherited).
    pub listening: u32,
    /// How many descriptors behind those the program inherits as well.
    pub preserved: u32,
    /// Whoever starts the program tells a supervisor when it is ready (sd_notify(3)).
    pub supervised: bool,
    /// The cgroup's path is systemd's.
    pub systemd_cgroup: bool,
    /// Without privilege: the cgroup lies beside the caller's own or is the user's systemd's, and
    /// there is none where none can be made and no limit was asked for.
    pub cgroup_optional: bool,
    /// See [`Launch::no_pivot`].
    pub no_pivot: bool,
    /// See [`Launch::keep_keyring`].
    pub keep_keyring: bool,
    /// The time, in nanoseconds since 1970.
    pub now_ns: u64,
}

/// A container of this process' own making.
#[derive(Debug)]
pub struct Started {
    /// Its first process, a child of this one.
    pub process: Process,
    /// The master of its terminal, where that is the caller's.
    pub master: Option<OwnedFd>,
    container: Container,
    spec: Spec,
    cgroup: Option<Cgroup>,
    /// Where it has no gate.
    waiting: Option<Waiting>,
}

impl Started {
    /// One whose program runs already.
    pub(super) fn running(
        process: Process,
        master: Option<OwnedFd>,
        container: Container,
        spec: Spec,
    ) -> Result<Started, Error> {
        let cgroup = container.cgroup()?;
        Ok(Started { process, master, container, spec, cgroup, waiting: None })
    }

    /// Starts the program, as [`start`](super::start) does; a supervisor is to watch the program,
    /// or this process with `attended`.
    ///
    /// # Errors
    /// As [`start`](super::start); the container remains, stopped.
    pub fn start(&mut self, supervisor: Option<&Path>, attended: bool) -> Result<(), Error> {
        let own = rustix::process::getpid().as_raw_pid();
        let main = if attended { own } else { self.process.pid() };
        let (container, spec) = (&self.container, &self.spec);
        match self.waiting.take() {
            None => container.start(spec, supervisor, main),
            Some(waiting) => container.start_by(spec, supervisor, main, || {
                waiting.start(&self.process).map_err(Error::of_start)?;
                gate::unmark(container.directory.as_fd());
                Ok(())
            }),
        }
    }

    /// Lets others at the container.
    pub fn unlock(&self) {
        self.container.directory.unlock();
    }

    /// Deletes the container, as [`delete`](super::delete()) with `force` does.
    ///
    /// # Errors
    /// As [`delete`](super::delete()); [`Error::NotExist`] when somebody else has deleted it.
    pub fn delete(self) -> Result<Vec<RuntimeError>, Error> {
        drop(self.waiting);
        self.container.directory.lock(Access::Change)?;
        delete::destroy(&self.container, Some(&self.spec), self.cgroup)
    }
}

impl Create<'_> {
    /// Creates the container. Afterwards it is locked until the result is dropped or unlocked.
    ///
    /// # Errors
    /// Whatever prevents it; nothing of it is left then.
    pub fn create(self) -> Result<Started, Error> {
        let spec = &self.bundle.spec;
        let place = Place::of(spec, self.id, self.systemd_cgroup, self.cgroup_optional)?;
        let directory = Directory::make(self.root, self.id)?;
        let mut record = record(&self.bundle, self.id, &place, self.now_ns)?;
        record.keep_keyring = self.keep_keyring;
        let mut container = Container { directory, record };
        let mut cgroup = None;
        match self.create_in(&mut container, &place, &mut cgroup) {
            Ok((process, master, waiting)) => {
                let spec = self.bundle.spec;
                Ok(Started { process, master, container, spec, cgroup, waiting })
            }
            Err(error) => {
                // What went wrong first is what matters.
                let _ = delete::destroy(&container, Some(spec), cgroup);
                Err(error)
            }
        }
    }

    fn create_in(
        &self,
        container: &mut Container,
        place: &Place,
        cgroup: &mut Option<Cgroup>,
    ) -> Result<(Process, Option<OwnedFd>, Option<Waiting>), Error> {
        // From here on, what is made can be found and deleted.
        container.directory.write(&container.record)?;
        container.directory.write_spec(&self.bundle.bytes)?;
        *cgroup = self.make_cgroup(place).inspect_err(|_| {
            // Nothing of it is ours then, and it may be another's.
            (container.record.cgroup, container.record.unit) = (None, None);
        })?;
        container.record.cgroup = cgroup.as_ref().map(Cgroup::path);
        let directory = container.directory.as_fd();
        let gate = match self.at_once {
            true => gate::mark(directory).map(|()| None),
            false => gate::make(directory).map(Some),
        };
        let gate = gate.doing(|| "make the gate")?;
        let mut created =
            self.launch(container, cgroup.as_ref(), gate.as_ref().map(AsFd::as_fd))?;
        let master = self.console.deliver(created.take_master())?;
        if gate.is_some() {
            gate::open(container.directory.as_fd()).doing(|| "open the gate")?;
        }
        let (process, waiting) = created.hand_over();
        self.tell(&process).inspect_err(|_| {
            let _ = process.signal(libc::SIGKILL);
            let _ = process.wait();
        })?;
        Ok((process, master, Some(waiting).filter(|_| self.at_once)))
    }

    fn make_cgroup(&self, place: &Place) -> Result<Option<Cgroup>, Error> {
        let spec = &self.bundle.spec;
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().clone()).unwrap_or_default();
        place.make((spec, &with_default_devices(resources)), self.cgroup_optional)
    }

    fn launch(
        &self,
        container: &mut Container,
        cgroup: Option<&Cgroup>,
        gate: Option<BorrowedFd<'_>>,
    ) -> Result<Created, Error> {
        let mut spec = self.spec();
        if self.supervised {
            let place = self.root.join(self.id);
            super::notify::prepare(container.directory.as_fd(), &place, spec.to_mut())
                .doing(|| "make a socket for readiness")?;
        }
        let process = spec.process().as_ref();
        let process = process.ok_or_else(|| Error::Bundle("the process is missing".into()))?;
        let rootfs = Rootfs::Dir(self.bundle.rootfs.clone());
        let state = container.record.state();
        let hooks = spec.hooks().as_ref();
        let oci = Oci {
            gate,
            state: &state,
            hooks_at: hooks.is_some_and(hook::needs_host).then_some(&*self.bundle.rootfs),
            inherited: self.listening + self.preserved,
        };
        let launch = Launch {
            id: self.id,
            bundle: Some(&self.bundle.path),
            cgroup,
            state: Some(&state),
            no_pivot: self.no_pivot,
            keep_keyring: self.keep_keyring,
            oci: Some(oci),
            ..Launch::new(&spec, &rootfs, stdio::of(process, &self.console))
        };
        container.record.stdio = checkpoint::pipe_names(&launch.stdio);
        let created = crate::parent::create(&launch, &mut |namespaces| {
            container.record.pid = namespaces.pid;
            container.record.start_time = signal::start_time(namespaces.pid)?;
            container.directory.write(&container.record)?;
            let Some(hooks) = hooks else { return Ok(()) };
            let state = container.state(ContainerState::Creating);
            let call = |name, hooks: &Option<Vec<Hook>>| {
                let hooks = hooks.as_deref().unwrap_or_default();
                hook::Ready::new(name, hooks, &state).and_then(hook::Ready::run)
            };
            call("prestart", hook::prestart(hooks))?;
            Ok(call("createRuntime", hooks.create_runtime())?)
        });
        created.map_err(Error::of_init)
    }

    /// The specification, with what systemd's sockets need (sd_listen_fds(3)).
    fn spec(&self) -> Cow<'_, Spec> {
        let mut spec = Cow::Borrowed(&self.bundle.spec);
        if self.listening > 0
            && let Some(process) = spec.to_mut().process_mut()
        {
            let env = process.env_mut().get_or_insert_default();
            env.push(format!("LISTEN_FDS={}", self.listening));
            env.push("LISTEN_PID=1".into());
        }
        spec
    }

    /// Tells those who asked which process it is.
    fn tell(&self, process: &Process) -> Result<(), Error> {
        tell(process, self.pid_file, self.pidfd_socket)
    }
}

/// What is known of a container before there is anything of it.
pub(super) fn record(
    bundle: &Bundle,
    id: &str,
    place: &Place,
    now_ns: u64,
) -> Result<Record, Error> {
    let (cgroup, unit) = match place {
        Place::Path(path) => (Some(path.clone()), None),
        Place::Unit(unit) => (None, Some(unit.clone())),
    };
    let spec = &bundle.spec;
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let own_pid_namespace = namespaces
        .iter()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none());
    let kind = LinuxNamespaceType::Mount;
    let shared = !namespaces.iter().any(|namespace| namespace.typ() == kind);
    let root_mounts = shared.then(|| crate::mounts_on(&bundle.rootfs)).transpose()?;
    Ok(Record {
        oci_version: spec.version().clone(),
        id: id.into(),
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created_ns: now_ns,
        cgroup,
        unit,
        own_pid_namespace,
        root_mounts,
        annotations: spec.annotations().clone().unwrap_or_default(),
        ..Record::default()
    })
}

/// Writes the number of a process to a file and sends its descriptor to a socket.
pub(super) fn tell(
    process: &Process,
    pid_file: Option<&Path>,
    pidfd_socket: Option<&Path>,
) -> Result<(), Error> {
    if let Some(path) = pidfd_socket {
        super::send_descriptor(path, process.pidfd(), "pidfd")?;
    }
    let Some(path) = pid_file else { return Ok(()) };
    write_pid_file(path, process.pid()).doing(|| format!("write `{}`", path.display()))?;
    Ok(())
}

/// Appears at once with its content, by way of runc's name for what is not whole yet.
fn write_pid_file(path: &Path, pid: i32) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let fresh = path.with_file_name(hidden);
    let mut file = std::fs::File::options().write(true).create_new(true).open(&fresh)?;
    let written = file.write_all(pid.to_string().as_bytes());
    written.and_then(|()| std::fs::rename(&fresh, path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&fresh);
    })
}

/// What the specification promises every container (config-linux.md, "Default Devices"), for the
/// device controller: later rules win.
pub(super) fn with_default_devices(mut resources: LinuxResources) -> LinuxResources {
    let mut rules = resources.devices().clone().unwrap_or_default();
    rules.extend(super::device::default_rules());
    resources.set_devices(Some(rules));
    resources
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Error {
        RuntimeError::kernel("read the state of a process", source).into()
    }
}

//! Pods: containers that run nothing, and lend their namespaces to others.
//!
//! A pod has what a container has on this machine — a record, a name, places on networks, published
//! ports, a control group, a monitor — but no program, and so no process: its monitor holds the
//! namespaces by descriptors, and its memory by mounts in a mount namespace of its own. What is in
//! the pod opens them there (docs/decisions/0035-pods-without-a-process.md).

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use oci::runtime::{LinuxCpu, LinuxResources};
use runtime::cgroup::Cgroup;
use runtime::{HeldNamespaces, PodNamespaces, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use crate::container::{Container, State, Status, boot};
use crate::create::Origin;
use crate::error::{Doing, Error, Kind, Result};
use crate::file::create_dir;
use crate::hold::{Ended, Monitor, own_cgroup, startable};
use crate::image::{from_cgroup, from_runtime};
use crate::join::SHM;
use crate::memory::MemoryEnd;
use crate::monitor::attach;
use crate::restart::End;
use crate::settings::{MountSource, NetworkMode, Settings, Sharing};
use crate::spec::Joined;
use crate::{Engine, clock, network, spec, stop};

/// Bytes of /dev/shm; that of other container runtimes of Kubernetes.
const SHM_BYTES: u64 = 64 << 20;
/// The weight of a container that asks for none, or for one processor.
const SHARES_PER_PROCESSOR: u64 = 1024;
/// The memory that is /dev/shm; no name of a volume is like this.
const SHM_NAME: &str = "dev.shm";

/// What a pod has while it runs.
struct Running {
    /// What keeps the namespaces.
    _held: HeldNamespaces,
    /// What keeps the host's ports from everybody else.
    _ports: Vec<OwnedFd>,
    memories: Vec<PathBuf>,
}

impl Container {
    /// Whether it has a process of its own to be looked into.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for a pod.
    pub(crate) fn runs_something(&self) -> Result<()> {
        if self.record.settings.pod.is_none() {
            return Ok(());
        }
        let message = format!("{} is a pod, in which no program runs", self.record.name);
        Err(Error::new(Kind::Unsupported, message).hint("take one of the pod's containers"))
    }

    fn memory(&self, name: &str) -> PathBuf {
        self.run_dir.join("memory").join(name)
    }
}

impl Engine {
    /// Creates a pod, as [`Settings::pod`] says; [`Engine::start`] makes its namespaces.
    ///
    /// # Errors
    /// As of [`Engine::create`].
    pub fn create_pod(&self, mut settings: Settings) -> Result<Container> {
        settings.pod.get_or_insert_default();
        // So that it has what every record has; nothing of it is executed.
        settings.cmd = vec!["pod".into()];
        settings.log.driver = "none".into();
        let _lease = self.store.lease()?;
        let origin = Origin { image_id: oci::Digest::of(b""), layers: Vec::new(), manifest: None };
        self.create_of(settings, origin, &oci::ImageConfig::default())
    }

    /// Removes the control group of a pod of which nothing is left, if it is still there: monitors remove
    /// it with what they hold, unless they are killed.
    ///
    /// # Errors
    /// Something runs in it.
    pub fn remove_group(&self, path: &Path) -> Result<()> {
        match Cgroup::open(path) {
            Ok(group) => group.delete().map_err(from_cgroup),
            // There is none.
            Err(_) => Ok(()),
        }
    }

    /// Makes a pod's namespaces, and holds them until it is asked to end.
    pub(crate) fn hold_pod(
        &self,
        mut container: Container,
        started: &mut dyn FnMut(),
    ) -> Result<i32> {
        let lock = container.lock()?;
        startable(&container)?;
        let signals = SignalFd::ending().doing(|| "take over signals".into())?;
        let mut monitor = Monitor::new(&container)?;
        let begun = Instant::now();
        let running = match self.begin_pod(&mut container) {
            Ok(running) => running,
            Err(error) => {
                self.bury(&mut container);
                container.state = State { error: error.to_string(), ..container.state.anew() };
                container.save()?;
                return Err(error);
            }
        };
        self.emit_start(&container);
        drop(lock);
        started();
        wait(&monitor, &signals);
        for path in &running.memories {
            runtime::unmount_memory(path);
        }
        let end = End { code: 0, unhealthy: false, ran: begun.elapsed() };
        let memory = MemoryEnd::default();
        let ended = Ended { end, health: None, memory, note: "", failure: None };
        drop(running);
        self.end_run(&mut container, &mut monitor, &ended, None).map(|_| 0)
    }

    fn begin_pod(&self, container: &mut Container) -> Result<Running> {
        self.take_places(container)?;
        let places = container.state.places.clone();
        let reserved = self.reserve_ports(container, network::published_at(&places))?;
        network::write_files(container, &places, &[])?;
        let settings = &container.record.settings;
        make_group(container)?;
        let memories = make_memories(container)?;
        let hostname = container.record.config_hostname();
        let sysctls = spec::sysctls(settings).into_iter().collect();
        let asked = PodNamespaces {
            hostname: (!settings.security.host_uts).then_some(hostname.as_str()),
            network: settings.network != NetworkMode::Host,
            ipc: settings.security.ipc != Sharing::Host,
            shares_processes: settings.pod.as_ref().is_some_and(|pod| pod.shares_processes),
            sysctls: &sysctls,
        };
        let held = asked.make().map_err(from_runtime)?;
        if let Some(namespace) = held.namespaces.get("net") {
            self.attach_places(namespace.as_fd(), &places, &reserved.ports)?;
            // It may be one of those that answer for a service, and ask that service itself.
            for place in &places {
                net::service::Table::reflect(&place.endpoint).map_err(network::from_net)?;
            }
        }
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let start = runtime::start_time(own).unwrap_or(0);
        let pins = held.namespaces.iter();
        let pins = pins.map(|(name, fd)| ((*name).to_owned(), fd.as_raw_fd())).collect();
        container.state = State {
            status: Status::Running,
            pid: own,
            pid_start: start,
            monitor_pid: own,
            monitor_start: start,
            boot: boot(),
            started_at: clock::now(),
            places,
            ports: reserved.ports,
            pins,
            ..container.state.anew()
        };
        container.save()?;
        Ok(Running { _held: held, _ports: reserved.sockets, memories })
    }

    /// Opens the namespaces of the pod that a container is to be in, and its memory.
    pub(crate) fn join_pod(
        &self,
        settings: &Settings,
        hold: &mut dyn FnMut(OwnedFd) -> PathBuf,
    ) -> Result<(Joined, Vec<(PathBuf, OwnedFd)>)> {
        let pod = self.donor(&settings.in_pod, "namespaces")?;
        let mut pinned = |name: &str, wanted: bool| {
            let pin = pod.state.pins.get(name).filter(|_| wanted);
            pin.map(|fd| pinned(&pod, name, *fd).map(&mut *hold)).transpose()
        };
        let security = &settings.security;
        let joined = Joined {
            network: pinned("net", settings.network != NetworkMode::Host)?,
            ipc: pinned("ipc", security.ipc != Sharing::Host)?,
            uts: pinned("uts", !security.host_uts)?,
            pid: pinned("pid", security.pid != Sharing::Host)?,
        };
        let mut mounts = Vec::new();
        if security.ipc != Sharing::Host {
            mounts.push((PathBuf::from(SHM), memory_of(&pod, SHM_NAME)?));
        }
        for mount in &settings.mounts {
            if let MountSource::Memory { name } = &mount.source {
                mounts.push((PathBuf::from(&mount.target), memory_of(&pod, name)?));
            }
        }
        Ok((joined, mounts))
    }
}

/// Waits until somebody wants the pod to end; who wants to attach learns that there is nothing.
fn wait(monitor: &Monitor, signals: &SignalFd) {
    loop {
        let listener = monitor.listener.as_ref().map(|listener| listener.as_fd());
        let mut set = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        set.extend(listener.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        if rustix::io::retry_on_intr(|| poll(&mut set, None)).is_err() {
            return;
        }
        if !set[0].revents().is_empty() {
            return;
        }
        if let Some(listener) = &monitor.listener {
            drop(attach::accept(listener));
        }
    }
}

/// Makes the pod's control group, with its limits, and its own place in it, which is empty: it keeps
/// the group while no container is there. What all pods are in has the weight of the whole machine, so
/// that they share it with everything else as if each of its processors were a container.
fn make_group(container: &Container) -> Result<()> {
    let settings = &container.record.settings;
    let mut limits = spec::resources(settings, &[])?;
    // Each container says itself what it may reach.
    limits.set_devices(None);
    own_cgroup(container, Some(&limits))?;
    let path = container.cgroup_path();
    let mut groups = path.ancestors().skip(1).filter(|path| path.parent().is_some());
    let apply = |path: &Path, limits: &LinuxResources| {
        Cgroup::open(path).and_then(|group| group.update(limits)).map_err(from_cgroup)
    };
    if let Some(group) = groups.next() {
        apply(group, &limits)?;
    }
    if let Some(all) = groups.next() {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(Some(SHARES_PER_PROCESSOR.saturating_mul(processors as u64)));
        let mut limits = LinuxResources::default();
        limits.set_cpu(Some(cpu));
        apply(all, &limits)?;
    }
    Ok(())
}

/// Mounts a pod's memory where its monitor alone sees it.
fn make_memories(container: &Container) -> Result<Vec<PathBuf>> {
    let asked = container.record.settings.pod.iter().flat_map(|pod| &pod.memory);
    let mut memories = vec![(container.memory(SHM_NAME), SHM_BYTES, 0o1777)];
    memories.extend(asked.map(|(name, bytes)| (container.memory(name), *bytes, 0o777)));
    for (path, ..) in &memories {
        create_dir(path)?;
    }
    runtime::mount_memories(&memories).map_err(from_runtime)?;
    Ok(memories.into_iter().map(|(path, ..)| path).collect())
}

/// The network namespace of a pod that has one of its own.
pub(crate) fn network_of(pod: &Container) -> Result<Option<OwnedFd>> {
    pod.state.pins.get("net").map(|fd| pinned(pod, "net", *fd)).transpose()
}

/// A namespace that the monitor of a pod holds.
fn pinned(pod: &Container, name: &str, number: i32) -> Result<OwnedFd> {
    let monitor = stop::running(pod)?;
    let doing = || format!("open the {name} namespace of pod {}", pod.record.name);
    let path = format!("/proc/{}/fd/{number}", pod.state.pid);
    let namespace = std::fs::File::open(path).doing(doing)?;
    // While the monitor is there, nothing else has its number.
    if stop::ends_within(&monitor, Some(std::time::Duration::ZERO)).doing(doing)? {
        return Err(stop::not_running(pod));
    }
    Ok(namespace.into())
}

fn memory_of(pod: &Container, name: &str) -> Result<OwnedFd> {
    let monitor = stop::running(pod)?;
    runtime::copy_of(monitor.as_fd(), &pod.memory(name)).map_err(from_runtime)
}

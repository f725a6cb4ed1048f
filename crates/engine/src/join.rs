//! Namespaces that a container shares with another.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::container::Container;
use crate::error::{Doing, Error, Kind, Result};
use crate::image::from_runtime;
use crate::network::from_net;
use crate::settings::{NetworkMode, Settings, Sharing};
use crate::spec::Joined;
use crate::{Engine, stop};

/// Where shared memory is.
pub(crate) const SHM: &str = "/dev/shm";

/// What a container takes from others.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Their namespaces, by paths.
    pub(crate) joined: Joined,
    /// What keeps those paths true: a namespace stays as long as it is open.
    #[expect(dead_code, reason = "it is held as long as the descriptors are open")]
    namespaces: Vec<OwnedFd>,
    /// Their mounts, and where those go.
    pub(crate) mounts: Vec<(PathBuf, OwnedFd)>,
}

impl Engine {
    /// Opens the namespaces of others that `container` is to be in.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if one of them does not run or does not share.
    pub(crate) fn join(&self, container: &Container) -> Result<Taken> {
        let settings = &container.record.settings;
        let (mut joined, mut namespaces) = (Joined::default(), Vec::new());
        let mut mounts = Vec::new();
        let mut hold = |fd: OwnedFd| {
            let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            namespaces.push(fd);
            path
        };
        if !settings.in_pod.is_empty() {
            let (mut joined, mounts) = self.join_pod(settings, &mut hold)?;
            if let Sharing::Container(id) = &settings.security.pid {
                joined.pid = Some(hold(namespace_of(&self.donor(id, "PID")?, "pid")?));
            }
            return Ok(Taken { joined, namespaces, mounts });
        }
        if let NetworkMode::Container(id) = &settings.network {
            joined.network = Some(hold(namespace_of(&self.donor(id, "network")?, "net")?));
        }
        if let Sharing::Container(id) = &settings.security.pid {
            joined.pid = Some(hold(namespace_of(&self.donor(id, "PID")?, "pid")?));
        }
        if let Sharing::Container(id) = &settings.security.ipc {
            let other = self.donor(id, "IPC")?;
            joined.ipc = Some(hold(namespace_of(&other, "ipc")?));
            mounts.push((PathBuf::from(SHM), shm_of(&other)?));
        }
        Ok(Taken { joined, namespaces, mounts })
    }

    /// Replaces names of containers by their ids.
    ///
    /// # Errors
    /// [`Kind::NotFound`], and [`Kind::Conflict`] if an IPC namespace is not shared.
    pub(crate) fn check_joins(&self, settings: &mut Settings) -> Result<()> {
        if !settings.in_pod.is_empty() {
            let pod = self.find(&settings.in_pod)?.record;
            if pod.settings.pod.is_none() {
                return Err(Error::invalid(format!("container {} is no pod", pod.name)));
            }
            settings.in_pod = pod.id;
            return Ok(());
        }
        if let NetworkMode::Container(key) = &settings.network {
            settings.network = NetworkMode::Container(self.find(key)?.record.id);
        }
        let security = &mut settings.security;
        if let Sharing::Container(key) = &security.pid {
            security.pid = Sharing::Container(self.find(key)?.record.id);
        }
        if let Sharing::Container(key) = &security.ipc {
            let other = self.find(key)?;
            let shared = &other.record.settings.security.ipc;
            if !matches!(shared, Sharing::Shareable | Sharing::Host | Sharing::Container(_)) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("cannot join IPC of container {}: it is private", other.record.name),
                )
                .hint("create that one with --ipc shareable"));
            }
            security.ipc = Sharing::Container(other.record.id);
        }
        Ok(())
    }

    pub(crate) fn donor(&self, id: &str, kind: &str) -> Result<Container> {
        let other = self.find(id)?;
        if other.is_running() {
            return Ok(other);
        }
        let name = &other.record.name;
        let message = format!("cannot join {kind} of a non running container: {name}");
        Err(Error::new(Kind::Conflict, message).hint(format!("`cais start {name}` starts it")))
    }
}

impl Engine {
    /// Connects to a port that something listens on in a running container or pod: at its own loopback
    /// address, as whatever runs in it would.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if it does not run; nobody listens there.
    ///
    /// [`Kind::Conflict`]: crate::Kind::Conflict
    pub fn dial(&self, container: &Container, port: u16, longest: Duration) -> Result<TcpStream> {
        let _process = stop::running(container)?;
        let settings = &container.record.settings;
        let namespace = match (&settings.network, &settings.pod) {
            (NetworkMode::Host, _) => None,
            (_, Some(_)) => crate::pod::network_of(container)?,
            (_, None) => Some(namespace_of(container, "net")?),
        };
        let namespace = namespace.as_ref().map(|fd| fd.as_fd());
        net::dial(namespace, port, longest).map_err(from_net)
    }
}

/// A namespace of a running container, by its name in `/proc/pid/ns`.
pub(crate) fn namespace_of(container: &Container, kind: &str) -> Result<OwnedFd> {
    let process = stop::running(container)?;
    let doing = || format!("open the {kind} namespace of container {}", container.record.name);
    let namespace = File::open(format!("/proc/{}/ns/{kind}", container.state.pid)).doing(doing)?;
    // While the process is there, nothing else has its number: the namespace is its own.
    if stop::ends_within(&process, Some(Duration::ZERO)).doing(doing)? {
        return Err(stop::not_running(container));
    }
    Ok(namespace.into())
}

/// What a running container has there.
fn shm_of(container: &Container) -> Result<OwnedFd> {
    let process = stop::running(container)?;
    runtime::copy_of(process.as_fd(), Path::new(SHM)).map_err(from_runtime)
}

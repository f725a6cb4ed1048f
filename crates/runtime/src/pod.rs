//! The namespaces of a pod: several containers are in them, and no program is there for them alone.
//!
//! A short-lived child makes them, and its parent keeps them by descriptors: that costs no process.
//! Only process namespaces end with their first process, so if that is shared, the child stays as
//! the init that has no program, and collects orphans.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Doing, Error};
use crate::sys;
use crate::sys::monitor::{Child, Fork, exit_now, fork, ignore_children};

/// What a pod's namespaces are to be.
#[derive(Debug)]
pub struct PodNamespaces<'a> {
    /// The host name; also says that it has a UTS namespace of its own. None for the host's.
    pub hostname: Option<&'a str>,
    /// Whether it has a network namespace of its own.
    pub network: bool,
    /// Whether it has an IPC namespace of its own.
    pub ipc: bool,
    /// Whether its containers share a process namespace.
    pub shares_processes: bool,
    /// Kernel parameters of these namespaces.
    pub sysctls: &'a BTreeMap<String, String>,
}

/// A pod's namespaces, which are there as long as this is.
#[derive(Debug)]
pub struct HeldNamespaces {
    /// By their names in `/proc/<pid>/ns`.
    pub namespaces: BTreeMap<&'static str, OwnedFd>,
    /// The first process of a shared process namespace: it ends when its parent lets go of this.
    _init: Option<(OwnedFd, Child)>,
}

impl PodNamespaces<'_> {
    /// Makes them. The caller must have one thread, and makes no further processes afterwards if
    /// processes are shared: they would be born there.
    ///
    /// # Errors
    /// If the kernel refuses; for a parameter that is not of these namespaces.
    pub fn make(&self) -> Result<HeldNamespaces, Error> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe");
        let ((ready, told), (stay, release)) = (pipe()?, pipe()?);
        if self.shares_processes {
            sys::unshare(libc::CLONE_NEWPID).doing(|| "make the process namespace")?;
        }
        let child = match fork().doing(|| "fork a process for the pod's namespaces")? {
            Fork::Parent(child) => child,
            Fork::Child => {
                drop((ready, release));
                self.be_child(File::from(told), File::from(stay));
            }
        };
        drop((told, stay));
        let mut report = String::new();
        File::from(ready).read_to_string(&mut report).doing(|| "hear of the namespaces")?;
        if report != "ok" {
            let _ = child.wait();
            return Err(Error::Spec(match report.as_str() {
                "" => "the process that makes the pod's namespaces ended".to_owned(),
                why => why.to_owned(),
            }));
        }
        let pid = child.pid().as_raw_nonzero();
        let mut namespaces = BTreeMap::new();
        for name in self.names() {
            let path = format!("/proc/{pid}/ns/{name}");
            let opened = File::open(&path).doing(|| format!("open `{path}`"))?;
            namespaces.insert(name, OwnedFd::from(opened));
        }
        let init = match self.shares_processes {
            true => Some((release, child)),
            false => {
                drop(release);
                child.wait().doing(|| "wait for the maker of the namespaces")?;
                None
            }
        };
        Ok(HeldNamespaces { namespaces, _init: init })
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("net", self.network),
            ("ipc", self.ipc),
            ("uts", self.hostname.is_some()),
            ("pid", self.shares_processes),
        ];
        all.into_iter().filter(|(_, own)| *own).map(|(name, _)| name)
    }

    /// The child: makes the namespaces, and stays until it is let go.
    fn be_child(&self, mut told: File, mut stay: File) -> ! {
        let report = match self.enter() {
            Ok(()) => "ok".to_owned(),
            Err(error) => {
                let cause = std::error::Error::source(&error);
                cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
            }
        };
        // Else what ends here would stay as zombies.
        ignore_children();
        let _ = told.write_all(report.as_bytes());
        drop(told);
        // Ends when its parent does, or lets go.
        let _ = stay.read(&mut [0]);
        exit_now(0)
    }

    fn enter(&self) -> Result<(), Error> {
        let flags = [
            (libc::CLONE_NEWNET, self.network),
            (libc::CLONE_NEWIPC, self.ipc),
            (libc::CLONE_NEWUTS, self.hostname.is_some()),
        ];
        let flags = flags.iter().filter(|(_, own)| *own).fold(0, |all, (flag, _)| all | flag);
        if flags != 0 {
            sys::unshare(flags).doing(|| "make the pod's namespaces")?;
        }
        if let Some(name) = self.hostname {
            let set = rustix::system::sethostname(name.as_bytes());
            set.doing(|| format!("set host name `{name}`"))?;
        }
        if self.network {
            crate::rtnetlink::switch_loopback_on().doing(|| "switch the loopback link on")?;
        }
        crate::sysctl::set_own(self.sysctls, self.network, self.ipc)
    }
}

/// Gives this process, which has one thread, a mount namespace of its own, in which memory of so many
/// bytes (0: half of the machine's) is mounted at each of the directories, with these modes. What is
/// unmounted on the host is unmounted there, too.
///
/// # Errors
/// If the kernel refuses.
pub fn mount_memories(memories: &[(PathBuf, u64, u32)]) -> Result<(), Error> {
    sys::unshare(libc::CLONE_NEWNS).doing(|| "make a mount namespace")?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
        .doing(|| "keep mounts from the host")?;
    for (path, bytes, mode) in memories {
        let size = if *bytes == 0 { String::new() } else { format!(",size={bytes}") };
        let options = std::ffi::CString::new(format!("mode={mode:o}{size}"))
            .map_err(|_| Error::Spec("a nul in options".into()))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", path, "tmpfs", flags, options.as_c_str())
            .doing(|| format!("mount memory on `{}`", path.display()))?;
    }
    Ok(())
}

/// Unmounts what this process alone has mounted there.
pub fn unmount_memory(path: &Path) {
    // What is not mounted any more is as good.
    let _ = unmount(path, UnmountFlags::DETACH);
}

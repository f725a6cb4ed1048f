//! A container's files, as it sees them, with its volumes and the host's directories in it.
//!
//! Those of a running container are reached through its own mount namespace. For any other a
//! process is made that mounts them as for a start, stands where its program would be executed, and
//! is killed afterwards: nothing is mounted that could stay.

use std::os::fd::OwnedFd;
use std::path::Path;

use oci::runtime::{Linux, LinuxNamespaceType, Mount, Process, Spec, User};
use runtime::{Created, Launch, Stdio};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs};
use store::{Ids, Live, Owner};

use crate::container::{Container, StateLock, Status, no_such};
use crate::error::{Doing, Error, Result};
use crate::image::from_runtime;
use crate::{Engine, spec, stop};

/// A container's files, as long as this lives.
#[derive(Debug)]
pub struct Files<'a> {
    pub(super) engine: &'a Engine,
    pub(super) container: Container,
    pub(super) live: Live,
    ids: Ids,
    /// The container's root, to compare with.
    root: OwnedFd,
    /// What keeps the mounts: somebody else's namespace, or a process of ours.
    _namespace: Option<OwnedFd>,
    _created: Option<Created>,
    /// Keeps a container that does not run from being started or removed meanwhile.
    _lock: Option<StateLock>,
}

impl Engine {
    /// The files of a container, running or not. As for a start, this process must have one thread.
    ///
    /// # Errors
    /// If it is being removed, or its mounts cannot be made.
    pub fn files(&self, container: &Container) -> Result<Files<'_>> {
        container.runs_something()?;
        if let Some(files) = self.running_files(container)? {
            return Ok(files);
        }
        let mut container = container.clone();
        let lock = container.lock()?;
        match container.state.status {
            Status::Removing => Err(no_such(&container.record.name)),
            // Somebody has started it while we waited for the lock.
            Status::Running | Status::Paused => {
                drop(lock);
                self.running_files(&container)?.ok_or_else(|| stop::not_running(&container))
            }
            _ => self.mounted(&container, lock),
        }
    }

    fn mounted(&self, container: &Container, lock: StateLock) -> Result<Files<'_>> {
        let plan = spec::plan(container, &self.volumes(), &spec::Joined::default())?;
        let spec = reduced(&plan.spec);
        let lease = self.store.lease()?;
        let rootfs = self.store.rootfs(container.record.chain(), &container.dir, false)?;
        let parts = self.parts(&plan, &container.dir)?;
        let launch = Launch {
            map_rootfs: true,
            parts: &parts,
            images: Some(&self.containers.images()),
            copy_up: &plan.copy_up,
            ..Launch::new(&spec, &rootfs, Stdio::Fds { stdin: None, stdout: None, stderr: None })
        };
        let created = runtime::create(&launch, &mut |_| Ok(())).map_err(from_runtime)?;
        drop(lease);
        let root = root_of(created.pid(), container)?;
        self.files_of(container, root, (None, Some(created), Some(lock)))
    }

    /// Those of a container whose process lives; `None` if it does not.
    fn running_files(&self, container: &Container) -> Result<Option<Files<'_>>> {
        if !matches!(container.state.status, Status::Running | Status::Paused) {
            return Ok(None);
        }
        let Ok(_process) = stop::running(container) else { return Ok(None) };
        let pid = container.state.pid;
        let doing = || format!("look into container {}", container.record.name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open(format!("/proc/{pid}/ns/mnt"), flags, Mode::empty());
        let namespace = namespace.doing(doing)?;
        let root = root_of(pid, container)?;
        // Only now is it certain whose they are: the number was not used again before.
        if stop::running(container).is_err() {
            return Ok(None);
        }
        self.files_of(container, root, (Some(namespace), None, None)).map(Some)
    }

    fn files_of(
        &self,
        container: &Container,
        root: OwnedFd,
        (namespace, created, lock): (Option<OwnedFd>, Option<Created>, Option<StateLock>),
    ) -> Result<Files<'_>> {
        let copy = root.try_clone().doing(|| "copy a descriptor".to_owned())?;
        let ids = Ids { mapped: container.record.settings.security.user_namespace };
        Ok(Files {
            engine: self,
            container: container.clone(),
            live: Live::new(copy, ids),
            ids,
            root,
            _namespace: namespace,
            _created: created,
            _lock: lock,
        })
    }
}

fn root_of(pid: i32, container: &Container) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())
        .doing(|| format!("open the root of container {}", container.record.name))
}

impl Files<'_> {
    /// Works in the files, as the root of the container's user namespace if it has one.
    pub(super) fn as_owner<T: Send>(
        &self,
        work: impl FnOnce(&Live) -> Result<T> + Send,
    ) -> Result<T> {
        let Some((first, _)) = self.ids.mapped else { return work(&self.live) };
        let live = &self.live;
        let thread = move || {
            runtime::own_files_as(first, first).doing(|| "become a user".to_owned())?;
            work(live)
        };
        std::thread::scope(|scope| {
            let done = scope.spawn(thread).join();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether a directory can be written to.
    ///
    /// # Errors
    /// In Docker's words if not. A directory that is not there is for others to complain of.
    pub(super) fn check_writable(&self, path: &Path) -> Result<()> {
        let Ok(found) = self.live.open(path, OFlags::PATH | OFlags::DIRECTORY) else {
            return Ok(());
        };
        let doing = || format!("look into container {}", self.container.record.name);
        if !fstatvfs(&found).doing(doing)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
        let in_root = device(&found).doing(doing)? == device(&self.root).doing(doing)?;
        Err(Error::invalid(match in_root {
            true => "container rootfs is marked read-only",
            false => "mounted volume is marked read-only",
        }))
    }

    /// The user that a container runs as, by its own files.
    pub(super) fn owner(&self, user: &str) -> Result<Owner> {
        let root = self.root.try_clone().doing(|| "copy a descriptor".to_owned())?;
        let (uid, gid) = runtime::ids_of(root, user).map_err(from_runtime)?;
        Ok(Owner::Of(uid, gid))
    }
}

/// Only what concerns files: the root, binds, and the user namespace. What the kernel or a program
/// would put there is not there, and what is written into memory would be lost.
fn reduced(spec: &Spec) -> Spec {
    let is_bind = |mount: &&Mount| {
        mount.typ().as_deref() == Some("bind")
            && mount.source().as_ref().is_some_and(|source| source.exists())
    };
    let mounts = spec.mounts().iter().flatten().filter(is_bind).cloned().collect();
    let mut process = Process::default();
    process.set_args(Some(vec!["/".to_owned()])).set_cwd("/".into()).set_user(User::default());
    process.set_capabilities(None).set_rlimits(None);
    // Else the container's own file of users would be asked where root lives.
    process.set_env(Some(vec!["HOME=/".to_owned()]));
    let full = spec.linux().clone().unwrap_or_default();
    let mut linux = Linux::default();
    let kept = full.namespaces().iter().flatten().filter(|namespace| {
        use LinuxNamespaceType as T;
        matches!(namespace.typ(), T::Mount | T::Pid | T::User)
    });
    let mut kept: Vec<_> = kept.cloned().collect();
    if !kept.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Pid) {
        let mut own = oci::runtime::LinuxNamespace::default();
        own.set_typ(LinuxNamespaceType::Pid);
        kept.push(own);
    }
    linux.set_namespaces(Some(kept)).set_resources(None).set_devices(None);
    linux.set_masked_paths(None).set_readonly_paths(None);
    linux.set_uid_mappings(full.uid_mappings().clone());
    linux.set_gid_mappings(full.gid_mappings().clone());
    let mut reduced = Spec::default();
    reduced.set_root(spec.root().clone()).set_mounts(Some(mounts));
    reduced.set_process(Some(process)).set_linux(Some(linux)).set_hostname(None);
    reduced
}

//! What a container sees as its files, in two phases.
//!
//! *Make*: with the host's view, every source becomes a descriptor of a mount that is attached
//! nowhere ([`Sources`]). *Place*: after pivot_root(2) the host's files are out of reach, and each
//! mount is attached to a descriptor that was resolved inside the container's root ([`Placement`]).
//! No path of an image is ever walked while the host is visible, and none is walked twice
//! (CVE-2021-30465, CVE-2025-52565, CVE-2025-31133, CVE-2026-41579).

mod cgroupfs;
mod copy_up;
mod device;
pub(crate) mod filesystem;
mod idmap;
mod mask;
pub(crate) mod option;
mod overlay;
pub(crate) mod rootfs;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxNamespaceType, Mount, Spec};
use rustix::fs::{FileType, OFlags, fstat, fstatfs};
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::move_into_link_name_space;

use self::device::Devices;
use self::filesystem::{Description, aside, attach, change, copy_tree};
use self::mask::Masks;
use self::option::{Bind, Options};
use crate::error::{Doing, Error};
use crate::inroot::{Root, file_type};
use crate::launch::Launch;
use crate::namespace::Plan;
use crate::sys::{MountAttr, mount_setattr};

pub(crate) use self::device::{host_null, is_null, new_null};
pub(crate) use self::idmap::IdMap;

/// `PROC_SUPER_MAGIC` of statfs(2).
const PROC_MAGIC: i64 = 0x9fa0;

/// The files of procfs that a bind mount may cover: what shows a container its own limits
/// (lxcfs). Anything else would let an image pass for the kernel (CVE-2019-16884).
const PROC_COVERABLE: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
];

/// Everything that needs the host's view, made and not yet placed.
#[derive(Debug)]
pub(crate) struct Sources {
    /// One for each mount of the specification, in its order; `None` is made in the container.
    mounts: Vec<Option<OwnedFd>>,
    /// The host's `/dev/null`.
    null: OwnedFd,
    devices: Devices,
    /// The host's v1 cgroup hierarchies.
    hierarchies: Vec<String>,
}

impl Sources {
    /// Makes them. `user_namespace` says whether the container has its own, in which devices
    /// cannot be made and are bound from the host.
    ///
    /// # Errors
    /// When a source is missing or the kernel refuses.
    pub(crate) fn make(launch: &Launch<'_>, user_namespace: bool) -> Result<Sources, Error> {
        let mounts = mounts_of(launch.spec);
        Ok(Sources {
            mounts: mounts.iter().map(make_source).collect::<Result<_, _>>()?,
            null: copy_tree(Path::new("/dev/null"), Bind::Single)
                .and_then(|null| is_null(null.as_fd()).map(|()| null))?,
            devices: Devices::make(launch.spec, user_namespace)?,
            hierarchies: cgroupfs::hierarchies(launch)?,
        })
    }

    /// The mounts whose ids are to be mapped once the user namespace has its own: further
    /// descriptors of the same mounts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a mount that is made in the container.
    pub(crate) fn unmapped(&self, spec: &Spec) -> Result<Vec<Unmapped>, Error> {
        let mut unmapped = Vec::new();
        for (mount, source) in mounts_of(spec).iter().zip(&self.mounts) {
            let extent = Options::parse(words_of(mount))?.mapped;
            let Some(extent) = extent else { continue };
            let path = mount.source().clone().unwrap_or_default();
            let source = source.as_ref().ok_or_else(|| {
                let (kind, on) = (kind_of(mount), mount.destination().display());
                Error::Unsupported(format!("mapping the ids of the new `{kind}` on `{on}`"))
            })?;
            let tree = source.try_clone().doing(|| "hold a mount")?;
            unmapped.push(Unmapped { tree, extent, path });
        }
        Ok(unmapped)
    }

    /// Makes sysfs of a network namespace that is not the new user namespace's: it shows that
    /// network, and only root of the user namespace that the network belongs to may make it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn make_foreign_sysfs(&mut self, spec: &Spec, plan: &Plan) -> Result<(), Error> {
        use LinuxNamespaceType::{Network, User};
        if !plan.is_new(User) || plan.is_new(Network) {
            return Ok(());
        }
        for (mount, source) in mounts_of(spec).iter().zip(&mut self.mounts) {
            if source.is_none() && kind_of(mount) == "sysfs" {
                let options = Options::parse(words_of(mount))?;
                *source = Some(aside(|| {
                    if let Some(network) = plan.joined(Network) {
                        move_into_link_name_space(network.as_fd(), None)
                            .doing(|| "join the network namespace for its sysfs")?;
                    }
                    make_filesystem("sysfs", mount, &options)
                })?);
            }
        }
        Ok(())
    }

    /// Makes, in the child, procfs and sysfs: they show its own namespaces, and in a user namespace
    /// they are allowed only while the host's are in sight (mount_namespaces(7)).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn make_own(&mut self, spec: &Spec) -> Result<(), Error> {
        for (mount, source) in mounts_of(spec).iter().zip(&mut self.mounts) {
            if source.is_none() && matches!(kind_of(mount), "proc" | "sysfs") {
                let options = Options::parse(words_of(mount))?;
                *source = Some(make_filesystem(kind_of(mount), mount, &options)?);
            }
        }
        Ok(())
    }

    /// Makes `root` the root of this process and lets go of the host's.
    ///
    /// The new root is attached over the old one, so that no directory of the host is involved.
    /// No name is resolved inside it while another mount is stacked on its root: `..` at a root
    /// climbs onto what is stacked there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn enter(root: &OwnedFd, spec: &Spec, no_pivot: bool) -> Result<Root, Error> {
        let slash = Self::part(root, spec)?;
        attach(root.as_fd(), slash.as_fd()).doing(|| "attach the root file system")?;
        Self::change_root(root.as_fd(), no_pivot)?;
        Root::of_process()
    }

    /// Attaches `root` at `path`, where the hooks that are called before pivot_root(2) look for it
    /// (runtime-spec config.md, "POSIX-platform Hooks"); [`Sources::change_root`] is still to come.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn show(root: &OwnedFd, spec: &Spec, path: &Path) -> Result<Root, Error> {
        Self::part(root, spec)?;
        let doing = || format!("attach the root file system at `{}`", path.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::openat(rustix::fs::CWD, path, flags, rustix::fs::Mode::empty())
            .doing(doing)?;
        attach(root.as_fd(), target.as_fd()).doing(doing)?;
        Ok(Root::new(root.try_clone().doing(doing)?))
    }

    /// Parts this mount namespace, whose root is returned, and the new root from the host's.
    fn part(root: &OwnedFd, spec: &Spec) -> Result<Root, Error> {
        let attr = apart_from_host(spec)?;
        let slash = Root::of_process()?;
        mount_setattr(slash.as_fd(), attr, true).doing(|| "detach the mounts from the host's")?;
        // Mounts of the root's source keep no tie to the host either.
        mount_setattr(root.as_fd(), attr, true).doing(|| "detach the root from the host")?;
        Ok(slash)
    }

    /// Makes an attached `root` the root of this process and lets go of the host's files; with
    /// `no_pivot` they stay mounted, out of sight.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn change_root(root: BorrowedFd<'_>, no_pivot: bool) -> Result<(), Error> {
        rustix::process::fchdir(root).doing(|| "enter the root file system")?;
        if no_pivot {
            rustix::process::chroot(".").doing(|| "make the root file system the root")?;
        } else {
            rustix::process::pivot_root(".", ".").doing(|| "make the root file system the root")?;
            // The old root is now stacked on the new one.
            unmount(".", UnmountFlags::DETACH).doing(|| "let go of the host's files")?;
        }
        rustix::process::chdir("/").doing(|| "enter the root of the container")
    }
}

/// A made mount whose ids are not mapped yet.
#[derive(Debug)]
pub(crate) struct Unmapped {
    tree: OwnedFd,
    extent: Bind,
    path: PathBuf,
}

impl Unmapped {
    /// Maps them; the mount must not be attached yet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the file system maps no ids.
    pub(crate) fn map(&self, ids: &IdMap) -> Result<(), Error> {
        ids.apply(self.tree.as_fd(), self.extent, &self.path)
    }
}

fn root_propagation(spec: &Spec) -> Result<u64, Error> {
    let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    let word = word.filter(|word| !word.is_empty()).unwrap_or("slave");
    option::propagation(word)
        .or_else(|| word.strip_prefix('r').and_then(option::propagation))
        .ok_or_else(|| Error::Spec(format!("unknown root propagation `{word}`")))
}

/// How mounts are kept from reaching the host's: as slaves, which still receive what the host
/// mounts, unless the root is to be private.
fn apart_from_host(spec: &Spec) -> Result<MountAttr, Error> {
    let private = root_propagation(spec)? == libc::MS_PRIVATE;
    let propagation = if private { libc::MS_PRIVATE } else { libc::MS_SLAVE };
    Ok(MountAttr { propagation, ..MountAttr::default() })
}

fn mounts_of(spec: &Spec) -> &[Mount] {
    spec.mounts().as_deref().unwrap_or_default()
}

fn kind_of(mount: &Mount) -> &str {
    mount.typ().as_deref().unwrap_or("")
}

fn words_of(mount: &Mount) -> &[String] {
    mount.options().as_deref().unwrap_or_default()
}

/// Makes what needs the host's view: bind mounts, and file systems on the host's devices.
fn make_source(mount: &Mount) -> Result<Option<OwnedFd>, Error> {
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(Error::Unsupported("a mount with mapped ids".into()));
    }
    let options = Options::parse(words_of(mount))?;
    match (kind_of(mount), options.bind) {
        ("bind", bind) => make_bind(mount, bind.unwrap_or(Bind::Single)).map(Some),
        ("proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2", None) => Ok(None),
        (_, Some(bind)) => make_bind(mount, bind).map(Some),
        (kind, None) => make_filesystem(kind, mount, &options).map(Some),
    }
}

fn make_bind(mount: &Mount, bind: Bind) -> Result<OwnedFd, Error> {
    let destination = mount.destination().display();
    let source =
        mount.source().as_ref().filter(|source| source.is_absolute()).ok_or_else(|| {
            Error::Spec(format!("the bind mount on `{destination}` needs an absolute source"))
        })?;
    copy_tree(source, bind)
}

fn make_filesystem(kind: &str, mount: &Mount, options: &Options) -> Result<OwnedFd, Error> {
    let description = Description::new(kind)?;
    let source = mount.source().as_deref().unwrap_or(Path::new(kind));
    description.set("source", Some(&source.to_string_lossy()))?;
    // A new file system on a device that must not be written needs the flag itself, too.
    if options.read_only() && !matches!(kind, "tmpfs" | "proc" | "sysfs" | "mqueue" | "devpts") {
        description.set("ro", None)?;
    }
    for (key, value) in &options.parameters {
        description.set(key, value.as_deref())?;
    }
    description.mount(0)
}

/// The container's view: where made mounts are attached.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    launch: &'a Launch<'a>,
    root: &'a Root,
    /// Mounts that become read-only once everything below them is in place.
    read_only_later: Vec<OwnedFd>,
}

impl<'a> Placement<'a> {
    /// Nothing is placed yet.
    pub(crate) fn new(launch: &'a Launch<'a>, root: &'a Root) -> Placement<'a> {
        Placement { launch, root, read_only_later: Vec::new() }
    }

    /// Places the mounts of the specification in their order, then the devices.
    ///
    /// # Errors
    /// Names the mount that failed.
    pub(crate) fn place_all(&mut self, sources: &mut Sources) -> Result<(), Error> {
        for (at, mount) in mounts_of(self.launch.spec).iter().enumerate() {
            self.place_one(mount, sources, at)?;
        }
        if sources.devices.wanted() {
            sources.devices.place(self.root)?;
        }
        Ok(())
    }

    fn place_one(&mut self, mount: &Mount, sources: &mut Sources, at: usize) -> Result<(), Error> {
        let options = Options::parse(words_of(mount))?;
        if is_cgroup(mount) {
            return cgroupfs::place(self.root, mount, &options, &sources.hierarchies);
        }
        let fd = match sources.mounts[at].take() {
            Some(fd) => fd,
            None => make_filesystem(kind_of(mount), mount, &options)?,
        };
        self.place(mount, &options, fd)
    }

    /// Covers the masked paths and makes the read-only ones so.
    ///
    /// # Errors
    /// Names the path that failed.
    pub(crate) fn restrict(&mut self, sources: &Sources) -> Result<(), Error> {
        let read_only = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        for mount in self.read_only_later.drain(..) {
            mount_setattr(mount.as_fd(), read_only, false).doing(|| "make a mount read-only")?;
        }
        let Some(linux) = self.launch.spec.linux() else { return Ok(()) };
        for path in linux.readonly_paths().iter().flatten() {
            mask::make_read_only(self.root, Path::new(path))?;
        }
        let mut masks = Masks::new(self.root, sources.null.as_fd());
        linux.masked_paths().iter().flatten().try_for_each(|path| masks.cover(Path::new(path)))
    }

    /// Gives the root its final attributes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let root = self.launch.spec.root().as_ref();
        let mut attr = MountAttr::default();
        if root.and_then(oci::runtime::Root::readonly).unwrap_or(false) {
            attr.set = libc::MOUNT_ATTR_RDONLY;
        }
        let propagation = root_propagation(self.launch.spec)?;
        if propagation & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0 {
            attr.propagation = propagation;
        }
        change(self.root.as_fd(), attr, false).doing(|| "make the root file system read-only")
    }

    fn place(&mut self, mount: &Mount, options: &Options, fd: OwnedFd) -> Result<(), Error> {
        let destination = mount.destination();
        let on = || format!("mount `{}` on `{}`", kind_of(mount), destination.display());
        let directory = file_type(&fd).doing(on)? == FileType::Directory;
        let target = self.target(mount, options, directory)?;
        self.check_cover(destination, &target, &fd)?;
        if directory {
            self.fill(destination, options, (&target, &fd))?;
        }
        let mut attr = options.attr;
        let later = kind_of(mount) == "tmpfs" && options.read_only();
        if later {
            attr.set &= !libc::MOUNT_ATTR_RDONLY;
        }
        // A copy of a shared mount is its peer: what is mounted in one appears in the other, until
        // this says otherwise. Only an explicit option keeps it so.
        if !options.propagates() {
            change(fd.as_fd(), apart_from_host(self.launch.spec)?, true).doing(on)?;
        }
        change(fd.as_fd(), attr, false).doing(on)?;
        change(fd.as_fd(), options.recursive, true).doing(on)?;
        attach(fd.as_fd(), target.as_fd()).doing(on)?;
        if later {
            self.read_only_later.push(fd);
        }
        Ok(())
    }

    /// Copies the image's content at `target` into a mount that asks for it, before it covers
    /// that content.
    fn fill(
        &self,
        destination: &Path,
        options: &Options,
        (target, mount): (&OwnedFd, &OwnedFd),
    ) -> Result<(), Error> {
        let asked = self.launch.copy_up.iter().any(|path| path == destination);
        if !asked && !options.copy_up {
            return Ok(());
        }
        copy_up::copy(target, mount)
            .doing(|| format!("fill the volume on `{}`", destination.display()))
    }

    /// The descriptor to attach a mount to.
    fn target(&self, mount: &Mount, options: &Options, dir: bool) -> Result<OwnedFd, Error> {
        let destination = absolute(mount.destination())?;
        let kernel_files = options.bind.is_none() && matches!(kind_of(mount), "proc" | "sysfs");
        if kernel_files {
            return self.plain_target(&destination);
        }
        let target = self.root.mount_point(&destination, dir)?;
        let covers_proc = fstatfs(&target).is_ok_and(|files| files.f_type == PROC_MAGIC);
        let coverable = PROC_COVERABLE.iter().any(|path| destination == Path::new(path));
        if covers_proc && !coverable && kind_of(mount) != "binfmt_misc" {
            let path = mount.destination().display();
            return Err(Error::Spec(format!("`{path}` is inside procfs and cannot be covered")));
        }
        Ok(target)
    }

    /// Refuses what an image could ask for with `VOLUME /proc` or `VOLUME /..`: whatever the path
    /// is called, only procfs goes where procfs belongs, and nothing on the root itself.
    fn check_cover(&self, path: &Path, target: &OwnedFd, mount: &OwnedFd) -> Result<(), Error> {
        let path = path.display();
        if is_same(target, self.root) {
            return Err(Error::Spec(format!("nothing can be mounted on `/`, which is `{path}`")));
        }
        let proc = self.root.open(Path::new("/proc"), OFlags::PATH);
        let on_proc = proc.is_ok_and(|proc| is_same(target, &proc));
        if on_proc && fstatfs(mount).is_ok_and(|files| files.f_type != PROC_MAGIC) {
            return Err(Error::Spec(format!("only procfs can be mounted on `{path}`")));
        }
        Ok(())
    }

    /// procfs and sysfs go on ordinary directories: were `/proc` a link, the masks could be laid
    /// where the container can later pull them away (CVE-2019-19921, CVE-2023-27561).
    fn plain_target(&self, destination: &Path) -> Result<OwnedFd, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.root.open_without_links(destination, flags) {
            Ok(target) => Ok(target),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.root.create_dir_all(destination)
            }
            Err(_) => Err(Error::Spec(format!(
                "`{}` must be an ordinary directory in the root file system",
                destination.display()
            ))),
        }
    }
}

fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    let inode = |file: BorrowedFd<'_>| fstat(file).map(|file| (file.st_dev, file.st_ino));
    inode(one.as_fd()).is_ok_and(|one| inode(other.as_fd()) == Ok(one))
}

/// Whether a mount shows an existing tree, by its type or by a word.
fn is_bind(mount: &Mount) -> bool {
    kind_of(mount) == "bind" || words_of(mount).iter().any(|word| word == "bind" || word == "rbind")
}

fn is_cgroup(mount: &Mount) -> bool {
    matches!(kind_of(mount), "cgroup" | "cgroup2") && !is_bind(mount)
}

/// A mount's destination; relative ones count from the root, as in older specifications.
fn absolute(destination: &Path) -> Result<PathBuf, Error> {
    let path: PathBuf = Path::new("/").join(destination).components().collect();
    if path == Path::new("/") {
        return Err(Error::Spec("nothing can be mounted on `/`".into()));
    }
    Ok(path)
}

//! Where made mounts are attached: what the container sees.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxNamespaceType, Mount};
use rustix::fs::{FileType, OFlags, fstat, fstatfs};

use super::filesystem::{Description, attach, change, copy_tree_at};
use super::mask::{self, Masks};
use super::option::{Bind, Options, attributes_of};
use super::{
    Sources, apart_from_host, below_root, copy_up, describe, has_namespace, idmap, inside, is_bind,
    is_cgroup, kind_of, make_new, mounts_of, root_propagation, words_of,
};
use crate::error::{Doing, Error};
use crate::inroot::{Root, file_type};
use crate::label;
use crate::launch::Launch;
use crate::sync::{Point, Sync as Socket};
use crate::sys::{MountAttr, mount_setattr};
use crate::weak::weakened;

/// `PROC_SUPER_MAGIC` of statfs(2).
const PROC_MAGIC: i64 = 0x9fa0;

/// The files of procfs that a bind mount may cover: what shows a container its own limits
/// (lxcfs). Anything else would let an image pass for the kernel (CVE-2019-16884).
const PROC_COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// The container's view: where made mounts are attached.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    launch: &'a Launch<'a>,
    root: &'a Root,
    /// Whether flags of the host's mounts must stay: the container has a user namespace.
    locked: bool,
    /// Who maps ids for a container with a user namespace.
    maker: Option<&'a Socket>,
    /// Mounts that become read-only once everything below them is in place.
    read_only_later: Vec<OwnedFd>,
}

impl<'a> Placement<'a> {
    /// Nothing is placed yet.
    pub(crate) fn new(
        launch: &'a Launch<'a>,
        root: &'a Root,
        maker: Option<&'a Socket>,
    ) -> Placement<'a> {
        let locked = has_namespace(launch.spec, LinuxNamespaceType::User);
        Placement { launch, root, locked, maker, read_only_later: Vec::new() }
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
        let options = Options::parse(words_of(mount));
        if is_cgroup(mount) {
            let target = self.root.mount_point(&self.destination(mount)?, true)?;
            let view = sources.views.remove(&at).expect("each cgroup mount has been made");
            return view.place(&target, &options);
        }
        if options.remount {
            return self.remount(mount, &options);
        }
        let made = match inside(self.launch, mount, &options) {
            Some(path) => {
                let map = sources.maps.get(&at).map(AsFd::as_fd);
                Some(self.bind_inside(&path, (mount, map), &options)?)
            }
            None => sources.mounts[at].take(),
        };
        self.place(mount, &options, made)
    }

    /// A copy of a tree of the container's own.
    fn bind_inside(
        &self,
        path: &Path,
        (mount, map): (&Mount, Option<BorrowedFd<'_>>),
        options: &Options,
    ) -> Result<OwnedFd, Error> {
        let on = mount.destination().display();
        let doing = || format!("bind `{}` inside the root on `{on}`", path.display());
        let tree = self.root.open(path, OFlags::PATH).doing(doing)?;
        let copy = copy_tree_at(&tree, options.bind.unwrap_or(Bind::Single)).doing(doing)?;
        if let Some(maker) = self.maker.filter(|_| idmap::asks_for_map(mount, options)) {
            maker.tell(Point::Copied, Some(&copy))?;
            maker.expect(Point::Mapped)?;
        } else if let Some(map) = map {
            idmap::apply(map, copy.as_fd(), (options.mapped.unwrap_or(Bind::Single), path))?;
        }
        Ok(copy)
    }

    /// Changes what is mounted on the destination (`MS_REMOUNT` of mount(2)).
    fn remount(&self, mount: &Mount, options: &Options) -> Result<(), Error> {
        let destination = self.destination(mount)?;
        let doing = || format!("remount `{}`", destination.display());
        let target = self.root.open(&destination, OFlags::PATH).doing(doing)?;
        let source = attributes_of(target.as_fd()).doing(doing)?;
        if options.bind.is_none() {
            let description = Description::of_mounted(target.as_fd(), kind_of(mount))?;
            // An option that is not named is off, as with mount(2).
            description.set(if options.read_only() { "ro" } else { "rw" }, None)?;
            describe(&description, options)?;
            description.reconfigure()?;
        }
        let attr = options.bind_attr(source, self.locked).doing(doing)?;
        change(target.as_fd(), attr, false).doing(doing)?;
        change(target.as_fd(), options.recursive, true).doing(doing)?;
        options.propagation.iter().try_for_each(|step| step.apply(target.as_fd())).doing(doing)
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
        let linux = self.launch.spec.linux().as_ref();
        let Some(linux) = linux.filter(|_| !weakened("paths-unrestricted")) else { return Ok(()) };
        for path in linux.readonly_paths().iter().flatten() {
            mask::make_read_only(self.root, Path::new(path))?;
        }
        let label = label::of_mounts(self.launch.spec);
        let mut masks = Masks::new(self.root, sources.null.as_fd(), label);
        let mut covered = HashSet::new();
        for path in linux.masked_paths().iter().flatten().map(Path::new) {
            // Named twice, it is covered already.
            if covered.insert(path.components().collect::<PathBuf>()) {
                masks.cover(path)?;
            }
        }
        Ok(())
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
        change(self.root.as_fd(), attr, false).doing(|| "make the root file system read-only")?;
        let propagation = root_propagation(self.launch.spec)?;
        if propagation.kind & (libc::MS_SHARED | libc::MS_UNBINDABLE) == 0 {
            return Ok(());
        }
        propagation.apply(self.root.as_fd()).doing(|| "set the propagation of the root")
    }

    fn place(
        &mut self,
        mount: &Mount,
        options: &Options,
        made: Option<OwnedFd>,
    ) -> Result<(), Error> {
        let destination = self.destination(mount)?;
        let on = || {
            let source = mount.source().as_deref().unwrap_or(Path::new(kind_of(mount)));
            let (source, on) = (source.display(), destination.display());
            format!("error mounting \"{source}\" to rootfs at \"{on}\"")
        };
        let kind = match &made {
            // To ask it what it is would be to wait for an answer before anybody gives one.
            Some(_) if is_served(mount) => FileType::RegularFile,
            made => made.as_ref().map_or(Ok(FileType::Directory), file_type).doing(on)?,
        };
        let directory = kind == FileType::Directory;
        let (target, existed) = self.target(mount, &destination, directory)?;
        let fd = match made {
            Some(fd) => fd,
            None => make_new(self.launch.spec, mount, options, existed.then_some(&target))?,
        };
        self.check_cover(mount.destination(), &target, &fd)?;
        if directory {
            self.fill(mount.destination(), options, (&target, &fd))?;
        }
        let later = is_made_read_only_later(mount, &destination) && options.read_only();
        self.set_attributes(mount, options, (&fd, later)).doing(on)?;
        attach(fd.as_fd(), target.as_fd()).doing(on)?;
        options.propagation.iter().try_for_each(|step| step.apply(fd.as_fd())).doing(on)?;
        if later {
            self.read_only_later.push(fd);
        }
        Ok(())
    }

    /// Sets the attributes of a mount before it is seen.
    fn set_attributes(
        &self,
        mount: &Mount,
        options: &Options,
        (fd, later): (&OwnedFd, bool),
    ) -> io::Result<()> {
        let bound = is_bind(mount);
        // A copy of a shared mount is its peer: what is mounted in one appears in the other, until
        // this says otherwise. Only an explicit option keeps it so. A new mount has no peers.
        if bound && !options.propagation.iter().any(|step| step.kind == libc::MS_SHARED) {
            let apart = apart_from_host(self.launch.spec).map_err(io::Error::other)?;
            change(fd.as_fd(), apart, true)?;
        }
        let mut attr = match bound {
            true => options.bind_attr(attributes_of(fd.as_fd())?, self.locked)?,
            false => options.attr(),
        };
        if later {
            attr.set &= !libc::MOUNT_ATTR_RDONLY;
        }
        change(fd.as_fd(), attr, false)?;
        change(fd.as_fd(), options.recursive, true)
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

    /// See [`destination`].
    fn destination(&self, mount: &Mount) -> Result<PathBuf, Error> {
        destination(self.launch, mount)
    }

    /// The descriptor to attach a mount to, and whether it was there before.
    fn target(
        &self,
        mount: &Mount,
        destination: &Path,
        directory: bool,
    ) -> Result<(OwnedFd, bool), Error> {
        let kernel_files = !is_bind(mount) && matches!(kind_of(mount), "proc" | "sysfs");
        if kernel_files && !weakened("procfs-on-links") {
            return Ok((self.plain_target(destination)?, true));
        }
        let (target, existed) = match self.root.existing_mount_point(destination, directory)? {
            Some(target) => (target, true),
            None => (self.root.make_mount_point(destination, directory)?, false),
        };
        let inside_proc = fstatfs(&target).is_ok_and(|files| files.f_type == PROC_MAGIC)
            && !self.is_proc(&target)
            && !weakened("procfs-covered");
        let coverable = PROC_COVERABLE.iter().any(|path| destination == Path::new(path));
        if inside_proc && !coverable && kind_of(mount) != "binfmt_misc" {
            let path = mount.destination().display();
            return Err(Error::Spec(format!(
                "`{path}` cannot be mounted because it is inside procfs"
            )));
        }
        Ok((target, existed))
    }

    /// Refuses what an image could ask for with `VOLUME /proc` or `VOLUME /..`: whatever the path
    /// is called, only procfs goes where procfs belongs, and nothing on the root itself.
    fn check_cover(&self, path: &Path, target: &OwnedFd, mount: &OwnedFd) -> Result<(), Error> {
        let path = path.display();
        if is_same(target, self.root) {
            return Err(Error::Spec(format!("nothing can be mounted on `/`, which is `{path}`")));
        }
        if self.is_proc(target) && fstatfs(mount).is_ok_and(|files| files.f_type != PROC_MAGIC) {
            return Err(Error::Spec(format!("only procfs can be mounted on `{path}`")));
        }
        Ok(())
    }

    /// Whether a descriptor is of what the container has at `/proc`.
    fn is_proc(&self, target: &OwnedFd) -> bool {
        let proc = self.root.open(Path::new("/proc"), OFlags::PATH);
        proc.is_ok_and(|proc| is_same(target, &proc))
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
                "what belongs on `{}` must be mounted on ordinary directory, not on a link",
                destination.display()
            ))),
        }
    }
}

/// Whether a mount is a file that whoever made the container answers for
/// ([`ServedFile`](crate::ServedFile)).
fn is_served(mount: &Mount) -> bool {
    kind_of(mount) == "fuse" && !is_bind(mount)
}

fn is_same(one: impl AsFd, other: impl AsFd) -> bool {
    let inode = |file: BorrowedFd<'_>| fstat(file).map(|file| (file.st_dev, file.st_ino));
    inode(one.as_fd()).is_ok_and(|one| inode(other.as_fd()) == Ok(one))
}

/// Whether what is mounted has to be filled first: a tmpfs, or the devices' directory.
fn is_made_read_only_later(mount: &Mount, destination: &Path) -> bool {
    kind_of(mount) == "tmpfs" && !is_bind(mount) || destination == Path::new("/dev")
}

/// A mount's destination. Relative ones count from the root, as in older specifications, and those
/// that name the root file system on the host are meant inside it, as runc does.
pub(super) fn destination(launch: &Launch<'_>, mount: &Mount) -> Result<PathBuf, Error> {
    let path = mount.destination();
    absolute(&below_root(launch, path).unwrap_or_else(|| path.clone()))
}

/// A mount's destination; relative ones count from the root, as in older specifications.
fn absolute(destination: &Path) -> Result<PathBuf, Error> {
    let path: PathBuf = Path::new("/").join(destination).components().collect();
    if path == Path::new("/") {
        return Err(Error::Spec("nothing can be mounted on `/`".into()));
    }
    Ok(path)
}

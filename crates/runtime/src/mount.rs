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
pub(crate) mod external;
pub(crate) mod filesystem;
mod idmap;
pub(crate) mod image;
mod mask;
pub(crate) mod option;
mod overlay;
mod part;
mod place;
pub(crate) mod rootfs;
mod shared;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::Rootfs;
use oci::runtime::{Linux, LinuxNamespaceType, Mount, Spec};
use rustix::fs::{Mode, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::move_into_link_name_space;

use self::cgroupfs::View;
use self::device::Devices;
use self::filesystem::{Description, aside, attach, copy_tree};
use self::idmap::IdMapping;
use self::option::{Bind, Options, Propagation};
use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::label;
use crate::launch::Launch;
use crate::namespace::Plan;
use crate::procfs;
use crate::sys::{MountAttr, mount_setattr};

pub use self::copy_up::clone_tree;
use self::device::in_user_namespace;
pub(crate) use self::device::{host_null, is_null, new_null};
pub use self::filesystem::copy_of;
pub(crate) use self::idmap::{IdMap, map_for_child};
pub(crate) use self::image::Images;
pub(crate) use self::place::Placement;
pub(crate) use self::shared::OnHost;
pub use self::shared::{mounts_on, release_root};

/// Everything that needs the host's view, made and not yet placed.
#[derive(Debug)]
pub(crate) struct Sources {
    /// One for each mount of the specification, in its order; `None` is made in the container.
    mounts: Vec<Option<OwnedFd>>,
    /// The host's `/dev/null`.
    null: OwnedFd,
    devices: Devices,
    /// The user namespaces with the maps of what is bound from inside the root, by its place in the
    /// specification.
    maps: HashMap<usize, OwnedFd>,
    /// What the cgroup mounts show, by their place in the specification.
    views: HashMap<usize, View>,
}

impl Sources {
    /// Makes them. `user_namespace` says whether the container has its own, in which devices
    /// cannot be made and are bound from the host; `by_parent`, whether this process is not in it
    /// and goes on to help the container.
    ///
    /// # Errors
    /// When a source is missing or the kernel refuses.
    pub(crate) fn make(
        launch: &Launch<'_>,
        user_namespace: bool,
        by_parent: bool,
    ) -> Result<Sources, Error> {
        let mut maker = Maker { launch, user_namespace, by_parent, maps: Vec::new() };
        let (mut mounts, mut maps) = (Vec::new(), HashMap::new());
        for (at, mount) in mounts_of(launch.spec).iter().enumerate() {
            let options = Options::parse(words_of(mount));
            mounts.push(maker.make(mount, &options)?);
            if inside(launch, mount, &options).is_some() {
                maps.extend(maker.map_inside(mount, &options)?.map(|map| (at, map)));
            }
        }
        Ok(Sources {
            mounts,
            maps,
            null: copy_tree(Path::new("/dev/null"), Bind::Single)
                .and_then(|null| is_null(null.as_fd()).map(|()| null))?,
            devices: Devices::make(launch.spec, user_namespace)?,
            views: HashMap::new(),
        })
    }

    /// The mounts whose ids are to be mapped once the user namespace has its own: further
    /// descriptors of the same mounts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a mount that is made in the container.
    pub(crate) fn unmapped(&self, launch: &Launch<'_>) -> Result<Vec<Unmapped>, Error> {
        let later = has_namespace(launch.spec, LinuxNamespaceType::User);
        let mut unmapped = Vec::new();
        for (mount, source) in mounts_of(launch.spec).iter().zip(&self.mounts) {
            let options = Options::parse(words_of(mount));
            let Some(extent) = options.mapped.filter(|_| !has_own_map(mount)) else { continue };
            if later && inside(launch, mount, &options).is_some() {
                continue;
            }
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
                let options = Options::parse(words_of(mount));
                *source = Some(aside(|| {
                    if let Some(network) = plan.joined(Network) {
                        move_into_link_name_space(network.as_fd(), None)
                            .doing(|| "join the network namespace for its sysfs")?;
                    }
                    make_filesystem(mount, &options, &Extra::default())
                })?);
            }
        }
        Ok(())
    }

    /// Makes, in the child, what shows its own namespaces and needs the host's view: procfs and sysfs
    /// in a user namespace are allowed only while the host's are in sight (mount_namespaces(7)).
    ///
    /// The kernel lists mounts in the order in which they were made. So the others are made with
    /// these there, and elsewhere each when it is placed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn make_own(&mut self, launch: &Launch<'_>) -> Result<(), Error> {
        let spec = launch.spec;
        let early = has_namespace(spec, LinuxNamespaceType::User) || in_user_namespace();
        for (at, (mount, source)) in mounts_of(spec).iter().zip(&mut self.mounts).enumerate() {
            if is_cgroup(mount) {
                let options = Options::parse(words_of(mount));
                self.views.insert(at, View::make(launch, (mount, early), &options)?);
            } else if early && source.is_none() && is_new(mount) {
                let options = Options::parse(words_of(mount));
                *source = Some(make_new(spec, mount, &options, None)?);
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
    pub(crate) fn enter(root: &OwnedFd, launch: &Launch<'_>) -> Result<Root, Error> {
        let slash = Self::part(root, launch.spec)?;
        if launch.no_pivot {
            take_kernel_files_away(None)?;
        }
        attach(root.as_fd(), slash.as_fd()).doing(|| "attach the root file system")?;
        Self::change_root(root.as_fd(), launch.no_pivot)?;
        Root::of_process()
    }

    /// Attaches `root` at `path`, where the hooks that are called before pivot_root(2) look for it
    /// (runtime-spec config.md, "POSIX-platform Hooks"); [`Sources::change_root`] is still to come.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn show(root: &OwnedFd, spec: &Spec, path: &Path) -> Result<Root, Error> {
        Self::part(root, spec)?;
        Self::attach_at(root, path)
    }

    /// Attaches `root` at its own path in the mount namespace of the host, for a container without
    /// one of its own; [`Sources::change_root`] is still to come, and
    /// [`release_root`](self::release_root) in the end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn share(root: &OwnedFd, rootfs: &Rootfs) -> Result<Root, Error> {
        let Rootfs::Dir(path) = rootfs else {
            return Err(Error::Unsupported("layers without a mount namespace".into()));
        };
        let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
        mount_setattr(root.as_fd(), private, true).doing(|| "detach the root from the host")?;
        Self::attach_at(root, path)
    }

    fn attach_at(root: &OwnedFd, path: &Path) -> Result<Root, Error> {
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

/// Takes away, or covers, what shows the whole kernel, but for what is below `kept`.
///
/// Without pivot_root(2) the host's mounts stay. While an uncovered procfs or sysfs is among them,
/// the kernel lets a user namespace make another one without the masks of the container's
/// (mount_namespaces(7)).
///
/// # Errors
/// Names the mount that stays.
pub(crate) fn take_kernel_files_away(kept: Option<&Path>) -> Result<(), Error> {
    let text = procfs::read("/proc/self/mountinfo").doing(|| "look at the mounts")?;
    let mut paths = kernel_files(&text);
    paths.retain(|path| kept.is_none_or(|kept| !path.starts_with(kept)));
    for path in paths.into_iter().rev() {
        let doing = || format!("take `{}` away", path.display());
        match unmount(&path, UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::INVAL | Errno::PERM) => {
                let cover = Description::new("tmpfs")?.mount(libc::MOUNT_ATTR_RDONLY)?;
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let target = rustix::fs::open(&path, flags, Mode::empty()).doing(doing)?;
                attach(cover.as_fd(), target.as_fd()).doing(doing)?;
            }
            Err(errno) => return Err(Error::kernel(doing(), errno)),
        }
    }
    Ok(())
}

/// Where mountinfo (proc(5)) shows a whole procfs or sysfs.
fn kernel_files(mountinfo: &str) -> Vec<PathBuf> {
    let whole = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let mut words = front.split(' ').skip(3);
        let (root, point) = (words.next()?, words.next()?);
        let kind = back.split(' ').next()?;
        (root == "/" && matches!(kind, "proc" | "sysfs")).then(|| PathBuf::from(point))
    };
    mountinfo.lines().filter_map(whole).collect()
}

/// Refuses what cannot be made of a root.
///
/// # Errors
/// Names the field.
pub(crate) fn check(launch: &Launch<'_>, plan: &Plan) -> Result<(), Error> {
    if plan.shares_mounts() {
        check_shared(launch.spec, plan)?;
    }
    let propagation = root_propagation(launch.spec)?;
    if launch.no_pivot && propagation.kind == libc::MS_PRIVATE {
        let text = "rootfsPropagation of [r]private is not safe without pivot_root";
        return Err(Error::Spec(text.into()));
    }
    Ok(())
}

fn check_shared(spec: &Spec, plan: &Plan) -> Result<(), Error> {
    let linux = spec.linux().as_ref();
    let given = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(|paths| !paths.is_empty());
    let restricts = |linux: &Linux| given(linux.masked_paths()) || given(linux.readonly_paths());
    if linux.is_some_and(restricts) {
        let text = "unable to restrict sys entries without a private MNT namespace";
        return Err(Error::Spec(text.into()));
    }
    if plan.maps_ids() {
        let text = "a user namespace without a mount namespace in linux.namespaces";
        return Err(Error::Unsupported(text.into()));
    }
    Ok(())
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

/// Whether the container has a namespace of this kind, of its own or joined.
fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|namespace| namespace.typ() == kind)
}

/// What the root exchanges with its copies in the end.
fn root_propagation(spec: &Spec) -> Result<Propagation, Error> {
    let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    let word = word.filter(|word| !word.is_empty()).unwrap_or("rslave");
    let plain = option::propagation(word);
    let recursive = || word.strip_prefix('r').and_then(option::propagation);
    match plain.or_else(recursive) {
        Some(kind) => Ok(Propagation { kind, recursive: plain.is_none() }),
        None => Err(Error::Spec(format!("rootfsPropagation={word} is not supported"))),
    }
}

/// How mounts are kept from reaching the host's: as slaves, which still receive what the host
/// mounts, unless the root is to be private.
fn apart_from_host(spec: &Spec) -> Result<MountAttr, Error> {
    let private = root_propagation(spec)?.kind == libc::MS_PRIVATE;
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

fn has_own_map(mount: &Mount) -> bool {
    mount.uid_mappings().is_some() || mount.gid_mappings().is_some()
}

/// Whether a mount brings a map of its own, which only privilege on the host can apply.
pub(crate) fn maps_ids_itself(spec: &Spec) -> bool {
    mounts_of(spec).iter().any(has_own_map)
}

/// Makes what needs the host's view.
struct Maker<'a> {
    launch: &'a Launch<'a>,
    /// Whether the container has one of its own.
    user_namespace: bool,
    /// Whether this is the container's maker.
    by_parent: bool,
    /// The user namespaces of the maps that mounts bring.
    maps: Vec<(IdMapping<'a>, OwnedFd)>,
}

impl<'a> Maker<'a> {
    /// Bind mounts, and file systems on the host's devices; `None` is made in the container.
    fn make(&mut self, mount: &'a Mount, options: &Options) -> Result<Option<OwnedFd>, Error> {
        let within = inside(self.launch, mount, options).is_some();
        let made = match (kind_of(mount), options.bind) {
            _ if options.remount || within => None,
            _ if part::is_given(self.launch, mount) => {
                part::make(self.launch, mount, (options, self.user_namespace))?
            }
            ("bind", bind) => Some(self.bind(mount, bind.unwrap_or(Bind::Single), options)?),
            (_, Some(bind)) => Some(self.bind(mount, bind, options)?),
            // Made by who answers for it: nothing may be asked of it until that does.
            ("fuse", None) => part::made(self.launch, mount)?,
            ("proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2", None) => None,
            (_, None) => {
                let label = label::of_mounts(self.launch.spec);
                let extra = Extra { label, ..Extra::default() };
                Some(make_filesystem(mount, options, &extra)?)
            }
        };
        let Some(map) = IdMapping::of_mount(mount)?.filter(|_| !within) else { return Ok(made) };
        let on = mount.destination().display();
        let Some(tree) = made.as_ref().filter(|_| is_bind(mount)) else {
            let text = format!("uidMappings of the mount on `{on}`, which is no bind mount,");
            return Err(Error::Unsupported(text));
        };
        let extent = options.mapped.unwrap_or(Bind::Single);
        let path = mount.source().as_deref().unwrap_or(Path::new(""));
        idmap::apply(self.namespace(map)?, tree.as_fd(), (extent, path))?;
        Ok(made)
    }

    /// The map for a tree inside the root, which the container's process applies; that of a user
    /// namespace may not, and asks its maker to ([`idmap::map_for_child`]).
    fn map_inside(
        &mut self,
        mount: &'a Mount,
        options: &Options,
    ) -> Result<Option<OwnedFd>, Error> {
        let map = IdMapping::of_mount(mount)?;
        if self.user_namespace {
            if self.by_parent || !idmap::asks_for_map(mount, options) {
                return Ok(None);
            }
            let on = mount.destination().display();
            return Err(Error::Unsupported(format!(
                "mapping the ids of what lies inside the root for `{on}`, without privilege,"
            )));
        }
        let Some(map) = map else { return Ok(None) };
        self.namespace(map)?.try_clone_to_owned().doing(|| "hold a user namespace").map(Some)
    }

    /// The user namespace with this map, made once.
    fn namespace(&mut self, map: IdMapping<'a>) -> Result<BorrowedFd<'_>, Error> {
        let at = match self.maps.iter().position(|(other, _)| *other == map) {
            Some(at) => at,
            None => {
                self.maps.push((map, map.make_namespace()?));
                self.maps.len() - 1
            }
        };
        Ok(self.maps[at].1.as_fd())
    }

    fn bind(&self, mount: &Mount, bind: Bind, options: &Options) -> Result<OwnedFd, Error> {
        let destination = mount.destination().display();
        if let Some((key, _)) = options.parameters.first() {
            return Err(Error::Spec(format!(
                "bind mounts cannot have any filesystem-specific options applied: \
                 `{key}` of the mount on `{destination}`"
            )));
        }
        if let Some(made) = part::made(self.launch, mount)? {
            return Ok(made);
        }
        let source = host_source(self.launch, mount).filter(|source| source.is_absolute());
        let source = source.ok_or_else(|| {
            Error::Spec(format!("the bind mount on `{destination}` needs an absolute source"))
        })?;
        copy_tree(&source, bind)
    }
}

/// The source of a mount; relative ones count from the bundle.
fn host_source(launch: &Launch<'_>, mount: &Mount) -> Option<PathBuf> {
    let source = mount.source().as_deref()?;
    Some(launch.bundle.map_or_else(|| source.to_owned(), |bundle| bundle.join(source)))
}

/// A path of the host's as one inside the root file system, where it lies in there.
fn below_root(launch: &Launch<'_>, path: &Path) -> Option<PathBuf> {
    let Rootfs::Dir(root) = launch.rootfs else { return None };
    if root == Path::new("/") {
        return None;
    }
    path.strip_prefix(root).ok().map(|path| Path::new("/").join(path))
}

/// Where in the container the source of a bind mount is, if it lies in the root file system: there
/// it shows what was mounted before.
fn inside(launch: &Launch<'_>, mount: &Mount, options: &Options) -> Option<PathBuf> {
    let bound = options.bind.is_some() || kind_of(mount) == "bind";
    below_root(launch, &host_source(launch, mount).filter(|_| bound)?)
}

/// Whether a mount is a new file system whatever is at its place: a tmpfs may take the mode of that.
fn is_new(mount: &Mount) -> bool {
    let moded = || words_of(mount).iter().any(|word| word.starts_with("mode="));
    let again = words_of(mount).iter().any(|word| word == "remount");
    match kind_of(mount) {
        _ if is_bind(mount) || again => false,
        "proc" | "sysfs" | "devpts" | "mqueue" => true,
        kind => kind == "tmpfs" && moded(),
    }
}

/// What a new file system has besides its options.
#[derive(Debug, Default)]
struct Extra<'a> {
    /// The mode of a tmpfs' root that no option gives.
    mode: Option<u32>,
    /// Its SELinux label.
    label: Option<&'a str>,
}

fn make_filesystem(mount: &Mount, options: &Options, extra: &Extra<'_>) -> Result<OwnedFd, Error> {
    let kind = kind_of(mount);
    let description = Description::new(kind)?;
    let source = mount.source().as_deref().unwrap_or(Path::new(kind));
    description.set("source", Some(&source.to_string_lossy()))?;
    if let Some(label) = extra.label {
        description.set("context", Some(label))?;
    }
    if let Some(mode) = extra.mode {
        description.set("mode", Some(&format!("{mode:04o}")))?;
    }
    // A new file system on a device that must not be written needs the flag itself, too.
    if options.read_only() && !matches!(kind, "tmpfs" | "proc" | "sysfs" | "mqueue" | "devpts") {
        description.set("ro", None)?;
    }
    describe(&description, options)?;
    description.mount(0)
}

/// Makes a file system of the container's own; a tmpfs without a mode takes that of the
/// directory which it covers.
fn make_new(
    spec: &Spec,
    mount: &Mount,
    options: &Options,
    covered: Option<&OwnedFd>,
) -> Result<OwnedFd, Error> {
    let kind = kind_of(mount);
    let given = options.parameters.iter().any(|(key, _)| key == "mode");
    let mode = match covered.filter(|_| kind == "tmpfs" && !given) {
        Some(directory) => Some(fstat(directory).doing(|| "look at a mount point")?.st_mode),
        None => None,
    };
    let label = label::of_mounts(spec);
    // procfs and sysfs have labels of their own; that of message queues is on their root.
    let apart = matches!(kind, "proc" | "sysfs" | "mqueue");
    let extra = Extra { mode: mode.map(|mode| mode & 0o7777), label: label.filter(|_| !apart) };
    let fd = make_filesystem(mount, options, &extra)?;
    if let Some(label) = label.filter(|_| kind == "mqueue") {
        label::set_on_root(&fd, label)?;
    }
    Ok(fd)
}

fn describe(description: &Description, options: &Options) -> Result<(), Error> {
    for flag in &options.superblock {
        match *flag {
            // No flag of every file system any more: those that count versions do so by
            // themselves, or have a parameter of this name.
            "iversion" => drop(description.try_set("iversion", None)),
            flag => description.set(flag, None)?,
        }
    }
    for (key, value) in &options.parameters {
        description.set(key, value.as_deref())?;
    }
    Ok(())
}

/// Whether a mount shows an existing tree, by its type or by a word.
fn is_bind(mount: &Mount) -> bool {
    kind_of(mount) == "bind" || words_of(mount).iter().any(|word| word == "bind" || word == "rbind")
}

fn is_cgroup(mount: &Mount) -> bool {
    let again = words_of(mount).iter().any(|word| word == "remount");
    matches!(kind_of(mount), "cgroup" | "cgroup2") && !is_bind(mount) && !again
}

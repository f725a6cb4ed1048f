//! Writable views of layers: what a container's root file system is put together from.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci::{Digest, Lower, Rootfs};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use serde::{Deserialize, Serialize};

use crate::disk::{Part, Store, json, read_if_there};
use crate::driver::dir::TREE;
use crate::driver::{image, merged};
use crate::error::{Doing as _, Error};
use crate::layer::open_lower;
use crate::walk::{LINKS_MAX, Missing, Tree, make_directory};

const RECORD: &str = "base.json";
/// An empty directory among the bases.
const NOTHING: &str = "nothing";
const MERGED_SUFFIX: &str = ".erofs";
const WORK: &str = "work";
pub(crate) const UPPER: &str = "upper";
/// The name of an image without layers among the bases.
const SCRATCH_CHAIN: &str = "scratch";

/// What every container has mounted or linked, whether its image has a place for it or not.
pub(crate) const MOUNT_POINTS: &[(&str, Point)] = &[
    ("dev", Point::Directory),
    ("dev/pts", Point::Directory),
    ("dev/shm", Point::Directory),
    ("proc", Point::Directory),
    ("sys", Point::Directory),
    ("etc/hosts", Point::File),
    ("etc/hostname", Point::File),
    ("etc/resolv.conf", Point::File),
    ("etc/mtab", Point::Link("/proc/mounts")),
];

#[derive(Debug, Clone, Copy)]
pub(crate) enum Point {
    Directory,
    File,
    Link(&'static str),
}

/// The layers of a view, lowest first.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// Their diff ids.
    pub layers: &'a [Digest],
    /// The manifest whose word is taken for layers that are not here yet; without one they have to be
    /// here.
    pub manifest: Option<&'a Digest>,
}

impl<'a, L: AsRef<[Digest]> + ?Sized> From<&'a L> for Chain<'a> {
    fn from(layers: &'a L) -> Self {
        Self { layers: layers.as_ref(), manifest: None }
    }
}

/// Mode, owner and group of a root.
pub(crate) type RootLook = (u32, u32, u32);

/// The mount points of one chain of layers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Base {
    /// All layers of the chain, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// Those that show, topmost first: see [`showing`].
    showing: Vec<Digest>,
    /// Mode, owner and group of the root.
    #[serde(default)]
    root: Option<RootLook>,
}

/// The chain ids of a list of layers, one for each of its beginnings (image-spec, config.md).
pub(crate) fn chain_ids(layers: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(layers.len());
    for layer in layers {
        let next = match chain.last() {
            None => *layer,
            Some(below) => Digest::of(format!("{below} {layer}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

/// The name of the directory in which the mount points of a chain of layers are kept.
#[must_use]
pub fn base_name(layers: &[Digest]) -> String {
    chain_ids(layers).last().map_or_else(|| SCRATCH_CHAIN.to_owned(), Digest::hex)
}

/// The name of the base of a chain of images.
fn merged_name(base_name: &str) -> String {
    format!("{base_name}{MERGED_SUFFIX}")
}

/// Whether a base of this name is a merged image.
pub(crate) fn is_merged(name: &str) -> bool {
    name.ends_with(MERGED_SUFFIX)
}

impl Store {
    /// Makes a writable view of layers in `container`, an existing directory: creates `upper` and
    /// `work` there, and returns what [`Store::rootfs`] does.
    ///
    /// The caller holds a [`crate::Lease`] until something durable says that the layers are in use.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a layer is missing; [`Error::Io`].
    pub fn prepare<'a>(
        &self,
        chain: impl Into<Chain<'a>>,
        container: &Path,
        volatile: bool,
    ) -> Result<Rootfs, Error> {
        let (rootfs, root) = self.view(chain.into(), container, volatile)?;
        let doing = || format!("prepare `{}`", container.display());
        let at = File::open(container).doing(doing)?;
        let (mode, user, group) = match (root, &rootfs) {
            (Some(root), _) => root,
            (None, Rootfs::Overlay { lower, .. }) => root_of(lower[0].path()).doing(doing)?,
            (None, Rootfs::Dir(path)) => root_of(path).doing(doing)?,
        };
        make_directory(at.as_fd(), UPPER.as_bytes(), mode).doing(doing)?;
        if (user, group) != (0, 0) {
            let (user, group) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
            rustix::fs::chownat(&at, UPPER, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
                .doing(doing)?;
        }
        make_directory(at.as_fd(), WORK.as_bytes(), 0o700).doing(doing)?;
        Ok(rootfs)
    }

    /// The view of layers that [`Store::prepare`] made in `container`.
    ///
    /// `volatile` is passed on: the view is thrown away with its container and need not be synced.
    ///
    /// # Errors
    /// As of [`Store::prepare`].
    pub fn rootfs<'a>(
        &self,
        chain: impl Into<Chain<'a>>,
        container: &Path,
        volatile: bool,
    ) -> Result<Rootfs, Error> {
        self.view(chain.into(), container, volatile).map(|(rootfs, _)| rootfs)
    }

    /// What the files of a chain of layers, lowest first, are seen through: topmost first, without the
    /// mount points of containers.
    pub(crate) fn chain(&self, layers: &[Digest]) -> Result<Vec<Lower>, Error> {
        let (_, base) = self.base_of(layers)?;
        // Under it lies nothing: so there are two layers at least, which overlayfs wants.
        let nothing = self.made(Part::Bases)?.join(NOTHING);
        fs::create_dir_all(&nothing).doing(|| format!("create `{}`", nothing.display()))?;
        let showing = base.showing.iter().map(|layer| self.lower(layer));
        Ok(showing.chain([Lower::Directory(nothing)]).collect())
    }

    /// The view of a chain in `container`, with what its root looks like where that is known.
    fn view(
        &self,
        chain: Chain<'_>,
        container: &Path,
        volatile: bool,
    ) -> Result<(Rootfs, Option<RootLook>), Error> {
        let (upper, work) = (container.join(UPPER), container.join(WORK));
        if chain.manifest.is_some()
            && let Some((lower, root)) = self.arriving(chain)?
        {
            return Ok((Rootfs::Overlay { lower: vec![lower], upper, work, volatile }, Some(root)));
        }
        let (is_merged, base) = self.base_of(chain.layers)?;
        let name = base_name(chain.layers);
        let lower = if is_merged {
            let path = self.part(Part::Bases).join(merged_name(&name)).join(merged::FILE);
            let image = |layer| self.layer_path(layer).join(image::FILE);
            vec![Lower::Image { path, devices: base.showing.iter().map(image).collect() }]
        } else {
            let tree = Lower::Directory(self.part(Part::Bases).join(&name).join(TREE));
            [tree].into_iter().chain(base.showing.iter().map(|layer| self.lower(layer))).collect()
        };
        Ok((Rootfs::Overlay { lower, upper, work, volatile }, base.root))
    }

    /// The base of a chain, which is made if there is none, and whether it is a merged image: the record
    /// that is there says what its layers are.
    fn base_of(&self, layers: &[Digest]) -> Result<(bool, Base), Error> {
        let tree_name = base_name(layers);
        for (is_merged, name) in [(true, merged_name(&tree_name)), (false, tree_name.clone())] {
            if let Some(base) = self.base(&name)? {
                return Ok((is_merged, base));
            }
        }
        let _lease = self.lease()?;
        if !layers.is_empty() && layers.iter().all(|layer| self.image_path(layer).is_some()) {
            use std::io::ErrorKind::{FileTooLarge, OutOfMemory};
            match self.make_base(&merged_name(&tree_name), layers, true) {
                // Beyond the limits of one image, each layer is mounted.
                Err(Error::Io { source, .. })
                    if matches!(source.kind(), FileTooLarge | OutOfMemory) => {}
                made => return made.map(|base| (true, base)),
            }
        }
        self.make_base(&tree_name, layers, false).map(|base| (false, base))
    }

    /// The record of a base.
    pub(crate) fn base(&self, name: &str) -> Result<Option<Base>, Error> {
        let bytes = read_if_there(&self.part(Part::Bases).join(name).join(RECORD))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn make_base(&self, name: &str, layers: &[Digest], is_merged: bool) -> Result<Base, Error> {
        let opaque = layers.iter().map(|layer| Ok(self.layer(layer)?.is_opaque));
        let opaque = opaque.collect::<Result<Vec<bool>, Error>>()?;
        let mut base =
            Base { layers: layers.to_vec(), showing: showing(layers, &opaque), root: None };
        let scratch = self.scratch(Part::Bases)?;
        let doing = || format!("make mount points for the image of layers {name}");
        if is_merged {
            let images: Vec<PathBuf> =
                base.showing.iter().filter_map(|layer| self.image_path(layer)).collect();
            let image = scratch.path().join(merged::FILE);
            base.root = Some(merged::make(&image, &images).doing(doing)?);
            self.sync_file(&image)?;
        } else {
            let lower: Vec<Lower> = base.showing.iter().map(|layer| self.lower(layer)).collect();
            let lower = lower.iter().map(open_lower).collect::<Result<Vec<_>, Error>>()?;
            make_mount_points(scratch.path(), &lower).doing(doing)?;
            self.discard(&scratch.path().join(WORK))?;
            base.root = Some(root_of(&scratch.path().join(TREE)).doing(doing)?);
        }
        let record = scratch.path().join(RECORD);
        fs::write(&record, json(&base)?).doing(|| format!("write `{}`", record.display()))?;
        self.sync_file(&record)?;
        scratch.publish(&self.part(Part::Bases).join(name))?;
        Ok(base)
    }
}

/// The layers that contribute to a chain, topmost first.
///
/// Overlayfs does not look for the mark of an opaque directory on a layer's root, so what such a
/// layer hides is left out here. It refuses the same directory twice, which images with several
/// empty layers would need; of two equal layers, the lower one adds nothing to the upper one.
pub(crate) fn showing(layers: &[Digest], is_opaque: &[bool]) -> Vec<Digest> {
    let hidden = is_opaque.iter().rposition(|&is_opaque| is_opaque).unwrap_or(0);
    let mut showing = Vec::new();
    for layer in layers[hidden..].iter().rev() {
        if !showing.contains(layer) {
            showing.push(*layer);
        }
    }
    showing
}

/// Creates what is missing of [`MOUNT_POINTS`] in `directory/tree`, as seen through the layers.
fn make_mount_points(directory: &Path, layers: &[OwnedFd]) -> Result<(), Errno> {
    let at = rustix::fs::open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    make_directory(at.as_fd(), TREE.as_bytes(), 0o755)?;
    let upper = open_path(&directory.join(TREE))?;
    let Some(topmost) = layers.first() else {
        return fill(upper);
    };
    // The root shows the topmost directory's owner and mode.
    let root = rustix::fs::fstat(topmost)?;
    let (user, group) =
        (rustix::fs::Uid::from_raw(root.st_uid), rustix::fs::Gid::from_raw(root.st_gid));
    rustix::fs::chownat(&at, TREE, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(&at, TREE, Mode::from(root.st_mode & 0o7777), AtFlags::empty())?;
    make_directory(at.as_fd(), WORK.as_bytes(), 0o700)?;
    let work = open_path(&directory.join(WORK))?;
    fill(detached_overlay(layers, &upper, &work)?)
}

/// An overlay that is mounted nowhere and gone when the descriptor is closed. Volatile, since
/// unmounting another one syncs the whole file system.
pub(crate) fn detached_overlay(
    layers: &[OwnedFd],
    upper: &OwnedFd,
    work: &OwnedFd,
) -> Result<OwnedFd, Errno> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(&overlay, "lowerdir+", through_proc(layer))?;
    }
    fsconfig_set_string(&overlay, "upperdir", through_proc(upper))?;
    fsconfig_set_string(&overlay, "workdir", through_proc(work))?;
    for (option, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")] {
        fsconfig_set_string(&overlay, option, value)?;
    }
    fsconfig_set_flag(&overlay, "volatile")?;
    fsconfig_create(&overlay)?;
    fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Mode, owner and group of a directory.
fn root_of(path: &Path) -> Result<RootLook, Errno> {
    let root = rustix::fs::stat(path)?;
    Ok((root.st_mode & 0o7777, root.st_uid, root.st_gid))
}

/// As [`detached_overlay`], without anything to write to; the topmost layer first.
pub(crate) fn read_only_overlay(layers: &[OwnedFd]) -> Result<OwnedFd, Errno> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(&overlay, "lowerdir+", through_proc(layer))?;
    }
    for (option, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")] {
        fsconfig_set_string(&overlay, option, value)?;
    }
    fsconfig_create(&overlay)?;
    let mount =
        fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    // The root of a mount is a path only; to list it, it must be opened.
    rustix::fs::openat(
        &mount,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A path of any length in few bytes: one value of `fsconfig` holds at most 255.
fn through_proc(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

pub(crate) fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn fill(root: OwnedFd) -> Result<(), Errno> {
    let root = Rc::new(root);
    for (path, point) in MOUNT_POINTS {
        match make_point(&root, path, *point) {
            // Something of another kind is in the way, or links lead nowhere: the image wants it so,
            // and mounting there will say what is wrong if it matters.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::EXIST) => {}
            made => made?,
        }
    }
    Ok(())
}

/// Makes one mount point, where the links of the image lead.
fn make_point(root: &Rc<OwnedFd>, path: &str, point: Point) -> Result<(), Errno> {
    let mut tree = Tree::new(root.clone());
    let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
    if let Point::Directory = point {
        return tree.directory(&parts, Missing::Create).map(drop);
    }
    let (name, above) = parts.split_last().expect("a mount point has a name");
    let mut name = name.to_vec();
    let mut parent = tree.directory(above, Missing::Create)?;
    let mut links = LINKS_MAX;
    loop {
        match statat(&parent, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => break,
            Ok(there) if FileType::from_raw_mode(there.st_mode).is_symlink() => {
                if let Point::Link(_) = point {
                    return Ok(());
                }
            }
            there => return there.map(drop),
        }
        let target = readlinkat(&parent, &name[..], Vec::new())?.into_bytes();
        let (above, last) = split_target(&target);
        parent = tree.follow(&parent, above, Missing::Create, &mut links)?;
        name = last.to_vec();
        if matches!(last, b"" | b"." | b"..") {
            return Ok(());
        }
    }
    if let Point::Link(target) = point {
        return symlinkat(target, &parent, &name[..]);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    let file = openat(&parent, &name[..], flags, Mode::from(0o644))?;
    rustix::fs::fchmod(&file, Mode::from(0o644))
}

/// The directory part of a link's target, with its slash, and the name behind it.
pub(crate) fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    match target.iter().rposition(|&b| b == b'/') {
        Some(slash) => target.split_at(slash + 1),
        None => (b"", target),
    }
}

//! Trees as they show through layers: several directories over each other by overlayfs'
//! conventions, or a single plain one, read without a mount.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::{Digest, Lower, Rootfs};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

use crate::disk::{Lease, Scratch, Store};
use crate::error::{Doing as _, Error, invalid};
use crate::layer::open_lower;
use crate::overlay::{is_directory, is_opaque, is_whiteout};
use crate::regular::open_regular;
use crate::snapshot::{UPPER, showing};
use crate::walk::open_directory;

/// A tree that can be compared with another: see [`Store::compare`].
#[derive(Debug, Default)]
pub struct View {
    /// Topmost first.
    pub(crate) roots: Vec<Root>,
    /// What must not be removed meanwhile.
    pub(crate) keep: Vec<Keep>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held for what their dropping does")]
pub(crate) enum Keep {
    Lease(Lease),
    Scratch(Scratch),
}

/// One directory that a view is put together from.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// Where it comes from: two roots of one origin are the same tree.
    origin: PathBuf,
    pub(crate) fd: Arc<OwnedFd>,
    /// Others may be changing it.
    is_live: bool,
    /// Whether it is a layer, in which some entries say what is hidden.
    is_layer: bool,
}

impl Store {
    /// The root directory of an unpacked layer, in overlayfs' conventions: the one way by which
    /// contents of layers are read.
    pub(crate) fn layer_root(&self, diff_id: &Digest) -> Result<Root, Error> {
        let origin = self.layer_place(diff_id);
        let fd = Arc::new(self.open_layer(diff_id)?);
        Ok(Root { origin, fd, is_live: false, is_layer: true })
    }

    /// What these layers, lowest first, show together.
    ///
    /// # Errors
    /// [`Error::NotFound`] if one is missing.
    pub fn view_layers(&self, layers: &[Digest]) -> Result<View, Error> {
        let lease = self.lease()?;
        let opaque = layers.iter().map(|layer| Ok(self.layer(layer)?.is_opaque));
        let opaque = opaque.collect::<Result<Vec<bool>, Error>>()?;
        let shown = showing(layers, &opaque);
        let roots = shown.iter().map(|layer| self.layer_root(layer)).collect::<Result<_, _>>()?;
        Ok(View { roots, keep: vec![Keep::Lease(lease)] })
    }

    /// What the image of a view that [`Store::prepare`] made shows, and what the container sees.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is a plain directory; [`Error::Io`].
    pub fn view_rootfs(&self, rootfs: &Rootfs) -> Result<(View, View), Error> {
        let Rootfs::Overlay { lower, upper, .. } = rootfs else {
            return invalid("a plain directory has no image to compare it with");
        };
        let mut below = Vec::new();
        for lower in lower {
            let (origin, fd) = (lower.path().to_owned(), Arc::new(open_lower(lower)?));
            below.push(Root { origin, fd, is_live: false, is_layer: true });
        }
        let mut roots = vec![Root::open(upper.clone(), true)?];
        roots.extend(below.iter().cloned());
        let image = View { roots: below, keep: Vec::new() };
        Ok((image, View { roots, keep: Vec::new() }))
    }

    /// What a container sees that [`Store::prepare`] made of `layers` in `container`, but the mount
    /// points that were made for it.
    ///
    /// # Errors
    /// As [`Store::view_layers`].
    pub fn view_container(&self, layers: &[Digest], container: &Path) -> Result<View, Error> {
        let mut view = self.view_layers(layers)?;
        view.roots.insert(0, Root::open(container.join(UPPER), true)?);
        Ok(view)
    }

    /// The image of an OCI layout (image-spec, image-layout.md), unpacked for this view alone.
    ///
    /// `name` is the name or tag that the layout gives it; it may be left out if there is one.
    ///
    /// # Errors
    /// As [`Store::load_dir`]; [`Error::NotFound`] without such an image.
    pub fn view_layout(&self, directory: &Path, name: Option<&str>) -> Result<View, Error> {
        let lease = self.lease()?;
        let scratch = self.scratch(crate::disk::Part::Ingest)?;
        let inner = Store::open(scratch.path())?;
        let image = inner.load_one(directory, name)?;
        let mut view = inner.view_layers(&image.diff_ids())?;
        view.keep.extend([Keep::Scratch(scratch), Keep::Lease(lease)]);
        Ok(view)
    }
}

impl View {
    /// A plain directory.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened.
    pub fn directory(path: &Path) -> Result<Self, Error> {
        let mut root = Root::open(path.to_owned(), true)?;
        root.is_layer = false;
        Ok(Self { roots: vec![root], keep: Vec::new() })
    }
}

impl View {
    /// The content of the regular file at `path`, which no symbolic link leads to; `None` if there is
    /// none.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] if it has more than `bytes_max` bytes.
    pub fn read(self, path: &[&str], bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        let shown = path.join("/");
        let doing = || format!("read `{shown}` of an image");
        let mut roots = Roots::default();
        let (mut place, mut above) = (roots.add(self.roots).doing(doing)?, Vec::new());
        for (at, name) in path.iter().enumerate() {
            let Ok(name_c) = CString::new(*name) else { return Ok(None) };
            let Some(entry) = roots.entry(&place, (&above, &name_c), true).doing(doing)? else {
                return Ok(None);
            };
            above.extend_from_slice(name.as_bytes());
            if at + 1 < path.len() {
                above.push(b'/');
                place = entry.place;
                continue;
            }
            let mut content = Vec::new();
            let file = match roots.open(entry.root, &above) {
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(None),
                file => file.doing(doing)?,
            };
            let read = std::io::Read::take(file, bytes_max + 1);
            std::io::copy(&mut { read }, &mut content).doing(doing)?;
            if content.len() as u64 > bytes_max {
                return invalid(format!("`{shown}` of the image is too large"));
            }
            return Ok(Some(content));
        }
        Ok(None)
    }

    /// A layer by itself, where what hides something is an entry like others.
    pub(crate) fn raw(lower: &Lower) -> Result<Self, Error> {
        let (origin, fd) = (lower.path().to_owned(), Arc::new(open_lower(lower)?));
        let root = Root { origin, fd, is_live: false, is_layer: false };
        Ok(Self { roots: vec![root], keep: Vec::new() })
    }
}

impl Root {
    fn open(origin: PathBuf, is_live: bool) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&origin, flags, Mode::empty());
        let fd = Arc::new(opened.doing(|| format!("open `{}`", origin.display()))?);
        Ok(Self { origin, fd, is_live, is_layer: true })
    }
}

/// A directory of a view: its parts, topmost first; none where the view has no such directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(pub(crate) Vec<Part>);

/// What one root has of a directory.
///
/// Layers do not change, so their parts are found again by path: an open descriptor for each would
/// be more than a process may have. What others may change is held open or, where that would be too
/// many, opened again by a path that no link can lead elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) root: usize,
    held: Option<Arc<OwnedFd>>,
}

/// An entry of a view and, if it is a directory, what is in it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) stat: Stat,
    /// The root it shows from.
    pub(crate) root: usize,
    pub(crate) place: Place,
}

/// The roots of two views, each once.
#[derive(Debug, Default)]
pub(crate) struct Roots(Vec<Root>);

impl Roots {
    /// Adds a view's roots to those known; the place of its root directory.
    pub(crate) fn add(&mut self, roots: Vec<Root>) -> Result<Place, Errno> {
        let mut parts = Vec::new();
        for root in roots {
            let known = self.0.iter().position(|known| known.origin == root.origin);
            let index = known.unwrap_or(self.0.len());
            let held = match root.is_live {
                true => Some(Arc::new(open_directory(root.fd.as_fd(), b".")?)),
                false => None,
            };
            if known.is_none() {
                self.0.push(root);
            }
            parts.push(Part { root: index, held });
        }
        Ok(Place(parts))
    }

    pub(crate) fn fd(&self, root: usize) -> BorrowedFd<'_> {
        self.0[root].fd.as_fd()
    }

    /// A descriptor and a path from it that lead to an entry of the directory `path`, which is
    /// empty or ends in a slash.
    pub(crate) fn at(
        &self,
        part: &Part,
        path: &[u8],
        name: &[u8],
    ) -> Result<(Arc<OwnedFd>, Vec<u8>), Errno> {
        let root = &self.0[part.root];
        Ok(match &part.held {
            Some(held) => (held.clone(), name.to_vec()),
            None if root.is_live => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                // A path has one byte less than the kernel's limit, and that may be the slash.
                let path = path.strip_suffix(b"/").unwrap_or(path);
                let opened = openat2(&root.fd, path, flags, Mode::empty(), beneath)?;
                (Arc::new(opened), name.to_vec())
            }
            None => (root.fd.clone(), [path, name].concat()),
        })
    }

    /// Looks a name up the way overlayfs does. Of directories that others change, those found are
    /// held open if `holds`.
    pub(crate) fn entry(
        &self,
        place: &Place,
        (path, name): (&[u8], &CStr),
        holds: bool,
    ) -> Result<Option<Entry>, Errno> {
        let mut found: Option<Entry> = None;
        for part in &place.0 {
            let (at, below) = match self.at(part, path, name.to_bytes()) {
                // The directory went away.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                found => found?,
            };
            let stat = match statat(&at, &below[..], AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let is_layer = self.0[part.root].is_layer;
            let is_directory = is_directory(&stat);
            if is_layer && is_whiteout(&stat) || found.is_some() && !is_directory {
                break;
            }
            let opened = match is_directory {
                true => match open_directory(at.as_fd(), &below) {
                    // It went away, or something else was put there, since we looked.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                    opened => Some(opened?),
                },
                false => None,
            };
            let entry = found.get_or_insert_with(|| Entry {
                stat,
                root: part.root,
                place: Place::default(),
            });
            let Some(opened) = opened else { break };
            let ends = is_layer && is_opaque(opened.as_fd());
            let held = (self.0[part.root].is_live && holds).then(|| Arc::new(opened));
            entry.place.0.push(Part { root: part.root, held });
            if ends {
                break;
            }
        }
        Ok(found)
    }

    /// All names in parts of the directory `path`, of what hides others too.
    pub(crate) fn names(&self, parts: &[Part], path: &[u8]) -> Result<BTreeSet<CString>, Errno> {
        let mut names = BTreeSet::new();
        for part in parts {
            let (at, below) = self.at(part, path, b".")?;
            let mut entries = Dir::new(open_directory(at.as_fd(), &below)?)?;
            while let Some(entry) = entries.read() {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    names.insert(entry.file_name().to_owned());
                }
            }
        }
        Ok(names)
    }

    /// Opens the regular file at `path`, wherever its root's owner put links meanwhile.
    pub(crate) fn open(&self, root: usize, path: &[u8]) -> Result<File, Errno> {
        open_regular(self.fd(root), path, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }
}

impl Place {
    /// How many parts at the end the two have in common: what only those have is the same in both.
    pub(crate) fn shared(&self, other: &Self) -> usize {
        let pairs = self.0.iter().rev().zip(other.0.iter().rev());
        pairs.take_while(|(a, b)| a.root == b.root).count()
    }

    /// The part that the entry itself shows from.
    pub(crate) fn part(&self, root: usize) -> Option<&Part> {
        self.0.iter().find(|part| part.root == root)
    }
}

//! The shape of a container's root file system: the store produces it, the runtime mounts it.

use std::path::{Path, PathBuf};

/// How a root file system is put together.
///
/// This is the one noun that `store` and `runtime` share; neither knows the other.
/// All paths are absolute and belong to Cais, never to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// An existing directory, used as it is.
    Dir(PathBuf),
    /// Overlayfs: read-only layers, topmost first, under one writable directory.
    Overlay {
        /// The layers, topmost first; at least one.
        lower: Vec<Lower>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlayfs' scratch directory, on the file system of `upper`.
        work: PathBuf,
        /// Never sync the writable layer: for containers that are removed when they exit.
        /// A plain overlay syncs the whole file system under `upper` when it is unmounted.
        volatile: bool,
    },
}

/// A read-only layer of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lower {
    /// A directory.
    Directory(PathBuf),
    /// The root of an EROFS image, which whoever uses it mounts.
    Image {
        /// The file.
        path: PathBuf,
        /// The images that its data lies in, in its own order.
        devices: Vec<PathBuf>,
    },
}

impl Lower {
    /// Where it lies: the directory or the image.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Image { path, .. } => path,
        }
    }
}

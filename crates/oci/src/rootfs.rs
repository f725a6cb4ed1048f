//! The shape of a container's root file system: the store produces it, the runtime mounts it.

use std::path::PathBuf;

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
        /// Directories of the layers, topmost first; at least one.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlayfs' scratch directory, on the file system of `upper`.
        work: PathBuf,
        /// Never sync the writable layer: for containers that are removed when they exit.
        /// A plain overlay syncs the whole file system under `upper` when it is unmounted.
        volatile: bool,
    },
}

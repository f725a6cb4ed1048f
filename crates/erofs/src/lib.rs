//! EROFS, the kernel's read-only file system: images are written here, and mounted.
//!
//! **What it is.** A writer that takes a file tree in any order, data as it comes, and leaves one
//! file that the kernel mounts; and that mount, attached nowhere, from the file itself (Linux
//! 6.12) or through a loop device.
//!
//! **What it must not know.** Archives, layers, overlays, containers.
//!
//! **Front doors.** [`Builder`], [`merge`], [`mount`].
//!
//! **How to test it.** `cargo test -p erofs` as root: what was written is mounted and walked, and
//! given to `fsck.erofs` where there is one.
//!
//! # An image
//!
//! ```text
//! block 0 …    superblock at byte 1024, then the devices
//! …            data of files, each from the start of a block, in the order it came
//! …            metadata: inodes, with their attributes and what is small enough to follow them
//! …            blocks of directories that are too large for that
//! ```
//!
//! An image that [`merge`] makes has no data of its own: its blocks are those of other images, the
//! *devices* that it is mounted with. Data that follows an inode is copied.
//!
//! Nothing is compressed: what was once unpacked is read by every container, and layers are kept
//! compressed as blobs already. All inodes are of the extended kind, since only those have times of
//! their own. (Kernel: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.)

mod builder;
mod directory;
mod format;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod inode;
mod loop_device;
mod merge;
mod mount;
mod output;
mod reader;
mod tree;
mod uncached;
mod xattr;

pub use builder::{Builder, Data, SIZE_MAX};
pub use inode::{Attributes, Content};
pub use merge::merge;
pub use mount::{Id, mount, mounts_from_file};
pub use reader::Reader;
pub use tree::{Kind, Node, ROOT};
pub use uncached::write_uncached;
pub use xattr::supports as supports_attribute;

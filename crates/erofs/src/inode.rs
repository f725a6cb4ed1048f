//! What a file is: its metadata, and where its content lies.

use crate::xattr;
use rustix::io::Errno;

/// The metadata of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, in seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds since that second.
    pub nanoseconds: u32,
    /// Extended attributes, by their names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// Gives an extended attribute a value.
    pub fn set_xattr(&mut self, name: &[u8], value: &[u8]) {
        match self.xattrs.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.xattrs.push((name.to_vec(), value.to_vec())),
        }
    }
}

/// What is in a file that is not a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Data, as [`crate::Builder::data`] wrote it.
    Regular(crate::Data),
    /// The target of a symbolic link.
    Symlink(Box<[u8]>),
    /// A device and its number, as the kernel encodes it in 32 bits.
    CharDevice(u32),
    /// See [`Content::CharDevice`].
    BlockDevice(u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The bits of a mode that say what a file is (inode(7)).
pub(crate) mod kind {
    pub(crate) const FIFO: u32 = 0o010_000;
    pub(crate) const CHAR: u32 = 0o020_000;
    pub(crate) const DIRECTORY: u32 = 0o040_000;
    pub(crate) const BLOCK: u32 = 0o060_000;
    pub(crate) const REGULAR: u32 = 0o100_000;
    pub(crate) const SYMLINK: u32 = 0o120_000;
    pub(crate) const SOCKET: u32 = 0o140_000;
}

impl Content {
    pub(crate) fn kind(&self) -> u32 {
        match self {
            Self::Regular(_) => kind::REGULAR,
            Self::Symlink(_) => kind::SYMLINK,
            Self::CharDevice(_) => kind::CHAR,
            Self::BlockDevice(_) => kind::BLOCK,
            Self::Fifo => kind::FIFO,
            Self::Socket => kind::SOCKET,
        }
    }
}

/// The number for a kind of file in a directory.
pub(crate) fn entry_type(kind: u32) -> u8 {
    match kind {
        kind::REGULAR => 1,
        kind::DIRECTORY => 2,
        kind::CHAR => 3,
        kind::BLOCK => 4,
        kind::FIFO => 5,
        kind::SOCKET => 6,
        kind::SYMLINK => 7,
        _ => 0,
    }
}

/// The area of attributes behind an inode.
pub(crate) fn area(attributes: &Attributes) -> Result<Vec<u8>, Errno> {
    xattr::encode(attributes.xattrs.iter().map(|(name, value)| (&name[..], &value[..])))
}

//! Writes that go to the disk at once and leave nothing in memory.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;

use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// `RWF_DONTCACHE` (<linux/fs.h>, Linux 6.14; ext4 and XFS have it, others may).
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Writes all of `bytes` at `offset` into a file that nobody reads soon.
///
/// The kernel starts to write them to the disk at once and then drops them from memory, so that a
/// later sync has little to wait for, what others have in memory stays there, and the same few pages
/// are used for all of a large file. Where it cannot do that, this is an ordinary write.
///
/// # Errors
/// Those of pwritev2(2).
pub fn write_uncached(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match pwritev2(file, &[IoSlice::new(bytes)], offset, DONTCACHE) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                return file.write_all_at(bytes, offset);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

//! Regular files in trees that others change meanwhile.
//!
//! To open a device is to use it: tapes rewind, watchdogs start, and the device is that of whoever
//! made its node. So what a name leads to is looked at before it is opened, and then that very file
//! is opened, not the name again.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// Opens the regular file at `path` for reading, wherever whoever owns the tree puts links and
/// devices meanwhile. `resolve` says where the path may lead, its last component included
/// (openat2(2)).
///
/// # Errors
/// [`Errno::INVAL`] for what is not a regular file; those of openat2(2).
pub fn open_regular(at: impl AsFd, path: impl Arg, resolve: ResolveFlags) -> Result<File, Errno> {
    let found = openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    if !FileType::from_raw_mode(fstat(&found)?.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let own = format!("/proc/self/fd/{}", found.as_raw_fd());
    openat(CWD, own, flags, Mode::empty()).map(File::from)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;

    use rustix::fs::{makedev, mknodat};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_never_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = File::open(directory.path()).unwrap();
        fs::write(directory.path().join("file"), "text").unwrap();
        std::os::unix::fs::symlink("/file", directory.path().join("link")).unwrap();
        // No driver has this number: to open it is another error.
        let number = makedev(4095, 4095);
        let mode = Mode::from_raw_mode(0o600);
        mknodat(&at, "device", FileType::BlockDevice, mode, number).unwrap();
        mknodat(&at, "pipe", FileType::Fifo, mode, 0).unwrap();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        assert_eq!(openat(&at, "device", flags, Mode::empty()).unwrap_err(), Errno::NXIO);
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        for name in ["device", "pipe", "."] {
            assert_eq!(open_regular(&at, name, beneath).unwrap_err(), Errno::INVAL, "{name}");
        }
        assert_eq!(open_regular(&at, "link", beneath).unwrap_err(), Errno::LOOP);
        for (name, resolve) in [("file", beneath), ("link", ResolveFlags::IN_ROOT)] {
            let mut text = String::new();
            open_regular(&at, name, resolve).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "text");
        }
    }
}

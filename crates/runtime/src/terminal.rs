//! A terminal from the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fstatfs};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::error::{Doing, Error};
use crate::inroot::Root;
use crate::mount::filesystem::{attach, copy_tree_at};
use crate::mount::option::Bind;

/// `DEVPTS_SUPER_MAGIC` of statfs(2).
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Both ends of a terminal.
#[derive(Debug)]
pub(crate) struct Pty {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Opens a new terminal of this size, in rows and columns.
///
/// # Errors
/// When the container has no devpts on `/dev/pts`.
pub(crate) fn open(
    root: &Root,
    (rows, cols): (u16, u16),
    plain_newlines: bool,
) -> Result<Pty, Error> {
    let doing = || "open a terminal of the container";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master = root.open(Path::new("/dev/pts/ptmx"), flags).doing(doing)?;
    if fstatfs(&master).doing(doing)?.f_type != DEVPTS_MAGIC {
        return Err(Error::Spec("a terminal needs a devpts on `/dev/pts`".into()));
    }
    unlockpt(&master).doing(doing)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).doing(doing)?;
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size).doing(doing)?;
    if plain_newlines {
        let mut modes = tcgetattr(&slave).doing(doing)?;
        modes.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(&slave, OptionalActions::Now, &modes).doing(doing)?;
    }
    Ok(Pty { master, slave })
}

/// Makes the terminal `/dev/console`, from descriptor to descriptor (CVE-2025-52565). A link in
/// its place would lead the terminal over another file of the container, even one of procfs.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn bind_console(root: &Root, slave: BorrowedFd<'_>) -> Result<(), Error> {
    let dev = Root::new(root.create_dir_all(Path::new("/dev"))?);
    let console = Path::new("console");
    let target = match dev.open_without_links(console, OFlags::PATH) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            dev.make_mount_point(console, false)?
        }
        other => other.doing(|| "open `/dev/console`, which must not be a link")?,
    };
    let doing = || "mount the terminal on `/dev/console`";
    let copy = copy_tree_at(slave, Bind::Single).doing(doing)?;
    attach(copy.as_fd(), target.as_fd()).doing(doing)
}

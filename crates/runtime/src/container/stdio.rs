//! Where the input and output of a container's process come from, and descriptors that are handed
//! to others.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::Process;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use rustix::termios::tcgetwinsize;

use super::Error;
use crate::error::Doing;
use crate::launch::Stdio;
use crate::sync::FIRST_INHERITED;

/// Who gets the master of the terminal, if the process has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// The caller, who stays with the process.
    Caller,
    /// Whoever listens at this path; the caller leaves.
    Socket(PathBuf),
    /// Nobody: the caller leaves, and there can be no terminal.
    Nobody,
}

impl Console {
    /// Sorts what was asked for.
    ///
    /// # Errors
    /// [`Error::Refused`] for a terminal that nobody would get, and for a socket that nothing would
    /// be sent to.
    pub fn of(detach: bool, terminal: bool, socket: Option<PathBuf>) -> Result<Console, Error> {
        match (detach, terminal, socket) {
            (true, true, None) => Err(Error::Refused(
                "cannot allocate tty if runc will detach without setting console socket".into(),
            )),
            (true, true, Some(path)) => Ok(Console::Socket(path)),
            (_, _, Some(_)) => Err(Error::Refused(
                "cannot use console socket if runc will not detach or allocate tty".into(),
            )),
            (false, _, None) => Ok(Console::Caller),
            (true, false, None) => Ok(Console::Nobody),
        }
    }

    /// Sends the master to who is to get it; the caller's is returned.
    pub(super) fn deliver(&self, master: Option<OwnedFd>) -> Result<Option<OwnedFd>, Error> {
        match (self, master) {
            (Console::Socket(path), Some(master)) => {
                send_descriptor(path, master.as_fd(), "/dev/ptmx")?;
                Ok(None)
            }
            (_, master) => Ok(master),
        }
    }
}

/// The process' own streams or a terminal, as its specification says. A terminal that is shown on
/// the caller's own is as large as that from the beginning.
pub(super) fn of(process: &Process, console: &Console) -> Stdio {
    if process.terminal().unwrap_or(false) {
        let cells = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
        let said = process.console_size().map(|size| (cells(size.height()), cells(size.width())));
        let own = || own_size().filter(|_| *console == Console::Caller);
        let (rows, cols) = own().or(said).unwrap_or((0, 0));
        // Newlines go to the caller's own terminal, which makes of them what it does.
        let plain_newlines = *console == Console::Caller;
        return Stdio::Terminal { rows, cols, plain_newlines };
    }
    let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).ok();
    Stdio::Fds {
        stdin: copy(rustix::stdio::stdin()),
        stdout: copy(rustix::stdio::stdout()),
        stderr: copy(rustix::stdio::stderr()),
    }
}

/// Rows and columns of this process' own terminal.
fn own_size() -> Option<(u16, u16)> {
    let size = super::foreground::own_terminal().and_then(|fd| tcgetwinsize(fd).ok())?;
    Some((size.ws_row, size.ws_col))
}

/// Whether every descriptor that a program is to inherit is there. To be asked before anything is
/// opened, which would take the number of one that is missing.
///
/// # Errors
/// [`Error::Refused`] in runc's words.
pub fn check_inherited(listening: u32, preserved: u32) -> Result<(), Error> {
    for index in 0..listening + preserved {
        let number = FIRST_INHERITED + index;
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            let at = i64::from(index) - i64::from(listening);
            return Err(Error::Refused(format!(
                "unable to stat preserved-fd {at} (of {preserved}): no such file or directory"
            )));
        }
    }
    Ok(())
}

/// Sends a descriptor, with its name, to who listens at `path`.
///
/// # Errors
/// When nobody listens there.
pub fn send_descriptor(path: &Path, fd: BorrowedFd<'_>, name: &str) -> Result<(), Error> {
    let doing = || format!("send a descriptor to `{}`", path.display());
    // The address of a socket is short; its path may be long.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let place = rustix::fs::openat(CWD, path, flags, Mode::empty()).doing(doing)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", place.as_raw_fd()));
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).doing(doing)?;
    connect(&socket, &address.doing(doing)?).doing(doing)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [fd];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let parts = [IoSlice::new(name.as_bytes())];
    sendmsg(&socket, &parts, &mut ancillary, SendFlags::NOSIGNAL).doing(doing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_needs_somebody_who_gets_it() {
        let socket = || Some(PathBuf::from("/s"));
        assert_eq!(Console::of(true, true, socket()).unwrap(), Console::Socket("/s".into()));
        assert_eq!(Console::of(true, false, None).unwrap(), Console::Nobody);
        assert_eq!(Console::of(false, true, None).unwrap(), Console::Caller);
        assert!(Console::of(true, true, None).is_err());
        for (detach, terminal) in [(true, false), (false, true), (false, false)] {
            assert!(Console::of(detach, terminal, socket()).is_err());
        }
    }
}

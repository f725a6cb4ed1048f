//! The gate: where a created container waits for whoever starts it.
//!
//! A listening socket with a name in the container's directory, which only its owner may enter. The
//! container inherits it and needs no path to it; the name shows others that it waits, and the
//! answer to connect(2) whether it still does. It says what kept the program from being executed,
//! which a FIFO could not.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, renameat, symlinkat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// The name under which it can be reached.
const NAME: &str = "start";
/// The name while the container is being created.
const UNREADY: &str = "start.new";
/// Starters, and those who only look, that wait at the same time.
const BACKLOG: i32 = 16;

/// What is found at the gate of a container that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// It is not open yet.
    Unready,
    /// The container waits.
    Waiting,
    /// The container has been started.
    Gone,
}

/// Makes it, not yet to be found by others.
pub(super) fn make(directory: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let socket = unconnected(SocketFlags::CLOEXEC)?;
    bind(&socket, &address(directory, UNREADY)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Shows others that the container is being created, where there will be no gate.
pub(super) fn mark(directory: BorrowedFd<'_>) -> std::io::Result<()> {
    Ok(symlinkat(NAME, directory, UNREADY)?)
}

/// Takes the mark away.
pub(super) fn unmark(directory: BorrowedFd<'_>) {
    let _ = unlinkat(directory, UNREADY, AtFlags::empty());
}

/// Lets others find it.
pub(super) fn open(directory: BorrowedFd<'_>) -> std::io::Result<()> {
    Ok(renameat(directory, UNREADY, directory, NAME)?)
}

/// Removes the name of one that nobody waits behind any more.
pub(super) fn close(directory: BorrowedFd<'_>) {
    let _ = unlinkat(directory, NAME, AtFlags::empty());
}

/// Looks at it.
pub(super) fn look(directory: BorrowedFd<'_>) -> Gate {
    let exists =
        |name: &str| rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if exists(UNREADY) {
        return Gate::Unready;
    }
    if !exists(NAME) {
        return Gate::Gone;
    }
    let knock = || {
        let socket = unconnected(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let address = address(directory, NAME)?;
        Ok::<_, std::io::Error>(connect(&socket, &address))
    };
    match knock() {
        // Others stand in line.
        Ok(Ok(()) | Err(Errno::AGAIN)) => Gate::Waiting,
        _ => Gate::Gone,
    }
}

/// Connects to the container that waits.
pub(super) fn visit(directory: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let socket = unconnected(SocketFlags::CLOEXEC)?;
    connect(&socket, &address(directory, NAME)?)?;
    Ok(socket)
}

fn unconnected(flags: SocketFlags) -> std::io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Through the directory's descriptor: a path of any length, and of no other directory.
fn address(directory: BorrowedFd<'_>, name: &str) -> std::io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_gate_shows_whether_somebody_waits() {
        let root = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(root.path()).unwrap();
        let at = directory.as_fd();
        assert_eq!(look(at), Gate::Gone);
        let socket = make(at).unwrap();
        assert_eq!(look(at), Gate::Unready);
        open(at).unwrap();
        for _ in 0..BACKLOG * 2 {
            assert_eq!(look(at), Gate::Waiting);
        }
        drop(socket);
        // A child that another test has just forked holds a copy until it executes its program.
        let deadline = Instant::now() + Duration::from_mins(2);
        while look(at) != Gate::Gone && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(look(at), Gate::Gone);
        close(at);
        assert_eq!(look(at), Gate::Gone);
        mark(at).unwrap();
        assert_eq!(look(at), Gate::Unready);
        unmark(at);
        assert_eq!(look(at), Gate::Gone);
    }
}

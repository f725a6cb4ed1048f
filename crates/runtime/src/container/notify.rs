//! Readiness, from the container's program to the supervisor of whoever started it (sd_notify(3)).
//!
//! The container gets a socket of its own, at which only readiness is listened for: whatever else
//! the program says is none of the supervisor's business.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use oci::runtime::{Mount, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, chmodat, mkdirat, unlinkat};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};

/// The directory that the container sees, and where it sees it.
const DIRECTORY: &str = "notify";
const INSIDE: &str = "/run/notify";
const SOCKET: &str = "notify.sock";
/// The longest message that is read, in bytes.
const MESSAGE_MAX: usize = 4096;
/// How long the supervisor may take to acknowledge; some never do.
const BARRIER_MAX: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Makes the directory of the socket, in the container's directory at `path`, and describes it in
/// the specification.
pub(super) fn prepare(directory: BorrowedFd<'_>, path: &Path, spec: &mut Spec) -> io::Result<()> {
    mkdirat(directory, DIRECTORY, Mode::from_raw_mode(0o755))?;
    let mut mount = Mount::default();
    let words = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
    mount
        .set_destination(INSIDE.into())
        .set_typ(Some("bind".into()))
        .set_source(Some(path.join(DIRECTORY)))
        .set_options(Some(words.to_vec()));
    spec.mounts_mut().get_or_insert_default().push(mount);
    if let Some(process) = spec.process_mut() {
        let variable = format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}");
        process.env_mut().get_or_insert_default().push(variable);
    }
    Ok(())
}

/// The container's socket, and the supervisor's.
#[derive(Debug)]
pub(super) struct Relay {
    own: UnixDatagram,
    supervisor: UnixDatagram,
}

impl Relay {
    /// Listens for the container; `None` when it was created without a supervisor.
    pub(super) fn listen(
        directory: BorrowedFd<'_>,
        supervisor: &Path,
    ) -> io::Result<Option<Relay>> {
        let place = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let place = place.join(DIRECTORY);
        if !place.exists() {
            return Ok(None);
        }
        let path = place.join(SOCKET);
        // Of one who tried to start it before.
        match unlinkat(rustix::fs::CWD, &path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let own = UnixDatagram::bind(&path)?;
        chmodat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o777), AtFlags::empty())?;
        let supervisor_socket = UnixDatagram::unbound()?;
        supervisor_socket.connect_addr(&address(supervisor.as_os_str())?)?;
        Ok(Some(Relay { own, supervisor: supervisor_socket }))
    }

    /// Waits until the container is ready or has ended, and tells the supervisor that it is ready
    /// and that `main` is the process to watch.
    pub(super) fn run(&self, init: BorrowedFd<'_>, main: i32) -> io::Result<()> {
        let mut message = [0; MESSAGE_MAX];
        loop {
            let events =
                &mut [PollFd::new(&self.own, PollFlags::IN), PollFd::new(&init, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(events, None))?;
            if events[0].revents().is_empty() {
                return Ok(());
            }
            let length = self.own.recv(&mut message)?;
            let lines = message[..length].split(|&byte| byte == b'\n');
            if let Some(ready) = lines.into_iter().find(|line| line.starts_with(b"READY=")) {
                self.supervisor.send(&[ready, b"\n"].concat())?;
                self.supervisor.send(format!("MAINPID={main}\n").as_bytes())?;
                return self.wait_for_barrier();
            }
        }
    }

    /// Waits until the supervisor has read everything: it closes the descriptor then
    /// (sd_notify_barrier(3)).
    fn wait_for_barrier(&self) -> io::Result<()> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [theirs.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let parts = [IoSlice::new(b"BARRIER=1")];
        sendmsg(&self.supervisor, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
        drop(theirs);
        let events = &mut [PollFd::new(&ours, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(events, Some(&BARRIER_MAX)))?;
        Ok(())
    }
}

/// A path, or a name that begins with `@` and is in no file system.
fn address(text: &OsStr) -> io::Result<SocketAddr> {
    match text.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(text),
    }
}

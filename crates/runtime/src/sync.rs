//! The numbered points at which parent and child wait for each other.
//!
//! Both recipes (`parent.rs`, `child.rs`) name the same points, in the same order:
//!
//! | point | direction | meaning |
//! |---|---|---|
//! | 1 `Mapped` | parent → child | the id maps of the user namespace are written; only where there is one; carries the root file system |
//! | – `Admitted` | parent → child | systemd has moved the child into its cgroup; only where it must |
//! | 2 `Attached` | child → parent | the child is in its cgroup |
//! | – `Copied`, `Mapped` | child → parent, parent → child | a mount of what lies inside the root is carried; its ids are mapped; only in a user namespace, whose root may not map them |
//! | – `Placed` | child → parent | the mounts are in place and the host is still in sight; only where hooks wait for it |
//! | 3 `Furnished` | parent → child | the caller's work in the namespaces is done |
//! | 4 `Ready` | child → parent | everything is in place; carries the pty's master |
//! | 5 `Start` | parent → child | execute the program; through the gate, from whoever starts it |
//! | – `Listening` | child → parent | the filter is loaded; carries the number of its listener; only where an agent answers |
//! | – `Listening` | parent → child | it has the listener |
//! | 6 end of file | child → parent | the program runs: the socket was close-on-exec |
//!
//! Instead of a point, the child may send the error that ended it.

use std::cell::OnceCell;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, accept_with,
    recvmsg, sendmsg, socketpair,
};
use rustix::process::Pid;

use crate::error::{Doing, Error, TEXT_MAX};
use crate::launch::Oci;
use crate::sys::monitor::SignalFd;

/// One message: a point, or the header and text of an error.
const MESSAGE_MAX: usize = TEXT_MAX + 16;
/// First byte of a message that carries an error.
const FAILED: u8 = 0xff;

/// A point of the conversation, see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Point {
    Mapped = 1,
    Attached = 2,
    Furnished = 3,
    Ready = 4,
    Start = 5,
    Placed = 6,
    Listening = 7,
    Admitted = 8,
    Copied = 9,
}

/// What a child keeps open besides its end of the socket pair.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept<'a> {
    /// The listening socket of the gate.
    pub(crate) gate: Option<BorrowedFd<'a>>,
    /// The way to be counted in the cgroup.
    pub(crate) count: Option<BorrowedFd<'a>>,
    /// How many descriptors from [`FIRST_INHERITED`] on are the program's.
    pub(crate) inherited: u32,
}

impl<'a> Kept<'a> {
    /// What a container keeps for the OCI command line's sake.
    pub(crate) fn of(oci: Option<&Oci<'a>>) -> Kept<'a> {
        oci.map_or_else(Kept::default, |oci| Kept {
            gate: oci.gate,
            count: None,
            inherited: oci.inherited,
        })
    }
}

/// The descriptor behind the standard ones.
pub(crate) const FIRST_INHERITED: u32 = 3;

/// What came from the other side.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The expected point, with the descriptor it carries.
    Point(Option<OwnedFd>),
    /// The other side has gone, or executes its program.
    End,
}

/// One end of the socket pair between parent and child.
#[derive(Debug)]
pub(crate) struct Sync {
    socket: OwnedFd,
    /// In the child: whoever starts the program, in the creator's place.
    starter: OnceCell<OwnedFd>,
}

impl From<OwnedFd> for Sync {
    fn from(socket: OwnedFd) -> Sync {
        Sync { socket, starter: OnceCell::new() }
    }
}

impl AsFd for Sync {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.starter.get().unwrap_or(&self.socket).as_fd()
    }
}

impl Sync {
    /// Both ends.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub(crate) fn pair() -> Result<(Sync, Sync), Error> {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (one, other) =
            socketpair(family, kind, SocketFlags::CLOEXEC, None).doing(|| "make a socket pair")?;
        Ok((one.into(), other.into()))
    }

    /// Closes this end in a child that inherited it, so that the child notices when the parent,
    /// its owner, goes.
    pub(crate) fn close_in_child(&self) {
        crate::sys::close_in_child(self.socket.as_fd());
    }

    /// Tells the parent that the child is ready, after closing everything but this end and `kept`:
    /// a container that is created and not started holds nothing of its creator.
    ///
    /// # Errors
    /// When the parent has gone.
    pub(crate) fn tell_ready(&self, master: Option<&OwnedFd>, kept: Kept<'_>) -> Result<(), Error> {
        let own = [Some(self.socket.as_fd()), master.map(AsFd::as_fd), kept.gate, kept.count];
        let mut keep: Vec<u32> =
            own.into_iter().flatten().map(|fd| fd.as_raw_fd() as u32).collect();
        keep.extend((0..kept.inherited).map(|index| FIRST_INHERITED + index));
        crate::sys::close_others_in_child(&mut keep)
            .doing(|| "close the descriptors of the creator")?;
        self.tell(Point::Ready, master)
    }

    /// Lets go of the creator and waits at the gate for whoever starts the program; from then on,
    /// that is the other side. One that comes and goes without saying so starts nothing.
    ///
    /// Meanwhile a signal that asks a process to end does end this one: the kernel keeps from the
    /// first process of a namespace what it has no handler for (pid_namespaces(7)).
    ///
    /// # Errors
    /// Those of accept(2).
    pub(crate) fn await_start(&self, gate: BorrowedFd<'_>) -> Result<(), Error> {
        self.close_in_child();
        let doing = || "wait to be started";
        let mut signals = SignalFd::ending().doing(doing)?;
        loop {
            let events =
                &mut [PollFd::new(&gate, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(events, None)).doing(doing)?;
            if !events[1].revents().is_empty() {
                let signal = signals.read().doing(doing)?;
                crate::sys::exit(128 + signal.as_raw());
            }
            let visitor = rustix::io::retry_on_intr(|| accept_with(gate, SocketFlags::CLOEXEC))
                .doing(doing)?;
            let visitor = Sync::from(visitor);
            if matches!(visitor.hear(Point::Start), Ok(Heard::Point(_))) {
                // There was none before: this function is called once.
                let _ = self.starter.set(visitor.socket);
                crate::sys::unblock_signals();
                return Ok(());
            }
        }
    }

    /// The error that the other side has already sent, if any: the cause of what this side met.
    pub(crate) fn reported(&self) -> Option<Error> {
        let mut bytes = [0; MESSAGE_MAX];
        loop {
            match rustix::net::recv(self, &mut bytes[..], RecvFlags::DONTWAIT) {
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Ok((length, _)) if length > 0 && bytes[0] == FAILED => {
                    return Some(Error::from_bytes(&bytes[1..length]));
                }
                Ok((length, _)) if length > 0 => {}
                _ => return None,
            }
        }
    }

    /// Tells the other side that `point` is reached.
    ///
    /// # Errors
    /// When the other side has gone.
    pub(crate) fn tell(&self, point: Point, carried: Option<&OwnedFd>) -> Result<(), Error> {
        let doing = || format!("announce {point:?}");
        let Some(carried) = carried else {
            return rustix::net::send(self, &[point as u8], SendFlags::NOSIGNAL)
                .map(drop)
                .doing(doing);
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [carried.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let bytes = [point as u8];
        sendmsg(self, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
            .map(drop)
            .doing(doing)
    }

    /// Tells the other side the number of a process.
    pub(crate) fn tell_pid(&self, pid: i32) {
        // Big-endian: the first byte of a number that is positive is not that of an error.
        let _ = rustix::io::write(self, &pid.to_be_bytes());
    }

    /// Waits for the number of a process.
    ///
    /// # Errors
    /// The one that the other side sent, or that it has gone.
    pub(crate) fn hear_pid(&self) -> Result<Pid, Error> {
        let doing = || "wait for the number of the process";
        let mut bytes = [0; MESSAGE_MAX];
        let (length, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(self, &mut bytes[..], RecvFlags::empty())
        })
        .doing(doing)?;
        if length > 0 && bytes[0] == FAILED {
            return Err(Error::from_bytes(&bytes[1..length]));
        }
        let number = bytes[..length].try_into().map(i32::from_be_bytes).ok();
        number.and_then(Pid::from_raw).ok_or(Errno::PROTO).doing(doing)
    }

    /// Tells the other side what ended this one. With write(2), which any useful seccomp profile
    /// permits; when nobody listens any more, nobody needs to know.
    pub(crate) fn fail(&self, error: &Error) {
        let mut bytes = vec![FAILED];
        bytes.extend(error.to_bytes());
        let _ = rustix::io::write(self, &bytes);
    }

    /// Tells the other side the number of a listener and waits until it has a copy. With write(2)
    /// and read(2) only: the filter that it listens to already holds.
    ///
    /// # Errors
    /// When the other side has gone, or the filter forbids this.
    pub(crate) fn tell_listener(&self, listener: BorrowedFd<'_>) -> Result<(), Error> {
        let doing =
            || "tell of the seccomp listener, for which the profile must allow read and write";
        let [a, b, c, d] = listener.as_raw_fd().to_be_bytes();
        rustix::io::write(self, &[Point::Listening as u8, a, b, c, d]).doing(doing)?;
        let mut byte = [0];
        match rustix::io::retry_on_intr(|| rustix::io::read(self, &mut byte)).doing(doing)? {
            1 if byte[0] == Point::Listening as u8 => Ok(()),
            _ => Err(Errno::PIPE).doing(doing),
        }
    }

    /// Waits for the number of a listener.
    ///
    /// # Errors
    /// The one that the other side sent, or that it has gone.
    pub(crate) fn hear_listener(&self) -> Result<i32, Error> {
        let doing = || "wait for the seccomp listener";
        let mut bytes = [0; MESSAGE_MAX];
        let (length, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(self, &mut bytes[..], RecvFlags::empty())
        })
        .doing(doing)?;
        match &bytes[..length] {
            [FAILED, error @ ..] => Err(Error::from_bytes(error)),
            [kind, number @ ..] if *kind == Point::Listening as u8 => {
                let number = number.try_into().map(i32::from_be_bytes);
                number.map_err(|_| Errno::PROTO).doing(doing)
            }
            _ => Err(Errno::PIPE).doing(doing),
        }
    }

    /// Tells the other side that there is a copy of its listener.
    ///
    /// # Errors
    /// When it has gone.
    pub(crate) fn confirm_listener(&self) -> Result<(), Error> {
        self.tell(Point::Listening, None)
    }

    /// Waits for `point`, an error, or the end.
    ///
    /// # Errors
    /// The one that the other side sent.
    pub(crate) fn hear(&self, point: Point) -> Result<Heard, Error> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; MESSAGE_MAX];
        let doing = || format!("wait for {point:?}");
        let message = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(self, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                // The reset is told once, when the other end closed with unread messages; what it
                // sent before is still to be read.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                other => break other.doing(doing)?,
            }
        };
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(Error::kernel(doing(), Errno::MSGSIZE));
        }
        match bytes[..message.bytes].split_first() {
            None => Ok(Heard::End),
            Some((&FAILED, error)) => Err(Error::from_bytes(error)),
            Some((&byte, [])) if byte == point as u8 => {
                Ok(Heard::Point(descriptor(&mut ancillary)))
            }
            Some(_) => Err(Error::kernel(doing(), Errno::PROTO)),
        }
    }

    /// Waits for `point`; the other side must not end before.
    ///
    /// # Errors
    /// The one that the other side sent, or that it has gone.
    pub(crate) fn expect(&self, point: Point) -> Result<Option<OwnedFd>, Error> {
        match self.hear(point)? {
            Heard::Point(carried) => Ok(carried),
            Heard::End => Err(Error::kernel(format!("wait for {point:?}"), Errno::PIPE)),
        }
    }
}

fn descriptor(ancillary: &mut RecvAncillaryBuffer<'_>) -> Option<OwnedFd> {
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

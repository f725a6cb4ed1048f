//! Staying with a process: its terminal, the signals that are meant for it, and how it ended.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{
    OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::process::{ExitStatus, Process};
use crate::sys::monitor::{SignalFd, collect_others};

/// How much is copied at a time, in bytes.
const COPY_BYTES: usize = 16 << 10;

/// Stays with processes; signals are kept for them from the moment it is made.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// To be made before the process, so that no signal is lost. With `subreaper`, what the
    /// container leaves behind becomes this process' to collect (prctl(2)).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(subreaper: bool) -> io::Result<Foreground> {
        if subreaper {
            rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?;
        }
        Ok(Foreground { signals: SignalFd::forwarded_and_children()? })
    }

    /// Passes on signals, and between this process' terminal and `master`, until `process` ends.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attend(&mut self, process: &Process, master: Option<OwnedFd>) -> io::Result<ExitStatus> {
        let terminal = master.map(Terminal::new).transpose()?;
        let mut relay = Relay { process, terminal, typed: Vec::new(), input_ended: false };
        loop {
            if relay.turn(&mut self.signals)? {
                relay.drain();
                return process.wait();
            }
        }
    }
}

/// The terminal of the container, and this process' own in raw mode while it is shown there.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    own: Option<(BorrowedFd<'static>, Termios)>,
    output_ended: bool,
}

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Terminal> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let own = own_terminal().map(|fd| Ok::<_, Errno>((fd, tcgetattr(fd)?))).transpose()?;
        if let Some((fd, modes)) = &own {
            let mut raw = modes.clone();
            raw.make_raw();
            tcsetattr(fd, OptionalActions::Now, &raw)?;
        }
        let terminal = Terminal { master, own, output_ended: false };
        terminal.resize();
        Ok(terminal)
    }

    fn resize(&self) {
        if let Some((own, _)) = &self.own
            && let Ok(size) = tcgetwinsize(own)
        {
            // The other side may be gone.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Shows what there is; false when there is nothing now, or nothing any more.
    fn show(&mut self) -> bool {
        let mut bytes = [0; COPY_BYTES];
        match rustix::io::read(&self.master, &mut bytes[..]) {
            Ok(length) if length > 0 => {
                // Whoever read it may have seen enough.
                let _ = io::Write::write_all(&mut io::stdout(), &bytes[..length]);
                let _ = io::Write::flush(&mut io::stdout());
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // EIO: nobody has the terminal open.
            _ => {
                self.output_ended = true;
                false
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some((fd, modes)) = &self.own {
            let _ = tcsetattr(fd, OptionalActions::Now, modes);
        }
    }
}

/// This process' own terminal, on whichever of its streams.
pub(super) fn own_terminal() -> Option<BorrowedFd<'static>> {
    [stderr(), stdout(), stdin()].into_iter().find(|fd| isatty(fd))
}

struct Relay<'a> {
    process: &'a Process,
    terminal: Option<Terminal>,
    /// What was typed and the terminal did not take yet.
    typed: Vec<u8>,
    input_ended: bool,
}

impl Relay<'_> {
    /// Waits for one event and deals with it; true when the process has ended.
    fn turn(&mut self, signals: &mut SignalFd) -> io::Result<bool> {
        let (pidfd, own_input) = (self.process.pidfd(), stdin());
        let mut events =
            vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        if let Some(terminal) = self.terminal.as_ref().filter(|terminal| !terminal.output_ended) {
            let full = !self.typed.is_empty();
            let wanted = if full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            events.push(PollFd::new(&terminal.master, wanted));
            if !full && !self.input_ended {
                events.push(PollFd::new(&own_input, PollFlags::IN));
            }
        }
        match poll(&mut events, None) {
            Err(Errno::INTR) => return Ok(false),
            other => other?,
        };
        let ready: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        drop(events);
        let at = |index: usize| ready.get(index) == Some(&true);
        if at(1) {
            self.signal(signals);
        }
        if let Some(terminal) = self.terminal.as_mut().filter(|_| at(2)) {
            terminal.show();
        }
        if at(3) {
            self.read_typed();
        }
        self.write_typed();
        Ok(at(0))
    }

    fn signal(&self, signals: &mut SignalFd) {
        match signals.read().map(rustix::process::Signal::as_raw) {
            // The process' own status is still wanted.
            Ok(libc::SIGCHLD) => collect_others(self.process.pid()),
            Ok(libc::SIGWINCH) if self.terminal.is_some() => {
                self.terminal.iter().for_each(Terminal::resize);
            }
            // It may have ended meanwhile.
            Ok(signal) => drop(self.process.signal(signal)),
            Err(_) => {}
        }
    }

    fn read_typed(&mut self) {
        let mut bytes = [0; COPY_BYTES];
        match rustix::io::read(stdin(), &mut bytes[..]) {
            Ok(length) if length > 0 => self.typed.extend_from_slice(&bytes[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => self.input_ended = true,
        }
    }

    fn write_typed(&mut self) {
        let Some(terminal) = &self.terminal else { return };
        while !self.typed.is_empty() {
            match rustix::io::write(&terminal.master, &self.typed) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => self.typed.clear(),
            }
        }
    }

    /// What the process wrote last.
    fn drain(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            while terminal.show() {}
        }
    }
}

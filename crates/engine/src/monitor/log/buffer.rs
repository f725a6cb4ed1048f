//! `mode=non-blocking`: a driver that is slow holds up a process of its own and not the container,
//! with a pipe between the two that holds as much as was asked for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};

use super::Stream;
use super::direct::Direct;
use super::rate::Dropped;

/// A stream's number and the count of the bytes that follow, or of nothing for its end.
const HEAD_BYTES: usize = 5;
/// How long a driver may take for what is left when the container has ended.
const FINISH_MAX: Duration = Duration::from_secs(10);
const REASON: &str = "the log driver was slower than the container (max-buffer-size)";

/// The monitor's side.
#[derive(Debug)]
pub(super) struct Buffer {
    pipe: OwnedFd,
    process: runtime::Child,
    /// What the pipe did not take of a message that it took the beginning of.
    rest: Vec<u8>,
    dropped: Dropped,
}

impl Buffer {
    /// Forks the process that writes.
    ///
    /// # Errors
    /// If the kernel refuses a pipe of that size (pipe(7), pipe-max-size).
    pub(super) fn start(bytes: u64, direct: Direct) -> io::Result<Self> {
        let (output, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&pipe, usize::try_from(bytes).unwrap_or(usize::MAX))?;
        match runtime::fork()? {
            runtime::Fork::Parent(process) => {
                let flags = rustix::fs::fcntl_getfl(&pipe)?;
                rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
                Ok(Self { pipe, process, rest: Vec::new(), dropped: Dropped::default() })
            }
            runtime::Fork::Child => {
                let mut kept = vec![output.as_fd()];
                kept.extend(direct.descriptors());
                let kept = runtime::keep_only(&kept);
                // A signal from the terminal is for the container.
                let _ = rustix::process::setsid();
                drop(kept.and_then(|()| serve(File::from(output), direct)));
                runtime::exit_now(0)
            }
        }
    }

    /// Passes on what a stream wrote, or drops it and says so as soon as there is room.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if self.is_full() {
            return self.dropped.add_all(bytes);
        }
        if let Some(mark) = self.dropped.mark(REASON) {
            self.put(Stream::Stderr, mark.as_bytes());
        }
        match self.rest.is_empty() {
            true => self.put(stream, bytes),
            false => self.dropped.add_all(bytes),
        }
    }

    /// Whether a message waits that the pipe took the beginning of only.
    fn is_full(&mut self) -> bool {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            self.push(&rest);
        }
        !self.rest.is_empty()
    }

    fn put(&mut self, stream: Stream, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let head = [&[stream as u8], &length[..]].concat();
        let mut set = [PollFd::new(&self.pipe, PollFlags::OUT)];
        let ready = poll(&mut set, Some(&Timespec::default())).unwrap_or(0);
        match ready {
            0 => self.dropped.add_all(bytes),
            _ => self.push(&[&head, bytes].concat()),
        }
    }

    fn push(&mut self, message: &[u8]) {
        let mut left = message;
        while !left.is_empty() {
            match rustix::io::write(&self.pipe, left) {
                Ok(written) => left = &left[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // The process was killed. Nobody is to wait for it.
                Err(_) => return,
            }
        }
        self.rest = left.to_vec();
    }

    /// Has everything that waits written, as long as the driver takes it: the container has ended,
    /// and whoever waits for its end is not to wait for a driver that does not go on.
    pub(super) fn finish(mut self) {
        let deadline = Instant::now() + FINISH_MAX;
        while self.is_full() && ready(&self.pipe, PollFlags::OUT, deadline) {}
        if let Some(mark) = self.dropped.mark(REASON) {
            self.put(Stream::Stderr, mark.as_bytes());
        }
        let Self { pipe, process, .. } = self;
        drop(pipe);
        let Ok(handle) = process.pidfd() else { return };
        if !ready(&handle, PollFlags::IN, deadline) {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
        let _ = process.wait();
    }
}

/// Whether a descriptor becomes ready before the deadline.
fn ready(fd: &OwnedFd, flags: PollFlags, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut set = [PollFd::new(fd, flags)];
        match poll(&mut set, Some(&Timespec::try_from(left).unwrap_or_default())) {
            Err(Errno::INTR) => {}
            outcome => return outcome.is_ok_and(|ready| ready > 0),
        }
    }
}

/// The other side: takes messages until the monitor has gone.
fn serve(mut pipe: File, mut direct: Direct) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut head = [0; HEAD_BYTES];
        if pipe.read_exact(&mut head).is_err() {
            return direct.finish();
        }
        let [stream, length @ ..] = head;
        bytes.resize(u32::from_le_bytes(length) as usize, 0);
        pipe.read_exact(&mut bytes)?;
        let stream = if stream == Stream::Stdout as u8 { Stream::Stdout } else { Stream::Stderr };
        // A full disk costs lines, and not what comes later.
        let _ = direct.write(stream, &bytes);
    }
}

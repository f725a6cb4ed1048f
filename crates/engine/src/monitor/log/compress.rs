//! Compressing the full files of a log, beside the monitor and not in it: a process of low priority
//! that nobody waits for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Timestamps, futimens};
use rustix::pipe::{PipeFlags, pipe_with};

use super::file::{full, serials};

/// What is added to the niceness of whoever compresses: all that there is.
const NICENESS: i32 = 19;

/// The process that compresses.
#[derive(Debug)]
pub(super) struct Compressor {
    /// Ends with it.
    end: OwnedFd,
    process: runtime::Child,
}

impl Compressor {
    /// Has all full files of the log at `path` compressed.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let (end, held) = pipe_with(PipeFlags::CLOEXEC)?;
        match runtime::fork()? {
            runtime::Fork::Parent(process) => Ok(Self { end, process }),
            runtime::Fork::Child => {
                // Neither the container's streams nor the monitor's locks are to outlive the monitor.
                let kept = runtime::keep_only(&[held.as_fd()]);
                let _ = rustix::process::setsid();
                let _ = rustix::process::nice(NICENESS);
                let done = kept.and_then(|()| compress_all(path));
                runtime::exit_now(i32::from(done.is_err()))
            }
        }
    }

    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    pub(super) fn has_ended(&self) -> bool {
        let mut set = [PollFd::new(&self.end, PollFlags::IN)];
        poll(&mut set, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        if self.has_ended() {
            let _ = self.process.wait();
        }
    }
}

fn compress_all(path: &Path) -> io::Result<()> {
    for (serial, suffixes) in serials(path)? {
        if suffixes.iter().any(String::is_empty) {
            match compress(path, serial) {
                // The container has written on, or was removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

/// Replaces a full file by its compressed form, which keeps the time of its last line.
pub(super) fn compress(path: &Path, serial: u64) -> io::Result<()> {
    let (plain, fresh) = (full(path, serial, ""), full(path, serial, ".tmp"));
    let mut from = File::open(&plain)?;
    let stat = rustix::fs::fstat(&from)?;
    let mut to = GzEncoder::new(File::create(&fresh)?, Compression::fast());
    io::copy(&mut from, &mut to)?;
    let to = to.finish()?;
    let time = rustix::fs::Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    futimens(&to, &Timestamps { last_access: time, last_modification: time })?;
    std::fs::rename(fresh, full(path, serial, ".gz"))?;
    std::fs::remove_file(plain)
}

//! How fast output comes: under load it is let gather for a moment, since to be woken for every
//! piece of it costs more than to pass it on.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::pipe::fcntl_setpipe_size;

use super::attach::PAYLOAD_BYTES_MAX;

/// After so many bytes the speed is looked at.
const WINDOW_BYTES: usize = 256 * 1024;
/// Output that fills a window within this time is fast: 16 MiB a second.
const WINDOW_TIME: Duration = Duration::from_millis(16);
/// How long fast output gathers.
const GATHER: Duration = Duration::from_millis(1);
/// What a pipe holds meanwhile, in bytes: as much as anybody may ask for (pipe(7), pipe-max-size).
const PIPE_BYTES: usize = 1 << 20;

/// How much fast output is read, and so written to the log, at once: the kernel's work for each write
/// weighs less.
const FAST_PIECE_BYTES: usize = 128 * 1024;

/// The speed of output, as it was lately.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    bytes: usize,
    is_fast: bool,
    /// Whether more waits than was read at once.
    has_more: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), bytes: 0, is_fast: false, has_more: false }
    }

    /// Takes note of what was read from `pipe` by a read that could have taken `room` bytes.
    pub(super) fn add(&mut self, pipe: impl AsFd, read: usize, room: usize) {
        self.bytes += read;
        self.has_more = read == room;
        if self.bytes < WINDOW_BYTES && !self.is_fast {
            return;
        }
        let elapsed = self.begun.elapsed();
        if self.bytes < WINDOW_BYTES && elapsed < WINDOW_TIME {
            return;
        }
        let was_fast = std::mem::replace(&mut self.is_fast, elapsed < WINDOW_TIME);
        if self.is_fast && !was_fast {
            // A terminal has no size to set.
            let _ = fcntl_setpipe_size(pipe, PIPE_BYTES);
        }
        (self.bytes, self.begun) = (0, Instant::now());
    }

    /// How much is read at once, in bytes.
    pub(super) fn piece(&self) -> usize {
        if self.is_fast { FAST_PIECE_BYTES } else { PAYLOAD_BYTES_MAX }
    }

    /// Waits a moment if output is fast, and all of it was read.
    pub(super) fn gather(&mut self) {
        if self.is_fast && !self.has_more && self.bytes > 0 {
            std::thread::sleep(GATHER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_fast_gathers() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let mut pace = Pace::new();
        pace.add(&reader, WINDOW_BYTES - 1, 1);
        assert!(!pace.is_fast && pace.piece() == PAYLOAD_BYTES_MAX);
        // However slow this test is: no time has passed.
        pace.begun = Instant::now() + WINDOW_TIME;
        pace.add(&reader, 1, 2);
        assert!(pace.is_fast && pace.piece() == FAST_PIECE_BYTES);
        assert_eq!(rustix::pipe::fcntl_getpipe_size(&reader).unwrap(), PIPE_BYTES);
        pace.begun = Instant::now() - WINDOW_TIME;
        pace.add(&reader, 1, 2);
        assert!(!pace.is_fast, "a little in a long time is slow");
    }
}

//! How fast a log may grow: a bucket of bytes that fills with time.

use std::fmt;
use std::time::Instant;

/// What a container that writes in bursts may always write at once, in bytes.
const BURST_BYTES_MIN: u64 = 64 * 1024;

/// Lines that a log did not take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Dropped {
    pub(super) fn add(&mut self, part: &[u8]) {
        self.lines += u64::from(part.ends_with(b"\n"));
        self.bytes += part.len() as u64;
    }

    /// Adds a piece of output, which may hold several lines.
    pub(super) fn add_all(&mut self, bytes: &[u8]) {
        bytes.split_inclusive(|&byte| byte == b'\n').for_each(|line| self.add(line));
    }

    /// The line that says so in the place of them, if there are any; then there are none.
    pub(super) fn mark(&mut self, reason: &str) -> Option<String> {
        let dropped = std::mem::take(self);
        (dropped.bytes > 0).then(|| format!("cais: {dropped} dropped: {reason}\n"))
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let Self { lines, bytes } = *self;
        write!(out, "{lines} line{} ({bytes} byte{})", plural(lines), plural(bytes))
    }
}

/// A limit in bytes a second, which may be saved up for one second.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u64,
    left: u64,
    filled: Instant,
    pub(super) dropped: Dropped,
}

impl Rate {
    pub(super) fn new(per_second: u64, now: Instant) -> Self {
        Self { per_second, left: burst(per_second), filled: now, dropped: Dropped::default() }
    }

    /// Adds what has come together since the last time.
    pub(super) fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let earned = u128::from(self.per_second) * passed.as_nanos() / 1_000_000_000;
        if earned > 0 {
            let sum = self.left.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX));
            self.left = sum.min(burst(self.per_second));
            self.filled = now;
        }
    }

    /// Whether a line is within the limit; a line that is not is counted.
    pub(super) fn admits(&mut self, part: &[u8]) -> bool {
        let left = self.left.checked_sub(part.len() as u64);
        match left {
            Some(left) => self.left = left,
            None => self.dropped.add(part),
        }
        left.is_some()
    }
}

fn burst(per_second: u64) -> u64 {
    per_second.max(BURST_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_what_is_more_is_counted() {
        let start = Instant::now();
        let mut rate = Rate::new(100_000, start);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let count = |rate: &mut Rate| (0..1000).filter(|_| rate.admits(&line)).count();
        assert_eq!(count(&mut rate), 100);
        let said = rate.dropped.mark("too fast").unwrap();
        assert_eq!(said, "cais: 900 lines (900000 bytes) dropped: too fast\n");
        assert_eq!(rate.dropped.mark("too fast"), None);
        rate.fill(start + Duration::from_millis(500));
        assert_eq!(count(&mut rate), 50);
        // Nothing is earned twice, and no more than a second's worth is saved up.
        rate.fill(start + Duration::from_millis(500));
        assert_eq!(count(&mut rate), 0);
        rate.fill(start + Duration::from_secs(3600));
        assert_eq!(count(&mut rate), 100);
    }
}

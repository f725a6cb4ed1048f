//! Times as they are stored and shown: RFC 3339, UTC, nanoseconds.

use jiff::Timestamp;

/// The present time, as in `2026-01-02T03:04:05.678901234Z`.
#[must_use]
pub fn now() -> String {
    format(Timestamp::now())
}

/// `time` with all nine digits of its nanoseconds, so that times sort as text.
#[must_use]
pub fn format(time: Timestamp) -> String {
    format!("{time:.9}")
}

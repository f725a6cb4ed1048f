//! What can go wrong on this disk, by what a caller does about it.

use std::io;

use oci::Digest;

use crate::driver::Driver;

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image, blob or layer of that name.
    #[error("no such {0}")]
    NotFound(String),
    /// More than one image has this prefix of an id.
    #[error("image id prefix `{0}` is ambiguous")]
    Ambiguous(String),
    /// Content is not what its digest says.
    #[error("{what}: expected {expected}, got {actual}")]
    Digest {
        /// What was received or unpacked.
        what: String,
        /// The digest that was promised.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The input is malformed, escapes its root or exceeds a limit.
    #[error("{0}")]
    Invalid(String),
    /// Another process holds what is needed; trying again later helps.
    #[error("{0}: another process is using the store")]
    Busy(String),
    /// The store has another driver than the one that was asked for.
    #[error("the store `{root}` has the storage driver `{recorded}`, not `{requested}`")]
    Driver {
        /// Where the store is.
        root: String,
        /// What it has.
        recorded: Driver,
        /// What was asked for.
        requested: Driver,
    },
    /// The request collides with what exists; Docker's wording.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The kernel refused; the source keeps its errno.
    #[error("{doing}")]
    Io {
        /// What was being done, to which object.
        doing: String,
        /// The refusal.
        #[source]
        source: io::Error,
    },
}

/// Says what was being done when a system call failed.
pub(crate) trait Doing<T> {
    /// Turns an operating system's error into [`Error::Io`].
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T, Error> {
        self.map_err(|e| Error::Io { doing: what().into(), source: e.into() })
    }
}

/// Shorthand for malformed input.
pub(crate) fn invalid<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(why.into()))
}

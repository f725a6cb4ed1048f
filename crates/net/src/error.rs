//! What can go wrong, in the terms a caller can act on.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong. Each message says what was being done to which object; the kernel's own
/// answer is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request.
    #[error("{doing}")]
    Kernel {
        /// What was being done, to which object.
        doing: String,
        /// The kernel's answer.
        #[source]
        source: KernelError,
    },
    /// The process lacks a privilege.
    #[error("{doing}: this needs {needs}")]
    Denied {
        /// What was being done, to which object.
        doing: String,
        /// The privilege that is missing.
        needs: &'static str,
        /// The kernel's answer.
        #[source]
        source: KernelError,
    },
    /// The kernel lacks a feature.
    #[error("{doing}")]
    Unsupported {
        /// What was being done, to which object.
        doing: String,
        /// What the administrator can do about it.
        hint: &'static str,
        /// The kernel's answer.
        #[source]
        source: KernelError,
    },
    /// An interface of this name exists and is not ours.
    #[error("{0}")]
    Conflict(String),
    /// Something of the host's that a network needs is not there.
    #[error("{0}")]
    Missing(String),
    /// No free address, no free subnet or no free port of a bridge is left.
    #[error("{0}")]
    Exhausted(String),
    /// A name, address or subnet that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A file could not be read or written.
    #[error("{doing}")]
    Io {
        /// What was being done, to which object.
        doing: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What the administrator can do about it, where that is known: one line for `hint:`.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Unsupported { hint, .. } => Some(hint),
            Error::Missing(_) => Some("`ip link` lists the interfaces that there are"),
            Error::Denied { .. } => Some("run as root, or use --network host or none"),
            _ => None,
        }
    }

    /// The kernel's error number, where a netlink request failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { source, .. }
            | Error::Denied { source, .. }
            | Error::Unsupported { source, .. } => Some(source.errno),
            _ => None,
        }
    }

    pub(crate) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Io { doing: doing.into(), source: source.into() }
    }
}

/// The kernel's answer to a netlink request: the error number, and its extended acknowledgement
/// (`NLMSGERR_ATTR_MSG`) where it sent one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelError {
    /// The error number.
    pub errno: Errno,
    /// The kernel's own explanation.
    pub message: Option<String>,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.errno)?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for KernelError {}

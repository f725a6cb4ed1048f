//! What can go wrong at the boundary of a machine, and what its user can do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure it is: whoever asked acts on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The request makes no sense as it stands.
    Invalid,
    /// What was typed means nothing; nobody was asked for anything yet.
    Usage,
    /// The object does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// The object is not in a state that allows it.
    Conflict,
    /// The caller, or Cais itself, lacks a permission.
    Denied,
    /// Known, but not supported.
    Unsupported,
    /// Something that was needed did not answer.
    Unavailable,
    /// The command does not exist in the container; exit code 127.
    CommandNotFound,
    /// The command exists and cannot be executed; exit code 126.
    CommandNotExecutable,
    /// Everything else: the kernel or the disk refused.
    Internal,
}

/// A failure: what was being done to which object, why it failed, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The outcome of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure without a cause below it.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// A failure of kind [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// A failure caused by `source`, of which `message` says what was being done.
    pub fn caused(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::new(kind, message) }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// The same, seen from where the command line is read: what is invalid there is wrong usage.
    #[must_use]
    pub fn in_usage(mut self) -> Self {
        if self.kind == Kind::Invalid {
            self.kind = Kind::Usage;
        }
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Says what was being done when an operation of the system failed.
pub(crate) trait Doing<T> {
    /// `doing` is evaluated on failure only.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let error: std::io::Error = error.into();
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Kind::Denied,
                _ => Kind::Internal,
            };
            let hint = disk_hint(&error);
            let failure = Error::caused(kind, doing(), error);
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }
}

/// What the user can do about a file that cannot be written.
pub(crate) fn disk_hint(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind as E;
    match error.kind() {
        E::StorageFull | E::QuotaExceeded => {
            Some("the disk is full: free some space, or choose another --root")
        }
        E::ReadOnlyFilesystem => Some("choose another --root or --run-root"),
        E::PermissionDenied if !rustix::process::geteuid().is_root() => {
            Some("run as root: containers of other users are not supported yet")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_refuses_comes_with_a_hint() {
        let hint = |errno: rustix::io::Errno| {
            let failed: Result<()> = Err(errno).doing(|| "write a file".into());
            failed.unwrap_err().hint_text().map(str::to_owned)
        };
        assert!(hint(rustix::io::Errno::NOSPC).unwrap().contains("free some space"));
        assert!(hint(rustix::io::Errno::ROFS).unwrap().contains("--run-root"));
        assert_eq!(hint(rustix::io::Errno::NOENT), None);
    }
}

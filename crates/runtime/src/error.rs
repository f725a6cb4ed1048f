//! What can go wrong, in the distinctions that callers act on.

use std::ffi::OsStr;
use std::io;

use rustix::io::Errno;

/// Why a container or a process in it could not be made.
///
/// Each variant asks something different of the caller; the text says what was being done to what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program does not exist in the container: exit code 127.
    #[error("find the program `{program}` in the container")]
    NotFound {
        /// As the specification names it.
        program: String,
        /// What `execve` answered.
        source: io::Error,
    },
    /// The program exists and cannot be executed: exit code 126.
    #[error("execute `{program}`")]
    NotExecutable {
        /// As the specification names it.
        program: String,
        /// What `execve` answered.
        source: io::Error,
    },
    /// The specification, or what it names in the root file system, is wrong: change it.
    #[error("{0}")]
    Spec(String),
    /// The specification is right, and this runtime or this kernel cannot do it.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The kernel refused.
    #[error("{doing}")]
    Kernel {
        /// What was being done to which object.
        doing: String,
        /// Its answer; `raw_os_error` is the errno.
        source: io::Error,
    },
    /// A limit is wrong, or cannot be applied here.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// The caller's own work in the new namespaces failed.
    #[error("prepare the namespaces")]
    Prepare(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The kernel refused what `doing` says.
    pub fn kernel(doing: impl Into<String>, source: impl Into<io::Error>) -> Error {
        Error::Kernel { doing: doing.into(), source: source.into() }
    }

    /// The exit code that Docker's conventions give to a container that failed so:
    /// 127 when the program was not found, 126 when it cannot be executed, otherwise 125.
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::NotFound { .. } => 127,
            Error::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    /// Sorts the answer of `execve` for `program`.
    pub(crate) fn from_execve(program: &OsStr, source: io::Error) -> Error {
        let program = program.to_string_lossy().into_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => Error::NotFound { program, source },
            _ => Error::NotExecutable { program, source },
        }
    }
}

impl From<crate::seccomp::Error> for Error {
    fn from(error: crate::seccomp::Error) -> Self {
        Error::Spec(error.to_string())
    }
}

/// Says what was being done when the kernel refused.
pub(crate) trait Doing<T> {
    /// Wraps the kernel's answer; `doing` is only called on failure.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T, Error> {
        self.map_err(|source| Error::kernel(doing(), source))
    }
}

/// The longest text of an error that travels from the child; longer ones are cut.
pub(crate) const TEXT_MAX: usize = 2048;

impl Error {
    /// The form in which the child sends it: kind, errno (little endian), text.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (kind, source, text) = match self {
            Error::NotFound { program, source } => (1, Some(source), program.clone()),
            Error::NotExecutable { program, source } => (2, Some(source), program.clone()),
            Error::Spec(text) => (3, None, text.clone()),
            Error::Unsupported(text) => (4, None, text.clone()),
            Error::Kernel { doing, source } => (5, Some(source), doing.clone()),
            Error::Cgroup(error) => (3, None, error.to_string()),
            Error::Prepare(error) => (3, None, error.to_string()),
        };
        let errno = source.and_then(io::Error::raw_os_error).unwrap_or(libc::EIO);
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&errno.to_le_bytes());
        bytes.extend_from_slice(&text.as_bytes()[..text.len().min(TEXT_MAX)]);
        bytes
    }

    /// The inverse of [`Error::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Error {
        let Some((head, text)) = bytes.split_first_chunk::<5>() else {
            return Error::kernel("read the error of the child", Errno::BADMSG);
        };
        let errno = i32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let source = io::Error::from_raw_os_error(errno);
        let text = String::from_utf8_lossy(text).into_owned();
        match head[0] {
            1 => Error::NotFound { program: text, source },
            2 => Error::NotExecutable { program: text, source },
            3 => Error::Spec(text),
            4 => Error::Unsupported(text),
            _ => Error::Kernel { doing: text, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_from_the_child() {
        let cases = [
            Error::from_execve(OsStr::new("nope"), io::Error::from_raw_os_error(libc::ENOENT)),
            Error::from_execve(OsStr::new("/tmp"), io::Error::from_raw_os_error(libc::EACCES)),
            Error::Spec("the root is missing".into()),
            Error::Unsupported("joining a mount namespace".into()),
            Error::kernel("mount `proc` on `/proc`", Errno::PERM),
        ];
        for error in cases {
            let back = Error::from_bytes(&error.to_bytes());
            assert_eq!(format!("{error:?}"), format!("{back:?}"));
            assert_eq!(error.exit_code(), back.exit_code());
        }
    }
}

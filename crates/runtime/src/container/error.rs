//! What can go wrong with a container on disk, in runc's words: callers look for them.

use std::io;
use std::path::PathBuf;

use crate::error::Error as RuntimeError;

/// Why something could not be done with a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this id below this root.
    #[error("container does not exist")]
    NotExist,
    /// The id is taken.
    #[error("container with given ID already exists")]
    Exists,
    /// An id is made of letters, digits and `_+-.`, and is neither `.` nor `..`.
    #[error("invalid container ID format")]
    InvalidId,
    /// Its first process has ended.
    #[error("container not running")]
    NotRunning,
    /// It is not paused.
    #[error("container not paused")]
    NotPaused,
    /// Its state, or what was asked for, does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The bundle is not one that a container can be made of.
    #[error("{0}")]
    Bundle(String),
    /// The program cannot be executed; as Go words it.
    #[error("unable to start container process: error during container init: {0}")]
    Program(String),
    /// The program was found and still not executed, for example because its interpreter is
    /// missing; as Go words it.
    #[error("exec {program}: {}", errno_text(answer))]
    Execve {
        /// As the specification names it.
        program: String,
        /// The answer of execve(2), which is told already.
        answer: io::Error,
    },
    /// The container could not be made.
    #[error("unable to start container process: error during container init")]
    Runtime(#[source] RuntimeError),
    /// Limits need a cgroup, and this user may make none.
    #[error(
        "limits need a control group that this user may make: run in a group of version 2 that \
         is delegated to it (such as a service of its own systemd), or without limits"
    )]
    Denied(#[source] crate::cgroup::Error),
    /// Checkpoint and restore are CRIU's work, and there is none.
    #[error(
        "checkpoint and restore need CRIU: exec: {program:?}: executable file not found in $PATH; \
         install the package criu"
    )]
    NoCriu {
        /// Its name or path.
        program: String,
        /// Why it cannot be started.
        source: io::Error,
    },
    /// CRIU could not save or restore the container.
    #[error("criu failed: {text} (log file: {})", log.display())]
    Criu {
        /// What it answers.
        text: String,
        /// Its log.
        log: PathBuf,
        /// What the log complains about.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its cgroup.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// The kernel refused.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Its answer.
        source: io::Error,
    },
}

impl From<RuntimeError> for Error {
    fn from(error: RuntimeError) -> Error {
        match error {
            RuntimeError::NotFound { program, source } => {
                Error::Program(not_found(&program, &source))
            }
            RuntimeError::NotExecutable { program, source } => {
                Error::Program(not_executable(&program, &source))
            }
            RuntimeError::Kernel { doing, source } => Error::Io { doing, source },
            RuntimeError::Cgroup(error) => Error::Cgroup(error),
            other => Error::Runtime(other),
        }
    }
}

impl Error {
    /// What ended a container, or a process in it, before its program ran.
    pub(super) fn of_init(error: RuntimeError) -> Error {
        match error {
            error @ RuntimeError::Kernel { .. } => Error::Runtime(error),
            other => other.into(),
        }
    }
}

impl Error {
    /// What kept a container that was created from executing its program, which was there.
    pub(super) fn of_start(error: RuntimeError) -> Error {
        match error {
            RuntimeError::NotFound { program, source }
            | RuntimeError::NotExecutable { program, source } => {
                Error::Execve { program, answer: source }
            }
            other => other.into(),
        }
    }
}

fn not_found(program: &str, source: &io::Error) -> String {
    if !program.contains('/') {
        return format!("exec: \"{program}\": executable file not found in $PATH");
    }
    format!("exec: \"{program}\": stat {program}: {}", errno_text(source))
}

fn not_executable(program: &str, source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => format!("exec: \"{program}\": permission denied"),
        _ => format!("exec {program}: {}", errno_text(source)),
    }
}

/// The kernel's answer without the number, in lower case as Go has it.
fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_worded_as_go_does() {
        let text = |program: &str, errno| {
            let source = io::Error::from_raw_os_error(errno);
            let error = RuntimeError::from_execve(program.as_ref(), source);
            Error::from(error).to_string()
        };
        let prefix = "unable to start container process: error during container init: ";
        for (program, errno, expected) in [
            ("x", libc::ENOENT, "exec: \"x\": executable file not found in $PATH"),
            ("/x", libc::ENOENT, "exec: \"/x\": stat /x: no such file or directory"),
            ("/x", libc::EACCES, "exec: \"/x\": permission denied"),
            ("/x", libc::ENOEXEC, "exec /x: exec format error"),
        ] {
            assert_eq!(text(program, errno), format!("{prefix}{expected}"));
        }
    }
}

/// What can go wrong below this crate's modules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A control group.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// A system call filter.
    #[error(transparent)]
    Seccomp(#[from] crate::seccomp::Error),
}

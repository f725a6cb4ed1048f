//! Confinement of a process by the kernel: control groups and system call filters.

pub mod cgroup;
mod error;
pub mod seccomp;

pub use error::Error;

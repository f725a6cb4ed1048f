//! An OCI specification becomes a contained process.
//!
//! **What it is.** clone3 with namespaces, the file systems a container sees, cgroups,
//! capabilities, seccomp, users, terminals; then execve, and a handle to wait on. Synchronous,
//! over plain system calls; no daemon, and no state on disk but that of [`container`], which is the
//! OCI command line's.
//!
//! **What it must not know.** Images, stores, networks, logs, command lines, async. It must
//! be called from a process with a single thread: the child shares the caller's memory image and
//! allocates between clone3 and execve.
//!
//! **Front doors.** [`create`] then [`Created::start`]; [`exec`]; [`Process`]; [`cgroup::Cgroup`];
//! [`container::Create`] and [`container::Container`];
//! [`seal_executable`] at the very beginning of the program.
//!
//! **How to test it.** `cargo test -p runtime`, as root on Linux ≥ 5.12: the tests drive the
//! development program `oci-run` with busybox as the content of the containers.

mod attribute;
pub mod cgroup;
mod child;
pub mod container;
mod credentials;
mod error;
mod execution;
mod fuse;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hook;
mod init;
mod inroot;
mod label;
mod launch;
mod mount;
mod namespace;
mod netdev;
mod parent;
mod pod;
mod process;
mod procfs;
mod program;
mod rdt;
mod rtnetlink;
mod seal;
pub mod seccomp;
mod signal;
mod sync;
mod sys;
mod sysctl;
mod terminal;
mod user;
mod warning;
mod weak;

pub use credentials::own_files_as;
pub use error::Error;
pub use execution::{Exec, exec};
pub use fuse::{FileDevice, ServedFile, Source};
pub use launch::{Launch, Oci, Part, Stdio};
pub use mount::{clone_tree, copy_of, mounts_on, release_root};
pub use namespace::Namespaces;
pub use parent::{Created, create};
pub use pod::{HeldNamespaces, PodNamespaces, mount_memories, unmount_memory};
pub use process::{ExitStatus, Process};
pub use rdt::delete_resctrl;
pub use seal::seal_executable;
pub use signal::{is_alive, is_deaf, signal, signal_name, start_time};
pub use sys::monitor::{
    Child, Fork, SignalFd, detach_from_session, exit_now, fork, inherited_sockets, is_taken,
    keep_only, mount_memory, trim_memory,
};
pub use sys::quota::{forget_limit, limit_directories};
pub use user::{identify, ids_of};
pub use warning::{process_warnings, warnings};

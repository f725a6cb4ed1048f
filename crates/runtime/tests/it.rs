//! Tests of this crate against the running kernel; they need root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "it/cgroup.rs"]
mod cgroup;
#[path = "it/seccomp.rs"]
mod seccomp;

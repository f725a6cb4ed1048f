//! Containers that are saved and made again, through `cais oci checkpoint` and `restore`.
//!
//! They run in the virtual machine, whose kernel and CRIU are of one time, as root of its only
//! mount namespace; elsewhere each test returns at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failure;
mod files;
mod host;
mod life;
mod option;
mod systemd;

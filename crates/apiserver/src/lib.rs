//! The Kubernetes API.
//!
//! **What it is.** The only writer of cluster state: a log of revisions, objects on top of it, watches,
//! discovery, and HTTP in front.
//!
//! **What it must not know.** Containers, hosts, what controllers do with objects.
//!
//! **Front doors.** [`log::Log`] with [`log::Memory`] and [`log::Sqlite`]; [`Cluster::answer`], which
//! needs no socket; [`Server`], which has one.
//!
//! **How to test it.** `cargo test -p apiserver`; `tests/tests/kube` asks whole servers with kubectl.

mod api;
mod cluster;
#[cfg(test)]
mod compatibility;
mod custom;
mod discovery;
mod failure;
mod form;
mod identity;
pub mod log;
mod operations;
mod policy;
mod request;
mod review;
mod select;
mod server;
mod subresource;
mod target;
mod watch;

pub use cluster::Cluster;
pub use failure::Failure;
pub use identity::{Identity, IdentityError};
pub use request::{Answer, BODY_BYTES_MAX, Request};
pub use server::{Server, ServerError};
pub use watch::Watch;

//! The Kubernetes API.
//!
//! **What it is.** The only writer of cluster state: a log of revisions, objects on top of it, watches,
//! discovery, and HTTP in front.
//!
//! **What it must not know.** Containers, hosts, what controllers do with objects.
//!
//! **Front doors.** [`InProcess`] for components of the same process; [`log::Log`] with [`log::Memory`] and [`log::Sqlite`]; [`Cluster::answer`], which
//! needs no socket; [`Server`], which has one.
//!
//! **How to test it.** `cargo test -p apiserver`; `tests/tests/kube` asks whole servers with kubectl.

mod api;
mod channel;
mod cluster;
mod discovery;
mod failure;
mod form;
mod identity;
mod in_process;
pub mod log;
mod operations;
mod pods;
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
pub use in_process::InProcess;
pub use pods::{Begin, Log as PodLog, LogOptions, Pods, Process, Said, Take, Talk, TalkOptions};
pub use request::{Answer, BODY_BYTES_MAX, Request};
pub use server::{Server, ServerError};
pub use watch::Watch;

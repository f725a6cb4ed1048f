//! The Kubernetes API.
//!
//! **What it is.** The only writer of cluster state: a log of revisions, objects on top of it, watches,
//! discovery, and HTTP in front. Who asks is found out there; who may, and what becomes of an object on
//! its way in, is decided behind it, for those who ask from inside, too.
//!
//! **What it must not know.** Containers, hosts, what controllers do with objects.
//!
//! **Front doors.** [`InProcess`] for components of the same process; [`log::Log`] with
//! [`log::Memory`] and [`log::Sqlite`]; [`Cluster::answer`], which needs no socket, but a [`User`];
//! [`Server`], which has one. [`Audit`] is told of both.
//!
//! **How to test it.** `cargo test -p apiserver`; `tests/tests/kube` asks whole servers with kubectl.

mod admission;
mod api;
#[cfg(test)]
mod asking;
mod audit;
mod authentication;
mod authorization;
mod channel;
mod cluster;
#[cfg(test)]
mod compatibility;
mod custom;
mod der;
mod discovery;
mod disruption;
mod elsewhere;
mod failure;
mod form;
mod identity;
mod in_process;
pub mod log;
mod node_server;
mod notes;
mod operations;
mod pods;
mod policy;
mod request;
mod select;
mod server;
mod signer;
mod signing;
mod subresource;
mod target;
mod watch;

pub use audit::{Audit, AuditError, Rotation};
pub use authentication::User;
pub use cluster::Cluster;
pub use elsewhere::Elsewhere;
pub use failure::Failure;
pub use identity::{Identity, IdentityError, JoinToken};
pub use in_process::InProcess;
pub use node_server::{Find, NodeServer};
pub use notes::Notes;
pub use pods::{Begin, Log as PodLog, LogOptions, Pods, Process, Said, Take, Talk, TalkOptions};
pub use request::{Answer, BODY_BYTES_MAX, Request};
pub use server::{Server, ServerError};
pub use signer::Signer;
pub use signing::{KeyRequest, validity};
pub use watch::Watch;

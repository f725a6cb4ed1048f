//! How a component of the cluster reaches the Kubernetes API.
//!
//! **What it is.** Calls and watches over any [`Transport`], in the same process or over a network; a
//! [`Cache`] of objects that a [`Reflector`] keeps true; a [`Queue`] of work that is tried again.
//!
//! **What it must not know.** Who answers, what controllers do with objects, containers.
//!
//! **Front doors.** [`Client`], [`Https`], [`Reflector`], [`Cache`], [`Queue`]; [`Peer`] for components on
//! other hosts, [`Connection`] for what is no call.
//!
//! **How to test it.** `cargo test -p client`: no clock but the one that is given, no socket but in
//! `https`.

mod cache;
mod call;
mod connection;
pub mod https;
pub mod kubeconfig;
mod peer;
mod queue;
mod reflector;
mod tls;

pub use cache::{Cache, Change, Key};
pub use call::{Call, Client, Deletion, Events, Failure, Object, Patch, Transport, kind};
pub use connection::{Connection, Head, Server, Talk};
pub use https::{Https, target};
pub use kubeconfig::Kubeconfig;
pub use peer::Peer;
pub use queue::Queue;
pub use reflector::Reflector;
pub use tls::{Digest, Tls, TlsError, digest_of};

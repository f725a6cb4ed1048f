//! How a component of the cluster reaches the Kubernetes API.
//!
//! **What it is.** Calls and watches over any [`Transport`], in the same process or over a network; a
//! [`Cache`] of objects that a [`Reflector`] keeps true; a [`Queue`] of work that is tried again.
//!
//! **What it must not know.** Who answers, what controllers do with objects, containers.
//!
//! **Front doors.** [`Client`], [`Reflector`], [`Cache`], [`Queue`]; [`Https`] for servers on other
//! hosts, [`Connection`] for what is no call.
//!
//! **How to test it.** `cargo test -p client`: no socket, no clock but the one that is given.

mod cache;
mod call;
mod connection;
mod https;
mod queue;
mod reflector;
mod tls;

pub use cache::{Cache, Change, Key};
pub use call::{Call, Client, Deletion, Events, Failure, Object, Patch, Transport, kind};
pub use connection::{Connection, Head, Server, Talk};
pub use https::{Https, target};
pub use queue::Queue;
pub use reflector::Reflector;
pub use tls::{Digest, Tls, TlsError, digest_of};

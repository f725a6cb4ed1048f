//! How a component of the cluster reaches the Kubernetes API.
//!
//! **What it is.** Calls and watches over any [`Transport`], in the same process or over a network; a
//! [`Cache`] of objects that a [`Reflector`] keeps true; a [`Queue`] of work that is tried again.
//!
//! **What it must not know.** Who answers, what controllers do with objects, containers.
//!
//! **Front doors.** [`Client`], [`Https`], [`Reflector`], [`Cache`], [`Queue`].
//!
//! **How to test it.** `cargo test -p client`: no clock but the one that is given, no socket but in
//! `https`.

mod cache;
mod call;
pub mod https;
pub mod kubeconfig;
mod queue;
mod reflector;

pub use cache::{Cache, Change, Key};
pub use call::{Call, Client, Deletion, Events, Failure, Object, Patch, Transport, kind};
pub use https::Https;
pub use kubeconfig::Kubeconfig;
pub use queue::Queue;
pub use reflector::Reflector;

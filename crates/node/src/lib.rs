//! Makes the engine of a host match the pods that are bound to it.
//!
//! **What it is.** A node of a cluster: for each pod it observes what the engine has, plans what is to
//! be done ([`plan::plan`], which is pure), has the engine do it, and reports what came of it. Nothing
//! is asked for periodically: pods come by a watch, and ends of containers by the engine's events.
//!
//! **What it must not know.** How the API is served, controllers, the scheduler, command lines.
//!
//! **Front doors.** [`Node::start`]; [`plan::plan`].
//!
//! **How to test it.** `cargo test -p node` for what is pure; `cargo test -p tests kube::pod` runs pods.

mod access;
mod apply;
mod backoff;
mod claimed;
mod container;
mod data;
mod env;
mod event;
mod evict;
mod field;
mod handler;
mod host;
mod image;
mod limits;
mod machine;
mod manifest;
mod neighbour;
mod observe;
pub mod plan;
mod pod;
mod pressure;
mod probe;
mod resize;
mod security;
mod service;
mod slot;
mod source;
mod status;
mod timer;
mod usage;
mod volume;

pub use access::{LogOptions, Refusal, Take};
pub use host::{Config, Node, NodeError};
pub use machine::{address as host_address, hostname as host_name};
pub use pod::{Kind, Restart};
pub use pressure::{EVICTION_HARD, Thresholds};
pub use service::announce;

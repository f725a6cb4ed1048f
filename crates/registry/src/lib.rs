//! The OCI distribution protocol, from the client's side: images come from registries.
//!
//! **What it is.** Names to servers, credentials and tokens, and the pull: manifests are resolved,
//! and layers are downloaded, verified and unpacked at the same time, resuming what was begun.
//! Blocking, on plain threads that have all ended when a call returns.
//!
//! **What it must not know.** Containers, command lines, terminals, Docker's API. It knows the
//! store by its front doors only.
//!
//! **Front doors.** [`pull`], with a [`Client`] from a [`Config`] and an [`Auth`].
//!
//! **How to test it.** `cargo test -p registry`: a registry that lies, in the process, and
//! Debian's docker-registry with skopeo where they are installed.

mod auth;
mod challenge;
mod client;
mod config;
mod endpoint;
mod error;
mod event;
mod fault;
mod http;
mod keychain;
mod layer;
mod pipe;
mod proxy;
mod pull;
mod server;
mod session;
mod tls;
mod token;

pub use auth::Auth;
pub use client::Client;
pub use config::{Config, HostConfig};
pub use error::Error;
pub use event::{Event, LayerState};
pub use pull::{Pulled, pull};
pub use server::{
    Access, MirrorConfig, Released, ServeError, Server, ServerConfig, Stopper, UNNEEDED_AGE,
    release,
};

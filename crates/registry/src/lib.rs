//! The OCI distribution protocol, from both sides: images come from registries and go there, and a
//! registry in the box takes and serves them.
//!
//! **What it is.** Names to servers, credentials and tokens; the pull: manifests are resolved,
//! and layers are downloaded, verified and unpacked at the same time, resuming what was begun; and
//! the transfer: blobs go from one place to another as they are, and manifests behind them.
//! Blocking, on plain threads that have all ended when a call returns. The server's side keeps
//! repositories, tags and links beside the store's blobs, a thread for each client.
//!
//! **What it must not know.** Containers, command lines, terminals, Docker's API. It knows the
//! store by its front doors only.
//!
//! **Front doors.** [`pull`] and [`push`], with a [`Client`] from a [`Config`] and an [`Auth`];
//! [`Server`], and [`release`] for what its repositories need no more.
//!
//! **How to test it.** `cargo test -p registry`: a registry that lies, in the process, and
//! Debian's docker-registry with skopeo where they are installed. The server is tested through the
//! binary: `cargo test -p tests registry::`.

mod artifact;
mod auth;
mod challenge;
mod client;
mod config;
mod copy;
mod download;
mod endpoint;
mod error;
mod event;
mod fault;
mod http;
mod index;
mod keychain;
mod layer;
mod login;
mod partial;
mod pipe;
mod proxy;
mod pull;
mod push;
mod search;
mod server;
mod session;
mod tags;
mod tls;
mod token;
mod transfer;
mod upload;

pub use artifact::{Artifact, put};
pub use auth::Auth;
pub use client::Client;
pub use config::{Config, HostConfig};
pub use copy::{Copy, Place};
pub use download::download;
pub use error::{Doing, Error};
pub use event::{Event, LayerState, UploadState};
pub use index::{Fetched, fetch_manifest, fetch_platform, push_index};
pub use login::{Kept, check_login, logged_in, login, logout, registry_key, registry_name};
pub use partial::{Outlined, OutlinedLayer, Parts, outline};
pub use pull::{Pulled, pull};
pub use push::{Pushed, push};
pub use search::{FoundRepository, search};
pub use server::{
    Access, MirrorConfig, Missing, Released, ServeError, Server, ServerConfig, Stopper,
    UNNEEDED_AGE, missing, release,
};
pub use tags::tags;
pub use transfer::Choice;

//! The words of the Open Container Initiative, as types.
//!
//! **What it is.** Digests, references, manifests, image configuration, platforms, the shape of a
//! root file system, and the runtime specification (re-exported from `oci-spec`).
//!
//! **What it must not know.** Files, sockets, processes, async, Docker's or Kubernetes' JSON.
//! Everything here is pure.
//!
//! **Front doors.** [`Digest`], [`Reference`], [`Manifest`], [`ImageConfig`], [`Rootfs`].
//!
//! **How to test it.** `cargo test -p oci`: tables and properties, no privilege.

mod config;
mod digest;
mod manifest;
mod platform;
mod reference;
mod rootfs;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootfsSection};
pub use digest::{Digest, DigestError, Hasher};
pub use manifest::{Compression, Descriptor, Document, Index, Manifest, ManifestError, media_type};
pub use oci_spec::runtime;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use rootfs::Rootfs;

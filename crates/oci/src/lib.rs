//! The words of the Open Container Initiative, as types.
//!
//! **What it is.** Digests, references, manifests, image configuration, platforms, the shape of a
//! root file system, and the runtime specification (its types are `oci-spec`'s).
//!
//! **What it must not know.** Files, sockets, processes, async, Docker's or Kubernetes' JSON.
//! Everything here is pure.
//!
//! **Front doors.** [`Digest`], [`Reference`], [`Manifest`], [`ImageConfig`], [`Rootfs`],
//! [`parse_spec`].
//!
//! **How to test it.** `cargo test -p oci`: tables and properties, no privilege.

mod address;
mod config;
mod digest;
mod manifest;
mod platform;
mod reference;
mod rootfs;
mod specification;

pub use address::{redacted, without_credentials};
pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootfsSection};
pub use digest::{Digest, DigestError, Hasher};
pub use manifest::{Compression, Descriptor, Document, Index, Manifest, ManifestError, media_type};
pub use oci_spec::runtime;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use rootfs::{Lower, Rootfs};
pub use specification::{Parsed, SpecificationError, parse_process, parse_spec};

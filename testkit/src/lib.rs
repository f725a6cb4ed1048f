//! What the whole-binary tests, the benchmarks and `./quickstart` stand on.
//!
//! **What it is.** A pool of real images, made from the machine's own package mirror and cached; a
//! real registry that serves them under their Docker Hub names; fake hosts in which the binary
//! runs apart from this machine and from other tests; an oracle that finds whatever a test leaves
//! behind; a static probe that tells what it sees inside a container; a real Docker to compare with;
//! libraries that speak Docker's API; Kubernetes' own clients; a virtual machine with control groups
//! of version 2 alone.
//!
//! **What it must not know.** The crates under test: everything goes through the binary, as a user
//! would. Only `oci` is shared, for the words.
//!
//! **Front doors.** [`Sandbox`], [`Outcome`], [`Pool`], [`RegistryServer`], [`CaisRegistry`],
//! [`Dockerd`], [`Api`], [`Machine`], [`kubectl`], [`sdk`].
//!
//! **How to test it.** `cargo test -p testkit` as root; `cargo run -p testkit --bin pool -- make`.

mod api;
mod archive;
mod dockerd;
mod fake_host;
mod host;
mod image;
mod kubernetes;
mod layout;
mod leak;
mod machine;
mod package;
mod pool;
mod process;
mod program;
mod registry;
mod sandbox;
mod saved;
pub mod sdk;
mod serve;

pub use api::Api;
pub use archive::{Entry, Node};
pub use dockerd::{Dockerd, debian_client};
pub use image::{layered, many_files};
pub use kubernetes::{helm, kubectl, node_library, older_kubectl, python_library};
pub use machine::{Job, Machine, Report};
pub use pool::{IMAGES, IMAGES_ON_DEMAND, Pool};
pub use process::{Outcome, Running};
pub use program::{copy_program, write_script};
pub use registry::RegistryServer;
pub use sandbox::Sandbox;
pub use serve::{Answer, CaisRegistry};

//! Compose files: the language, what a project is, and the plan that makes it so.
//!
//! **What it is.** Text becomes a tree whose every node knows its place ([`yaml`] shows it again);
//! variables are replaced; short spellings become long ones; files are merged. What comes of it is
//! a [`Project`] of [`Service`]s. A service becomes the options of `docker run`, and the difference
//! between a project and what is there becomes a [`plan::Plan`].
//!
//! **What it must not know.** Files, containers, networks: what has to be read is asked for through
//! functions, and what has to be done is said in steps. Everything here is pure.
//!
//! **Front doors.** [`Project::load`], [`Project::select`], [`Project::creation`], [`plan::plan`],
//! [`Project::model`].
//!
//! **How to test it.** `cargo test -p compose`: tables and properties, no privilege.

mod complete;
pub mod create;
pub mod dotenv;
mod emit;
mod error;
mod load;
mod merge;
mod node;
mod output;
mod place;
pub mod plan;
mod project;
mod scalar;
mod schema;
mod service;
mod shape;
mod short;
pub mod template;
mod yaml;

pub use emit::{json, yaml};
pub use error::{Error, Place, Result};
pub use load::{Read, Request};
pub use node::{Kind, Map, Mark, Node, Value};
pub use project::{Project, Resource};
pub use scalar::{bytes, nanoseconds};
pub use service::{Condition, Dependency, Order, Service};
pub use yaml::FILE_BYTES_MAX;

#[cfg(test)]
mod tests;

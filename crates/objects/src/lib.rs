//! The words of Kubernetes, as data and rules.
//!
//! **What it is.** The fields of all built-in kinds, quantities, selectors, names, patches, and
//! objects in Protocol Buffers. Objects themselves stay JSON.
//!
//! **What it must not know.** Files, sockets, processes, async, who stores objects and who asks for
//! them. Everything here is pure.
//!
//! **Front doors.** [`Schema`], [`Quantity`], [`Selector`], [`FieldSelector`], [`patch`], [`apply`],
//! [`protobuf::decode`], [`custom::Definition`], [`name`].
//!
//! **How to test it.** `cargo test -p objects`: tables and properties, no privilege.

pub mod apply;
pub mod convert;
pub mod custom;
pub mod decode;
pub mod defaults;
pub mod name;
pub mod openapi;
pub mod patch;
pub mod protobuf;
mod quantity;
pub mod resource;
pub mod schema;
mod selector;
pub mod table;
pub mod time;
pub mod validate;
pub mod yaml;

pub use quantity::{Quantity, QuantityError};
pub use schema::Schema;
pub use selector::{FieldSelector, Selector, SelectorError};

//! The Common Expression Language, with what Kubernetes adds to it.
//!
//! **What it is.** Expressions that always end: parsed into trees, evaluated over values with a budget
//! of steps; and the rules of custom resources' schemas (`x-kubernetes-validations`), walked beside
//! the objects; and policies of admission.
//!
//! **What it must not know.** The API, requests, who stores objects. Everything here is pure.
//!
//! **Front doors.** [`Program::parse`], [`Program::evaluate`], [`Value`], [`rules`], [`policy`].
//!
//! **How to test it.** `cargo test -p cel`: tables of expressions and what they are.

mod call;
mod eval;
mod parse;
pub mod policy;
pub mod rules;
mod text;
mod time;
mod value;

pub use eval::EvalError;
pub use parse::{ParseError, Program};
pub use value::{Key, Value};

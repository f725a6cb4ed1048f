//! A file goes in, instructions, findings or a graph come out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "it/check.rs"]
mod check;
#[path = "it/parse.rs"]
mod parse;
#[path = "it/plan.rs"]
mod plan;
#[path = "it/solve.rs"]
mod solve;
#[path = "it/world.rs"]
mod world;

//! Webhooks: others who are asked what becomes of objects (apiserver, `admission/plugin/webhook`).
//!
//! Those that change are asked one after another, each of what the one before has left, and again if
//! they want to and another has changed something since; then those that only allow, all at once.

mod admission;
mod check;
mod conversion;
mod matching;
mod review;
#[cfg(test)]
mod tests;

pub(crate) use admission::{mutate, validate};
pub(crate) use check::{check, check_conversion};
pub(crate) use matching::{Context, connection_options, is_connection};

//! What watches a container while it lives: its streams, its log, its exit.

pub(crate) mod attach;
pub(crate) mod health;
pub(crate) mod log;
pub(crate) mod relay;
pub(crate) mod resolver;

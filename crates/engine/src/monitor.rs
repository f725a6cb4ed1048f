//! What watches a container while it lives: its streams, its log, its exit.

pub(crate) mod attach;
pub(crate) mod forward;
pub(crate) mod health;
pub(crate) mod honest;
pub(crate) mod log;
mod pace;
pub(crate) mod relay;
pub(crate) mod resolver;

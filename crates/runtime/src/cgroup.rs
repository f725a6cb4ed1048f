//! To come.
/// Error.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

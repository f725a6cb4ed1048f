//! What can go wrong between a client and an engine.

use std::io;

/// The outcome of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no answer, or one that says no.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of an engine makes no sense.
    #[error("{0}")]
    Place(String),
    /// Nobody answers there.
    #[error("Cannot connect to the Docker daemon at {place}. Is the docker daemon running?")]
    Unreachable {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or what came over it is no HTTP.
    #[error("talk to the engine at {place}")]
    Broken {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine says no.
    #[error("Error response from daemon: {message}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// In its words.
        message: String,
    },
}

impl Error {
    /// Whether the engine knows no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

//! What there is to say of a request once it was answered.

use std::net::SocketAddr;
use std::time::Duration;

/// One request and its answer, for a log.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who asked.
    pub peer: SocketAddr,
    /// As whom, where the registry asks for passwords.
    pub user: Option<String>,
    /// `GET`, …, as it was sent.
    pub method: String,
    /// The path with its query as it was sent, percent-encoded: it has no spaces nor control
    /// characters.
    pub path: String,
    /// What the client calls itself: it may hold any character.
    pub agent: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of content in the answer.
    pub bytes: u64,
    /// From the end of the request's head to the end of the answer.
    pub duration: Duration,
    /// What went wrong, where the client was told less.
    pub note: Option<String>,
}

//! Why a conversation with a registry failed.

use oci::{Digest, Platform};

/// What a conversation with a registry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Content comes from there.
    Pull,
    /// Content goes there.
    Push,
    /// It is asked something else.
    Ask,
}

impl Doing {
    fn verb(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Ask => "request",
        }
    }

    fn way(self) -> &'static str {
        match self {
            Self::Pull => "pull from",
            Self::Push => "push to",
            Self::Ask => "ask",
        }
    }
}

/// Why an image could not be moved; each kind is one that a caller answers differently.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry refuses, or hides what it would refuse (401, 403).
    #[error(
        "{} access denied for {name}, repository does not exist or may require 'cais login': {detail}", doing.verb()
    )]
    Denied {
        /// What was refused.
        doing: Doing,
        /// The repository as Docker prints it.
        name: String,
        /// The registry's own words.
        detail: String,
    },
    /// The registry does not know user and password.
    #[error("login attempt to {host} failed: {detail}")]
    Login {
        /// The registry.
        host: String,
        /// The registry's own words.
        detail: String,
    },
    /// The registry does not offer what was asked for.
    #[error("{host} {why}")]
    Unsupported {
        /// The registry.
        host: String,
        /// What it does not do.
        why: String,
    },
    /// The registry has no such image (404).
    #[error("manifest for {reference} not found: {detail}")]
    NotFound {
        /// What was asked for, as Docker prints it.
        reference: String,
        /// The registry's own words.
        detail: String,
    },
    /// The image is not made for the wanted platform.
    #[error("no image for {wanted} in {reference}: it is made for {}", list(available))]
    NoPlatform {
        /// What was asked for, as Docker prints it.
        reference: String,
        /// The platform that was asked for.
        wanted: Platform,
        /// The platforms that the image is made for.
        available: Vec<Platform>,
    },
    /// What arrived is not what was announced: a digest or a size differs.
    #[error("{what} does not match: expected {expected}, got {got}")]
    Mismatch {
        /// Which blob or manifest.
        what: String,
        /// The announced digest, or size in bytes.
        expected: String,
        /// The received one.
        got: String,
    },
    /// No conversation was possible: name, route, TLS, time, or a server that fails.
    #[error("cannot {} {host}: {why}", doing.way())]
    Unreachable {
        /// What was to be done.
        doing: Doing,
        /// The registry.
        host: String,
        /// What went wrong, and where a setting would help, which one.
        why: String,
    },
    /// The registry wants fewer requests (429).
    #[error("too many requests to {host}: {detail}")]
    RateLimited {
        /// The registry.
        host: String,
        /// The registry's own words.
        detail: String,
    },
    /// What the registry serves is not an image that can run, or the configuration is no good.
    #[error("{0}")]
    Invalid(String),
    /// The store failed.
    #[error("keep {what} in the store")]
    Store {
        /// What was to be kept.
        what: String,
        /// Why it was not.
        #[source]
        source: store::Error,
    },
}

impl Error {
    pub(crate) fn store(what: &str, digest: &Digest) -> impl FnOnce(store::Error) -> Self + use<> {
        let what = format!("{what} {digest}");
        |source| match source {
            store::Error::Digest { what, expected, actual } => {
                Self::Mismatch { what, expected: expected.to_string(), got: actual.to_string() }
            }
            source => Self::Store { what, source },
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platform at all".to_owned();
    }
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

//! Why a registry cannot be served.

use std::io;
use std::path::PathBuf;

/// Why a registry cannot be served; each kind has another remedy.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// As it was given.
        address: String,
        /// The refusal.
        #[source]
        source: io::Error,
    },
    /// The certificate or its key is no good.
    #[error("use the certificate `{}`: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file of passwords is no good.
    #[error("read the passwords in `{}`", path.display())]
    Passwords {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// A registry cannot be mirrored as was asked.
    #[error("mirror {name}: {why}")]
    Mirror {
        /// The registry.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The store failed.
    #[error("use the store")]
    Store(#[from] store::Error),
    /// A file of the registry, or the kernel, failed.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// The refusal.
        #[source]
        source: io::Error,
    },
}

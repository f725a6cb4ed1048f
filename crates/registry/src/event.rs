//! What a pull or a push tells while it runs.

use oci::{Digest, Reference};
use serde::{Deserialize, Serialize};

/// Progress, in the order in which it happens; layers interleave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The pull begins.
    Pulling {
        /// What is pulled.
        reference: Reference,
    },
    /// A layer changed its state.
    Layer {
        /// The first 12 hexadecimal digits of the digest of the layer's blob.
        id: String,
        /// Its new state.
        state: LayerState,
    },
    /// A layer that goes into a registry changed its state.
    Upload {
        /// The first 12 hexadecimal digits of the layer's diff id or, where the image is not
        /// unpacked here, of its blob's digest.
        id: String,
        /// Its new state.
        state: UploadState,
    },
    /// The digest of what the tag names: of the index where there is one, else of the manifest.
    Digest(Digest),
    /// A line for the reader.
    Status(String),
}

/// Where a layer is on its way into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerState {
    /// Others go first.
    Waiting,
    /// Its blob arrives, and is unpacked as it does.
    Downloading {
        /// Bytes of the blob that are on disk.
        done: u64,
        /// Bytes of the whole blob.
        total: u64,
    },
    /// The blob is complete, and its digest is being compared.
    Verifying,
    /// The blob is complete, and the rest of it is being unpacked.
    Extracting {
        /// Bytes of the blob that are unpacked.
        done: u64,
        /// Bytes of the whole blob.
        total: u64,
    },
    /// In the store.
    Done,
    /// Was in the store already.
    Exists,
    /// The server failed, and will be asked again.
    Retrying {
        /// Seconds until then.
        in_s: u64,
    },
}

/// Where a layer is on its way into a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadState {
    /// It will be looked at.
    Preparing,
    /// It is being sent.
    Pushing {
        /// Bytes that were sent.
        done: u64,
        /// Bytes of the whole blob.
        total: u64,
    },
    /// It was sent.
    Pushed,
    /// The registry had it.
    Exists,
    /// The registry took it from another repository of its own.
    Mounted {
        /// Which one.
        from: String,
    },
    /// The server failed, and will be asked again.
    Retrying {
        /// Seconds until then.
        in_s: u64,
    },
}

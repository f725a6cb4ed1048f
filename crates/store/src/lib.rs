//! Images on this disk.
//!
//! **What it is.** Blobs, unpacked layers, images with their tags, writable views of layers for
//! containers, the differences in them, and the collection of what nothing needs any more.
//!
//! **What it must not know.** Registries and their protocol, containers' life cycles, mount
//! namespaces, Docker's or Kubernetes' JSON.
//!
//! **Front doors.** [`Store::open`], [`Store::unpack`], [`Store::resolve`], [`Store::prepare`],
//! [`Store::collect`].
//!
//! **How to test it.** `cargo test -p store` as root: real file systems, and overlays in a mount
//! namespace of their own.
//!
//! # Layout
//!
//! ```text
//! <root>/store.json                       how layers are kept: see [`Driver`]
//! <root>/store.lock                       shared: somebody adds content; exclusive: the collector
//! <root>/blobs/sha256/<hex>               manifests, configurations, layers: exactly as received
//! <root>/ingest/<hex>                     partial blobs, locked by their writer, resumable
//! <root>/ingest/.<random>/                members of an archive being loaded
//! <root>/layers/<diff id hex>/tree/       an unpacked layer in overlayfs' conventions,
//! <root>/layers/<diff id hex>/layer.erofs or an image of it
//! <root>/layers/<diff id hex>/layer.json  diff id, blob, bytes, entries, how it was made here
//! <root>/layers/.<random>/                a layer being unpacked
//! <root>/bases/<chain id hex>/tree/       the mount points that all containers of one chain share
//! <root>/bases/<chain id hex>.erofs/      the same for a chain of images, with the metadata of all
//! <root>/images/<image id hex>.json       manifest, configuration, layers, repository digests
//! <root>/tags/<hex>.json                  a reference and its image; named by the reference's digest
//! <root>/registry/<repository>/blobs/<hex>      a repository of the registry in the box holds a blob,
//! <root>/registry/<repository>/manifests/<hex>  or a manifest
//! <root>/arriving/<random>/               layers that are seen before they are here: see [`Arrival`]
//! <root>/unsynced/<boot id>.<part>.<hex>  a blob or a layer that may not be on the disk yet
//! <root>/trash/                           on its way out
//! ```
//!
//! # Changes
//!
//! There is no data base and no server. Everything is written under a hidden name and appears by
//! one rename; readers take no lock. A process that is killed leaves hidden names and partial blobs,
//! which the next collection removes. Records that are read, changed and written again are
//! serialised by a lock on `images/`.
//!
//! Whoever adds content holds a [`Lease`], a shared lock that ends with its process; the collector
//! works under the exclusive one. The roots of what stays are the records in `images/`, what is held in
//! `registry/`, and the layers that the caller says are in use.
//!
//! Before the record of an image appears, everything it refers to is on disk, and the record and its
//! tags are before a call returns: what was acknowledged survives a loss of power, unless the caller
//! wants it otherwise ([`Store::with_sync`]). What was not may leave records that are not whole, which
//! count as absent, and blobs and layers that are not, which is noted in `unsynced/` before they have
//! their names: after another start of the machine, the first [`Lease`] takes them away.

mod archive;
mod arrival;
mod blob;
mod bundle;
mod collect;
mod commit;
mod diff;
mod disk;
mod distribute;
mod driver;
mod error;
mod extract;
mod fresh;
mod fsck;
mod hidden;
mod image;
mod import;
mod layer;
mod live;
mod load;
mod made;
mod measure;
mod migrate;
mod outline;
mod overlay;
mod pack;
mod regular;
mod remove;
mod save;
mod snapshot;
mod spool;
mod stream;
mod tarball;
mod tarwriter;
mod trash;
mod unsynced;
mod view;
mod walk;

pub use archive::is_archive;
pub use arrival::{Arrival, Sketch};
pub use blob::Ingest;
pub use bundle::Bundle;
pub use collect::{Collected, DiskUsage, INGEST_AGE_MAX};
pub use commit::{Changes, Commit, archive_directory};
pub use diff::{Change, ChangeKind, Comparison, Difference, Node};
pub use disk::{Exclusive, Lease, Store};
pub use distribute::Encoding;
pub use driver::Driver;
pub use error::Error;
pub use fresh::Fresh;
pub use fsck::{Fault, FaultKind};
pub use hidden::{Hidden, LayerUse};
pub use image::{DOCUMENT_BYTES_MAX, Image, ImageLayer, NewImage};
pub use import::Import;
pub use layer::{Layer, extract_directory, open_lower};
pub use live::{Ids, Live, Owner, PathStat, Unpack, clean};
pub use load::Loaded;
pub use made::Made;
pub use measure::Measure;
pub use migrate::Migrated;
pub use outline::{Allowance, ContentsPlace, Outline, Piece, TABLES_BYTES_MAX};
pub use regular::open_regular;
pub use remove::{ImageUse, Removed};
pub use save::{ImageArchive, ToSave};
pub use snapshot::{Chain, base_name};
pub use view::View;

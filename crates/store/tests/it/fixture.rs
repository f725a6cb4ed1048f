//! Archives and stores made for one test.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;

use oci::{Descriptor, Digest, media_type};
use store::{Driver, Error, Image, Layer, NewImage, Store};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::DRIVER;

/// A store in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) store: Store,
    /// Layers that are being looked at.
    open: Mutex<Vec<OwnedFd>>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap(), DRIVER)
    }

    pub(crate) fn of(directory: TempDir, driver: Driver) -> Self {
        let root = directory.path().join("root");
        let store = Store::open(&root).unwrap();
        // As it is recorded: without a look at what the kernel can do, which hundreds of stores
        // need not repeat.
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("store.json"), format!("{{\"driver\":\"{driver}\"}}")).unwrap();
        let store = store.with_driver(Some(driver)).unwrap();
        Self { directory, store, open: Mutex::default() }
    }

    /// A path to what is in a layer.
    pub(crate) fn tree(&self, diff_id: &Digest) -> PathBuf {
        let root = self.store.open_layer(diff_id).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
        self.open.lock().unwrap().push(root);
        // Metadata of the path itself must be the root's.
        path.join(".")
    }

    /// In memory, for tests that make hundreds of stores.
    pub(crate) fn in_memory() -> Self {
        Self::of(tempfile::tempdir_in("/dev/shm").unwrap(), DRIVER)
    }

    /// Keeps `archive` as a blob and unpacks it.
    pub(crate) fn unpack(&self, archive: &[u8]) -> Result<Layer, Error> {
        let blob = self.blob(archive, media_type::OCI_LAYER);
        self.store.unpack(&Digest::of(archive), &blob, &mut &archive[..], &mut |_| {})
    }

    pub(crate) fn blob(&self, bytes: &[u8], media_type: &str) -> Descriptor {
        descriptor(self.store.put_blob(bytes).unwrap(), bytes.len(), media_type)
    }

    /// An image of these archives.
    pub(crate) fn image(&self, archives: &[Vec<u8>], mark: &str) -> Image {
        let _lease = self.store.lease().unwrap();
        let layers: Vec<Descriptor> = archives
            .iter()
            .map(|archive| {
                self.unpack(archive).unwrap();
                self.blob(archive, media_type::OCI_LAYER)
            })
            .collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "author": mark, "created": "2026-01-01T00:00:00Z",
            "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(config.to_string().as_bytes(), media_type::OCI_CONFIG);
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": config, "layers": layers,
        });
        let manifest = self.blob(manifest.to_string().as_bytes(), media_type::OCI_MANIFEST);
        self.store.add_image(NewImage { manifest, index: None, repo_digest: None }).unwrap()
    }

    /// Everything below the root but the records of what is complete.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut all = Vec::new();
        for part in ["ingest", "layers", "bases", "images", "tags", "trash", "blobs/sha256"] {
            let Ok(listed) = std::fs::read_dir(self.store.root().join(part)) else { continue };
            let names = listed.map(|e| e.unwrap().file_name().into_string().unwrap());
            all.extend(names.filter(|n| n.starts_with('.') || part == "ingest" || part == "trash"));
        }
        all
    }
}

pub(crate) fn descriptor(digest: Digest, size: usize, media_type: &str) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest,
        size: size as u64,
        platform: None,
        annotations: Default::default(),
    }
}

/// Writes archives, well-formed or not.
pub(crate) struct Archive {
    builder: tar::Builder<Vec<u8>>,
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()) }
    }

    pub(crate) fn header(kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(0);
        header
    }

    /// Any entry; the name is taken as it is, even if no sane archive has it.
    pub(crate) fn raw(mut self, mut header: Header, name: &[u8], link: &[u8], data: &[u8]) -> Self {
        if name.len() > 100 {
            self = self.pax(&[("path", name)]);
        }
        if link.len() > 100 {
            self = self.pax(&[("linkpath", link)]);
        }
        let old = header.as_old_mut();
        let n = name.len().min(100);
        old.name[..n].copy_from_slice(&name[..n]);
        let n = link.len().min(100);
        old.linkname[..n].copy_from_slice(&link[..n]);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.builder.append(&header, data).unwrap();
        self
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.builder.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.raw(Self::header(EntryType::Regular, 0o644), name.as_bytes(), b"", data)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.raw(Self::header(EntryType::Directory, 0o755), name.as_bytes(), b"", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        let header = Self::header(EntryType::Symlink, 0o777);
        self.raw(header, name.as_bytes(), target.as_bytes(), b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        let header = Self::header(EntryType::Link, 0o644);
        self.raw(header, name.as_bytes(), target.as_bytes(), b"")
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

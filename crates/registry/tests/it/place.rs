//! Images to serve, and stores to pull them into.

use std::io::Write;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use oci::{Digest, Platform, Reference, media_type};
use registry::{Auth, Client, Config, Error, Event, Pulled, pull};
use serde_json::{Value, json};
use store::Store;

use super::fake::Site;

/// An image in the making, as the documents that a registry has of it.
#[derive(Debug, Clone)]
pub(crate) struct Fixture {
    pub(crate) config: Value,
    pub(crate) manifest: Value,
    /// Compressed, lowest first.
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) diff_ids: Vec<Digest>,
}

/// How a layer is packed: its media type, and the bytes of an archive.
pub(crate) type Packing = (&'static str, fn(&[u8]) -> Vec<u8>);

pub(crate) const GZIP: Packing = ("application/vnd.oci.image.layer.v1.tar+gzip", gzip);
pub(crate) const ZSTD: Packing = ("application/vnd.oci.image.layer.v1.tar+zstd", zstd);
pub(crate) const PLAIN: Packing = (media_type::OCI_LAYER, <[u8]>::to_vec);
pub(crate) const DOCKER: Packing = (media_type::DOCKER_LAYER, gzip);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An archive with one file.
pub(crate) fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

/// Bytes that do not compress, the same for the same `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(step).take(length).collect()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

impl Fixture {
    /// Layer N has the file `fN` with `contents[N]`.
    pub(crate) fn new(packing: Packing, contents: &[&[u8]]) -> Self {
        let (kind, pack) = packing;
        let docker = kind == DOCKER.0;
        let archives: Vec<Vec<u8>> =
            contents.iter().enumerate().map(|(n, c)| archive(&format!("f{n}"), c)).collect();
        let diff_ids: Vec<Digest> = archives.iter().map(|a| Digest::of(a)).collect();
        let blobs: Vec<Vec<u8>> = archives.iter().map(|a| pack(a)).collect();
        let config = json!({
            "architecture": Platform::host().architecture,
            "os": "linux",
            "config": {"Cmd": ["/f0"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let (own, of_config) = match docker {
            true => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
            false => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": own,
            "config": descriptor(of_config, config.to_string().as_bytes()),
            "layers": blobs.iter().map(|blob| descriptor(kind, blob)).collect::<Vec<_>>(),
        });
        Self { config, manifest, blobs, diff_ids }
    }

    /// One layer of `length` bytes that do not compress.
    pub(crate) fn noisy(length: usize) -> Self {
        Self::new(GZIP, &[&noise(1, length)])
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.manifest.to_string().into_bytes()
    }

    pub(crate) fn kind(&self) -> &str {
        self.manifest["mediaType"].as_str().unwrap()
    }

    pub(crate) fn id(&self) -> Digest {
        Digest::of(self.config.to_string().as_bytes())
    }

    /// The path of layer `n`.
    pub(crate) fn blob_path(&self, n: usize) -> String {
        format!("/v2/app/blobs/{}", Digest::of(&self.blobs[n]))
    }

    /// A registry's content: this image as `app:latest`.
    pub(crate) fn site(&self) -> Site {
        let mut site = Site::default();
        self.add_to(&mut site);
        site.put("/v2/app/manifests/latest", self.kind(), &self.bytes());
        site
    }

    /// Everything but the tag.
    pub(crate) fn add_to(&self, site: &mut Site) {
        let path = format!("/v2/app/manifests/{}", Digest::of(&self.bytes()));
        site.put(&path, self.kind(), &self.bytes());
        let config = self.config.to_string();
        let path = format!("/v2/app/blobs/{}", Digest::of(config.as_bytes()));
        site.put(&path, "application/octet-stream", config.as_bytes());
        for (n, blob) in self.blobs.iter().enumerate() {
            site.put(&self.blob_path(n), "application/octet-stream", blob);
        }
    }
}

/// A store of its own.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) events: Mutex<Vec<Event>>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Self { folder, store, events: Mutex::default() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Pulls as nobody, with the default configuration.
    pub(crate) fn pull(&self, reference: &str) -> Result<Pulled, Error> {
        self.pull_with(&client(&Config::default(), Auth::anonymous()), reference)
    }

    pub(crate) fn pull_with(&self, client: &Client, reference: &str) -> Result<Pulled, Error> {
        let reference: Reference = reference.parse().unwrap();
        let tell = |event| self.events.lock().unwrap().push(event);
        pull(client, &self.store, &reference, &Platform::host(), &tell)
    }

    /// That `fixture` is here as `reference`, with the files that it was made with.
    pub(crate) fn check(&self, reference: &str, fixture: &Fixture, contents: &[&[u8]]) {
        let image = self.store.resolve(reference).unwrap();
        assert_eq!(image.id, fixture.id());
        for (n, (content, diff_id)) in contents.iter().zip(&fixture.diff_ids).enumerate() {
            let root = self.store.open_layer(diff_id).unwrap();
            let path = format!("/proc/self/fd/{}/f{n}", root.as_raw_fd());
            assert_eq!(std::fs::read(path).unwrap(), *content, "layer {n}");
        }
    }

    /// That no image is visible.
    pub(crate) fn check_empty(&self) {
        assert_eq!(self.store.images().unwrap(), []);
    }
}

/// A client that does not wait between attempts.
pub(crate) fn client(config: &Config, auth: Auth) -> Client {
    let config = Config { certs_dirs: Vec::new(), ..config.clone() };
    Client::new(&config, auth).with_backoff(Duration::ZERO)
}

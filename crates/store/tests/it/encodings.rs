//! One layer that came in several encodings: as long as it stays, something stays that it can be
//! sent as and unpacked from.

use std::collections::HashSet;
use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use oci::{Descriptor, Digest, Reference, media_type};
use store::{Driver, Encoding, Error, FaultKind, Image, NewImage, Store, ToSave};

use super::DRIVER;
use super::fixture::{Archive, Fixture};

fn archive() -> Vec<u8> {
    Archive::new().file("f", &[7; 20_000]).end()
}

fn gzip(archive: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(archive).unwrap();
    encoder.finish().unwrap()
}

/// An image whose manifest names `blob` for the layer, as a pull leaves it that found the layer.
fn pulled(fixture: &Fixture, mark: &str, blob: &[u8], repo_digest: bool) -> Image {
    let layer = Descriptor {
        media_type: format!("{}+gzip", media_type::OCI_LAYER),
        digest: Digest::of(blob),
        size: blob.len() as u64,
        platform: None,
        annotations: Default::default(),
    };
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "author": mark, "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&archive())]},
    });
    let config = fixture.blob(config.to_string().as_bytes(), media_type::OCI_CONFIG);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": config, "layers": [layer],
    });
    let manifest = fixture.blob(manifest.to_string().as_bytes(), media_type::OCI_MANIFEST);
    let name: Reference = format!("example.com/{mark}").parse().unwrap();
    let pin = repo_digest.then(|| name.with_digest(manifest.digest));
    fixture.store.add_image(NewImage { manifest, index: None, repo_digest: pin }).unwrap()
}

fn collect(store: &Store) {
    store.collect(store.exclusive().unwrap(), &HashSet::new(), Duration::ZERO).unwrap();
}

fn forget(store: &Store, image: &Image) {
    store.remove_image(&image.id.to_string(), true, &[]).unwrap();
}

fn sends(fixture: &Fixture, image: &Image) {
    let store = &fixture.store;
    let image = store.resolve(&image.id.to_string()).unwrap();
    let saved = store.save(&[ToSave { image, names: Vec::new() }], Vec::new()).unwrap();
    let other = Fixture::new();
    assert_eq!(other.store.load(&mut &saved[..], None, &mut |_| {}).unwrap().len(), 1);
}

#[test]
fn a_layer_that_is_here_in_other_bytes_can_always_be_sent() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let loaded = fixture.image(&[archive()], "loaded");
    let pulled = pulled(&fixture, "pulled", &gzip(&archive(), 9), true);
    forget(store, &loaded);
    collect(store);
    sends(&fixture, &pulled);
    assert_eq!(store.check(true).unwrap(), []);
}

#[test]
fn a_layer_keeps_the_blob_that_a_manifest_names_and_knows_it() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let blob = gzip(&archive(), 9);
    let loaded = fixture.image(&[archive()], "loaded");
    fixture.blob(&blob, media_type::OCI_LAYER);
    let pulled = pulled(&fixture, "pulled", &blob, true);
    forget(store, &loaded);
    collect(store);
    let layer = store.layer(&Digest::of(&archive())).unwrap();
    assert_eq!(layer.blob, Digest::of(&blob));
    assert!(!store.has_blob(&Digest::of(&archive())));
    let sent = store.distributable(&pulled, Encoding::Compressed).unwrap();
    assert_eq!(sent.manifest, pulled.manifest);
    // A container's layer, whose image is gone, has it still.
    forget(store, &pulled);
    let in_use = HashSet::from([layer.diff_id]);
    store.collect(store.exclusive().unwrap(), &in_use, Duration::ZERO).unwrap();
    assert_eq!(store.archive_of(&layer.diff_id).unwrap(), Some(layer.blob));
}

#[test]
fn what_is_not_here_as_its_manifest_says_is_pushed_compressed() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    fixture.image(&[archive()], "loaded");
    let image = pulled(&fixture, "pulled", &gzip(&archive(), 9), true);
    let held = store.distributable(&image, Encoding::Held).unwrap();
    assert_eq!(held.layers[0].blob.digest, Digest::of(&archive()));
    // Whether or not it was saved before.
    for image in [image, held] {
        let sent = store.distributable(&image, Encoding::Compressed).unwrap();
        assert!(sent.layers[0].blob.media_type.ends_with("+gzip"));
        assert_eq!(sent, store.distributable(&sent, Encoding::Compressed).unwrap());
    }
}

#[test]
fn a_layer_without_any_blob_is_told_of_before_anything_is_converted() {
    let fixture = Fixture::new();
    let store = Store::open(fixture.store.root()).unwrap();
    let to = if DRIVER == Driver::Dir { Driver::Erofs } else { Driver::Dir };
    let migrate = || store.migrate(store.exclusive()?, to, &HashSet::new(), &mut |_| {});
    let blob = gzip(&archive(), 9);
    let image = pulled_and_kept(&fixture, &blob);
    std::fs::remove_file(blob_path(&store, &Digest::of(&blob))).unwrap();

    let faults = store.check(false).unwrap();
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].kind, &faults[0].name), (FaultKind::Image, &image.id.to_string()));
    assert!(faults[0].why.contains("no blob"), "{}", faults[0].why);
    assert!(matches!(migrate(), Err(Error::NotFound(_))));
    assert_eq!(store.driver().unwrap(), DRIVER);

    // Other bytes will do.
    fixture.blob(&archive(), media_type::OCI_LAYER);
    fixture.image(&[archive()], "again");
    assert_eq!(store.check(true).unwrap(), []);
    assert_eq!(migrate().unwrap().converted, [Digest::of(&archive())]);
    sends(&fixture, &image);
}

fn pulled_and_kept(fixture: &Fixture, blob: &[u8]) -> Image {
    let descriptor = fixture.blob(blob, media_type::OCI_LAYER);
    let diff_id = Digest::of(&archive());
    fixture.store.unpack(&diff_id, &descriptor, &mut &blob[..], &mut |_| {}).unwrap();
    pulled(fixture, "pulled", blob, true)
}

fn blob_path(store: &Store, digest: &Digest) -> std::path::PathBuf {
    store.root().join("blobs/sha256").join(digest.hex())
}

#[test]
fn sound_layers_that_hide_something_are_sound() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let lower = Archive::new().dir("d").file("d/low", b"1").file("gone", b"").end();
    let upper = Archive::new().dir("d").file("d/.wh..wh..opq", b"").file(".wh.gone", b"").end();
    let image = fixture.image(&[lower, upper], "one");
    assert_eq!(store.check(true).unwrap(), []);
    // Committed, too.
    let container = fixture.directory.path().join("container");
    std::fs::create_dir(&container).unwrap();
    let rootfs = store.prepare(&image.diff_ids(), &container, true).unwrap();
    let overlay = super::overlay::Overlay::container(&rootfs);
    std::fs::write(overlay.path("new"), "new").unwrap();
    std::fs::rename(overlay.path("new"), overlay.path("moved")).unwrap();
    std::fs::remove_dir_all(overlay.path("d")).unwrap();
    drop(overlay);
    let changes = store.changes(&rootfs).unwrap();
    let commit = store::Commit {
        layers: image.diff_ids(),
        parent: Some(image),
        config: Default::default(),
        author: String::new(),
        message: String::new(),
        created_by: String::new(),
        reference: None,
    };
    store.commit(&changes, &commit).unwrap();
    drop(changes);
    assert_eq!(store.check(true).unwrap(), []);
}

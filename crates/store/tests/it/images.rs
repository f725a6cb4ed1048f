//! Images: names, removal, collection.

use std::collections::HashSet;
use std::fs;

use store::{INGEST_AGE_MAX, Removed};

use super::fixture::{Archive, Fixture, gzip};

#[test]
fn an_image_is_found_by_its_names_and_gone_after_its_removal() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let image = fixture.image(&[Archive::new().file("a", b"1").end()], "one");
    store.tag(&"alpine".parse().unwrap(), &image.id).unwrap();
    for name in ["alpine", "alpine:latest", &image.id.to_string(), &image.id.hex()[..6]] {
        assert_eq!(store.resolve(name).unwrap().id, image.id, "{name}");
    }
    let container = fixture.directory.path().join("c");
    fs::create_dir(&container).unwrap();
    let rootfs = store.prepare(&image.diff_ids(), &container, false).unwrap();
    assert_eq!(store.diff(&rootfs).unwrap(), []);

    let removed = store.remove_image("alpine", false, &[]).unwrap();
    let layer = image.layers[0].diff_id;
    assert_eq!(
        removed,
        [
            Removed::Untagged("alpine:latest".into()),
            Removed::Deleted(image.id),
            Removed::Deleted(layer)
        ]
    );
    let exclusive = store.exclusive().unwrap();
    let collected = store.collect(exclusive, &HashSet::new(), INGEST_AGE_MAX).unwrap();
    assert_eq!((collected.layers, collected.blobs.len()), (vec![layer], 3));
    assert!(!store.has_layer(&layer));
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn an_import_is_an_image_of_one_layer() {
    let fixture = Fixture::new();
    let plain = Archive::new().dir("./").file("hello", b"hello").end();
    for archive in [gzip(&plain), plain.clone()] {
        let import = store::Import {
            config: Default::default(),
            message: "by hand".into(),
            platform: oci::Platform::host(),
            reference: Some("imported:1".parse().unwrap()),
        };
        let image = fixture.store.import(&mut &archive[..], &import).unwrap();
        assert_eq!(image.diff_ids(), [oci::Digest::of(&plain)]);
        assert_eq!(image.layers[0].blob.digest, oci::Digest::of(&archive));
        assert_eq!(fixture.store.resolve("imported:1").unwrap().id, image.id);
        assert_eq!(image.config(&fixture.store).unwrap().history[0].comment, "by hand");
    }
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

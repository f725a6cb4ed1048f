//! Images: names, removal, collection.

use std::collections::HashSet;
use std::fs;

use store::{INGEST_AGE_MAX, Removed};

use super::fixture::{Archive, Fixture};

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

//! What a loss of power may have taken is not believed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use oci::Digest;
use store::Store;

use super::fixture::{Archive, Fixture};

/// Makes the disk what it may be after a loss of power and another start of the machine: what is noted
/// as not synced is cut off at `bytes`.
fn lose_power(fixture: &Fixture, bytes: u64) {
    let root = fixture.store.root();
    for note in notes(root) {
        let name = note.file_name().unwrap().to_str().unwrap();
        let [_, kind, hex] = name.split('.').collect::<Vec<_>>()[..] else { panic!("{name}") };
        match kind {
            "blob" => cut(&root.join("blobs/sha256").join(hex), bytes),
            _ => cut(&root.join("layers").join(hex), bytes),
        }
        let of_before = format!("00000000-0000-0000-0000-000000000000.{kind}.{hex}");
        fs::rename(&note, note.with_file_name(of_before)).unwrap();
    }
}

fn notes(root: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(root.join("unsynced")).into_iter().flatten();
    listed.map(|entry| entry.unwrap().path()).collect()
}

fn cut(path: &Path, bytes: u64) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| cut(&entry.unwrap().path(), bytes));
    } else if path.is_file() {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len().min(bytes)).unwrap();
    }
}

fn archive() -> Vec<u8> {
    Archive::new().file("f", &[7; 100_000]).end()
}

#[test]
fn blobs_and_layers_that_were_not_synced_are_made_again() {
    let fixture = Fixture::new();
    let layer = fixture.unpack(&archive()).unwrap().diff_id;
    let container = fixture.directory.path().join("container");
    fs::create_dir(&container).unwrap();
    fixture.store.prepare(&[layer], &container, true).unwrap();
    lose_power(&fixture, 0);
    let store = Store::open(fixture.store.root()).unwrap();
    let lease = store.lease().unwrap();
    assert!(!store.has_layer(&layer) && !store.has_blob(&layer));
    assert_eq!(notes(store.root()), Vec::<PathBuf>::new());
    fixture.unpack(&archive()).unwrap();
    assert_eq!(fs::read(fixture.tree(&layer).join("f")).unwrap(), [7; 100_000]);
    // Its mount points are made of what it is now.
    fs::remove_dir_all(&container).unwrap();
    fs::create_dir(&container).unwrap();
    let rootfs = store.prepare(&[layer], &container, true).unwrap();
    let seen = super::overlay::Overlay::container(&rootfs);
    assert_eq!(fs::read(seen.path("f")).unwrap(), [7; 100_000]);
    drop(lease);
}

#[test]
fn of_a_blob_that_was_not_synced_nothing_is_received_twice() {
    let fixture = Fixture::new();
    let size = archive().len() as u64;
    for (left, is_held) in [(size, true), (1000, false)] {
        let digest = fixture.store.put_blob(&archive()).unwrap();
        lose_power(&fixture, left);
        let mut ingest = fixture.store.ingest(&digest, size).unwrap().unwrap();
        assert_eq!((ingest.offset(), ingest.offset() == size), (left, is_held));
        std::io::copy(&mut &archive()[left as usize..], &mut ingest).unwrap();
        ingest.commit().unwrap();
        assert_eq!(fixture.store.read_blob(&digest, size).unwrap(), archive());
        fs::remove_file(fixture.store.root().join("blobs/sha256").join(digest.hex())).unwrap();
    }
}

#[test]
fn an_image_is_not_taken_away_again() {
    let fixture = Fixture::new();
    let image = fixture.image(&[archive()], "one");
    assert_eq!(notes(fixture.store.root()), Vec::<PathBuf>::new());
    lose_power(&fixture, 0);
    let _lease = fixture.store.lease().unwrap();
    assert!(fixture.store.has_layer(&image.layers[0].diff_id));
    image.config(&fixture.store).unwrap();
}

#[test]
fn what_this_start_of_the_machine_has_written_is_believed() {
    let fixture = Fixture::new();
    let layer = fixture.unpack(&archive()).unwrap().diff_id;
    assert_eq!(notes(fixture.store.root()).len(), 2);
    let _lease = fixture.store.lease().unwrap();
    assert!(fixture.store.has_layer(&layer) && fixture.store.has_blob(&layer));
}

#[test]
fn who_wants_no_syncs_leaves_no_notes() {
    let fixture = Fixture::new();
    let store = fixture.store.clone().with_sync(false);
    let digest: Digest = store.put_blob(b"x").unwrap();
    assert_eq!(notes(store.root()), Vec::<PathBuf>::new());
    assert!(store.has_blob(&digest));
}

#[test]
fn a_collection_takes_notes_away_with_what_they_are_about() {
    let fixture = Fixture::new();
    fixture.unpack(&archive()).unwrap();
    let exclusive = fixture.store.exclusive().unwrap();
    let age = std::time::Duration::ZERO;
    fixture.store.collect(exclusive, &Default::default(), age).unwrap();
    assert_eq!(notes(fixture.store.root()), Vec::<PathBuf>::new());
}

#[test]
fn a_blob_that_is_synced_by_itself_is_believed() {
    let fixture = Fixture::new();
    let digest = fixture.store.put_blob(b"manifest").unwrap();
    fixture.store.sync_blob(&digest).unwrap();
    assert_eq!(notes(fixture.store.root()), Vec::<PathBuf>::new());
}

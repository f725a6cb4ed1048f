//! What builds ask of the store: layers that are the same wherever they are made, images composed of
//! them, trees to copy from, and archives that are no layers.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use oci::{Digest, ImageConfig, RootfsSection};

use super::fixture::{Archive, Fixture, gzip};

const EPOCH_S: i64 = 1_000_000_000;

fn path(view: &OwnedFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", view.as_raw_fd())).join(name)
}

/// Changes a view of `layers` and makes a layer of it.
fn layer(fixture: &Fixture, layers: &[Digest], change: impl FnOnce(&OwnedFd)) -> Option<Digest> {
    let container = tempfile::tempdir_in(fixture.directory.path()).unwrap();
    let rootfs = fixture.store.prepare(layers, container.path(), true).unwrap();
    let view = fixture.store.open_view(&rootfs, true).unwrap();
    change(&view);
    drop(view);
    fixture.store.layer_of(&rootfs, EPOCH_S).unwrap()
}

fn change(view: &OwnedFd) {
    fs::create_dir(path(view, "new")).unwrap();
    fs::write(path(view, "new/b"), "b").unwrap();
    fs::write(path(view, "new/a"), "a").unwrap();
    symlink("a", path(view, "new/link")).unwrap();
    fs::remove_file(path(view, "low")).unwrap();
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    File::open(path(view, "new/b")).unwrap().set_times(old).unwrap();
}

#[test]
fn the_same_files_are_the_same_layer() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let low = Archive::new().file("low", b"low").end();
    let below = [one.unpack(&low).unwrap().diff_id];
    other.unpack(&low).unwrap();
    let first = layer(&one, &below, change).unwrap();
    assert_eq!(layer(&other, &below, change), Some(first));
    assert_eq!(layer(&one, &below, |_| ()), None, "no change is no layer");
    let view = one.store.open_chain(&[below[0], first]).unwrap();
    assert_eq!(fs::metadata(path(&view, "new/a")).unwrap().mtime(), EPOCH_S);
    assert_eq!(fs::metadata(path(&view, "new/b")).unwrap().mtime(), 0);
    assert!(!path(&view, "low").exists());
}

#[test]
fn holes_are_where_zeros_are() {
    let (one, other) = (Fixture::new(), Fixture::new());
    let size = 32 << 20;
    let sparse = layer(&one, &[], |view| {
        let mut file = File::create(path(view, "f")).unwrap();
        file.set_len(size).unwrap();
        file.seek(std::io::SeekFrom::Start(size / 2)).unwrap();
        file.write_all(b"middle").unwrap();
    });
    let written = layer(&other, &[], |view| {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        bytes[16 << 20..(16 << 20) + 6].copy_from_slice(b"middle");
        fs::write(path(view, "f"), bytes).unwrap();
    });
    assert_eq!(sparse, written);
    let blob = sent(&one, &[sparse.unwrap()]);
    assert!(one.store.open_described(&super::fixture::descriptor(blob, 0, "")).is_err());
}

/// Makes an image of layers and has it sent: the topmost blob.
fn sent(fixture: &Fixture, layers: &[Digest]) -> Digest {
    let config = ImageConfig {
        architecture: "amd64".into(),
        os: "linux".into(),
        rootfs: RootfsSection { diff_ids: layers.to_vec(), ..RootfsSection::default() },
        ..ImageConfig::default()
    };
    let image = fixture.store.compose(&config, &[]).unwrap();
    let sent = fixture.store.distributable(&image, store::Encoding::Held).unwrap();
    assert_eq!(sent.manifest, image.manifest);
    sent.layers.last().unwrap().blob.digest
}

#[test]
fn a_layer_that_was_made_needs_no_archive() {
    let fixture = Fixture::new();
    let low = fixture.unpack(&Archive::new().file("low", b"low").dir("gone").end()).unwrap();
    let below = [low.diff_id];
    let made = layer(&fixture, &below, |view| {
        change(view);
        fs::remove_dir(path(view, "gone")).unwrap();
        fs::create_dir(path(view, "gone")).unwrap();
        fs::write(path(view, "gone/new"), "n").unwrap();
        fs::hard_link(path(view, "new/a"), path(view, "new/z")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path(view, "s")).unwrap();
        fs::set_permissions(path(view, "new/b"), fs::Permissions::from_mode(0o4711)).unwrap();
    });
    let made = made.unwrap();
    let layers = [low.diff_id, made];
    let store = &fixture.store;
    assert!(!store.has_blob(&made), "no archive is kept");
    assert_eq!(store.archive_of(&made).unwrap(), None);
    assert!(store.has_archive(&made).unwrap());
    let look = |store: &store::Store| {
        let view = store.open_chain(&layers).unwrap();
        let mut names: Vec<String> = walk(&path(&view, "."));
        names.sort();
        names
    };
    let seen = look(store);
    let expected = ["gone", "gone/new", "new", "new/a", "new/b", "new/link", "new/z"];
    assert_eq!(seen, expected);
    assert_eq!(sent(&fixture, &layers), made);
    assert_eq!(store.check(true).unwrap(), []);
    // What is unpacked from the archive elsewhere is the same.
    let other = Fixture::new();
    other.unpack(&Archive::new().file("low", b"low").dir("gone").end()).unwrap();
    let mut archive = Vec::new();
    store.open_blob(&made).unwrap().read_to_end(&mut archive).unwrap();
    assert_eq!(other.unpack(&archive).unwrap().diff_id, made);
    assert_eq!(look(&other.store), expected);
}

#[test]
fn a_layer_that_was_made_and_changed_since_is_found() {
    let fixture = Fixture::new();
    let made = layer(&fixture, &[], |view| fs::write(path(view, "f"), "whole").unwrap()).unwrap();
    let place = fixture.store.layer_place(&made);
    assert_eq!(fixture.store.check(true).unwrap(), []);
    if place.is_dir() {
        fs::write(place.join("f"), "wrong").unwrap();
        let found = fixture.store.check(true).unwrap();
        assert!(found[0].why.contains("it is now layer"), "{found:?}");
    }
}

/// The names below a directory.
fn walk(directory: &std::path::Path) -> Vec<String> {
    fn below(root: &std::path::Path, at: &std::path::Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.symlink_metadata().unwrap().is_dir() {
                below(root, &path, names);
            }
        }
    }
    let mut names = Vec::new();
    below(directory, directory, &mut names);
    names
}

#[test]
fn a_chain_shows_nothing_but_its_layers() {
    let fixture = Fixture::new();
    let low = fixture.unpack(&Archive::new().file("a", b"a").file("b", b"b").end()).unwrap();
    let high = fixture.unpack(&Archive::new().file(".wh.a", b"").dir("d").end()).unwrap();
    let names = |layers: &[Digest]| {
        let view = fixture.store.open_chain(layers).unwrap();
        let names = fs::read_dir(path(&view, ".")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&[]), [""; 0]);
    assert_eq!(names(&[low.diff_id]), ["a", "b"]);
    assert_eq!(names(&[low.diff_id, high.diff_id]), ["b", "d"]);
    assert_eq!(names(&[high.diff_id]), ["d"], "a whiteout alone hides nothing and shows nothing");
}

#[test]
fn an_image_is_composed_once() {
    let fixture = Fixture::new();
    let base = fixture.image(&[Archive::new().file("a", b"a").end()], "base");
    let config = ImageConfig {
        architecture: "amd64".into(),
        os: "linux".into(),
        rootfs: RootfsSection { diff_ids: base.diff_ids(), ..RootfsSection::default() },
        ..ImageConfig::default()
    };
    let image = fixture.store.compose(&config, std::slice::from_ref(&base)).unwrap();
    assert_eq!(image.layers[0].blob, base.layers[0].blob, "a layer keeps its blob");
    assert_eq!(fixture.store.compose(&config, &[]).unwrap().manifest, image.manifest);
    assert_eq!(fixture.store.check(true).unwrap(), []);
}

#[test]
fn archives_are_told_by_their_content() {
    let directory = tempfile::tempdir().unwrap();
    let is = |bytes: &[u8]| {
        let place = directory.path().join("file");
        fs::write(&place, bytes).unwrap();
        store::is_archive(&mut File::open(&place).unwrap())
    };
    let tar = Archive::new().file("a", b"a").end();
    assert!(is(&tar).unwrap() && is(&gzip(&tar)).unwrap());
    assert!(is(&zstd::encode_all(&tar[..], 1).unwrap()).unwrap());
    let broken = [&[0x1f, 0x8b, 0, 0][..], b"BZh91AY", b"\xfd7zXZ\0\0"];
    for other in [&b""[..], b"text", &gzip(b"text"), &[0; 1024]].into_iter().chain(broken) {
        assert!(!is(other).unwrap(), "{other:?}");
    }
}

#[test]
fn archives_are_unpacked_inside() {
    let fixture = Fixture::new();
    let place = fixture.directory.path().join("place");
    fs::create_dir(&place).unwrap();
    let tar = Archive::new().dir("d").file("d/f", b"f").symlink("up", "../../..").end();
    fixture.store.unpack_files(&mut &gzip(&tar)[..], &place).unwrap();
    assert_eq!(fs::read(place.join("tree/d/f")).unwrap(), b"f");
    let outside = fixture.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let tar = Archive::new().file("../evil", b"").end();
    assert!(fixture.store.unpack_files(&mut &tar[..], &outside).is_err());
    assert!(!fixture.directory.path().join("evil").exists());
}

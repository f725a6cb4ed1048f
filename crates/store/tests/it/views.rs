//! Writable views: mount points, layers that hide and repeat, images without layers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use oci::{Lower, Rootfs};
use tar::EntryType;

use super::fixture::{Archive, Fixture};
use super::overlay::Overlay;

fn view(fixture: &Fixture, archives: &[Vec<u8>], name: &str) -> Rootfs {
    let layers: Vec<_> =
        archives.iter().map(|archive| fixture.unpack(archive).unwrap().diff_id).collect();
    let container: PathBuf = fixture.directory.path().join(name);
    fs::create_dir(&container).unwrap();
    fixture.store.prepare(&layers, &container, false).unwrap()
}

fn lower(rootfs: &Rootfs) -> &[Lower] {
    let Rootfs::Overlay { lower, .. } = rootfs else { panic!("not an overlay") };
    lower
}

const POINTS: &[&str] =
    &["dev", "dev/pts", "dev/shm", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

#[test]
fn an_image_without_layers_has_the_mount_points_alone() {
    let fixture = Fixture::new();
    let rootfs = view(&fixture, &[], "c");
    let [Lower::Directory(base)] = lower(&rootfs) else { panic!("{rootfs:?}") };
    for point in POINTS {
        assert!(base.join(point).exists(), "{point}");
    }
    assert_eq!(fs::read_link(base.join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
    let seen = Overlay::container(&rootfs);
    fs::write(seen.path("new"), "").unwrap();
    assert_eq!(fixture.store.diff(&rootfs).unwrap().len(), 1);
}

#[test]
fn mount_points_are_made_once_and_are_no_changes() {
    let fixture = Fixture::new();
    let mut etc = Archive::header(EntryType::Directory, 0o751);
    etc.set_uid(4);
    let image = Archive::new()
        .raw(etc, b"etc", b"", b"")
        .file("etc/hosts", b"of the image")
        .symlink("etc/resolv.conf", "../run/resolved/stub.conf")
        .symlink("sys", "usr/sys")
        .symlink("etc/mtab", "elsewhere")
        .file("dev", b"not a directory")
        .end();
    let rootfs = view(&fixture, std::slice::from_ref(&image), "c");
    assert_eq!(fixture.store.diff(&rootfs).unwrap(), []);
    let seen = Overlay::container(&rootfs);
    let meta = fs::metadata(seen.path("etc")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o751, 4));
    assert_eq!(fs::read(seen.path("etc/hosts")).unwrap(), b"of the image");
    assert_eq!(fs::read(seen.path("run/resolved/stub.conf")).unwrap(), b"");
    assert!(seen.path("usr/sys").is_dir());
    assert_eq!(fs::read_link(seen.path("etc/mtab")).unwrap(), Path::new("elsewhere"));
    assert!(fs::metadata(seen.path("dev")).unwrap().is_file());
    let made = fs::metadata(lower(&rootfs)[0].path()).unwrap().ino();
    let again = view(&fixture, &[image], "d");
    assert_eq!(lower(&again), lower(&rootfs));
    assert_eq!(fs::metadata(lower(&again)[0].path()).unwrap().ino(), made);
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn mount_points_stay_inside_whatever_the_image_links_to() {
    let fixture = Fixture::new();
    let outside = fixture.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let outside = outside.to_str().unwrap();
    let image = Archive::new()
        .symlink("etc", outside)
        .symlink("dev", &format!("{outside}/dev"))
        .symlink("proc", "proc")
        .symlink("sys", "/proc/self/root")
        .end();
    view(&fixture, &[image], "c");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn the_root_looks_as_in_the_image() {
    let fixture = Fixture::new();
    let mut root = Archive::header(EntryType::Directory, 0o1711);
    root.set_uid(9);
    let rootfs = view(&fixture, &[Archive::new().raw(root, b"./", b"", b"").end()], "c");
    let meta = fs::metadata(Overlay::container(&rootfs).path("")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o1711, 9));
    assert_eq!(fixture.store.diff(&rootfs).unwrap(), []);
}

#[test]
fn a_layer_may_repeat_and_may_hide_all_below() {
    let fixture = Fixture::new();
    let empty = Archive::new().end();
    let first = Archive::new().file("a", b"1").end();
    let second = Archive::new().file(".wh.a", b"").end();
    let seen = |archives: &[Vec<u8>], name: &str| {
        let rootfs = view(&fixture, archives, name);
        Overlay::container(&rootfs).path("a").exists()
    };
    assert!(seen(&[empty.clone(), first.clone(), empty], "c"));
    assert!(!seen(&[first.clone(), second.clone()], "d"));
    assert!(seen(&[first.clone(), second, first.clone()], "e"));
    let opaque = Archive::new().file(".wh..wh..opq", b"").file("b", b"").end();
    assert!(!seen(&[first, opaque], "f"));
}

#[test]
fn a_missing_layer_has_a_name() {
    let fixture = Fixture::new();
    let missing = oci::Digest::of(b"missing");
    let error = fixture.store.prepare(&[missing], fixture.directory.path(), true).unwrap_err();
    assert_eq!(error.to_string(), format!("no such layer: {missing}"));
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

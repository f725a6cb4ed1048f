//! Unpacking: every feature of an archive, and every attack.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::fixture::{Archive, Fixture};

#[test]
fn files_directories_and_links_come_out_as_they_went_in() {
    let fixture = Fixture::new();
    let archive = Archive::new()
        .dir("./")
        .dir("etc/")
        .file("etc/passwd", b"root:x:0:0")
        .symlink("etc/link", "passwd")
        .hard_link("etc/hard", "etc/passwd")
        .file("implied/parent/file", b"")
        .end();
    let layer = fixture.unpack(&archive).unwrap();
    assert_eq!((layer.size, layer.entries), (10, 6));
    let tree = fixture.store.layer_tree(&layer.diff_id);
    assert_eq!(fs::read(tree.join("etc/link")).unwrap(), b"root:x:0:0");
    let meta = fs::metadata(tree.join("etc/hard")).unwrap();
    assert_eq!((meta.nlink(), meta.mtime(), meta.mode() & 0o7777), (2, 1_600_000_000, 0o644));
    assert_eq!(fs::metadata(tree.join("etc")).unwrap().mtime(), 1_600_000_000);
    assert_eq!(fs::metadata(tree.join("implied")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

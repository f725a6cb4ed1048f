//! Unpacking: every feature of an archive.

use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use oci::{Digest, media_type};
use tar::{EntryType, Header};

use super::fixture::{Archive, Fixture, gzip};

/// Unpacks an archive and looks at its tree.
fn unpacked(archive: Archive, look: impl FnOnce(&Path)) {
    let fixture = Fixture::new();
    let layer = fixture.unpack(&archive.end()).unwrap();
    look(&fixture.tree(&layer.diff_id));
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn is_whiteout(path: &Path) -> bool {
    let meta = fs::symlink_metadata(path).unwrap();
    meta.file_type().is_char_device() && meta.rdev() == 0
}

#[test]
fn files_directories_and_links_come_out_as_they_went_in() {
    let archive = Archive::new()
        .dir("./")
        .dir("etc/")
        .file("etc/passwd", b"root:x:0:0")
        .symlink("etc/link", "passwd")
        .hard_link("etc/hard", "etc/passwd")
        .hard_link("etc/hard-link-to-link", "etc/link")
        .file("implied/parent/file", b"")
        .end();
    let fixture = Fixture::new();
    let layer = fixture.unpack(&archive).unwrap();
    assert_eq!((layer.size, layer.entries), (10, 7));
    let tree = fixture.tree(&layer.diff_id);
    assert_eq!(fs::read(tree.join("etc/link")).unwrap(), b"root:x:0:0");
    let meta = fs::metadata(tree.join("etc/hard")).unwrap();
    assert_eq!((meta.nlink(), meta.mtime(), meta.mode() & 0o7777), (2, 1_600_000_000, 0o644));
    assert_eq!(fs::read_link(tree.join("etc/hard-link-to-link")).unwrap(), Path::new("passwd"));
    assert_eq!(fs::metadata(tree.join("etc")).unwrap().mtime(), 1_600_000_000);
    assert_eq!(mode(&tree.join("implied/parent")), 0o755);
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
    // Again, and from nothing: the layer is there.
    let blob = fixture.blob(&archive, media_type::OCI_LAYER);
    let again = fixture.store.unpack(&layer.diff_id, &blob, &mut &b""[..], &mut |_| {}).unwrap();
    assert_eq!(again, layer);
}

#[test]
fn owners_modes_and_times_are_exact() {
    let owned = |kind, mode, uid: u64| {
        let mut header = Archive::header(kind, mode);
        header.set_uid(uid);
        header.set_gid(uid + 1);
        header
    };
    let archive = Archive::new()
        .raw(owned(EntryType::Directory, 0o2750, 5), b"d", b"", b"")
        .raw(owned(EntryType::Regular, 0o6755, 1000), b"d/suid", b"", b"x")
        .pax(&[("mtime", b"1600000000.123456789")])
        .raw(owned(EntryType::Regular, 0o4711, 0), b"d/fine", b"", b"")
        .pax(&[("mtime", b"-1.5"), ("uid", b"70000"), ("gid", b"2147483647")])
        .raw(owned(EntryType::Regular, 0o000, 0), b"d/old", b"", b"")
        .raw(owned(EntryType::Symlink, 0o777, 7), b"d/link", b"nowhere", b"")
        .raw(owned(EntryType::Directory, 0o1777, 0), b"tmp", b"", b"")
        .raw(owned(EntryType::Directory, 0o500, 0), b".", b"", b"");
    unpacked(archive, |tree| {
        let owner = |name: &str| {
            let meta = fs::symlink_metadata(tree.join(name)).unwrap();
            (meta.uid(), meta.gid(), meta.mode() & 0o7777)
        };
        assert_eq!(owner("d"), (5, 6, 0o2750));
        assert_eq!(owner("d/suid"), (1000, 1001, 0o6755));
        assert_eq!(owner("d/fine"), (0, 1, 0o4711));
        assert_eq!(owner("d/old"), (70000, i32::MAX as u32, 0));
        assert_eq!(owner("d/link"), (7, 8, 0o777));
        assert_eq!(owner("tmp"), (0, 1, 0o1777));
        assert_eq!(owner(""), (0, 1, 0o500));
        let time = |name: &str| {
            let meta = fs::symlink_metadata(tree.join(name)).unwrap();
            (meta.mtime(), meta.mtime_nsec())
        };
        assert_eq!(time("d/fine"), (1_600_000_000, 123_456_789));
        assert_eq!(time("d/old"), (-2, 500_000_000));
        assert_eq!(time("d/link"), (1_600_000_000, 0));
        assert_eq!(time("d"), (1_600_000_000, 0));
        assert_eq!(time(""), (1_600_000_000, 0));
    });
}

#[test]
fn devices_and_fifos_are_made() {
    let device = |kind, major, minor| {
        let mut header = Archive::header(kind, 0o666);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header
    };
    let archive = Archive::new()
        .raw(device(EntryType::Char, 1, 3), b"null", b"", b"")
        .raw(device(EntryType::Block, 7, 300), b"loop", b"", b"")
        .raw(device(EntryType::Fifo, 0, 0), b"fifo", b"", b"");
    unpacked(archive, |tree| {
        let meta = |name: &str| fs::symlink_metadata(tree.join(name)).unwrap();
        assert!(meta("null").file_type().is_char_device());
        assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
        assert!(meta("loop").file_type().is_block_device());
        assert_eq!(meta("loop").rdev(), rustix::fs::makedev(7, 300));
        assert!(meta("fifo").file_type().is_fifo());
        assert_eq!(mode(&tree.join("fifo")), 0o666);
    });
}

#[test]
fn attributes_are_kept_but_for_those_of_overlayfs() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.a", b"b=c\n d"),
            ("SCHILY.xattr.user.empty", b""),
            ("SCHILY.xattr.user.overlay.origin", b""),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.mine", b"1"),
            ("SCHILY.xattr.security.capability", &capability),
        ])
        .raw(
            {
                let mut header = Archive::header(EntryType::Regular, 0o755);
                header.set_uid(3);
                header
            },
            b"f",
            b"",
            b"",
        )
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.user.d", b"1")])
        .dir("d")
        .pax(&[("SCHILY.xattr.trusted.l", b"1"), ("SCHILY.xattr.user.l", b"1")])
        .symlink("l", "f");
    unpacked(archive, |tree| {
        let file = tree.join("f");
        assert_eq!(xattr(&file, "user.a").unwrap(), b"b=c\n d");
        assert_eq!(xattr(&file, "user.empty").unwrap(), b"");
        assert_eq!(xattr(&file, "trusted.mine").unwrap(), b"1");
        assert_eq!(xattr(&file, "security.capability").unwrap(), capability);
        assert_eq!(xattr(&file, "user.overlay.origin"), None);
        assert_eq!(xattr(&file, "trusted.overlay.redirect"), None);
        assert_eq!(xattr(&tree.join("d"), "trusted.overlay.opaque"), None);
        assert_eq!(xattr(&tree.join("d"), "user.d").unwrap(), b"1");
        assert_eq!(xattr(&tree.join("l"), "trusted.l").unwrap(), b"1");
    });
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let archive = Archive::new()
        .file("a/.wh.gone", b"")
        .file("a/.wh..wh..opq", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .hard_link("a/.wh.linked", "nowhere")
        .dir("both")
        .file("both/x", b"")
        .file(".wh.both", b"")
        .file(".wh.later", b"")
        .dir("later")
        .file(".wh.implied", b"")
        .file("implied/x", b"")
        .file("stays", b"1")
        .file(".wh.stays", b"");
    unpacked(archive, |tree| {
        assert!(is_whiteout(&tree.join("a/gone")));
        assert!(is_whiteout(&tree.join("a/linked")));
        assert_eq!(xattr(&tree.join("a"), "trusted.overlay.opaque").unwrap(), b"y");
        for hidden in ["both", "later", "implied"] {
            let value = xattr(&tree.join(hidden), "trusted.overlay.opaque");
            assert_eq!(value.unwrap(), b"y", "{hidden}");
        }
        assert!(tree.join("both/x").exists());
        assert_eq!(fs::read(tree.join("stays")).unwrap(), b"1");
        assert_eq!(fs::read_dir(tree).unwrap().count(), 5);
    });
}

#[test]
fn the_later_of_two_entries_wins() {
    let archive = Archive::new()
        .file("f", b"first")
        .hard_link("kept", "f")
        .file("f", b"second")
        .dir("d")
        .file("d/x", b"")
        .file("d", b"no directory")
        .symlink("l", "d2")
        .dir("l")
        .file("l/y", b"")
        .dir("m")
        .file("m/z", b"")
        .raw(Archive::header(EntryType::Directory, 0o700), b"m", b"", b"")
        .hard_link("kept", "kept");
    unpacked(archive, |tree| {
        assert_eq!(fs::read(tree.join("f")).unwrap(), b"second");
        assert_eq!(fs::read(tree.join("kept")).unwrap(), b"first");
        assert_eq!(fs::read(tree.join("d")).unwrap(), b"no directory");
        assert!(fs::symlink_metadata(tree.join("l")).unwrap().is_dir());
        assert!(tree.join("m/z").exists());
        assert_eq!(mode(&tree.join("m")), 0o700);
    });
}

#[test]
fn links_of_the_layer_are_followed_within_it() {
    let archive = Archive::new()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/a", b"a")
        .symlink("var/run", "/run")
        .file("var/run/b", b"b")
        .symlink("up", "../../../usr")
        .file("up/lib/c", b"c")
        .hard_link("d", "lib/a");
    unpacked(archive, |tree| {
        for (name, text) in [("usr/lib/a", "a"), ("run/b", "b"), ("usr/lib/c", "c"), ("d", "a")] {
            assert_eq!(fs::read_to_string(tree.join(name)).unwrap(), text);
        }
    });
}

#[test]
fn names_may_be_long_and_need_not_be_utf_8() {
    let long = format!("{}/{}", "d".repeat(250), "f".repeat(255));
    let deep = vec!["x".repeat(255); 15].join("/");
    let bytes = b"\xff\xfe\x80";
    let archive = Archive::new()
        .file(&long, b"long")
        .hard_link("to-long", &long)
        .symlink("sym", &"t".repeat(4000))
        .file(&deep, b"deep")
        .raw(Archive::header(EntryType::Regular, 0o600), bytes, b"", b"bytes");
    unpacked(archive, |tree| {
        assert_eq!(fs::read(tree.join("to-long")).unwrap(), b"long");
        assert_eq!(fs::read_link(tree.join("sym")).unwrap().as_os_str().len(), 4000);
        let name = std::ffi::OsString::from_vec(bytes.to_vec());
        assert_eq!(fs::read(tree.join(name)).unwrap(), b"bytes");
        let mut at = PathBuf::from(tree);
        at.push("x".repeat(255));
        assert_eq!(
            fs::read_dir(&at).unwrap().next().unwrap().unwrap().file_name().as_bytes().len(),
            255
        );
    });
}

#[test]
fn gnu_long_names_and_old_headers_are_read() {
    let long = [b"g".repeat(120), b"/file".to_vec()].concat();
    let extension = |kind: u8, text: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.set_size(text.len() as u64 + 1);
        let name = b"././@LongLink";
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(text);
        bytes.resize(
            bytes.len().next_multiple_of(512)
                + if text.len().is_multiple_of(512) { 512 } else { 0 },
            0,
        );
        bytes
    };
    let plain = Archive::new().file("short", b"1").end();
    let link = Archive::new().hard_link("link", "short2").end();
    let mut old = Header::new_old();
    old.as_old_mut().name[..4].copy_from_slice(b"dir/");
    old.set_mode(0o755);
    old.set_uid(0);
    old.set_gid(0);
    old.set_mtime(0);
    old.set_size(0);
    old.set_cksum();
    let archive = [
        extension(b'L', &long),
        plain[..1024].to_vec(),
        extension(b'K', &long),
        link[..512].to_vec(),
        old.as_bytes().to_vec(),
        vec![0; 1024],
    ]
    .concat();
    let fixture = Fixture::new();
    let layer = fixture.unpack(&archive).unwrap();
    let tree = fixture.tree(&layer.diff_id);
    assert_eq!(fs::read(tree.join("link")).unwrap(), b"1");
    assert!(tree.join("dir").is_dir());
}

/// Bytes that a tree takes on disk.
fn used(path: &Path) -> u64 {
    let meta = fs::symlink_metadata(path).unwrap();
    let below = |entry: std::io::Result<fs::DirEntry>| used(&entry.unwrap().path());
    let below = match meta.is_dir() {
        true => fs::read_dir(path).unwrap().map(below).sum(),
        false => 0,
    };
    512 * meta.blocks() + below
}

#[test]
fn sparse_files_of_every_format_have_their_holes() {
    let block = [b'x'; 512];
    let check = |archive: Vec<u8>, name: &str| {
        let fixture = Fixture::new();
        let layer = fixture.unpack(&archive).unwrap();
        let path = fixture.tree(&layer.diff_id).join(name);
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.len(), layer.size), (10_000_000, 512), "{name}");
        assert!(used(fixture.store.root()) < 100_000, "{name} has no hole");
        let bytes = fs::read(path).unwrap();
        assert!(bytes[..4096].iter().all(|&b| b == 0), "{name}");
        assert_eq!(&bytes[4096..4608], &block, "{name}");
        assert!(bytes[4608..].iter().all(|&b| b == 0), "{name}");
    };
    let regular = || Archive::header(EntryType::Regular, 0o644);
    let v00: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"10000000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"4096"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"10000000"),
        ("GNU.sparse.numbytes", b"0"),
    ];
    check(Archive::new().pax(v00).raw(regular(), b"v00", b"", &block).end(), "v00");
    let v01: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"10000000"),
        ("GNU.sparse.name", b"v01"),
        ("GNU.sparse.map", b"4096,512,10000000,0"),
    ];
    check(Archive::new().pax(v01).raw(regular(), b"GNUSparseFile.0/v01", b"", &block).end(), "v01");
    let v10: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"v10"),
        ("GNU.sparse.realsize", b"10000000"),
    ];
    let mut data = b"2\n4096\n512\n10000000\n0\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(&block);
    check(Archive::new().pax(v10).raw(regular(), b"GNUSparseFile.0/v10", b"", &data).end(), "v10");
    let mut old = Header::new_gnu();
    old.set_entry_type(EntryType::GNUSparse);
    old.set_path("old").unwrap();
    for set in [Header::set_mtime, Header::set_uid, Header::set_gid] {
        set(&mut old, 0);
    }
    old.set_mode(0o644);
    old.set_size(512);
    let gnu = old.as_gnu_mut().unwrap();
    gnu.set_real_size(10_000_000);
    gnu.sparse[0].set_offset(4096);
    gnu.sparse[0].set_length(512);
    old.set_cksum();
    let archive = [&old.as_bytes()[..], &block, &[0; 1024]].concat();
    check(archive, "old");
}

#[test]
fn compression_is_recognised_and_big_layers_stream() {
    let mut archive = Archive::new();
    for n in 0..40 {
        archive = archive.file(&format!("dir{}/file{n}", n % 3), &vec![n as u8; 100_000]);
    }
    let plain = archive.end();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    // A second member, as parallel compressors write.
    let (first, second) = plain.split_at(1_000_000);
    let members = [gzip(first), gzip(second)].concat();
    for compressed in [&plain, &gzip(&plain), &zstd, &members] {
        let fixture = Fixture::new();
        let blob = fixture.blob(compressed, media_type::OCI_LAYER);
        let mut seen = 0;
        let diff_id = Digest::of(&plain);
        let layer = fixture
            .store
            .unpack(&diff_id, &blob, &mut &compressed[..], &mut |n| seen += n)
            .unwrap();
        assert_eq!((layer.size, layer.blob), (4_000_000, blob.digest));
        assert_eq!(seen, compressed.len() as u64);
        let tree = fixture.tree(&diff_id);
        assert_eq!(fs::read(tree.join("dir0/file39")).unwrap(), vec![39; 100_000]);
    }
}

#[test]
fn what_follows_the_archive_belongs_to_its_digest() {
    let mut archive = Archive::new().file("f", b"1").end();
    archive.extend_from_slice(&vec![7; 700_000]);
    let fixture = Fixture::new();
    assert!(fixture.unpack(&archive).is_ok());
}

#[test]
fn unpacking_one_layer_from_several_threads_makes_it_once() {
    let fixture = Fixture::new();
    let archive = Archive::new().file("f", &vec![1; 3_000_000]).end();
    let layers: Vec<_> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| fixture.unpack(&archive).unwrap());
        let running: Vec<_> = (0..4).map(|_| start()).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(layers.iter().all(|layer| *layer == layers[0]));
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn the_umask_of_the_process_does_not_matter() {
    // The umask belongs to the whole process, so this runs itself again in another one.
    let has_umask = std::env::var_os("STORE_TEST_UMASK").is_some();
    if !has_umask {
        let name = concat!(module_path!(), "::the_umask_of_the_process_does_not_matter");
        // Without the name of the crate, which is the program's.
        let name = name.split_once("::").unwrap().1;
        let status = std::process::Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env("STORE_TEST_UMASK", "077")
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let archive = Archive::new().dir("d").file("d/f", b"").file("implied/f", b"");
    unpacked(archive, |tree| {
        for (name, expected) in
            [("", 0o755), ("d", 0o755), ("d/f", 0o644), ("implied", 0o755), ("implied/f", 0o644)]
        {
            assert_eq!(mode(&tree.join(name)), expected, "{name}");
        }
    });
}

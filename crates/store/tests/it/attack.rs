//! Hostile archives: refused or harmless, and nothing outside the tree is touched.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use oci::{Digest, media_type};
use proptest::prelude::*;
use store::Error;
use tar::EntryType;

use super::fixture::{Archive, Fixture, gzip};

/// Everything about a file that an attack could change.
fn state(path: &Path) -> Vec<(String, [i64; 6], Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let text = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        let numbers = [
            meta.ino() as i64,
            meta.mode().into(),
            meta.uid().into(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.nlink() as i64,
        ];
        all.push((entry.file_name().into_string().unwrap(), numbers, text));
    }
    all.sort();
    all
}

/// A store next to a directory that nothing may reach.
struct Arena {
    fixture: Fixture,
    outside: std::path::PathBuf,
}

impl Arena {
    fn new(fixture: Fixture) -> Self {
        let outside = fixture.directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("shadow"), "secret").unwrap();
        Self { fixture, outside }
    }

    /// Unpacks; whatever comes of it, nothing outside changed and nothing half-done stayed.
    fn attack(&self, archive: &[u8]) -> Result<(), String> {
        let before = state(&self.outside);
        let host = fs::symlink_metadata("/etc/passwd").unwrap().mtime_nsec();
        let outcome = self.fixture.unpack(archive);
        assert_eq!(state(&self.outside), before);
        assert_eq!(fs::symlink_metadata("/etc/passwd").unwrap().mtime_nsec(), host);
        assert!(self.fixture.leftovers().is_empty(), "{:?}", self.fixture.leftovers());
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => {
                assert!(!self.fixture.store.has_layer(&Digest::of(archive)));
                let source = std::error::Error::source(&error).map(|s| format!(": {s}"));
                Err(format!("{error}{}", source.unwrap_or_default()))
            }
        }
    }
}

fn refused(archive: Archive) -> String {
    Arena::new(Fixture::new()).attack(&archive.end()).unwrap_err()
}

#[test]
fn names_that_lead_out_are_refused() {
    let file = || Archive::header(EntryType::Regular, 0o644);
    for name in ["../x", "a/../../x", "/../x", "..", "./.."] {
        let why = refused(Archive::new().raw(file(), name.as_bytes(), b"", b"x"));
        assert!(why.contains("outside its root"), "{name}: {why}");
    }
    for link in ["../outside/shadow", "a/../../outside/shadow"] {
        let why = refused(Archive::new().hard_link("x", link));
        assert!(why.contains("outside its root"), "{link}: {why}");
    }
    for name in [".wh...", ".wh..", ".wh.", "a/.wh..."] {
        let why = refused(Archive::new().file(name, b""));
        assert!(why.contains("whiteout"), "{name}: {why}");
    }
    let why = refused(Archive::new().file("../.wh..wh..opq", b""));
    assert!(why.contains("outside its root"), "{why}");
}

#[test]
fn absolute_names_and_targets_stay_inside() {
    let arena = Arena::new(Fixture::new());
    let outside = arena.outside.to_str().unwrap();
    let archive = Archive::new()
        .file(&format!("{outside}/shadow"), b"mine")
        .hard_link("/link", &format!("{outside}/shadow"))
        .end();
    arena.attack(&archive).unwrap();
    let tree = arena.fixture.tree(&Digest::of(&archive));
    assert_eq!(fs::read(tree.join("link")).unwrap(), b"mine");
}

#[test]
fn writing_through_a_symbolic_link_stays_inside() {
    let arena = Arena::new(Fixture::new());
    let outside = arena.outside.to_str().unwrap();
    // From the tree of a layer that is being unpacked, four steps up are next to the store.
    for target in [outside, "../../../../outside", "/proc/self/root", "/proc/self/cwd"] {
        let archive = Archive::new()
            .symlink("out", target)
            .file("out/shadow", b"overwritten")
            .raw(Archive::header(EntryType::Directory, 0o777), b"out/sub", b"", b"")
            .file("out/.wh.shadow2", b"")
            .file("out/.wh..wh..opq", b"")
            .raw(Archive::header(EntryType::Fifo, 0o666), b"out/fifo", b"", b"")
            .end();
        arena.attack(&archive).unwrap();
    }
}

#[test]
fn a_symbolic_link_itself_is_replaced_not_followed() {
    let arena = Arena::new(Fixture::new());
    let shadow = arena.outside.join("shadow");
    let shadow = shadow.to_str().unwrap();
    let archive = Archive::new()
        .symlink("f", shadow)
        .file("f", b"mine")
        .symlink("d", arena.outside.to_str().unwrap())
        .raw(Archive::header(EntryType::Directory, 0o777), b"d", b"", b"")
        .symlink("w", shadow)
        .file(".wh.w", b"")
        .symlink("s", shadow)
        .symlink("s", shadow)
        .end();
    arena.attack(&archive).unwrap();
    let tree = arena.fixture.tree(&Digest::of(&archive));
    assert!(fs::symlink_metadata(tree.join("d")).unwrap().is_dir());
    assert_eq!(fs::read(tree.join("f")).unwrap(), b"mine");
}

#[test]
fn a_directory_that_became_a_link_is_not_written_through_or_touched() {
    let arena = Arena::new(Fixture::new());
    let mut sticky = Archive::header(EntryType::Directory, 0o1777);
    sticky.set_uid(12);
    let archive = Archive::new()
        .raw(sticky, b"d", b"", b"")
        .file("d/a", b"")
        .symlink("d", arena.outside.to_str().unwrap())
        .file("d/shadow", b"overwritten")
        .end();
    arena.attack(&archive).unwrap();
}

#[test]
fn a_hard_link_does_not_reach_outside() {
    let arena = Arena::new(Fixture::new());
    let outside = arena.outside.to_str().unwrap().to_owned();
    let through_link =
        Archive::new().symlink("out", &outside).hard_link("x", "out/shadow").file("x", b"!");
    assert!(arena.attack(&through_link.end()).unwrap_err().contains("link `x`"));
    let to_link = Archive::new()
        .symlink("s", &format!("{outside}/shadow"))
        .hard_link("x", "s")
        .raw(Archive::header(EntryType::Regular, 0o666), b"x", b"", b"mine");
    arena.attack(&to_link.end()).unwrap();
    let missing = Archive::new().hard_link("x", "etc/passwd");
    assert!(arena.attack(&missing.end()).unwrap_err().contains("link `x`"));
    // Relative to the working directory of this process it would exist.
    let in_cwd = Archive::new().hard_link("x", "Cargo.toml");
    assert!(arena.attack(&in_cwd.end()).unwrap_err().contains("link `x`"));
    let to_directory = Archive::new().dir("d").hard_link("x", "d");
    assert!(arena.attack(&to_directory.end()).unwrap_err().contains("not a file"));
    let to_root = Archive::new().hard_link("x", "/");
    assert!(arena.attack(&to_root.end()).unwrap_err().contains("not a file"));
}

#[test]
fn links_that_go_round_are_refused() {
    let why = refused(Archive::new().symlink("a", "b").symlink("b", "a").file("a/x", b""));
    assert!(why.contains("symbolic links"), "{why}");
    let why = refused(Archive::new().file("f", b"").file("f/x", b""));
    assert!(why.contains("Not a directory"), "{why}");
}

/// The kernel has one limit for a path, however many of its components are links.
#[test]
fn links_are_counted_over_the_whole_path() {
    let links = |count: usize| {
        Archive::new().symlink("l", ".").file(&format!("{}f", "l/".repeat(count)), b"")
    };
    let fixture = Fixture::new();
    fixture.unpack(&links(40).end()).unwrap();
    let why = refused(links(41));
    assert!(why.contains("symbolic links"), "{why}");
    // What is found again on the way counts, too.
    let why = refused(links(40).file(&format!("{}f", "l/".repeat(41)), b""));
    assert!(why.contains("symbolic links"), "{why}");
}

#[test]
fn owners_beyond_31_bits_are_refused() {
    for (key, value) in [("uid", "4294967296"), ("gid", "2147483648"), ("uid", "-1")] {
        let archive = Archive::new().pax(&[(key, value.as_bytes())]).file("x", b"");
        let why = refused(archive);
        assert!(why.contains("out of range") || why.contains("malformed"), "{key}={value}: {why}");
    }
}

#[test]
fn malformed_archives_are_refused() {
    let good = Archive::new().file("f", &[1; 2000]).end();
    let arena = Arena::new(Fixture::new());
    for (cut, text) in [(100, "no tar archive"), (1000, "truncated"), (2000, "truncated")] {
        assert!(arena.attack(&good[..cut]).unwrap_err().contains(text), "{cut}");
    }
    let mut bad = good.clone();
    bad[0] ^= 1;
    assert!(arena.attack(&bad).unwrap_err().contains("checksum"));
    let lone = [&good[..512 + 2048], &[0; 512], &good].concat();
    assert!(arena.attack(&lone).unwrap_err().contains("lone block"));
    let why = refused(Archive::new().pax(&[("path", b"a\0b")]).file("x", b""));
    assert!(why.contains("invalid name"), "{why}");
    let why = refused(Archive::new().file(&"n/".repeat(2500), b""));
    assert!(why.contains("invalid name"), "{why}");
    let unknown = Archive::new().raw(Archive::header(EntryType::new(b'Z'), 0o644), b"z", b"", b"");
    assert!(refused(unknown).contains("unsupported archive entry type"));
    let extension = Archive::new().raw(
        Archive::header(EntryType::XHeader, 0o644),
        b"x",
        b"",
        &vec![b'9'; 2 << 20],
    );
    assert!(refused(extension).contains("extension header"));
}

#[test]
fn more_attributes_than_a_file_can_have_are_refused() {
    let names: Vec<String> = (0..300).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (&name[..], &b"1"[..])).collect();
    let why = refused(Archive::new().pax(&records).file("x", b""));
    assert!(why.contains("too many extended attributes"), "{why}");
}

/// The kernel takes names up to a NUL and would give them another meaning.
#[test]
fn names_that_the_kernel_cannot_take_are_refused() {
    let link = Archive::new().pax(&[("linkpath", b"a\0/etc/shadow")]).symlink("l", "x");
    let why = refused(link);
    assert!(why.contains("NUL"), "{why}");
    let long = format!("SCHILY.xattr.user.{}", "n".repeat(251));
    for name in ["SCHILY.xattr.user.a\0trusted.overlay.redirect", "SCHILY.xattr.trusted.\0a", &long]
    {
        let why = refused(Archive::new().pax(&[(name, b"/x")]).file("f", b""));
        assert!(why.contains("invalid extended attribute"), "{name}: {why}");
    }
    let longest = format!("SCHILY.xattr.trusted.{}", "n".repeat(247));
    Fixture::new().unpack(&Archive::new().pax(&[(&longest, b"")]).file("f", b"").end()).unwrap();
}

#[test]
fn sparse_files_that_fill_the_disk_are_refused() {
    let why = refused(
        Archive::new()
            .pax(&[("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"")])
            .file("s", b""),
    );
    assert!(why.contains("more than 16 TiB"), "{why}");
    let map: Vec<String> = (0..2048).map(|n| format!("{},1", n << 20)).collect();
    let map = map.join(",");
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.size", b"2147483648"), ("GNU.sparse.map", map.as_bytes())];
    let why = refused(Archive::new().pax(records).file("s", &[b'x'; 2048]));
    assert!(why.contains("scatters 2048 bytes over 8388608"), "{why}");
    // As tar finds holes by itself: in units of its blocks.
    let map: Vec<String> = (0..2048).map(|n| format!("{},512", n << 20)).collect();
    let map = map.join(",");
    let records: &[(&str, &[u8])] =
        &[("GNU.sparse.size", b"2147483648"), ("GNU.sparse.map", map.as_bytes())];
    let archive = Archive::new().pax(records).file("s", &vec![b'x'; 512 * 2048]);
    Fixture::new().unpack(&archive.end()).unwrap();
}

#[test]
fn malformed_sparse_files_are_refused() {
    let tables: &[&[(&str, &[u8])]] = &[
        &[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,512")],
        &[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"600,256,0,256")],
        &[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"0,256")],
        &[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"18446744073709551615,512")],
        &[("GNU.sparse.map", b"0,512")],
        &[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"0,512,1")],
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"512")],
    ];
    for records in tables {
        let why = refused(Archive::new().pax(records).file("s", &[b'x'; 512]));
        assert!(why.contains("sparse"), "{why}");
    }
}

#[test]
fn a_wrong_diff_id_leaves_nothing() {
    let fixture = Fixture::new();
    let archive = Archive::new().file("f", b"1").end();
    let blob = fixture.blob(&archive, media_type::OCI_LAYER);
    let expected = Digest::of(b"something else");
    let error = fixture.store.unpack(&expected, &blob, &mut &archive[..], &mut |_| {}).unwrap_err();
    let Error::Digest { expected: e, actual, .. } = error else { panic!("{error}") };
    assert_eq!((e, actual), (expected, Digest::of(&archive)));
    assert!(!fixture.store.has_layer(&expected) && !fixture.store.has_layer(&actual));
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn broken_compression_is_refused() {
    let fixture = Fixture::new();
    let archive = Archive::new().file("f", &[3; 500_000]).end();
    let whole = gzip(&archive);
    let mut garbage = whole.clone();
    garbage.extend_from_slice(b"trailing garbage");
    let mut flipped = whole.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    let zstd = zstd::encode_all(&archive[..], 1).unwrap();
    for (magic, name) in [(&b"\xfd7zXZ\0"[..], "xz"), (b"BZh91AY", "bzip2")] {
        let blob = fixture.blob(magic, media_type::OCI_LAYER);
        let id = Digest::of(&archive);
        let error = fixture.store.unpack(&id, &blob, &mut &magic[..], &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), format!("a layer may not be compressed by {name}"));
    }
    for bytes in [&whole[..whole.len() / 2], &garbage, &flipped, &zstd[..zstd.len() / 2]] {
        let blob = fixture.blob(bytes, media_type::OCI_LAYER);
        let id = Digest::of(&archive);
        let error = fixture.store.unpack(&id, &blob, &mut &bytes[..], &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(fixture.leftovers().is_empty());
    }
}

#[test]
fn an_archive_that_cannot_be_read_is_not_called_malformed() {
    struct Failing(usize);
    impl std::io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| std::io::Error::other("line cut"))?;
            let head = [0x1f, 0x8b, 8, 0];
            let n = buffer.len().min(4);
            buffer[..n].copy_from_slice(&head[..n]);
            Ok(n)
        }
    }
    let fixture = Fixture::new();
    let blob = fixture.blob(b"x", media_type::OCI_LAYER);
    for reads in [0, 1] {
        let id = Digest::of(b"");
        let error = fixture.store.unpack(&id, &blob, &mut Failing(reads), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
    }
}

#[test]
fn a_tree_deeper_than_any_limit_is_removed() {
    // A link shortens the name of what lies deep, so that the tree can be deeper than PATH_MAX.
    let half = vec!["d"; 900].join("/");
    let archive = Archive::new()
        .dir(&half)
        .symlink("s", &half)
        .dir(&format!("s/{half}"))
        .symlink("t", &format!("s/{half}"))
        .dir(&format!("t/{half}"));
    let fixture = Fixture::new();
    let layer = fixture.unpack(&archive.end()).unwrap();
    fixture.store.discard(&fixture.store.root().join("layers").join(layer.diff_id.hex())).unwrap();
    assert!(!fixture.store.has_layer(&layer.diff_id));
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
}

#[test]
fn a_tree_deeper_than_what_is_open_at_a_time_is_archived_and_comes_back() {
    const LEVELS: usize = 600;
    let fixture = Fixture::new();
    // Where its removal is the store's, which no depth stops.
    let source = fixture.store.root().join("source");
    let mut deep = source.clone();
    fs::create_dir(&deep).unwrap();
    for _ in 0..LEVELS {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    fs::write(deep.join("file"), "deep").unwrap();
    // What comes behind the way down is still there on the way up.
    fs::write(source.join("d/last"), "last").unwrap();
    let archive = store::archive_directory(&source, Vec::new()).unwrap();
    fixture.store.discard(&source).unwrap();
    let layer = fixture.unpack(&archive).unwrap();
    let tree = fixture.tree(&layer.diff_id);
    let below = vec!["d"; LEVELS].join("/");
    assert_eq!(fs::read(tree.join(below).join("file")).unwrap(), b"deep");
    assert_eq!(fs::read(tree.join("d/last")).unwrap(), b"last");
    fixture.store.discard(&fixture.store.root().join("layers").join(layer.diff_id.hex())).unwrap();
}

#[derive(Debug, Clone)]
struct Hostile {
    kind: u8,
    name: String,
    link: String,
}

fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[ab]",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just("".to_owned()),
        1 => Just("outside".to_owned()),
        1 => Just("shadow".to_owned()),
        1 => "\\.wh\\.[ab.]{0,2}",
        1 => Just(".wh..wh..opq".to_owned()),
    ];
    (any::<bool>(), prop::collection::vec(part, 1..6))
        .prop_map(|(rooted, parts)| format!("{}{}", if rooted { "/" } else { "" }, parts.join("/")))
}

fn hostile() -> impl Strategy<Value = Hostile> {
    (0u8..6, name(), name()).prop_map(|(kind, name, link)| Hostile { kind, name, link })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]
    #[test]
    fn no_archive_reaches_outside(entries in prop::collection::vec(hostile(), 1..12), escape in any::<bool>()) {
        let arena = Arena::new(Fixture::in_memory());
        let outside = arena.outside.to_str().unwrap().to_owned();
        let mut archive = Archive::new();
        for Hostile { kind, name, link } in &entries {
            // Half of the runs aim at the directory outside directly.
            let link = if escape { format!("{outside}/{link}") } else { link.clone() };
            archive = match kind {
                0 | 1 => archive.symlink(name, &link),
                2 => archive.hard_link(name, &link),
                3 => archive.raw(Archive::header(EntryType::Directory, 0o777), name.as_bytes(), b"", b""),
                4 => archive.raw(Archive::header(EntryType::Fifo, 0o666), name.as_bytes(), b"", b""),
                _ => archive.file(name, b"overwritten"),
            };
        }
        // Refused or not: `attack` checks that nothing outside changed.
        let _ = arena.attack(&archive.end());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 512..2048), flag in prop::sample::select(b"0125xgLKS7".to_vec())) {
        let arena = Arena::new(Fixture::in_memory());
        bytes[156] = flag;
        bytes[124..136].copy_from_slice(b"00000001000\0");
        bytes[148..156].copy_from_slice(b"        ");
        let sum: u32 = bytes[..512].iter().map(|&b| u32::from(b)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let _ = arena.attack(&bytes);
    }
}

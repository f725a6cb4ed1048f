//! What was written is mounted by the kernel and walked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use erofs::{Attributes, Builder, Content, Data, Node, ROOT, Reader};
use proptest::prelude::*;
use tempfile::TempDir;

/// An image being written, and then mounted.
struct Image {
    directory: TempDir,
    builder: Builder,
}

struct Mounted {
    _directory: TempDir,
    root: OwnedFd,
}

fn plain(mode: u32) -> Attributes {
    Attributes { mode, seconds: 1_600_000_000, ..Attributes::default() }
}

impl Image {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("image")).unwrap();
        Self { directory, builder: Builder::new(file, plain(0o755), &[]) }
    }

    fn data(&mut self, bytes: &[u8]) -> Data {
        let size = bytes.len() as u64;
        self.sparse(size, None, bytes)
    }

    fn sparse(&mut self, size: u64, segments: Option<&[(u64, u64)]>, mut bytes: &[u8]) -> Data {
        let mut source = |most: u64, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
            // In odd portions.
            let n = bytes.len().min(most as usize).min(50_001);
            sink(&bytes[..n])?;
            bytes = &bytes[n..];
            Ok::<u64, io::Error>(n as u64)
        };
        self.builder.data(size, segments, &mut source).unwrap()
    }

    fn file(&mut self, at: Node, name: &[u8], bytes: &[u8]) -> Node {
        let data = self.data(bytes);
        self.builder.add((at, name), plain(0o644), Content::Regular(data)).unwrap()
    }

    fn mount(self) -> Mounted {
        let path = self.directory.path().join("image");
        self.builder.finish([7; 16]).unwrap();
        check(&path);
        let root = erofs::mount(&path, &[]).unwrap();
        Mounted { _directory: self.directory, root }
    }
}

/// A second opinion, where there is one.
fn check(image: &Path) {
    if let Ok(output) = std::process::Command::new("fsck.erofs").arg(image).output() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
    }
}

impl Mounted {
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.root.as_raw_fd())).join(name)
    }

    fn meta(&self, name: impl AsRef<Path>) -> fs::Metadata {
        fs::symlink_metadata(self.path(name)).unwrap()
    }

    fn names(&self, name: &str) -> Vec<Vec<u8>> {
        let listed = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<_> = listed.map(|e| e.unwrap().file_name().into_vec()).collect();
        names.sort();
        names
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn every_kind_of_file_comes_out_as_it_went_in() {
    let mut image = Image::new();
    let mut odd = plain(0o6751);
    (odd.uid, odd.gid, odd.seconds, odd.nanoseconds) = (70_000, u32::MAX - 1, -5, 999_999_999);
    let data = image.data(b"hello");
    let file = image.builder.add((ROOT, b"file"), odd, Content::Regular(data)).unwrap();
    image.builder.link((ROOT, b"other name"), file).unwrap();
    let directory = image.builder.add_directory((ROOT, b"d"), plain(0o1777)).unwrap();
    image.builder.add_directory((directory, b"e"), plain(0o700)).unwrap();
    image.builder.link((directory, b"\xff\xfe"), file).unwrap();
    let device = rustix::fs::makedev(7, 300) as u32;
    let target = "t".repeat(4095);
    for (name, content) in [
        ("char", Content::CharDevice(rustix::fs::makedev(1, 3) as u32)),
        ("gone", Content::CharDevice(0)),
        ("block", Content::BlockDevice(device)),
        ("fifo", Content::Fifo),
        ("socket", Content::Socket),
        ("short", Content::Symlink(b"file"[..].into())),
        ("long", Content::Symlink(target.as_bytes().into())),
    ] {
        image.builder.add((directory, name.as_bytes()), plain(0o640), content).unwrap();
    }
    let seen = image.mount();
    let meta = seen.meta("file");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o6751, 70_000, u32::MAX - 1));
    assert_eq!((meta.mtime(), meta.mtime_nsec(), meta.nlink()), (-5, 999_999_999, 3));
    assert_eq!(fs::read(seen.path("file")).unwrap(), b"hello");
    assert_eq!(seen.meta("other name").ino(), meta.ino());
    assert_eq!(seen.meta(std::ffi::OsStr::from_bytes(b"d/\xff\xfe")).ino(), meta.ino());
    assert_eq!((seen.meta("d").mode() & 0o7777, seen.meta("d").nlink()), (0o1777, 3));
    assert_eq!(seen.meta("").nlink(), 3);
    assert_eq!(seen.meta("d/char").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(seen.meta("d/gone").rdev(), 0);
    assert!(seen.meta("d/block").file_type().is_block_device());
    assert_eq!(seen.meta("d/block").rdev(), rustix::fs::makedev(7, 300));
    assert!(seen.meta("d/fifo").file_type().is_fifo());
    assert!(seen.meta("d/socket").file_type().is_socket());
    assert_eq!(fs::read_link(seen.path("d/short")).unwrap(), Path::new("file"));
    assert_eq!(fs::read_link(seen.path("d/long")).unwrap(), Path::new(&target));
    assert_eq!(seen.names("d").len(), 9);
}

#[test]
fn files_of_every_size_have_their_bytes() {
    let sizes = [0, 1, 1023, 1024, 1025, 4095, 4096, 4097, 10_000, 262_144, 3_000_001];
    let bytes = |size: usize| (0..size).map(|n| (n * 7 + n / 251) as u8).collect::<Vec<u8>>();
    let mut image = Image::new();
    for size in sizes {
        image.file(ROOT, format!("{size}").as_bytes(), &bytes(size));
    }
    let seen = image.mount();
    for size in sizes {
        assert_eq!(seen.meta(format!("{size}")).len(), size as u64);
        assert!(fs::read(seen.path(format!("{size}"))).unwrap() == bytes(size), "{size}");
    }
}

#[test]
fn sparse_files_have_their_holes() {
    /// Name, size, and where data lies: offset and length.
    type Case = (&'static str, u64, &'static [(u64, u64)]);
    const HUGE: u64 = 5 << 40;
    let mut image = Image::new();
    let data = vec![b'x'; 20_000];
    let cases: [Case; 6] = [
        ("none", 0, &[]),
        ("hole", 10_000, &[(10_000, 0)]),
        ("middle", 1_000_000, &[(5_000, 10_000)]),
        ("close", 100_000, &[(1, 1), (3, 2), (4_097, 3), (99_999, 1)]),
        ("huge", HUGE, &[(0, 5_000), (3 << 40, 10_000), (HUGE - 5_000, 5_000)]),
        ("late", (4 << 30) + 4_000, &[((4 << 30) - 1_000, 5_000)]),
    ];
    for (name, size, segments) in cases {
        let length = segments.iter().map(|(_, length)| *length as usize).sum();
        let data = image.sparse(size, Some(segments), &data[..length]);
        let content = Content::Regular(data);
        image.builder.add((ROOT, name.as_bytes()), plain(0o644), content).unwrap();
    }
    image.file(ROOT, b"after", &[b'y'; 9_000]);
    let path = image.directory.path().join("image");
    let seen = image.mount();
    assert!(fs::metadata(path).unwrap().blocks() * 512 < 10 << 20, "holes take no space");
    for (name, size, segments) in cases {
        let file = File::open(seen.path(name)).unwrap();
        assert_eq!(file.metadata().unwrap().len(), size, "{name}");
        for (offset, length) in segments {
            let from = offset.saturating_sub(3_000);
            let to = (offset + length + 3_000).min(size);
            let mut bytes = vec![1; (to - from) as usize];
            file.read_exact_at(&mut bytes, from).unwrap();
            for (at, byte) in (from..).zip(bytes) {
                let is_data = segments.iter().any(|(o, l)| (*o..o + l).contains(&at));
                assert_eq!(byte, if is_data { b'x' } else { 0 }, "{name} at {at}");
            }
        }
    }
    assert_eq!(fs::read(seen.path("after")).unwrap(), vec![b'y'; 9_000]);
}

#[test]
fn scattered_bytes_take_no_more_than_their_blocks() {
    const MIB: u64 = 1 << 20;
    let segments: Vec<(u64, u64)> = (1..65).map(|n| (n * MIB - 1, 1)).collect();
    let mut image = Image::new();
    let data = image.sparse(65_536 * MIB, Some(&segments), &[b'x'; 64]);
    image.builder.add((ROOT, b"f"), plain(0o644), Content::Regular(data)).unwrap();
    let path = image.directory.path().join("image");
    let seen = image.mount();
    assert!(fs::metadata(path).unwrap().blocks() * 512 < 2 * MIB, "holes take no space");
    let file = File::open(seen.path("f")).unwrap();
    let mut bytes = [1; 3];
    for (offset, _) in segments {
        file.read_exact_at(&mut bytes, offset - 1).unwrap();
        assert_eq!(&bytes, b"\0x\0", "{offset}");
    }
}

#[test]
fn files_without_data_have_small_maps_and_a_largest_size() {
    let mut image = Image::new();
    for n in 0..100 {
        let data = image.sparse(erofs::SIZE_MAX, Some(&[]), b"");
        let name = format!("{n}");
        image.builder.add((ROOT, name.as_bytes()), plain(0o644), Content::Regular(data)).unwrap();
    }
    let mut nothing = |_, _: &mut dyn FnMut(&[u8]) -> io::Result<()>| Ok::<u64, io::Error>(0);
    let refused = image.builder.data(erofs::SIZE_MAX + 1, Some(&[]), &mut nothing).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    let path = image.directory.path().join("image");
    let seen = image.mount();
    assert!(fs::metadata(path).unwrap().len() < 1 << 20);
    assert_eq!(seen.meta("99").len(), erofs::SIZE_MAX);
}

#[test]
fn directories_may_have_any_number_of_names() {
    let mut image = Image::new();
    let mut expected = BTreeMap::new();
    for count in [1, 50, 100, 200, 100_000] {
        let at = image.builder.add_directory((ROOT, format!("{count}").as_bytes()), plain(0o755));
        let at = at.unwrap();
        let names: Vec<Vec<u8>> = (0..count)
            .map(|n: usize| [format!("{n}").into_bytes(), vec![b'-'; n % 200]].concat())
            // Before `.`, between `.` and `..`, and behind.
            .chain([b"!".to_vec(), b".-".to_vec(), b"...".to_vec(), vec![b'~'; 255]])
            .collect();
        for name in &names {
            image.builder.add((at, name), plain(0o600), Content::Fifo).unwrap();
        }
        expected.insert(count, names);
    }
    let seen = image.mount();
    for (count, mut names) in expected {
        names.sort();
        assert!(seen.names(&count.to_string()) == names, "{count}");
        for name in names.iter().step_by(names.len() / 100 + 1) {
            let path = Path::new(&count.to_string()).join(std::ffi::OsStr::from_bytes(name));
            assert!(seen.meta(path).file_type().is_fifo());
        }
    }
}

#[test]
fn attributes_of_every_class_and_size_are_kept() {
    let mut image = Image::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut attributes = plain(0o755);
    attributes.set_xattr(b"security.capability", &capability);
    attributes.set_xattr(b"user.empty", b"");
    attributes.set_xattr(b"trusted.overlay.opaque", b"n");
    attributes.set_xattr(b"trusted.overlay.opaque", b"y");
    // Up to and around the end of the block that the inode is in.
    for length in [1, 3_000, 3_900, 4_000, 4_070, 60_000] {
        let mut attributes = attributes.clone();
        attributes.set_xattr(b"user.long", &vec![b'v'; length]);
        let at = (ROOT, format!("{length}").into_bytes());
        let data = image.data(&[b'd'; 1024]);
        image.builder.add((at.0, &at.1), attributes.clone(), Content::Regular(data)).unwrap();
        let link = Content::Symlink(vec![b't'; 3_000].into());
        let name = format!("link{length}");
        image.builder.add((ROOT, name.as_bytes()), attributes, link).unwrap();
    }
    image.builder.change(ROOT, |root| root.set_xattr(b"user.root", b"1")).unwrap();
    let seen = image.mount();
    assert_eq!(xattr(&seen.path("."), "user.root").unwrap(), b"1");
    for length in [1, 3_000, 3_900, 4_000, 4_070, 60_000] {
        let path = seen.path(length.to_string());
        assert_eq!(xattr(&path, "security.capability").unwrap(), capability);
        assert_eq!(xattr(&path, "user.empty").unwrap(), b"");
        assert_eq!(xattr(&path, "trusted.overlay.opaque").unwrap(), b"y");
        assert!(xattr(&path, "user.long").unwrap() == vec![b'v'; length], "{length}");
        assert_eq!(fs::read(&path).unwrap(), [b'd'; 1024], "{length}");
        let target = fs::read_link(seen.path(format!("link{length}"))).unwrap();
        assert_eq!(target.as_os_str().len(), 3_000, "{length}");
    }
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let mut image = Image::new();
    let builder = &mut image.builder;
    let mut refuse = |name: &[u8], attribute: Option<(&[u8], usize)>, content| {
        let mut attributes = plain(0o644);
        if let Some((name, length)) = attribute {
            attributes.set_xattr(name, &vec![0; length]);
        }
        builder.add((ROOT, name), attributes, content).unwrap_err()
    };
    use rustix::io::Errno;
    assert_eq!(refuse(&[b'n'; 256], None, Content::Fifo), Errno::NAMETOOLONG);
    assert_eq!(refuse(b"n", None, Content::Symlink([b't'; 4096][..].into())), Errno::NAMETOOLONG);
    assert_eq!(refuse(b"n", None, Content::Symlink([][..].into())), Errno::NOENT);
    assert_eq!(refuse(b"n", Some((b"user.", 1)), Content::Fifo), Errno::OPNOTSUPP);
    assert_eq!(refuse(b"n", Some((b"btrfs.x", 1)), Content::Fifo), Errno::OPNOTSUPP);
    assert_eq!(refuse(b"n", Some((b"user.x", 65_536)), Content::Fifo), Errno::TOOBIG);
    assert!(image.mount().names("").is_empty());
}

#[test]
fn what_was_taken_away_is_not_there() {
    let mut image = Image::new();
    let kept = image.file(ROOT, b"kept", b"1");
    let top = image.builder.add_directory((ROOT, b"d"), plain(0o755)).unwrap();
    let below = image.builder.add_directory((top, b"e"), plain(0o755)).unwrap();
    image.builder.link((below, b"kept"), kept).unwrap();
    image.file(below, b"gone", &[1; 9_000]);
    image.builder.unlink(ROOT, b"d").unwrap();
    image.file(ROOT, b"d", b"a file now");
    let seen = image.mount();
    assert_eq!(fs::read(seen.path("d")).unwrap(), b"a file now");
    assert_eq!(seen.meta("kept").nlink(), 1);
    assert_eq!(seen.names(""), [b"d".to_vec(), b"kept".to_vec()]);
}

/// What a random file has.
#[derive(Debug, Clone)]
enum Item {
    File(Vec<u8>),
    Link(Vec<u8>),
    Directory,
}

fn item() -> impl Strategy<Value = Item> {
    let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max);
    prop_oneof![
        bytes(6_000).prop_map(Item::File),
        proptest::collection::vec(1..255u8, 1..4_000).prop_map(Item::Link),
        Just(Item::Directory),
        Just(Item::Directory),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn random_trees_are_read_as_they_were_written(
        items in proptest::collection::vec(
            (item(), any::<prop::sample::Index>(), "[^/\0]{1,60}", 0..5_000usize), 1..120,
        ),
    ) {
        let mut image = Image::new();
        let mut directories = vec![(ROOT, PathBuf::new())];
        let mut expected: BTreeMap<PathBuf, (Item, usize)> = BTreeMap::new();
        for (item, index, name, attribute) in items {
            let (at, above) = index.get(&directories).clone();
            let path = above.join(&name);
            if matches!(&name[..], "." | "..") || name.len() > 255 || expected.contains_key(&path) {
                continue;
            }
            let mut attributes = plain(0o755);
            if attribute > 2_500 {
                attributes.set_xattr(b"trusted.x", &vec![b'x'; attribute]);
            }
            let place = (at, name.as_bytes());
            match &item {
                Item::File(bytes) => {
                    let content = Content::Regular(image.data(bytes));
                    image.builder.add(place, attributes, content).unwrap();
                }
                Item::Link(target) => {
                    let content = Content::Symlink(target[..].into());
                    image.builder.add(place, attributes, content).unwrap();
                }
                Item::Directory => {
                    let made = image.builder.add_directory(place, attributes).unwrap();
                    directories.push((made, path.clone()));
                }
            }
            expected.insert(path, (item, attribute));
        }
        let seen = image.mount();
        for (path, (item, attribute)) in &expected {
            let full = seen.path(path);
            match item {
                Item::File(bytes) => prop_assert!(&fs::read(&full).unwrap() == bytes),
                Item::Link(target) => {
                    let read = fs::read_link(&full).unwrap();
                    prop_assert!(read.as_os_str().as_bytes() == &target[..]);
                }
                Item::Directory => {
                    let names = fs::read_dir(&full).unwrap().count();
                    let below = expected.keys().filter(|p| p.parent() == Some(path)).count();
                    prop_assert_eq!(names, below);
                }
            }
            let value = xattr(&full, "trusted.x").map(|value| value.len());
            prop_assert_eq!(value, (*attribute > 2_500).then_some(*attribute));
        }
    }
}

/// Merges images, topmost first, and mounts what comes of it.
fn merged(images: Vec<Image>) -> Mounted {
    let mut directories = Vec::new();
    let mut files = Vec::new();
    for (image, id) in images.into_iter().zip(1..) {
        files.push(image.builder.finish([id; 16]).unwrap());
        directories.push(image.directory);
    }
    // Their descriptors were open for writing only.
    let paths: Vec<PathBuf> = directories.iter().map(|d| d.path().join("image")).collect();
    let readers: Vec<Reader> =
        paths.iter().map(|path| Reader::open(&File::open(path).unwrap()).unwrap()).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("view");
    let builder = erofs::merge(File::create(&path).unwrap(), &readers).unwrap();
    builder.finish([9; 16]).unwrap();
    let root = erofs::mount(&path, &paths).unwrap();
    Mounted { _directory: directory, root }
}

#[test]
fn merged_images_look_as_overlayfs_would_show_them() {
    let big = vec![b'b'; 300_000];
    let mut low = Image::new();
    let d = low.builder.add_directory((ROOT, b"d"), plain(0o700)).unwrap();
    let hidden = low.builder.add_directory((ROOT, b"opaque"), plain(0o755)).unwrap();
    low.file(hidden, b"below", b"1");
    low.file(d, b"low", &big);
    low.file(d, b"replaced", b"old");
    let two = low.file(ROOT, b"one name", &big);
    low.builder.link((d, b"gone"), two).unwrap();
    low.builder.link((d, b"other name"), two).unwrap();
    low.builder.add_directory((ROOT, b"becomes a file"), plain(0o755)).unwrap();
    let hole = low.sparse(9_000_000, Some(&[(8_000_000, 4)]), b"hole");
    low.builder.add((ROOT, b"sparse"), plain(0o600), Content::Regular(hole)).unwrap();

    let mut high = Image::new();
    let mut owned = plain(0o711);
    owned.uid = 5;
    owned.set_xattr(b"user.high", b"1");
    let d = high.builder.add_directory((ROOT, b"d"), owned).unwrap();
    high.file(d, b"replaced", b"new");
    high.file(d, b"high", &big);
    high.builder.add((d, b"gone"), plain(0), Content::CharDevice(0)).unwrap();
    high.file(ROOT, b"becomes a file", b"now");
    let mut opaque = plain(0o755);
    opaque.set_xattr(b"trusted.overlay.opaque", b"y");
    let hidden = high.builder.add_directory((ROOT, b"opaque"), opaque).unwrap();
    high.file(hidden, b"above", b"1");

    let seen = merged(vec![high, low]);
    assert_eq!(seen.names("d"), ["high", "low", "other name", "replaced"].map(str::as_bytes));
    assert_eq!(seen.names("opaque"), ["above"].map(str::as_bytes));
    assert_eq!((seen.meta("d").mode() & 0o7777, seen.meta("d").uid()), (0o711, 5));
    assert_eq!(xattr(&seen.path("d"), "user.high").unwrap(), b"1");
    assert_eq!(xattr(&seen.path("opaque"), "trusted.overlay.opaque"), None);
    for name in ["d/low", "d/high", "d/other name", "one name"] {
        assert!(fs::read(seen.path(name)).unwrap() == big, "{name}");
    }
    assert_eq!(fs::read(seen.path("d/replaced")).unwrap(), b"new");
    assert_eq!(fs::read(seen.path("becomes a file")).unwrap(), b"now");
    // As overlayfs, of which all names of the layer count.
    assert_eq!(seen.meta("one name").nlink(), 3);
    assert_eq!(seen.meta("one name").ino(), seen.meta("d/other name").ino());
    let sparse = fs::read(seen.path("sparse")).unwrap();
    assert_eq!((sparse.len(), &sparse[8_000_000..8_000_004]), (9_000_000, &b"hole"[..]));
    assert!(sparse[..8_000_000].iter().all(|&b| b == 0));
}

#[test]
fn many_images_may_be_merged() {
    let images = (0..60u8).map(|n| {
        let mut image = Image::new();
        image.file(ROOT, &[b'a' + n % 26, n], &vec![n; 5_000]);
        image
    });
    let seen = merged(images.collect());
    for n in 0..60u8 {
        let path = seen.path(std::ffi::OsStr::from_bytes(&[b'a' + n % 26, n]));
        if n != b'/' && n != 0 {
            assert_eq!(fs::read(path).unwrap(), vec![n; 5_000]);
        }
    }
}

#[test]
fn a_damaged_image_is_refused_and_not_believed() {
    let mut image = Image::new();
    let d = image.builder.add_directory((ROOT, b"d"), plain(0o755)).unwrap();
    for n in 0..200 {
        image.file(d, format!("{n}").as_bytes(), b"text");
    }
    let mut attributes = plain(0o644);
    attributes.set_xattr(b"user.a", b"value");
    image.builder.add((d, b"x"), attributes, Content::Fifo).unwrap();
    let path = image.directory.path().join("image");
    image.builder.finish([1; 16]).unwrap();
    let good = fs::read(&path).unwrap();
    let mut seed = 1u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize
    };
    for _ in 0..400 {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 6 {
            let at = if random() % 4 == 0 { 1024 + random() % 128 } else { random() % bytes.len() };
            bytes[at] = random() as u8;
        }
        bytes.truncate(bytes.len() - (random() % 3).saturating_sub(1) * 100);
        fs::write(&path, &bytes).unwrap();
        // Any answer will do, if there is one.
        if let Ok(reader) = Reader::open(&File::open(&path).unwrap()) {
            let view = File::create(image.directory.path().join("view")).unwrap();
            let _ = erofs::merge(view, &[reader]).and_then(|b| b.finish([2; 16]));
        }
    }
}

#[test]
fn metadata_beyond_a_bound_is_not_read() {
    let image = Image::new();
    let path = image.directory.path().join("image");
    let _seen = image.mount();
    let file = File::open(path).unwrap();
    let mut left = 4096 + 4095;
    Reader::open_within(&file, &mut left).unwrap();
    assert_eq!(left, 4095);
    let refused = Reader::open_within(&file, &mut left).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
}

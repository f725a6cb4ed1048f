//! What a container sees is the same whatever the storage driver.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use oci::Digest;
use proptest::prelude::*;
use store::{Driver, Error, Store};
use tar::EntryType;

use super::dir::fixture::Archive;
use super::{dir, erofs};

/// Times after this are those of the test: of what no entry describes.
const NOW: i64 = 1_700_000_000;
/// Bytes of large files that are compared, from the start and from the end.
const EDGE: u64 = 1 << 20;

/// Everything that can be seen of a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    time: (i64, i64),
    links: u64,
    size: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    target: Vec<u8>,
    content: Option<Digest>,
    /// The first name of the same file.
    same_as: String,
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&b| b == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

fn content(path: &Path, size: u64) -> Digest {
    let file = fs::File::open(path).unwrap();
    let mut bytes = vec![0; EDGE.min(size) as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let mut end = vec![0; bytes.len()];
    file.read_exact_at(&mut end, size - bytes.len() as u64).unwrap();
    bytes.append(&mut end);
    Digest::of(&bytes)
}

/// Everything below `path`.
fn walk(
    path: &Path,
    name: &str,
    all: &mut BTreeMap<String, Seen>,
    files: &mut BTreeMap<(u64, u64), String>,
) {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let is_dir = kind.is_dir();
    let time = (meta.mtime(), meta.mtime_nsec());
    let target =
        if kind.is_symlink() { fs::read_link(path).unwrap() } else { Path::new("").into() };
    // Directories of an overlay are numbered apart from the files below it, on a device of their own.
    let file = (meta.dev(), meta.ino());
    let same_as = files.entry(file).or_insert_with(|| name.to_owned()).clone();
    let seen = Seen {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        device: meta.rdev(),
        time: if meta.mtime() > NOW { (0, 0) } else { time },
        links: if is_dir { 0 } else { meta.nlink() },
        size: if is_dir { 0 } else { meta.size() },
        xattrs: xattrs(path),
        target: target.as_os_str().as_bytes().to_vec(),
        content: kind.is_file().then(|| content(path, meta.size())),
        same_as: if is_dir { String::new() } else { same_as },
    };
    all.insert(name.to_owned(), seen);
    if is_dir {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        for below in names {
            // Overlayfs lists whiteouts in directories that it need not merge, but finds none.
            if fs::symlink_metadata(path.join(&below)).is_ok() {
                let name = format!("{name}/{}", below.as_bytes().escape_ascii());
                walk(&path.join(&below), &name, all, files);
            }
        }
    }
}

/// What came of unpacking and mounting: what is seen, or what is wrong.
type Outcome = Result<BTreeMap<String, Seen>, String>;

fn message(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|s| format!(": {s}"));
    format!("{error}{}", source.unwrap_or_default())
}

macro_rules! outcome {
    ($driver:ident, $place:expr, $archives:expr) => {{
        let directory = tempfile::tempdir_in($place).unwrap();
        let fixture = $driver::fixture::Fixture::of(directory, $driver::DRIVER);
        let unpack = |archive: &Vec<u8>| fixture.unpack(archive).map(|layer| layer.diff_id);
        let layers = $archives.iter().map(unpack).collect::<Result<Vec<Digest>, Error>>();
        let outcome: Outcome = match layers {
            Err(error) => Err(message(&error)),
            Ok(layers) => {
                let container = fixture.directory.path().join("container");
                fs::create_dir(&container).unwrap();
                let rootfs = fixture.store.prepare(&layers, &container, true).unwrap();
                assert!(fixture.store.diff(&rootfs).unwrap().is_empty());
                let overlay = $driver::overlay::Overlay::container(&rootfs);
                let mut all = BTreeMap::new();
                walk(&overlay.path(""), "", &mut all, &mut BTreeMap::new());
                Ok(all)
            }
        };
        assert_eq!(fixture.leftovers(), Vec::<String>::new());
        outcome
    }};
}

/// Asserts that the drivers agree about an image, and gives what they say.
fn agreed(archives: &[Vec<u8>]) -> Outcome {
    let place = std::env::temp_dir();
    let trees = outcome!(dir, &place, archives);
    let images = outcome!(erofs, &place, archives);
    if let (Ok(trees), Ok(images)) = (&trees, &images) {
        for (name, seen) in trees {
            assert_eq!(images.get(name), Some(seen), "{name}");
        }
    }
    assert_eq!(trees, images);
    trees
}

fn owned(kind: EntryType, mode: u32, id: u64) -> tar::Header {
    let mut header = Archive::header(kind, mode);
    header.set_uid(id);
    header.set_gid(id + 1);
    header
}

#[test]
fn everything_that_a_container_can_see_is_equal() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let device = |kind, major, minor| {
        let mut header = Archive::header(kind, 0o666);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header
    };
    let file = EntryType::Regular;
    let below = Archive::new()
        .raw(owned(EntryType::Directory, 0o1751, 3), b"./", b"", b"")
        .dir("d")
        .raw(owned(file, 0o6755, 1000), b"d/suid", b"", b"x")
        .pax(&[("SCHILY.xattr.security.capability", &capability), ("SCHILY.xattr.user.a", b"1")])
        .raw(owned(file, 0o755, 5), b"d/ping", b"", &[7; 100_000])
        .raw(owned(EntryType::Link, 0o755, 5), b"d/ping2", b"d/ping", b"")
        .pax(&[("mtime", b"-7.000000001"), ("SCHILY.xattr.trusted.x", b"")])
        .raw(owned(EntryType::Symlink, 0o777, 9), b"d/link", &[b't'; 4000], b"")
        .raw(device(EntryType::Char, 1, 3), b"d/null", b"", b"")
        .raw(device(EntryType::Block, 4095, 1_048_575), b"d/block", b"", b"")
        .raw(device(EntryType::Fifo, 0, 0), b"d/fifo", b"", b"")
        .raw(device(EntryType::Char, 0, 0), b"d/hidden", b"", b"")
        .raw(owned(file, 0o600, 0), b"\xff\xfe/\x80", b"", b"bytes")
        .file("hidden", b"1")
        .file("opaque/below", b"1")
        .file("etc/passwd", b"root")
        .file("becomes/a/file", b"")
        .end();
    let above = Archive::new()
        .pax(&[("mtime", b"1600000000.123456789"), ("SCHILY.xattr.user.d", b"2")])
        .raw(owned(EntryType::Directory, 0o2770, 6), b"d", b"", b"")
        .file("d/.wh.suid", b"")
        .file("d/new", b"new")
        .file(".wh.hidden", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/above", b"2")
        .file("becomes/a", b"file")
        .end();
    let seen = agreed(&[below, above]).unwrap();
    assert_eq!(seen["/d/ping2"].same_as, "/d/ping");
    assert_eq!(seen["/d/ping"].xattrs[&b"security.capability"[..]], capability);
    assert_eq!(seen["/d"].time, (1_600_000_000, 123_456_789));
    assert!(!seen.contains_key("/hidden") && !seen.contains_key("/d/suid"));
    assert!(!seen.contains_key("/opaque/below") && seen.contains_key("/opaque/above"));
    assert_eq!(seen["/d/block"].device, rustix::fs::makedev(4095, 1_048_575));
}

#[test]
fn access_lists_are_equal() {
    let lists = access_list([0xff; 7]);
    let plain = access_list([0xf8, 6, 0, 4, 0, 0, 5]);
    fn access(list: &[u8]) -> [(&str, &[u8]); 1] {
        [("SCHILY.xattr.system.posix_acl_access", list)]
    }
    let of_new_files = [("SCHILY.xattr.system.posix_acl_default", &lists[..])];
    let (file, directory) = (EntryType::Regular, EntryType::Directory);
    let archive = Archive::new()
        .pax(&access(&lists))
        .raw(owned(file, 0o4640, 5), b"f", b"", b"x")
        .pax(&access(&plain))
        .raw(owned(file, 0o777, 5), b"plain", b"", b"x")
        .pax(&of_new_files)
        .raw(owned(directory, 0o750, 5), b"d", b"", b"")
        .raw(owned(file, 0o600, 5), b"d/new", b"", b"")
        .pax(&access(&lists))
        .raw(owned(EntryType::Symlink, 0o777, 5), b"link", b"f", b"")
        .pax(&access(&lists))
        .raw(owned(EntryType::Fifo, 0o600, 5), b"fifo", b"", b"")
        // The mode of a link's file changes its list.
        .raw(owned(EntryType::Link, 0o700, 5), b"fifo2", b"fifo", b"")
        .end();
    let seen = agreed(&[archive]).unwrap();
    let name = &b"system.posix_acl_access"[..];
    // Who is not named has no id.
    let mut kept = lists.clone();
    [24, 48].iter().for_each(|&id| kept[id..id + 4].fill(0xff));
    assert_eq!((seen["/f"].mode & 0o7777, seen["/f"].xattrs.get(name)), (0o4777, Some(&kept)));
    assert_eq!((seen["/plain"].mode & 0o7777, seen["/plain"].xattrs.len()), (0o645, 0));
    assert_eq!((seen["/d"].xattrs.len(), seen["/d/new"].xattrs.len()), (1, 0));
    assert_eq!((seen["/link"].xattrs.len(), seen["/fifo"].mode & 0o777), (0, 0o700));
    // Only directories have one for what is made in them.
    let wrong = Archive::new().pax(&of_new_files).file("f", b"").end();
    assert!(agreed(&[wrong]).unwrap_err().contains("f"));
}

#[test]
fn large_sparse_files_and_large_directories_are_equal() {
    const SIZE: u64 = (5 << 30) + 12_345;
    let data = [b'x'; 1024];
    let end = SIZE - 512;
    let map = format!("0,512,{end},512");
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", SIZE.to_string().leak().as_bytes()),
        ("GNU.sparse.map", map.as_bytes()),
    ];
    let file = Archive::header(EntryType::Regular, 0o644);
    let mut archive = Archive::new().pax(sparse).raw(file, b"sparse", b"", &data).dir("empty");
    for n in 0..10_000 {
        archive = archive.file(&format!("many/{n}"), b"");
    }
    let seen = agreed(&[archive.end()]).unwrap();
    assert_eq!(seen["/sparse"].size, SIZE);
    let many = seen.keys().filter(|name| name.starts_with("/many/")).count();
    assert_eq!((many, seen["/empty"].mode), (10_000, 0o040_755));
}

#[test]
fn files_are_not_taken_for_directories_of_the_same_number() {
    let mut archive = Archive::new();
    for n in 0..30 {
        archive = archive.file(&format!("z{n}"), b"");
        archive = archive.dir(&format!("a{n}")).dir(&format!("a{n}/b"));
    }
    // Names that begin as those of whiteouts do are directories like others above something else.
    let seen = agreed(&[archive.file(".wh.b/c/b", b"x").end()]).unwrap();
    assert_eq!(seen["/.wh.b/c/b"].size, 1);
}

/// An entry of a random archive.
#[derive(Debug, Clone)]
struct Item {
    kind: u8,
    name: String,
    link: String,
    mode: u32,
    id: u64,
    size: usize,
    xattr: u8,
    list: [u8; 7],
}

/// An access list (acl(5)), of which one in eight makes no sense.
fn access_list(bytes: [u8; 7]) -> Vec<u8> {
    let [shape, permissions @ ..] = bytes;
    let named = shape & 3 != 0;
    let all = [
        (0x01, true, u32::MAX),
        (0x02, shape & 1 != 0, 7),
        (0x04, true, 9),
        (0x08, shape & 2 != 0, 1000),
        (0x10, named || shape & 4 != 0, u32::MAX),
        (0x20, true, 0),
    ];
    let mut list = vec![2, 0, 0, 0];
    for ((tag, is_there, id), permissions) in all.into_iter().zip(permissions) {
        if is_there {
            list.extend_from_slice(&[tag, 0, permissions & 7, 0]);
            list.extend_from_slice(&id.to_le_bytes());
        }
    }
    match shape >> 3 {
        0 => list.truncate(list.len() - 8),
        1 => list.truncate(list.len() - 1),
        2 => list[0] = 3,
        3 => list.truncate(4),
        _ => {}
    }
    list
}

fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => "[abc]",
        1 => Just("..".to_owned()),
        1 => "\\.wh\\.[abc]",
        1 => Just(".wh..wh..opq".to_owned()),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn item() -> impl Strategy<Value = Item> {
    let size = prop_oneof![Just(0usize), 1..1100usize, 4000..9000usize];
    let list = prop::array::uniform7(0u8..);
    (0u8..8, name(), name(), 0..0o10000u32, 0..3u64, size, 0u8..16, list).prop_map(
        |(kind, name, link, mode, id, size, xattr, list)| Item {
            kind,
            name,
            link,
            mode,
            id,
            size,
            xattr,
            list,
        },
    )
}

fn archive(items: &[Item]) -> Vec<u8> {
    let mut archive = Archive::new();
    for Item { kind, name, link, mode, id, size, xattr, list } in items {
        let (attribute, capability) = (xattr & 1 != 0, xattr & 6 == 6);
        if *xattr >= 8 {
            let of_new_files = *xattr == 8 || *kind == 2;
            let which = if of_new_files { "default" } else { "access" };
            let name = format!("SCHILY.xattr.system.posix_acl_{which}");
            archive = archive.pax(&[(&name, &access_list(*list))]);
        } else if attribute {
            archive = archive.pax(&[("SCHILY.xattr.user.x", name.as_bytes())]);
        } else if capability {
            let value = [1, 0, 0, 2, *xattr, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            archive = archive.pax(&[("SCHILY.xattr.security.capability", &value)]);
        }
        let header = |kind| owned(kind, *mode, *id);
        let (name, link) = (name.as_bytes(), link.as_bytes());
        archive = match kind {
            0 => archive.raw(header(EntryType::Symlink), name, link, b""),
            1 => archive.raw(header(EntryType::Link), name, link, b""),
            2..4 => archive.raw(header(EntryType::Directory), name, b"", b""),
            4 => archive.raw(header(EntryType::Fifo), name, b"", b""),
            _ => archive.raw(header(EntryType::Regular), name, b"", &vec![*kind; *size]),
        };
    }
    archive.end()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) })]
    #[test]
    fn random_images_are_equal(layers in prop::collection::vec(prop::collection::vec(item(), 1..14), 1..4)) {
        let archives: Vec<Vec<u8>> = layers.iter().map(|items| archive(items)).collect();
        // What is refused is refused by both, in the same words.
        let _ = agreed(&archives);
    }
}

#[test]
fn the_driver_is_chosen_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let open = |driver| Store::open(&root).unwrap().with_driver(driver);
    let archive = Archive::new().file("f", b"1").end();
    let unpack = |store: &Store| {
        let blob = store.put_blob(&archive).unwrap();
        let blob = dir::fixture::descriptor(blob, archive.len(), "");
        store.unpack(&Digest::of(&archive), &blob, &mut &archive[..], &mut |_| {}).unwrap();
    };
    // Nothing is decided by looking.
    assert!(open(Some(Driver::Erofs)).is_ok() && open(Some(Driver::Dir)).is_ok());
    assert_eq!(open(None).unwrap().driver().unwrap(), Driver::Erofs, "this kernel mounts images");
    unpack(&open(Some(Driver::Dir)).unwrap());
    assert_eq!(open(None).unwrap().driver().unwrap(), Driver::Dir);
    let error = open(Some(Driver::Erofs)).unwrap_err();
    let root_shown = root.display();
    let expected = format!("the store `{root_shown}` has the storage driver `dir`, not `erofs`");
    assert_eq!(error.to_string(), expected);
    // A store from before there were drivers.
    fs::remove_file(root.join("store.json")).unwrap();
    assert_eq!(open(None).unwrap().driver().unwrap(), Driver::Dir);
    assert!(open(Some(Driver::Erofs)).is_err());
    assert!("btrfs".parse::<Driver>().is_err());
}

/// A store with an image of two layers and a container's view of it.
fn migrated(from: Driver, to: Driver, in_use: &[Digest]) -> (dir::fixture::Fixture, Vec<Digest>) {
    let fixture = dir::fixture::Fixture::of(tempfile::tempdir().unwrap(), from);
    let lower = Archive::new().dir("d").file("d/low", &[1; 9_000]).file("gone", b"").end();
    let upper = Archive::new().file("d/high", b"2").file(".wh.gone", b"").end();
    let image = fixture.image(&[lower, upper], "one");
    let container = fixture.directory.path().join("container");
    fs::create_dir(&container).unwrap();
    let rootfs = fixture.store.prepare(&image.diff_ids(), &container, true).unwrap();
    let before = dir::overlay::Overlay::container(&rootfs);
    let in_use = in_use.iter().copied().collect::<std::collections::HashSet<_>>();
    let store = Store::open(fixture.store.root()).unwrap();
    let migrate = |in_use| {
        let exclusive = store.exclusive().unwrap();
        store.migrate(exclusive, to, in_use, &mut |_| {}).unwrap()
    };
    let done = migrate(&in_use);
    assert_eq!((done.converted.len(), done.in_use.len()), (2 - in_use.len(), in_use.len()));
    assert_eq!(migrate(&in_use).converted, []);
    assert_eq!(store.driver().unwrap(), to);
    if from == Driver::Erofs || !in_use.is_empty() {
        // What was mounted before goes on.
        assert_eq!(fs::read(before.path("d/low")).unwrap(), [1; 9_000]);
    }
    drop(before);
    fs::remove_dir_all(container.join("work/work")).unwrap();
    let rootfs = store.rootfs(&image.diff_ids(), &container, true).unwrap();
    let after = dir::overlay::Overlay::container(&rootfs);
    assert_eq!(fs::read(after.path("d/low")).unwrap(), [1; 9_000]);
    assert_eq!(fs::read(after.path("d/high")).unwrap(), b"2");
    assert!(!after.path("gone").exists() && after.path("proc").exists());
    assert!(store.diff(&rootfs).unwrap().is_empty());
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
    (fixture, image.diff_ids())
}

#[test]
fn a_store_is_converted_both_ways() {
    migrated(Driver::Dir, Driver::Erofs, &[]);
    migrated(Driver::Erofs, Driver::Dir, &[]);
}

#[test]
fn layers_of_running_containers_stay_trees_until_they_end() {
    let (_, layers) = migrated(Driver::Dir, Driver::Erofs, &[]);
    let (fixture, _) = migrated(Driver::Dir, Driver::Erofs, &layers[..1]);
    let store = Store::open(fixture.store.root()).unwrap();
    let exclusive = store.exclusive().unwrap();
    let rest = store.migrate(exclusive, Driver::Erofs, &Default::default(), &mut |_| {}).unwrap();
    assert_eq!(rest.converted, layers[..1]);
}

/// Converts a store to and fro until it is killed; see the test below.
fn migrate_for_ever(root: &str) {
    let store = Store::open(root.as_ref()).unwrap();
    for driver in [Driver::Erofs, Driver::Dir].into_iter().cycle() {
        let exclusive = store.exclusive().unwrap();
        store.migrate(exclusive, driver, &Default::default(), &mut |_| {}).unwrap();
    }
}

#[test]
fn a_migration_may_be_killed_at_any_moment() {
    let name = concat!(module_path!(), "::a_migration_may_be_killed_at_any_moment");
    // Without the name of the crate, which is the program's.
    let name = name.split_once("::").unwrap().1;
    if let Ok(root) = std::env::var("STORE_TEST_MIGRATE") {
        migrate_for_ever(&root);
    }
    let fixture = dir::fixture::Fixture::of(tempfile::tempdir().unwrap(), Driver::Dir);
    let archive = |n: u8| {
        let files = (0..30).map(|file| format!("d{n}/f{file}"));
        files.fold(Archive::new(), |archive, name| archive.file(&name, &[n; 5000])).end()
    };
    let image = fixture.image(&[archive(0), archive(1), archive(2)], "one");
    let store = Store::open(fixture.store.root()).unwrap();
    let record = store.root().join("store.json");
    for round in 0..8 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env("STORE_TEST_MIGRATE", store.root())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        // Another moment of another migration each time.
        let before = fs::metadata(&record).unwrap().ino();
        let mut changes = 0;
        let mut last = before;
        while changes <= round {
            assert!(std::time::Instant::now() < deadline, "nothing was converted");
            if let Ok(now) = fs::metadata(&record).map(|meta| meta.ino())
                && now != last
            {
                (changes, last) = (changes + 1, now);
            }
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let container = fixture.directory.path().join(format!("container{round}"));
        fs::create_dir(&container).unwrap();
        let rootfs = store.prepare(&image.diff_ids(), &container, true).unwrap();
        let seen = dir::overlay::Overlay::container(&rootfs);
        for n in 0..3u8 {
            for file in 0..30 {
                let path = seen.path(&format!("d{n}/f{file}"));
                assert_eq!(fs::read(path).unwrap(), [n; 5000]);
            }
        }
    }
    let exclusive = store.exclusive().unwrap();
    store.migrate(exclusive, Driver::Erofs, &Default::default(), &mut |_| {}).unwrap();
    let exclusive = store.exclusive().unwrap();
    store.collect(exclusive, &Default::default(), std::time::Duration::ZERO).unwrap();
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
    let images =
        image.diff_ids().iter().filter(|l| store.layer_place(l).ends_with("layer.erofs")).count();
    assert_eq!(images, 3);
}

//! `diff` against Docker's own algorithm (moby, pkg/archive: `ChangesDirs`), which compares two
//! complete views: here, through real overlays, over random images and random edits.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags, mkdirat, openat};
use store::{Change, ChangeKind};
use tar::EntryType;

use super::fixture::{Archive, Fixture};
use super::overlay::Overlay;

/// A view as Docker's walker collects it.
#[derive(Default)]
struct Node {
    stat: Option<fs::Metadata>,
    capability: Vec<u8>,
    children: BTreeMap<Vec<u8>, Node>,
}

fn collect(path: &Path) -> Node {
    let stat = fs::symlink_metadata(path).unwrap();
    let mut value = vec![0; 64];
    let length = rustix::fs::lgetxattr(path, "security.capability", &mut value[..]).unwrap_or(0);
    value.truncate(length);
    let mut children = BTreeMap::new();
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name();
            // Overlayfs lists whiteouts in directories that it need not merge, but does not find
            // them; Docker's walker passes over them.
            if fs::symlink_metadata(path.join(&name)).is_ok() {
                children.insert(name.as_bytes().to_vec(), collect(&path.join(&name)));
            }
        }
    }
    Node { stat: Some(stat), capability: value, children }
}

fn differs(old: &Node, new: &Node) -> bool {
    let (o, n) = (old.stat.as_ref().unwrap(), new.stat.as_ref().unwrap());
    let same_time = o.mtime() == n.mtime()
        && (o.mtime_nsec() == n.mtime_nsec() || o.mtime_nsec() == 0 || n.mtime_nsec() == 0);
    o.mode() != n.mode()
        || o.uid() != n.uid()
        || o.gid() != n.gid()
        || o.rdev() != n.rdev()
        || !o.is_dir() && (!same_time || o.size() != n.size())
        || old.capability != new.capability
}

fn add_changes(path: &str, new: &Node, old: Option<&Node>, is_known: bool, all: &mut Vec<String>) {
    let before = all.len();
    if old.is_none() {
        all.push(format!("A {path}"));
    }
    let is_dir = new.stat.as_ref().is_none_or(fs::Metadata::is_dir);
    let none = BTreeMap::new();
    let olds = old.filter(|_| is_dir).map_or(&none, |old| &old.children);
    let below = if path == "/" { "" } else { path };
    for (name, child) in &new.children {
        let name = format!("{below}/{}", String::from_utf8(name.clone()).unwrap());
        let old = olds.get(name.rsplit('/').next().unwrap().as_bytes());
        let changed = old.is_some_and(|old| differs(old, child));
        if changed {
            all.push(format!("C {name}"));
        }
        add_changes(&name, child, old, changed || old.is_none(), all);
    }
    for name in olds.keys().filter(|name| !new.children.contains_key(*name)) {
        all.push(format!("D {below}/{}", String::from_utf8(name.clone()).unwrap()));
    }
    if all.len() > before && is_dir && !is_known && path != "/" {
        all.push(format!("C {path}"));
    }
}

fn by_docker(container: &Overlay, image: &Overlay) -> Vec<String> {
    let (new, old) = (collect(&container.path("")), collect(&image.path("")));
    let mut all = Vec::new();
    add_changes("/", &new, Some(&old), true, &mut all);
    all.sort_by(|a, b| a[2..].cmp(&b[2..]));
    all
}

fn shown(changes: &[Change]) -> Vec<String> {
    let letter = |kind| match kind {
        ChangeKind::Added => 'A',
        ChangeKind::Changed => 'C',
        ChangeKind::Deleted => 'D',
    };
    changes.iter().map(|c| format!("{} {}", letter(c.kind), c.path.display())).collect()
}

/// One thing done in a container.
#[derive(Debug, Clone)]
enum Edit {
    Write(String, usize),
    Append(String),
    OpenOnly(String),
    Mkdir(String),
    Remove(String),
    Rename(String, String),
    Symlink(String, String),
    Link(String, String),
    Chmod(String, u32),
    Chown(String, u32),
    Touch(String, i64, i64),
    Capability(String, u8),
    UserXattr(String),
    Fifo(String),
    Remake(String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]", 1..4).prop_map(|parts| parts.join("/"))
}

fn edit() -> impl Strategy<Value = Edit> {
    use Edit::*;
    prop_oneof![
        (path(), 0usize..3).prop_map(|(p, n)| Write(p, n)),
        path().prop_map(Append),
        path().prop_map(OpenOnly),
        path().prop_map(Mkdir),
        path().prop_map(Remove),
        path().prop_map(Remove),
        (path(), path()).prop_map(|(a, b)| Rename(a, b)),
        (path(), "[abcn]").prop_map(|(a, b)| Symlink(a, b)),
        (path(), path()).prop_map(|(a, b)| Link(a, b)),
        (path(), prop::sample::select(vec![0o644, 0o755, 0o4755, 0o700]))
            .prop_map(|(p, m)| Chmod(p, m)),
        (path(), 0u32..2).prop_map(|(p, u)| Chown(p, u)),
        (path(), 1_600_000_000i64..1_600_000_002, prop::sample::select(vec![0i64, 1, 5]))
            .prop_map(|(p, s, n)| Touch(p, s, n)),
        (path(), 0u8..2).prop_map(|(p, v)| Capability(p, v)),
        path().prop_map(UserXattr),
        path().prop_map(Fifo),
        path().prop_map(Remake),
    ]
}

/// Applies an edit; that most fail is part of the game.
fn apply(view: &Overlay, edit: &Edit) -> io::Result<()> {
    let at = |name: &String| view.path(name);
    let remove = |path: &Path| match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    // Opening a FIFO would wait for its other end.
    let is_file = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file());
    let is_fifo = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    match edit {
        Edit::Write(p, _) if is_fifo(&at(p)) => Ok(()),
        Edit::Write(p, n) => fs::write(at(p), vec![b'x'; *n]),
        Edit::Append(p) | Edit::OpenOnly(p) if is_file(&at(p)) => {
            use io::Write as _;
            let mut file = fs::OpenOptions::new().append(true).open(at(p))?;
            if matches!(edit, Edit::Append(_)) { file.write_all(b"y") } else { Ok(()) }
        }
        Edit::Append(_) | Edit::OpenOnly(_) => Ok(()),
        Edit::Mkdir(p) => fs::create_dir(at(p)),
        Edit::Remove(p) => remove(&at(p)),
        Edit::Rename(a, b) => fs::rename(at(a), at(b)),
        Edit::Symlink(p, target) => std::os::unix::fs::symlink(target, at(p)),
        Edit::Link(a, b) => fs::hard_link(at(a), at(b)),
        Edit::Chmod(p, mode) => fs::set_permissions(at(p), fs::Permissions::from_mode(*mode)),
        Edit::Chown(p, id) => std::os::unix::fs::lchown(at(p), Some(*id), Some(*id)),
        Edit::Touch(p, s, ns) => {
            let time = Timespec { tv_sec: *s, tv_nsec: *ns };
            let times = Timestamps { last_access: time, last_modification: time };
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            Ok(rustix::fs::utimensat(rustix::fs::CWD, at(p), &times, flags)?)
        }
        Edit::Capability(p, v) => {
            let value = [1, 0, 0, 2, *v, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let flags = XattrFlags::empty();
            Ok(rustix::fs::lsetxattr(at(p), "security.capability", &value, flags)?)
        }
        Edit::UserXattr(p) => {
            Ok(rustix::fs::lsetxattr(at(p), "user.x", b"y", XattrFlags::empty())?)
        }
        Edit::Fifo(p) => Ok(rustix::fs::mkfifoat(rustix::fs::CWD, at(p), 0o644.into())?),
        Edit::Remake(p) => {
            remove(&at(p))?;
            fs::create_dir(at(p))
        }
    }
}

/// One entry of a layer.
pub(crate) fn entry() -> impl Strategy<Value = (String, u8)> {
    (path(), 0u8..8)
}

pub(crate) fn layer(entries: &[(String, u8)]) -> Vec<u8> {
    let mut archive = Archive::new();
    for (path, kind) in entries {
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        archive = match kind {
            0 | 1 => archive.dir(path),
            2 | 3 => archive.file(path, b"z"),
            4 => archive.symlink(path, "a"),
            5 => archive.file(&format!("{above}/.wh.{name}"), b""),
            6 => archive.dir(path).file(&format!("{path}/.wh..wh..opq"), b""),
            _ => archive.raw(Archive::header(EntryType::Fifo, 0o600), path.as_bytes(), b"", b""),
        };
    }
    archive.end()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn random_edits_are_reported_as_docker_reports_them(
        layers in prop::collection::vec(prop::collection::vec(entry(), 0..14), 1..4),
        edits in prop::collection::vec(edit(), 0..40),
    ) {
        let fixture = Fixture::in_memory();
        let mut diff_ids = Vec::new();
        for entries in &layers {
            // Entries below a file are refused; such a layer is no image.
            if let Ok(layer) = fixture.unpack(&layer(entries)) {
                diff_ids.push(layer.diff_id);
            }
        }
        let container = fixture.directory.path().join("c");
        fs::create_dir(&container).unwrap();
        let rootfs = fixture.store.prepare(&diff_ids, &container, true).unwrap();
        let view = Overlay::container(&rootfs);
        for edit in &edits {
            // Most edits fail, for want of what they edit.
            let _ = apply(&view, edit);
        }
        if let oci::Rootfs::Overlay { lower, .. } = &rootfs && lower.len() > 1 {
            let expected = by_docker(&view, &Overlay::image(&rootfs));
            prop_assert_eq!(shown(&fixture.store.diff(&rootfs).unwrap()), expected);
            let (old, new) = fixture.store.view_rootfs(&rootfs).unwrap();
            let exact = store::Comparison::new(old, new).unwrap().differences(&[]).unwrap();
            let paths: Vec<String> =
                exact.iter().map(|d| d.path.to_str().unwrap().to_owned()).collect();
            let mut expected = unequal(&Overlay::image(&rootfs), &view);
            expected.sort();
            prop_assert_eq!(paths, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]
    #[test]
    fn images_that_share_layers_or_none_differ_where_they_look_different(
        layers in prop::collection::vec(prop::collection::vec(entry(), 0..14), 4..5),
        shared in 0usize..3,
    ) {
        let fixture = Fixture::in_memory();
        let unpacked = layers.iter().filter_map(|entries| fixture.unpack(&layer(entries)).ok());
        let ids: Vec<oci::Digest> = unpacked.map(|layer| layer.diff_id).collect();
        let shared = shared.min(ids.len());
        let (below, above) = ids.split_at(shared);
        let (left, right) = above.split_at(above.len() / 2);
        let mut views = Vec::new();
        for (name, own) in [("a", left), ("b", right)] {
            let container = fixture.directory.path().join(name);
            fs::create_dir(&container).unwrap();
            views.push(fixture.store.prepare(&[below, own].concat(), &container, true).unwrap());
        }
        let image = |rootfs| fixture.store.view_rootfs(rootfs).unwrap().0;
        let comparison = store::Comparison::new(image(&views[0]), image(&views[1])).unwrap();
        let found = comparison.differences(&[]).unwrap();
        let paths: Vec<String> =
            found.iter().map(|d| d.path.to_str().unwrap().to_owned()).collect();
        let is_mountable = |rootfs: &oci::Rootfs| {
            matches!(rootfs, oci::Rootfs::Overlay { lower, .. } if lower.len() > 1)
        };
        if views.iter().all(is_mountable) {
            let mut expected = unequal(&Overlay::image(&views[0]), &Overlay::image(&views[1]));
            expected.sort();
            prop_assert_eq!(paths, expected);
        }
    }
}

/// Every path with all that can be seen of it, as a walk through a mounted view finds it.
fn seen(path: &Path, below: &str, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(path).unwrap() {
        let name = entry.unwrap().file_name();
        let path = path.join(&name);
        // As in `collect`: listed, and not there.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let inner = format!("{below}{}", name.to_str().unwrap());
        let content = match meta.is_file() {
            true => fs::read(&path).unwrap(),
            false => {
                fs::read_link(&path).map_or(Vec::new(), |to| to.as_os_str().as_bytes().to_vec())
            }
        };
        let times = (meta.size(), meta.mtime(), meta.mtime_nsec());
        let mut xattrs: Vec<Vec<u8>> = Vec::new();
        for name in ["security.capability", "user.x"] {
            let mut value = [0; 64];
            let length = rustix::fs::lgetxattr(&path, name, &mut value[..]).unwrap_or(0);
            xattrs.push(value[..length].to_vec());
        }
        let times = if meta.is_dir() { (0, 0, 0) } else { times };
        let what = (meta.mode(), meta.uid(), meta.gid(), meta.rdev(), times, content, xattrs);
        all.insert(inner.clone(), format!("{what:?}"));
        if meta.is_dir() {
            seen(&path, &format!("{inner}/"), all);
        }
    }
}

/// The paths that are not the same in two mounted views.
fn unequal(old: &Overlay, new: &Overlay) -> Vec<String> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    seen(&old.path(""), "", &mut before);
    seen(&new.path(""), "", &mut after);
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differ = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    differ.cloned().collect()
}

fn edited(image: &[u8], edits: &[Edit]) -> Vec<String> {
    let fixture = Fixture::new();
    let layer = fixture.unpack(image).unwrap();
    let container = fixture.directory.path().join("c");
    fs::create_dir(&container).unwrap();
    let rootfs = fixture.store.prepare(&[layer.diff_id], &container, true).unwrap();
    let view = Overlay::container(&rootfs);
    for edit in edits {
        apply(&view, edit).unwrap();
    }
    let changes = shown(&fixture.store.diff(&rootfs).unwrap());
    assert_eq!(changes, by_docker(&view, &Overlay::image(&rootfs)));
    changes
}

#[test]
fn each_kind_of_change_has_its_letter() {
    let image = || Archive::new().dir("d").dir("d/s").file("d/s/f", b"1").file("d/g", b"2").end();
    let p = |text: &str| text.to_owned();
    let table: &[(&[Edit], &[&str])] = &[
        (&[], &[]),
        (&[Edit::OpenOnly(p("d/g"))], &[]),
        (&[Edit::UserXattr(p("d/g"))], &[]),
        (&[Edit::Mkdir(p("n")), Edit::Write(p("n/x"), 1)], &["A /n", "A /n/x"]),
        (&[Edit::Append(p("d/s/f"))], &["C /d", "C /d/s", "C /d/s/f"]),
        (&[Edit::Chmod(p("d/s"), 0o700)], &["C /d", "C /d/s"]),
        (&[Edit::Remove(p("d"))], &["D /d"]),
        (&[Edit::Remake(p("d"))], &["C /d", "D /d/g", "D /d/s"][..]),
        (&[Edit::Remove(p("d/s")), Edit::Write(p("d/s"), 0)], &["C /d", "C /d/s"]),
        (&[Edit::Remove(p("d/g")), Edit::Mkdir(p("d/g"))], &["C /d", "C /d/g"]),
        (&[Edit::Write(p("d-x"), 0), Edit::Write(p("d/x"), 0)], &["A /d-x", "C /d", "A /d/x"][..]),
    ];
    for (edits, expected) in table {
        let mut expected = expected.to_vec();
        expected.sort_by(|a, b| a[2..].cmp(&b[2..]));
        assert_eq!(edited(&image(), edits), expected, "{edits:?}");
    }
}

#[test]
fn files_with_vast_holes_are_compared() {
    let layer = |byte: u8| {
        let map: &[(&str, &[u8])] =
            &[("GNU.sparse.size", b"68719476736"), ("GNU.sparse.map", b"34359738368,512")];
        let whole = Archive::new().pax(map).file("same", &[b'x'; 512]);
        whole.pax(map).file("other", &[byte; 512]).file("mark", &[byte; 1]).end()
    };
    let fixture = Fixture::new();
    let views = [b'a', b'b'].map(|byte| {
        let layer = fixture.unpack(&layer(byte)).unwrap();
        fixture.store.view_layers(&[layer.diff_id]).unwrap()
    });
    let [old, new] = views;
    let found = store::Comparison::new(old, new).unwrap().differences(&[]).unwrap();
    let paths: Vec<&str> = found.iter().map(|d| d.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["mark", "other"]);
}

#[test]
fn of_a_tree_without_end_the_first_directories_are_listed() {
    let fixture = Fixture::new();
    let layer = fixture.unpack(&Archive::new().file("f", b"").end()).unwrap();
    let container = fixture.directory.path().join("c");
    fs::create_dir(&container).unwrap();
    let rootfs = fixture.store.prepare(&[layer.diff_id], &container, true).unwrap();
    let oci::Rootfs::Overlay { upper, .. } = &rootfs else { panic!("it has layers") };
    let mut at = OwnedFd::from(fs::File::open(upper).unwrap());
    for _ in 0..3000 {
        mkdirat(&at, "a", Mode::RWXU).unwrap();
        at = openat(&at, "a", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    fs::write(upper.join("g"), "").unwrap();
    let changes = shown(&fixture.store.diff(&rootfs).unwrap());
    // As far as a path leads.
    assert_eq!(changes.len(), 2050);
    assert_eq!(changes[2048], format!("A {}", "/a".repeat(2049)));
    assert_eq!(changes[2049], "A /g");
    // Deeper than others can remove it.
    fixture.store.discard(&container).unwrap();
}

#[test]
fn what_lies_deep_is_compared() {
    let fixture = Fixture::new();
    let tree = |name: &str, text: &str| {
        let root = fixture.directory.path().join(name);
        let deepest = root.join("a/".repeat(1500));
        fs::create_dir_all(&deepest).unwrap();
        fs::write(deepest.join("f"), text).unwrap();
        fs::write(deepest.join("same"), "same").unwrap();
        store::View::directory(&root).unwrap()
    };
    let comparison = store::Comparison::new(tree("old", "1"), tree("new", "2")).unwrap();
    let mut found = comparison.differences(&[]).unwrap();
    found.retain(|found| found.content);
    let [only] = &found[..] else { panic!("{found:?}") };
    assert!(only.path.ends_with("a/a/f"));
    let mut text = String::new();
    let file = comparison.open(&only.path, only.new.as_ref().unwrap());
    file.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "2");
    for tree in ["old", "new"] {
        fixture.store.discard(&fixture.directory.path().join(tree)).unwrap();
    }
}

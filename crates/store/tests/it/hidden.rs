//! What layers hide, against the definition: an entry is hidden if a layer above has anything at
//! its path, or something else than a directory, or an opaque one, on the way to it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use oci::Digest;
use proptest::prelude::*;

use super::diff::{entry, layer};
use super::fixture::{Archive, Fixture};

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 2];
    let length = rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]);
    length == Ok(1) && value[0] == b'y'
}

fn hides(above: &Path, path: &Path) -> bool {
    if fs::symlink_metadata(above.join(path)).is_ok() {
        return true;
    }
    path.ancestors().skip(1).any(|on_the_way| {
        let at = above.join(on_the_way);
        fs::symlink_metadata(&at).is_ok_and(|meta| !meta.is_dir() || is_opaque(&at))
    })
}

fn entries(root: &Path, below: &Path, all: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let meta = fs::symlink_metadata(root.join(&path)).unwrap();
        let is_whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
        if meta.is_dir() {
            entries(root, &path, all);
        } else if !is_whiteout {
            all.push((path, if meta.is_file() { meta.len() } else { 0 }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn what_is_hidden_is_what_the_definition_says(
        layers in prop::collection::vec(prop::collection::vec(entry(), 0..14), 1..5),
    ) {
        let fixture = Fixture::in_memory();
        let mut diff_ids: Vec<Digest> = Vec::new();
        for entries in &layers {
            if let Ok(layer) = fixture.unpack(&layer(entries)) {
                diff_ids.push(layer.diff_id);
            }
        }
        let trees: Vec<PathBuf> = diff_ids.iter().map(|id| fixture.tree(id)).collect();
        let uses = fixture.store.layer_uses(&diff_ids).unwrap();
        for (index, layer) in uses.iter().enumerate() {
            let mut all = Vec::new();
            entries(&trees[index], Path::new(""), &mut all);
            let hidden = |(path, _): &&(PathBuf, u64)| trees[index + 1..].iter().any(|above| hides(above, path));
            let gone: Vec<&(PathBuf, u64)> = all.iter().filter(hidden).collect();
            let expected: BTreeSet<PathBuf> = gone.iter().map(|(path, _)| Path::new("/").join(path)).collect();
            let found: BTreeSet<PathBuf> = layer.hidden.iter().map(|file| file.path.clone()).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(layer.wasted, gone.iter().map(|(_, size)| size).sum::<u64>());
            for file in &layer.hidden {
                let path = file.path.strip_prefix("/").unwrap();
                prop_assert!(file.by > index && hides(&trees[file.by], path));
            }
        }
    }
}

#[test]
fn a_file_that_is_seen_by_one_of_its_names_is_not_wasted() {
    let fixture = Fixture::new();
    let below = Archive::new().file("a", b"12345").hard_link("b", "a").file("c", b"123").end();
    let above = Archive::new().file(".wh.a", b"").file("c", b"1").end();
    let layers = [below, above].map(|archive| fixture.unpack(&archive).unwrap().diff_id);
    let uses = fixture.store.layer_uses(&layers).unwrap();
    let hidden: Vec<(&str, u64, bool)> = uses[0]
        .hidden
        .iter()
        .map(|file| (file.path.to_str().unwrap(), file.size, file.is_replaced))
        .collect();
    assert_eq!(hidden, [("/a", 5, false), ("/c", 3, true)]);
    assert_eq!((uses[0].wasted, uses[1].wasted), (3, 0));
}

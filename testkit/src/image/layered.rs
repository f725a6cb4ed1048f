//! `many-layers`: fifty layers that add, replace, delete, hide and restore, and what must be seen
//! when all of them are stacked.

use std::collections::BTreeMap;

use anyhow::Result;
use oci::Compression;

use super::{busybox, config, made_by};
use crate::archive::{Entry, Node};
use crate::layout::Layout;

/// The number of layers on top of busybox.
const EDITS: usize = 49;

const OPAQUE: &str = ".wh..wh..opq";

/// `many-layers:latest`: busybox and [`EDITS`] layers below `/data`.
pub(super) fn make(layout: &Layout) -> Result<()> {
    let mut image = config(&["sh"], &["ADD busybox /"]);
    image.history.extend((1..=EDITS).map(|number| made_by(&format!("RUN edit {number}"))));
    let mut layers = busybox::base(layout)?;
    for entries in edits() {
        layers.push(layout.layer(Compression::Gzip, |archive| {
            entries.iter().try_for_each(|entry| archive.add(entry))
        })?);
    }
    layout.tag("many-layers:latest", layout.image(image, &layers)?)
}

/// The entries of each layer below `/data`, lowest first.
#[must_use]
pub fn edits() -> Vec<Vec<Entry>> {
    (1..=EDITS).map(edit).collect()
}

fn edit(number: usize) -> Vec<Entry> {
    let mut entries = vec![Entry::directory("data")];
    let text = format!("{number}\n");
    let mut file = |path: String| entries.push(Entry::file(&path, text.clone()));
    file("data/counter".to_owned());
    file(format!("data/layer-{number}"));
    if number % 7 == 3 {
        file(format!("data/.wh.layer-{}", number - 2));
    }
    if number % 10 == 5 {
        file(format!("data/opaque/{OPAQUE}"));
    }
    file(format!("data/opaque/at-{number}"));
    match number % 8 {
        1 => file("data/gone/deep/file".to_owned()),
        5 => file("data/.wh.gone".to_owned()),
        _ => {}
    }
    match number % 6 {
        2 => entries.push(Entry::symlink("data/shape", "counter")),
        4 => entries.extend([Entry::directory("data/shape"), Entry::file("data/shape/in", text)]),
        0 => entries.push(Entry::file("data/shape", text)),
        _ => {}
    }
    if number % 9 == 4 {
        let target = format!("data/layer-{number}");
        entries.push(Entry::hardlink(&format!("data/link-{number}"), &target));
    }
    if number == 20 {
        entries.extend(odd_names());
    }
    entries
}

/// Names that are allowed, and that tools get wrong.
fn odd_names() -> Vec<Entry> {
    let long = "l".repeat(255);
    let names =
        ["new\nline", "back\\slash", " blank ", "-dash", "ça", "%41", "a:b,c=d", long.as_str()];
    names.iter().map(|name| Entry::file(&format!("data/odd/{name}"), "odd")).collect()
}

/// What stands below `/data` when all layers are stacked, by path without a leading slash;
/// hard links appear as the files that they are.
#[must_use]
pub fn stacked() -> BTreeMap<String, Node> {
    let mut seen = BTreeMap::new();
    for entries in edits() {
        for entry in &entries {
            hide(&mut seen, &entry.path);
        }
        for entry in entries {
            show(&mut seen, entry);
        }
    }
    seen
}

/// Applies a whiteout: it hides what lower layers have, never what its own layer adds.
fn hide(seen: &mut BTreeMap<String, Node>, path: &str) {
    let Some((directory, name)) = path.rsplit_once('/') else { return };
    if name == OPAQUE {
        remove_below(seen, directory);
    } else if let Some(name) = name.strip_prefix(".wh.") {
        let hidden = format!("{directory}/{name}");
        remove_below(seen, &hidden);
        seen.remove(&hidden);
    }
}

fn show(seen: &mut BTreeMap<String, Node>, entry: Entry) {
    if entry.path.rsplit('/').next().is_some_and(|name| name.starts_with(".wh.")) {
        return;
    }
    if entry.node != Node::Directory {
        remove_below(seen, &entry.path);
    }
    for (at, _) in entry.path.match_indices('/') {
        let parent = seen.entry(entry.path[..at].to_owned()).or_insert(Node::Directory);
        *parent = Node::Directory;
    }
    let node = match entry.node {
        Node::Hardlink(target) => {
            seen.get(&target).cloned().expect("a hard link's target stands before it")
        }
        node => node,
    };
    seen.insert(entry.path, node);
}

fn remove_below(seen: &mut BTreeMap<String, Node>, directory: &str) {
    let prefix = format!("{directory}/");
    seen.retain(|path, _| !path.starts_with(&prefix));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_shows_every_kind_of_edit() {
        let seen = stacked();
        assert_eq!(seen["data/counter"], Node::File(b"49\n".to_vec()));
        assert!(!seen.contains_key("data/layer-43"), "removed by layer 45");
        assert!(seen.contains_key("data/layer-44"));
        assert!(!seen.contains_key("data/opaque/at-44"), "hidden by layer 45");
        assert!(seen.contains_key("data/opaque/at-45"));
        assert_eq!(seen["data/shape"], Node::File(b"48\n".to_vec()));
        assert!(!seen.contains_key("data/shape/in"));
        assert_eq!(seen["data/gone"], Node::Directory, "restored by layer 49");
        assert_eq!(seen["data/link-49"], Node::File(b"49\n".to_vec()));
        assert!(seen.keys().all(|path| !path.contains(".wh.")));
    }
}

//! A patch applied to A gives B: random trees, GNU patch, and `git apply`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use testkit::Sandbox;

use crate::parity::random::Random;

/// Pairs of files for each of the two programs.
const PAIRS: usize = 10_000;
/// Directories of each tree.
const DIRECTORIES: usize = 40;

/// Names that tools get wrong, among plain ones.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"sp ace",
    b" lead",
    b"trail ",
    b"q\"uote",
    b"it's",
    b"back\\slash",
    b"tab\tx",
    b"\xc3\xa7",
    b"\xff\xfe",
    b"-dash",
    b".hidden",
    b"$HOME",
];

/// Lines that look like something else in a patch.
const LINES: &[&[u8]] = &[
    b"x",
    b"y",
    b"",
    b"-- z",
    b"++ z",
    b"-",
    b"+",
    b" ",
    b"@@ -1 +1 @@",
    b"--- a/a",
    b"+++ b/a",
    b"diff --git a/a b/b",
    b"\\ No newline at end of file",
    b"# a: mode 0644 -> 0755",
    b"GIT binary patch",
    b"\xff\xfe",
    b"tab\t",
    b"\r",
];

#[derive(Debug, Clone, PartialEq)]
enum File {
    Plain(Vec<u8>, bool),
    Link(&'static str),
}

type Tree = BTreeMap<Vec<u8>, File>;

/// What a program can apply.
#[derive(Clone, Copy, PartialEq)]
enum Applied {
    /// GNU patch puts removals off until the end, so that nothing can take a file's place.
    ByPatch,
    ByGit,
}

struct Making<'a> {
    random: &'a mut Random,
    by: Applied,
}

impl Making<'_> {
    fn text(&mut self) -> Vec<u8> {
        let end: &[u8] = if self.random.happens(30) { b"\r\n" } else { b"\n" };
        let lines = [0, 1, 3, 20, 60][self.random.below(5)];
        let lines: Vec<&[u8]> = (0..lines).map(|_| LINES[self.random.below(LINES.len())]).collect();
        let mut text = lines.join(end);
        if self.random.happens(70) && !text.is_empty() {
            text.extend_from_slice(end);
        }
        text
    }

    fn content(&mut self) -> Vec<u8> {
        if self.by == Applied::ByPatch || self.random.happens(70) {
            return self.text();
        }
        let length = [1, 10, 51, 52, 53, 500, 5000][self.random.below(7)];
        (0..length).map(|_| self.random.below(256) as u8).chain([0]).collect()
    }

    fn file(&mut self) -> File {
        match self.random.happens(10) {
            true => File::Link(self.random.one(&["a", "../x", "/no/where", "no where"])),
            false => File::Plain(self.content(), self.random.happens(30)),
        }
    }

    fn edited(&mut self, text: &[u8]) -> Vec<u8> {
        let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
        for _ in 0..=self.random.below(4) {
            let at = self.random.below(lines.len() + 1);
            match self.random.happens(50) || at == lines.len() {
                true => lines.insert(at, LINES[self.random.below(LINES.len())]),
                false => drop(lines.remove(at)),
            }
        }
        lines.join(&b'\n')
    }

    fn tree(&mut self) -> Tree {
        let mut tree = Tree::new();
        for directory in 0..DIRECTORIES {
            for name in NAMES {
                if self.random.happens(60) {
                    let path = [format!("{directory}/").as_bytes(), name].concat();
                    tree.insert(path, self.file());
                }
            }
        }
        tree
    }

    /// What becomes of a file.
    fn changed(&mut self, path: &[u8], file: &File, tree: &mut Tree) {
        let path = path.to_vec();
        let put = |tree: &mut Tree, file| drop(tree.insert(path.clone(), file));
        match (self.random.below(20), file) {
            (0..=2, _) => {}
            (3..=6, File::Plain(text, program)) => {
                let file = File::Plain(self.edited(text), *program);
                put(tree, file);
            }
            (7 | 8, File::Plain(text, program)) => put(tree, File::Plain(text.clone(), !program)),
            (9, File::Plain(_, program)) => {
                let file = File::Plain(self.content(), *program);
                put(tree, file);
            }
            (10, File::Link(_)) => put(tree, File::Link("changed")),
            (11, _) => drop(tree.insert([&path[..], b"-moved"].concat(), file.clone())),
            (12, _) if self.by == Applied::ByGit => {
                let file = self.file();
                put(tree, file);
            }
            (13, _) if self.by == Applied::ByGit => {
                let file = self.file();
                tree.insert([&path[..], b"/in"].concat(), file);
            }
            _ => put(tree, file.clone()),
        }
    }
}

fn write(root: &Path, tree: &Tree) {
    for (path, file) in tree {
        let path = root.join(OsStr::from_bytes(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match file {
            File::Link(target) => symlink(target, path).unwrap(),
            File::Plain(content, program) => {
                fs::write(&path, content).unwrap();
                let mode = if *program { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

/// Compares a tree on disk with what it should be.
fn check(root: &Path, tree: &Tree, seed: u64) {
    let mut left: BTreeSet<&[u8]> = tree.keys().map(Vec::as_slice).collect();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                pending.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            let wanted = tree.get(name);
            let found = match meta.is_symlink() {
                true => {
                    let target = fs::read_link(&path).unwrap();
                    matches!(wanted, Some(File::Link(wanted)) if Path::new(wanted) == target)
                }
                false => {
                    let program = meta.permissions().mode() & 0o100 != 0;
                    wanted == Some(&File::Plain(fs::read(&path).unwrap(), program))
                }
            };
            assert!(found, "seed {seed}: {} is not {wanted:?}", path.display());
            left.remove(name);
        }
    }
    assert!(left.is_empty(), "seed {seed}: {left:?} are missing");
}

/// Compares `a` and `b` in the sandbox's directory and applies the patch to `a`.
fn round(sandbox: &Sandbox, by: Applied, seed: u64) -> usize {
    let mut random = Random::new(seed);
    let renames = random.happens(50);
    let mut making = Making { random: &mut random, by };
    let old = making.tree();
    let mut new = Tree::new();
    for (path, file) in &old {
        making.changed(path, file, &mut new);
    }
    for (path, file) in making.tree().into_iter().take(60) {
        if !old.contains_key(&path) && !new.keys().any(|known| known.starts_with(&path)) {
            new.insert(path, file);
        }
    }
    let work = sandbox.work().join(seed.to_string());
    write(&work.join("a"), &old);
    write(&work.join("b"), &new);
    let binary = if by == Applied::ByGit { "--binary" } else { "" };
    let renames = if renames { "--renames" } else { "" };
    let apply = match by {
        Applied::ByPatch => "patch -p1 -s --no-backup-if-mismatch -i ../patch",
        Applied::ByGit => "git apply --whitespace=nowarn ../patch",
    };
    let script = format!(
        "cd {seed} && $E diff --content {binary} {renames} dir:a ./b >patch && cd a && GIT_CEILING_DIRECTORIES=/ {apply}"
    );
    sandbox.shell(&script).code(0).out("");
    check(&work.join("a"), &new, seed);
    fs::remove_dir_all(work).unwrap();
    old.keys().chain(new.keys()).collect::<BTreeSet<_>>().len()
}

fn rounds(by: Applied) {
    let sandbox = Sandbox::new();
    let (mut pairs, mut seed) = (0, 1);
    while pairs < PAIRS {
        pairs += round(&sandbox, by, seed);
        seed += 1;
    }
}

#[test]
fn gnu_patch_applied_to_a_gives_b() {
    rounds(Applied::ByPatch);
}

#[test]
fn git_apply_applied_to_a_gives_b() {
    rounds(Applied::ByGit);
}

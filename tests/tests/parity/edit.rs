//! Random trees, spread over the layers of an image, and random edits of them.

use std::collections::BTreeMap;

use testkit::{Entry, Node};

use super::random::Random;

/// The layers of an image over which a tree is spread.
pub(crate) const LAYERS: usize = 3;

/// Names that tools get wrong, among plain ones. None starts with `.wh.`: no layer can hold it.
const NAMES: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    ".hidden",
    "sp ace",
    "new\nline",
    "back\\slash",
    "ça",
    "%41",
    "*",
    "-dash",
    "it's",
    "$HOME",
];

const MODES: &[u32] = &[0o644, 0o600, 0o755, 0o700, 0o4755, 0o2755, 0o1777, 0o444, 0o000];

/// Paths of every image, edited like those of a tree. What engines mount over is among them.
const SYSTEM: &[&str] = &[
    "/etc/file",
    "/etc/other",
    "/etc/new",
    "/etc",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
    "/tmp",
    "/tmp/new",
    "/tmp/new/er",
    "/root",
    "/root/.profile",
    "/home",
    "/home/new",
    "/var",
    "/var/www",
    "/var/spool/mail",
    "/usr/local",
    "/usr/local/new",
    "/new",
    "/new/er",
    "/dev/new",
    "/dev/null",
    "/dev/shm/new",
    "/dev/console",
    "/proc/new",
    "/.dockerenv",
];

/// A tree below a directory of its own and what is done to it.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// Its directory; empty for the paths of every image.
    pub(crate) root: String,
    /// What each layer has of it.
    pub(crate) layers: [Vec<Entry>; LAYERS],
    paths: Vec<String>,
}

impl Tree {
    /// The tree of the paths that every image has.
    pub(crate) fn of_system() -> Self {
        let paths = SYSTEM.iter().map(|&path| path.to_owned()).collect();
        // Programs read what else lies in /etc, and would wait if it became a pipe.
        let files = ["etc/file", "etc/other"].map(|path| Entry::file(path, "text"));
        let layers = [files.to_vec(), Vec::new(), Vec::new()];
        Self { root: String::new(), layers, paths }
    }

    /// A tree in the directory `root`, which is relative to the root of the image.
    pub(crate) fn random(random: &mut Random, root: &str) -> Self {
        let mut growing = Growing::new(random, root);
        for layer in 0..LAYERS {
            growing.layer(layer);
        }
        let Growing { layers, ever, .. } = growing;
        let paths = ever.into_keys().map(|path| format!("/{path}")).collect();
        Self { root: format!("/{root}"), layers, paths }
    }

    /// One line for the shell that changes the tree, or tries to.
    pub(crate) fn edit(&self, random: &mut Random) -> String {
        let p = self.path(random);
        let q = self.path(random);
        let text = format!("text{}", random.below(1000));
        // An open of a pipe waits for its other end.
        let safe = format!("[ -p {p} ] || [ -c {p} ] ||");
        let mode = format!("{:o}", MODES[random.below(MODES.len())]);
        let owner = random.one(&["0:0", "1:1", "1000:1000", "0:33", "65534:0"]);
        let removed = match random.happens(70) && !SYSTEM.contains(&p.trim_matches('\'')) {
            true => format!("rm -rf {p}"),
            false => format!("rm -f {p}"),
        };
        match random.below(32) {
            0..=2 => format!("{safe} echo {text} > {p}"),
            3 | 4 => format!("{safe} echo {text} >> {p}"),
            5 => format!("{safe} true > {p}"),
            6 => format!("{safe} true >> {p}"),
            7 => format!("{safe} truncate -s {} {p}", random.below(9)),
            8 | 9 => format!("mkdir -p {p}"),
            10 => format!("chmod {mode} {p}"),
            11 => format!("chmod $(stat -c %a {p}) {p}"),
            12 => format!("chown {owner} {p}"),
            13 => format!("chown -h {owner} {p}"),
            14 => format!("chown $(stat -c %u:%g {p}) {p}"),
            15 => format!("touch {p}"),
            16 => format!("touch -h -d @{} {p}", random.one(&["1700000000", "1700000001", "0"])),
            17 | 18 => format!("mv {p} {q}"),
            19 => format!("[ -e {q} ] || cp -a {p} {q}"),
            20 | 21 => removed,
            22 => format!("rmdir {p}"),
            23 | 24 => format!("{removed} && mkdir {p}"),
            25 => format!("{removed} && mkdir {p} && echo {text} > {p}/a"),
            26 => format!("{removed} && {safe} echo {text} > {p}"),
            27 => {
                format!("{removed} && ln -s {} {p}", random.one(&["a", "../b", "/etc", "nowhere"]))
            }
            28 => format!("{removed} && mkfifo {p}"),
            29 => format!("{removed} && mknod {p} c 1 {}", random.one(&["3", "5"])),
            30 => format!("ln {p} {q}"),
            _ => format!("[ -f {p} ] && sed -i s/t/T/ {p}"),
        }
    }

    /// A path of the tree, of any time, or a new one; quoted for the shell.
    fn path(&self, random: &mut Random) -> String {
        let mut path = self.paths[random.below(self.paths.len())].clone();
        if !self.root.is_empty() && random.happens(30) {
            path = format!("{path}/{}", random.one(NAMES));
        }
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// What stands at a path: for a directory, how it is entered into a layer again.
type Standing = BTreeMap<String, Option<Entry>>;

/// A tree that grows by a layer at a time.
struct Growing<'a> {
    random: &'a mut Random,
    root: String,
    layers: [Vec<Entry>; LAYERS],
    /// What the layers so far show.
    now: Standing,
    /// Everything that ever stood there.
    ever: Standing,
    /// The paths that the layer being made decides on: each only once.
    decided: Vec<String>,
}

impl<'a> Growing<'a> {
    fn new(random: &'a mut Random, root: &str) -> Self {
        let now = Standing::from([(root.to_owned(), Some(Entry::directory(root)))]);
        let root = root.to_owned();
        let ever = now.clone();
        Self { random, root, layers: Default::default(), now, ever, decided: Vec::new() }
    }

    fn layer(&mut self, layer: usize) {
        self.decided.clear();
        let steps = if layer == 0 { 14 } else { 5 };
        self.enter_parents(layer, &format!("{}/", self.root));
        for _ in 0..steps {
            let chance = if layer == 0 { 0 } else { self.random.below(100) };
            match chance {
                0..60 => self.put(layer),
                60..85 => self.white_out(layer),
                _ => self.make_opaque(layer),
            }
        }
    }

    /// A new entry, or one in place of another.
    fn put(&mut self, layer: usize) {
        let directories: Vec<String> =
            self.now.iter().filter(|(_, e)| e.is_some()).map(|(path, _)| path.clone()).collect();
        let parent = &directories[self.random.below(directories.len())];
        let path = format!("{parent}/{}", self.random.one(NAMES));
        if !self.decide(layer, &path) {
            return;
        }
        let mode = MODES[self.random.below(MODES.len())];
        let owner = if self.random.happens(20) { (1000, 33) } else { (0, 0) };
        let node = self.node(layer);
        let entry = Entry::of(&path, mode, node).owner(owner.0, owner.1);
        self.enter_parents(layer, &path);
        self.forget_below(&path);
        let stands = (entry.node == Node::Directory).then(|| entry.clone());
        self.now.insert(path.clone(), stands.clone());
        self.ever.insert(path, stands);
        self.layers[layer].push(entry);
    }

    fn node(&mut self, layer: usize) -> Node {
        let files: Vec<String> = self.layers[layer]
            .iter()
            .filter(|e| matches!(e.node, Node::File(_)) && !e.path.contains("/.wh."))
            .map(|e| e.path.clone())
            .collect();
        match self.random.below(14) {
            0..=4 => Node::Directory,
            5 | 6 => Node::Symlink(self.random.one(&["a", "../b", "/etc/passwd", "x"]).to_owned()),
            7 => Node::Fifo,
            8 => Node::Device(1, 3),
            9 | 10 if !files.is_empty() => {
                Node::Hardlink(files[self.random.below(files.len())].clone())
            }
            _ => Node::File(vec![b'x'; self.random.below(4)]),
        }
    }

    fn white_out(&mut self, layer: usize) {
        let path = self.standing();
        if path == self.root || !self.decide(layer, &path) {
            return;
        }
        self.enter_parents(layer, &path);
        self.forget_below(&path);
        self.now.remove(&path);
        self.layers[layer].push(Entry::whiteout(&path));
    }

    fn make_opaque(&mut self, layer: usize) {
        let path = self.standing();
        if self.now[&path].is_none() || !self.decide(layer, &path) {
            return;
        }
        let inner = format!("{path}/{}", self.random.one(NAMES));
        self.enter_parents(layer, &inner);
        self.forget_below(&path);
        self.layers[layer].push(Entry::opaque(&path));
        self.layers[layer].push(Entry::file(&inner, "in"));
        self.now.insert(inner.clone(), None);
        self.ever.insert(inner, None);
    }

    fn standing(&mut self) -> String {
        let count = self.random.below(self.now.len());
        self.now.keys().nth(count).expect("the number is below the length").clone()
    }

    /// Whether this layer may decide on the path. What it decides on has neither decided things
    /// below it nor above it, for then the order of entries would matter; the first layer only
    /// adds.
    fn decide(&mut self, layer: usize, path: &str) -> bool {
        let within = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
        let taken = match layer {
            0 => self.now.contains_key(path),
            _ => self.decided.iter().any(|other| within(other, path) || within(path, other)),
        };
        self.decided.push(path.to_owned());
        !taken
    }

    /// Enters the directories above a path, as every builder does.
    fn enter_parents(&mut self, layer: usize, path: &str) {
        for (at, _) in path.match_indices('/') {
            let Some(Some(entry)) = self.now.get(&path[..at]) else { continue };
            if !self.layers[layer].iter().any(|other| other.path == entry.path) {
                self.layers[layer].push(entry.clone());
            }
        }
    }

    fn forget_below(&mut self, path: &str) {
        let prefix = format!("{path}/");
        self.now.retain(|other, _| !other.starts_with(&prefix));
    }
}

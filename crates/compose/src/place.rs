//! Paths of a file, which are relative to where the file is.

use std::path::Path;

use crate::node::{Map, Node, Value};
use crate::short::clean;

/// Makes the paths of a file absolute.
pub(crate) fn resolve(root: &mut Node, directory: &Path, home: &Path) {
    let base = Base { directory, home };
    for (_, service) in section(root, "services") {
        base.service(service);
    }
    for name in ["secrets", "configs"] {
        for (_, node) in section(root, name) {
            base.field(node, "file");
        }
    }
    for (_, node) in section(root, "volumes") {
        let options: Vec<(String, Option<String>)> = node
            .pairs_of("driver_opts")
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.map(str::to_owned)))
            .collect();
        let of = |name: &str| options.iter().find(|(key, _)| key == name)?.1.as_deref();
        let binds =
            of("o").is_some_and(|o| o.split(',').any(|word| word == "bind" || word == "rbind"));
        if binds
            && let Some(options) = node.entries_mut().and_then(|map| map.get_mut("driver_opts"))
        {
            base.field(options, "device");
        }
    }
}

fn section<'a>(root: &'a mut Node, name: &str) -> impl Iterator<Item = (&'a str, &'a mut Node)> {
    let node = root.entries_mut().and_then(|map| map.get_mut(name));
    node.and_then(Node::entries_mut).into_iter().flat_map(Map::iter_mut)
}

struct Base<'a> {
    directory: &'a Path,
    home: &'a Path,
}

impl Base<'_> {
    fn path(&self, path: &str) -> String {
        let path = match path.strip_prefix('~') {
            Some("") => self.home.to_owned(),
            Some(rest) if rest.starts_with('/') => self.home.join(&rest[1..]),
            _ => self.directory.join(path),
        };
        clean(&path.display().to_string())
    }

    fn word(&self, node: &mut Node) {
        if let Value::Scalar(_, text) = &mut node.value
            && !text.is_empty()
        {
            *text = self.path(text);
        }
    }

    fn field(&self, node: &mut Node, name: &str) {
        if let Some(node) = node.entries_mut().and_then(|map| map.get_mut(name)) {
            self.word(node);
        }
    }

    fn each(&self, node: &mut Node, name: &str, change: impl Fn(&Self, &mut Node)) {
        if let Some(Value::List(items)) =
            node.entries_mut().and_then(|map| map.get_mut(name)).map(|node| &mut node.value)
        {
            items.iter_mut().for_each(|item| change(self, item));
        }
    }

    fn service(&self, service: &mut Node) {
        self.each(service, "env_file", |base, item| base.field(item, "path"));
        self.each(service, "label_file", Self::word);
        self.each(service, "volumes", |base, item| {
            if item.word_of("type") == Some("bind") {
                base.field(item, "source");
            }
        });
        let Some(map) = service.entries_mut() else { return };
        if let Some(develop) = map.get_mut("develop") {
            self.each(develop, "watch", |base, item| base.field(item, "path"));
        }
        if let Some(build) = map.get_mut("build").and_then(Node::entries_mut) {
            if let Some(context) = build.get_mut("context")
                && context.word().is_some_and(is_local)
            {
                self.word(context);
            }
            let others = build.get_mut("additional_contexts").and_then(Node::entries_mut);
            for (_, node) in others.into_iter().flat_map(Map::iter_mut) {
                if node.word().is_some_and(is_local) {
                    self.word(node);
                }
            }
        }
    }
}

/// Whether a build's context is a directory, and no address of something else.
pub(crate) fn is_local(context: &str) -> bool {
    const ELSEWHERE: &[&str] = &[
        "http://",
        "https://",
        "git://",
        "ssh://",
        "git@",
        "github.com/",
        "docker-image://",
        "oci-layout://",
        "service:",
        "target:",
    ];
    !ELSEWHERE.iter().any(|start| context.starts_with(start))
}

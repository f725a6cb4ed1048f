//! Groups inside a container's, for a process that joins one of them.

use std::path::{Component, Path, PathBuf};

use super::hierarchy::Version;
use super::{Cgroup, Error, Node, file};
use std::os::fd::AsFd as _;

/// A group inside a container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subgroup {
    /// The controller in whose hierarchy it lies; `None` for version 2's.
    pub controller: Option<String>,
    /// Its path below the container's own group.
    pub path: PathBuf,
}

impl Cgroup {
    /// The same group, but for the hierarchies in which `groups` name another below it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that leads outside and for an unknown controller;
    /// [`Error::Io`] for a group that does not exist.
    pub fn inside(mut self, groups: &[Subgroup]) -> Result<Self, Error> {
        for group in groups {
            let below = below(&group.path)?;
            let node = self.node_index(group.controller.as_deref())?;
            let shown = self.path.join(&below);
            let dir = file::open_dir(self.nodes[node].dir.as_fd(), &below)
                .map_err(Error::io(format!("open cgroup {shown:?} before adding pid to it")))?;
            self.nodes[node] = Node { hierarchy: self.nodes[node].hierarchy, dir };
        }
        Ok(self)
    }

    fn node_index(&self, controller: Option<&str>) -> Result<usize, Error> {
        let found = self.nodes.iter().position(|node| match controller {
            Some(name) => self.at(node).has(name),
            None => self.at(node).version == Version::V2,
        });
        found.ok_or_else(|| {
            Error::Invalid(format!("unknown controller {} in --cgroup", controller.unwrap_or("")))
        })
    }
}

/// Relative to the container's group, and inside it.
fn below(path: &Path) -> Result<PathBuf, Error> {
    let mut below = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::CurDir | Component::RootDir => {}
            _ => return Err(Error::Invalid(format!("bad sub cgroup path: {}", path.display()))),
        }
    }
    if below.as_os_str().is_empty() { Ok(PathBuf::from(".")) } else { Ok(below) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_outside() {
        for (path, expected) in [("a/b", "a/b"), ("/a", "a"), ("", "."), ("/", ".")] {
            assert_eq!(below(Path::new(path)).unwrap(), Path::new(expected), "{path}");
        }
        for path in ["..", "a/../..", "/../a"] {
            assert!(below(Path::new(path)).is_err(), "{path}");
        }
    }
}

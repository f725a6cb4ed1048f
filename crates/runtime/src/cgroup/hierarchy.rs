//! Which hierarchies the host has mounted, and directories in them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::{Error, file};
use crate::procfs;

/// How often making a path starts over because someone removed an empty parent meanwhile.
const MAKE_TRIES_MAX: usize = 16;

/// The two interfaces of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// One mounted hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub version: Version,
    pub root: OwnedFd,
    /// Where it is mounted, for messages.
    pub mount: PathBuf,
    /// Its controllers; `name=…` for a named hierarchy without any.
    pub controllers: Vec<String>,
}

/// All mounted hierarchies: version 1 ones first, then the one of version 2.
#[derive(Debug)]
pub(super) struct Layout {
    pub hierarchies: Vec<Hierarchy>,
}

/// Controllers of version 1 that are joined only when a limit of theirs is asked for: without one
/// they neither count nor confine anything.
const JOINED_ON_DEMAND: [&str; 8] =
    ["perf_event", "net_cls", "net_prio", "hugetlb", "rdma", "misc", "debug", "dmem"];

impl Layout {
    /// The host's hierarchies, found once per process.
    pub(super) fn of_host() -> Result<Arc<Self>, Error> {
        static FOUND: Mutex<Option<Arc<Layout>>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = &*found {
            return Ok(layout.clone());
        }
        let text =
            procfs::read("/proc/self/mountinfo").map_err(Error::io("read /proc/self/mountinfo"))?;
        let layout = Arc::new(Self::at(&mounts(&text))?);
        *found = Some(layout.clone());
        Ok(layout)
    }

    /// The hierarchies at the given mount points.
    pub(super) fn at(mounts: &[Mount]) -> Result<Self, Error> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mounts {
            hierarchies.push(mount.open().map_err(Error::io(format!(
                "open the control group hierarchy {}",
                mount.point.display()
            )))?);
        }
        hierarchies.sort_by_key(|h| h.version == Version::V2);
        if hierarchies.is_empty() {
            return Err(Error::Unsupported(
                "no control group hierarchy is mounted: mount cgroup2 on /sys/fs/cgroup".into(),
            ));
        }
        Ok(Self { hierarchies })
    }

    /// The hierarchy that `controller` is bound to.
    pub(super) fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.has(controller))
    }

    /// The version of the interface that `controller` has here.
    pub(super) fn version(&self, controller: &str) -> Option<Version> {
        self.of(controller).map(|h| h.version)
    }

    /// The hierarchy of version 2.
    pub(super) fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.version == Version::V2)
    }

    /// The hierarchies a container joins, given the controllers its limits need.
    pub(super) fn joined(&self, needed: &[&str]) -> impl Iterator<Item = (usize, &Hierarchy)> {
        let idle =
            |c: &String| JOINED_ON_DEMAND.contains(&c.as_str()) && !needed.contains(&c.as_str());
        self.hierarchies
            .iter()
            .enumerate()
            .filter(move |(_, h)| h.version == Version::V2 || !h.controllers.iter().all(idle))
    }
}

impl Hierarchy {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// The path of a file in the control group `path`, for messages.
    pub(super) fn display(&self, path: &Path, name: &str) -> PathBuf {
        self.mount.join(path).join(name)
    }

    /// Makes `path` and what is missing above it; adds to `created` what it made, parents first.
    /// Returns whether the last component is new.
    pub(super) fn make(&self, path: &Path, created: &mut Vec<PathBuf>) -> io::Result<bool> {
        'again: for _ in 0..MAKE_TRIES_MAX {
            let mut new = false;
            for prefix in prefixes(path) {
                new = match mkdirat(&self.root, prefix, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {
                        created.push(prefix.to_path_buf());
                        true
                    }
                    Err(Errno::EXIST) => false,
                    // Someone removed the empty parent between the two steps.
                    Err(Errno::NOENT) => continue 'again,
                    Err(errno) => return Err(errno.into()),
                };
            }
            return Ok(new);
        }
        Err(Errno::NOENT.into())
    }

    /// Removes one empty directory.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(unlinkat(&self.root, path, AtFlags::REMOVEDIR)?)
    }

    /// Gives every level down to `path` the processors and memory nodes of the one above, where it
    /// has none: a cpuset of version 1 starts empty and then refuses processes (cpusets(7)).
    pub(super) fn inherit_cpuset(&self, path: &Path) -> io::Result<()> {
        let mut above = self.root.try_clone()?;
        for prefix in prefixes(path) {
            let dir = file::open_dir(self.root.as_fd(), prefix)?;
            for name in ["cpuset.cpus", "cpuset.mems"] {
                if file::read(&dir, name)?.trim().is_empty() {
                    file::write(&dir, name, file::read(&above, name)?.trim())?;
                }
            }
            above = dir;
        }
        Ok(())
    }

    /// Lets the children of every level above `path` use `wanted` (cgroup-v2, "Enabling and
    /// Disabling"). Returns the controllers that could not be enabled, with the reason.
    pub(super) fn enable(&self, path: &Path, wanted: &[&str]) -> Vec<(String, io::Error)> {
        let mut failed = Vec::new();
        let parents = std::iter::once(Path::new(".")).chain(prefixes(path).filter(|p| *p != path));
        for parent in parents {
            let level = file::open_dir(self.root.as_fd(), parent)
                .and_then(|dir| Ok((file::read(&dir, "cgroup.subtree_control")?, dir)));
            match level {
                Ok((enabled, dir)) => {
                    let missing =
                        wanted.iter().filter(|w| !enabled.split_whitespace().any(|e| e == **w));
                    for controller in missing {
                        let result =
                            file::write(&dir, "cgroup.subtree_control", &format!("+{controller}"));
                        failed.extend(result.err().map(|e| ((*controller).to_owned(), e)));
                    }
                }
                Err(error) => failed.push((parent.display().to_string(), error)),
            }
        }
        failed
    }
}

/// `a`, `a/b`, `a/b/c` of `a/b/c`.
pub(super) fn prefixes(path: &Path) -> impl Iterator<Item = &Path> {
    let mut all: Vec<&Path> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
    all.reverse();
    all.into_iter()
}

/// `path` without its leading `/`.
pub(super) fn relative(path: &Path) -> Result<PathBuf, Error> {
    /// As long as the kernel lets a path be that is used in one call.
    const PATH_MAX: usize = 4000;
    let mut parts = path.components();
    let absolute = parts.next() == Some(Component::RootDir);
    let rest: PathBuf = parts.clone().collect();
    let plain = parts.all(|part| matches!(part, Component::Normal(_)));
    // The kernel reads a line break in /proc/PID/cgroup as the end of the path.
    let readable = !path.as_os_str().as_encoded_bytes().contains(&b'\n');
    if absolute
        && plain
        && readable
        && !rest.as_os_str().is_empty()
        && path.as_os_str().len() < PATH_MAX
    {
        return Ok(rest);
    }
    Err(Error::Path(path.to_path_buf()))
}

/// A mount of a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub point: PathBuf,
    pub version: Version,
    /// Controllers of version 1; those of version 2 stand in a file there.
    pub controllers: Vec<String>,
}

impl Mount {
    fn open(&self) -> io::Result<Hierarchy> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(rustix::fs::CWD, &self.point, flags, Mode::empty())?;
        let controllers = match self.version {
            Version::V1 => self.controllers.clone(),
            Version::V2 => {
                let text = file::read(&root, "cgroup.controllers")?;
                text.split_whitespace().map(str::to_owned).collect()
            }
        };
        Ok(Hierarchy { version: self.version, root, mount: self.point.clone(), controllers })
    }
}

/// The hierarchies in a mountinfo (proc_pid_mountinfo(5)), each once. Where one is mounted in
/// several places, the mount of its root counts, or else the first.
pub(super) fn mounts(mountinfo: &str) -> Vec<Mount> {
    let mut found: Vec<(bool, Mount)> = Vec::new();
    for (of_root, mount) in mountinfo.lines().filter_map(mount) {
        let same = |m: &Mount| m.version == mount.version && m.controllers == mount.controllers;
        match found.iter_mut().find(|(_, known)| same(known)) {
            Some(known) if of_root && !known.0 => *known = (of_root, mount),
            Some(_) => {}
            None => found.push((of_root, mount)),
        }
    }
    found.into_iter().map(|(_, mount)| mount).collect()
}

fn mount(line: &str) -> Option<(bool, Mount)> {
    /// Options of the file system that are no controllers (kernel/cgroup/cgroup-v1.c).
    const OPTIONS: [&str; 9] = [
        "rw",
        "ro",
        "none",
        "all",
        "noprefix",
        "clone_children",
        "xattr",
        "cpuset_v2_mode",
        "favordynmods",
    ];
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options = right.nth(1)?;
    let (version, controllers) = match kind {
        "cgroup2" => (Version::V2, Vec::new()),
        "cgroup" => {
            let named = |o: &&str| !OPTIONS.contains(o) && !o.starts_with("release_agent=");
            (Version::V1, options.split(',').filter(named).map(str::to_owned).collect())
        }
        _ => return None,
    };
    Some((root == "/", Mount { point: unescape(point), version, controllers }))
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_in_every_layout() {
        let show = |text: &str| -> Vec<String> {
            let line = |m: Mount| {
                format!("{:?} {} {}", m.version, m.point.display(), m.controllers.join(","))
            };
            mounts(text).into_iter().map(line).collect()
        };
        let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
        assert_eq!(
            show(hybrid),
            [
                "V1 /sys/fs/cgroup/cpu,cpuacct cpu,cpuacct",
                "V1 /sys/fs/cgroup/systemd name=systemd",
                "V2 /sys/fs/cgroup/unified ",
            ]
        );
        let twice = "\
50 1 0:38 /docker/a /elsewhere\\040there rw - cgroup2 cgroup rw
41 31 0:38 / /sys/fs/cgroup rw,relatime master:4 - cgroup2 cgroup2 rw
51 1 0:38 / /later rw - cgroup2 cgroup rw
";
        assert_eq!(show(twice), ["V2 /sys/fs/cgroup "]);
        assert_eq!(show(twice.lines().next().unwrap()), ["V2 /elsewhere there "]);
        assert!(show("22 27 0:21 / /proc rw - proc proc rw").is_empty());
    }

    #[test]
    fn only_absolute_plain_paths_are_accepted() {
        for (path, want) in [
            ("/cais/a", Some("cais/a")),
            ("/a//b/", Some("a/b")),
            ("/", None),
            ("", None),
            ("cais/a", None),
            ("/cais/../b", None),
            ("/a\nb", None),
        ] {
            assert_eq!(relative(Path::new(path)).ok().as_deref(), want.map(Path::new), "{path:?}");
        }
    }

    #[test]
    fn prefixes_lead_down() {
        let all: Vec<_> = prefixes(Path::new("a/b/c")).collect();
        assert_eq!(all, [Path::new("a"), Path::new("a/b"), Path::new("a/b/c")]);
    }
}

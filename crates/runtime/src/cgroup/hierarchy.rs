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

/// Controllers of version 1 that neither count nor confine anything without a limit of theirs.
const IDLE: [&str; 8] =
    ["perf_event", "net_cls", "net_prio", "hugetlb", "rdma", "misc", "debug", "dmem"];

/// As [`IDLE`] where there is version 2: that one counts processor time and freezes by itself, and a
/// new cpuset holds what the one above does.
const IDLE_BESIDE_V2: [&str; 3] = ["cpuacct", "cpuset", "freezer"];

impl Layout {
    /// The host's hierarchies, found once per process.
    pub(super) fn of_host() -> Result<Arc<Self>, Error> {
        static FOUND: Mutex<Option<Arc<Layout>>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = &*found {
            return Ok(layout.clone());
        }
        let layout = Arc::new(Self::at(&mounted()?)?);
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

    /// The hierarchies a container joins, given the controllers its limits need, and those that it
    /// need not join otherwise.
    pub(super) fn joined(
        &self,
        needed: &[&str],
        spared: &[String],
    ) -> impl Iterator<Item = (usize, &Hierarchy)> {
        let idle = |c: &String| spared.contains(c) && !needed.contains(&c.as_str());
        self.hierarchies
            .iter()
            .enumerate()
            .filter(move |(_, h)| h.version == Version::V2 || !h.controllers.iter().all(idle))
    }

    /// What a container without limits can be spared, started by whoever has this
    /// `/proc/self/cgroup`: the controllers that do nothing for it, and hierarchies that have only a
    /// name, which are for whoever follows processes and has version 2 for that.
    ///
    /// Only where the caller is at the top: elsewhere a container has a group to leave.
    pub(super) fn dispensable(&self, caller: &str) -> Vec<String> {
        let at_top = caller.lines().filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            (path == "/").then_some(controllers)
        });
        let has_v2 = self.v2().is_some();
        let beside_v2 = |c: &str| c.starts_with("name=") || IDLE_BESIDE_V2.contains(&c);
        let idle = |c: &&str| IDLE.contains(c) || has_v2 && beside_v2(c);
        at_top.flat_map(|line| line.split(',')).filter(idle).map(str::to_owned).collect()
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
    /// has none: a cpuset of version 1 starts empty and then refuses processes (cpusets(7)). Those in
    /// `made` are new.
    pub(super) fn inherit_cpuset(&self, path: &Path, made: &[PathBuf]) -> io::Result<()> {
        let mut above = Vec::new();
        for name in ["cpuset.cpus", "cpuset.mems"] {
            above.push((name, file::read(&self.root, name)?));
        }
        for prefix in prefixes(path) {
            let dir = file::open_dir(self.root.as_fd(), prefix)?;
            let is_new = made.iter().any(|made| made == prefix);
            for (name, value) in &mut above {
                let own = if is_new { String::new() } else { file::read(&dir, name)? };
                match own.trim() {
                    "" => file::write(&dir, name, value.trim())?,
                    _ => *value = own,
                }
            }
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

/// The hierarchies that are mounted. Where version 2 is at the usual place it is the only one, as
/// runc, crun and systemd have it; of mounts there can be thousands, which take long to list.
fn mounted() -> Result<Vec<Mount>, Error> {
    /// `CGROUP2_SUPER_MAGIC` of statfs(2).
    const MAGIC: i64 = 0x6367_7270;
    let usual = Path::new("/sys/fs/cgroup");
    if rustix::fs::statfs(usual).is_ok_and(|files| files.f_type == MAGIC) {
        let (point, version) = (usual.to_owned(), Version::V2);
        return Ok(vec![Mount { point, version, controllers: Vec::new() }]);
    }
    let text = procfs::read("/proc/self/mountinfo");
    Ok(mounts(&text.map_err(Error::io("read /proc/self/mountinfo"))?))
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
    fn what_is_idle_is_spared_to_those_who_start_at_the_top() {
        let root = || OwnedFd::from(std::fs::File::open("/").unwrap());
        let hierarchy = |version, controllers: &str| Hierarchy {
            version,
            root: root(),
            mount: PathBuf::from("/x").join(controllers),
            controllers: controllers.split(',').map(str::to_owned).collect(),
        };
        let v1 = || {
            let names = ["cpu,cpuacct", "cpuset", "freezer", "memory", "name=systemd", "net_cls"];
            names.map(|names| hierarchy(Version::V1, names))
        };
        let hybrid = v1().into_iter().chain([hierarchy(Version::V2, "hugetlb")]).collect();
        let hybrid = Layout { hierarchies: hybrid };
        let joined = |needed: &[&str], caller: &str| -> Vec<String> {
            let spared = hybrid.dispensable(caller);
            hybrid.joined(needed, &spared).map(|(_, h)| h.controllers.join(",")).collect()
        };
        let top = "6:net_cls:/\n5:name=systemd:/\n4:memory:/\n3:freezer:/\n2:cpuset:/\n1:cpu,cpuacct:/\n0::/a\n";
        assert_eq!(joined(&[], top), ["cpu,cpuacct", "memory", "hugetlb"]);
        assert_eq!(joined(&["cpuset"], top), ["cpu,cpuacct", "cpuset", "memory", "hugetlb"]);
        let below = "5:name=systemd:/user.slice\n3:freezer:/a:b\n2:cpuset:/\n";
        let all = ["cpu,cpuacct", "freezer", "memory", "name=systemd", "net_cls", "hugetlb"];
        assert_eq!(joined(&[], below), all);
        let legacy = Layout { hierarchies: v1().into() };
        assert_eq!(legacy.dispensable(top), ["net_cls"]);
    }

    #[test]
    fn prefixes_lead_down() {
        let all: Vec<_> = prefixes(Path::new("a/b/c")).collect();
        assert_eq!(all, [Path::new("a"), Path::new("a/b"), Path::new("a/b/c")]);
    }
}

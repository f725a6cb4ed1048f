//! Parts of trees that others use, as archives, and archives into such trees: `docker cp`.
//!
//! Whoever runs in the tree may change it at any moment, and mean harm: between a look and a use, a
//! link is put in the way (CVE-2018-15664). So no name is looked at first and used then: each step
//! is an openat2(2) within the root, or relative to a descriptor that came of one. Nothing of the
//! tree is executed or loaded, and nobody's root directory changes (CVE-2019-14271).

mod place;

use std::ffi::{CString, OsStr};
use std::io::{Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, fstatfs, openat2, statat};
use rustix::io::Errno;

use crate::error::{Doing as _, Error};
use crate::pack::pack_entry;
use crate::stream::{EXPANSION_MAX, consume};
use crate::tarball::Tar;
use place::Place;

/// How often a resolution is tried again when somebody renames meanwhile (openat2(2), `EAGAIN`).
const RETRIES_MAX: u32 = 128;
/// Symbolic links that are followed to tell where a path leads, as in Docker.
const LINKS_MAX: u32 = 255;
/// As long as the kernel lets a path be, in bytes, and as many parts as that can have.
const PATH_MAX: usize = 4096;
const PARTS_MAX: usize = PATH_MAX / 2;

/// File systems that the kernel makes up (statfs(2)): their files have no size and no content that
/// could be copied.
const KERNELS: [u32; 12] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0x6265_6570, // configfs
];

/// A tree that others may be using, by its root.
#[derive(Debug)]
pub struct Live {
    root: OwnedFd,
    ids: Ids,
    /// Whether symbolic links lead anywhere: inside the root.
    links: bool,
}

/// How users and groups inside are called on the host: those of a user namespace, or the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ids {
    /// The host's id of root, and how many follow.
    pub mapped: Option<(u32, u32)>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path, as Docker names it: `/` for the root.
    pub name: PathBuf,
    /// Bytes.
    pub size: i64,
    /// Type and permission, as in stat(2).
    pub mode: u32,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Where a symbolic link leads in the end; empty for anything else.
    pub link_target: PathBuf,
}

/// Whose what is unpacked becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As the archive says.
    Archive,
    /// This user's and group's, as they are called inside.
    Of(u32, u32),
    /// Whoever unpacks.
    Caller,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy)]
pub struct Unpack<'a> {
    /// The directory that it is unpacked into; links are followed.
    pub path: &'a Path,
    /// Whose it becomes.
    pub owner: Owner,
    /// Whether it is an error to put a directory in the place of something else, or the other way
    /// round; else what is there is removed.
    pub keeps_kinds: bool,
}

impl Ids {
    /// What the owner of a file is called inside.
    pub(crate) fn inside(self, uid: u32, gid: u32) -> (u32, u32) {
        /// Who is not known there (kernel, `overflowuid`).
        const NOBODY: u32 = 65534;
        let of = |id: u32| match self.mapped {
            None => id,
            Some((first, count)) => {
                id.checked_sub(first).filter(|id| *id < count).unwrap_or(NOBODY)
            }
        };
        (of(uid), of(gid))
    }

    /// What an id inside is called on the host; [`Errno::INVAL`] for one that is not mapped, as of
    /// chown(2) there.
    pub(crate) fn on_host(self, id: u32) -> Result<u32, Errno> {
        match self.mapped {
            None => Ok(id),
            Some((first, count)) if id < count => first.checked_add(id).ok_or(Errno::INVAL),
            Some(_) => Err(Errno::INVAL),
        }
    }
}

impl Live {
    /// A tree in which symbolic links are followed, inside its root.
    #[must_use]
    pub fn new(root: OwnedFd, ids: Ids) -> Self {
        Self { root, ids, links: true }
    }

    /// A directory of our own that an archive is unpacked into: no link below it leads anywhere.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn at(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty());
        let root = root.doing(|| format!("open `{}`", path.display()))?;
        Ok(Self { root, ids: Ids::default(), links: false })
    }

    /// Opens a path within the tree.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let (resolve, path) = match self.links {
            true => (ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS, path),
            false => (ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS, relative(path)),
        };
        for _ in 0..RETRIES_MAX {
            match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The directory that the last part of a path is in, and that part; `.` is the directory itself.
    fn entry(&self, path: &Path) -> Result<(OwnedFd, CString), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let bytes = path.as_os_str().as_bytes();
        let whole = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        let (above, name) = match (path.parent(), path.file_name()) {
            (Some(above), Some(name)) if !whole => (above, name),
            _ => (path, OsStr::new(".")),
        };
        let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
        Ok((self.open(above, flags)?, name))
    }

    /// What is at an absolute path as [`clean`] makes it: of a link itself, unless it ends with a
    /// slash or `/.`.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn stat(&self, path: &Path) -> Result<PathStat, Errno> {
        let (at, name) = self.entry(path)?;
        let stat = statat(&at, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        let is_link = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink();
        let link_target = if is_link { self.evaluate(path)? } else { PathBuf::new() };
        Ok(PathStat {
            name: PathBuf::from(OsStr::from_bytes(base(path))),
            size: stat.st_size,
            mode: stat.st_mode,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            link_target,
        })
    }

    /// Where a path leads, with all links followed as far as they lead anywhere. It is only a name:
    /// whoever uses it resolves it within the tree again.
    fn evaluate(&self, path: &Path) -> Result<PathBuf, Errno> {
        let mut done = PathBuf::from("/");
        let mut rest: Vec<PathBuf> = parts(path);
        let mut links = LINKS_MAX;
        while let Some(part) = rest.pop() {
            if part == Path::new("..") {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            if next.as_os_str().len() > PATH_MAX {
                return Err(Errno::NAMETOOLONG);
            }
            let found = self.open(&next, OFlags::PATH | OFlags::NOFOLLOW);
            let target = found.and_then(|link| rustix::fs::readlinkat(&link, "", Vec::new()));
            let Ok(target) = target else {
                done = next;
                continue;
            };
            links = links.checked_sub(1).ok_or(Errno::LOOP)?;
            let target = PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            rest.extend(parts(&target));
            if rest.len() > PARTS_MAX {
                return Err(Errno::NAMETOOLONG);
            }
        }
        Ok(done)
    }

    /// Writes what is at an absolute path, and what is below it, as an archive whose first entry is
    /// `title`, or what Docker names it: the last part of the path. A directory of the kernel's has
    /// nothing in it, and `/dev` neither, if it is not asked for itself.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is there; [`Error::Invalid`] for a file of the kernel's or a
    /// tree that is too deep; [`Error::Io`].
    pub fn pack<W: Write>(&self, path: &Path, title: Option<&[u8]>, out: W) -> Result<W, Error> {
        let shown = path.display();
        let found = self.entry(path).and_then(|(at, name)| {
            let stat = statat(&at, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((at, name, stat))
        });
        let (at, name, stat) = match found {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(Error::NotFound(shown.to_string())),
            found => found.doing(|| format!("find `{shown}`"))?,
        };
        let is_directory = crate::overlay::is_directory(&stat);
        if is_kernels(at.as_fd()) && !is_directory {
            let why = "is made up by the kernel when it is read, and cannot be copied";
            return Err(Error::Invalid(format!("`{shown}` {why}")));
        }
        let (at, name) = match is_directory {
            true => (self.open(path, OFlags::RDONLY | OFlags::DIRECTORY), c".".to_owned()),
            false => (Ok(at), name),
        };
        let at = at.doing(|| format!("open `{shown}`"))?;
        let devices = statat(&self.root, "dev", AtFlags::SYMLINK_NOFOLLOW).ok().map(identity);
        let skipped = devices.filter(|_| self.links);
        let title = title.unwrap_or_else(|| base(path));
        pack_entry((at.as_fd(), &name), title, (self.ids, skipped), out)
    }

    /// Unpacks an archive, plain or compressed.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the directory is not there; [`Error::Invalid`] if it is none, if the
    /// archive is malformed or leads outside, or for a kind that is kept; [`Error::Io`].
    pub fn unpack(&self, unpack: Unpack<'_>, archive: &mut dyn Read) -> Result<(), Error> {
        let shown = unpack.path.display();
        match self.open(unpack.path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => return Err(Error::NotFound(shown.to_string())),
            Err(Errno::NOTDIR) => {
                return Err(Error::Invalid("extraction point is not a directory".to_owned()));
            }
            opened => opened.doing(|| format!("open `{shown}`")).map(drop)?,
        }
        consume(archive, EXPANSION_MAX, &mut |_| {}, |content| {
            let mut place = Place::new(self, unpack);
            let mut tar = Tar::new(content);
            while let Some(entry) = tar.next()? {
                place.take(&mut tar, &entry)?;
            }
            // Whoever writes it may not be interrupted before its end.
            tar.drain()?;
            place.finish()
        })
    }
}

/// A path as Docker reads it: from the root, without `.`, `..` and doubled slashes, but for a slash
/// or `/.` at its end, which ask for the directory.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    let bytes = path.as_os_str().as_bytes();
    let dot = bytes == b"." || bytes.ends_with(b"/.");
    let mut clean = clean.into_os_string();
    match (dot, clean.as_bytes().ends_with(b"/")) {
        (true, true) => clean.push("."),
        (true, false) => clean.push("/."),
        (false, false) if bytes.ends_with(b"/") => clean.push("/"),
        _ => {}
    }
    clean.into()
}

/// The last part of a path, as Go's `filepath.Base` has it.
fn base(path: &Path) -> &[u8] {
    let mut bytes = path.as_os_str().as_bytes();
    while let [head @ .., b'/'] = bytes {
        bytes = head;
    }
    match bytes.rsplit(|&b| b == b'/').next() {
        None | Some(b"") => b"/",
        Some(name) => name,
    }
}

/// The parts of a path, the first last; `..` among them.
fn parts(path: &Path) -> Vec<PathBuf> {
    let names =
        path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<PathBuf> = names.map(|c| PathBuf::from(c.as_os_str())).collect();
    parts.reverse();
    parts
}

fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn identity(stat: Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Whether a file is on a file system that the kernel makes up.
pub(crate) fn is_kernels(file: BorrowedFd<'_>) -> bool {
    let kind = fstatfs(file).map(|found| found.f_type);
    kind.is_ok_and(|kind| KERNELS.iter().any(|known| i64::from(*known) == kind))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;
    use crate::tarball::{Entry, Kind};
    use crate::tarwriter::{TarWriter, plain_entry};

    fn archive(entries: &[(Entry, &str)]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (entry, data) in entries {
            tar.append(entry, &mut data.as_bytes()).unwrap();
        }
        tar.finish().unwrap()
    }

    fn file(name: &str, data: &'static str) -> (Entry, &'static str) {
        let entry = plain_entry(Kind::File, name.as_bytes(), 0o640, data.len() as u64);
        (Entry { mtime_s: 1_000_000_000, ..entry }, data)
    }

    fn other(kind: Kind, name: &str, link: &str) -> (Entry, &'static str) {
        let entry = plain_entry(kind, name.as_bytes(), 0o710, 0);
        (Entry { mtime_s: 1_000_000_000, link: link.as_bytes().to_vec(), ..entry }, "")
    }

    fn live(path: &Path) -> Live {
        Live { links: true, ..Live::at(path).unwrap() }
    }

    fn unpack(
        live: &Live,
        path: &str,
        keeps_kinds: bool,
        entries: &[(Entry, &str)],
    ) -> Result<(), Error> {
        let unpack = Unpack { path: Path::new(path), owner: Owner::Caller, keeps_kinds };
        live.unpack(unpack, &mut &archive(entries)[..])
    }

    #[test]
    fn paths_are_read_as_docker_reads_them() {
        for (path, expected) in [
            ("", "/"),
            ("a", "/a"),
            ("/a/../b//c", "/b/c"),
            ("a/", "/a/"),
            ("a/.", "/a/."),
            (".", "/."),
            ("/", "/"),
            ("/../..", "/"),
            ("a/..", "/"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
        for (path, expected) in [("/", "/"), ("/a/b", "b"), ("/a/b/", "b"), ("/a/.", ".")] {
            assert_eq!(base(Path::new(path)), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn links_are_told_and_lead_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/f"), "text").unwrap();
        symlink("../../../../d", root.join("up")).unwrap();
        symlink("/up/none", root.join("d/broken")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let live = live(root);
        let stat = |path: &str| live.stat(Path::new(path));
        assert_eq!(stat("/up").unwrap().link_target, Path::new("/d"));
        assert_eq!(stat("/up/broken").unwrap().link_target, Path::new("/d/none"));
        assert_eq!(stat("/up/").unwrap().mode & 0o170_000, 0o040_000);
        assert_eq!(stat("/up/f").unwrap().size, 4);
        assert_eq!(stat("/none").unwrap_err(), Errno::NOENT);
        assert_eq!(stat("/loop").unwrap_err(), Errno::LOOP);
        let packed = |path: &str| {
            let bytes = live.pack(Path::new(path), None, Vec::new()).unwrap();
            let mut tar = Tar::new(&bytes[..]);
            std::iter::from_fn(|| tar.next().unwrap())
                .map(|entry| String::from_utf8(entry.name).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(packed("/up"), ["up"]);
        assert_eq!(packed("/up/"), ["up/", "up/broken", "up/f"]);
        assert_eq!(packed("/d/."), ["./", "./broken", "./f"]);
    }

    #[test]
    fn what_is_unpacked_is_what_the_archive_says() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("target")).unwrap();
        symlink("target", root.join("link")).unwrap();
        let live = live(root);
        let entries = [
            other(Kind::Directory, "d/", ""),
            file("d/f", "one"),
            other(Kind::HardLink, "d/h", "d/f"),
            other(Kind::Symlink, "s", "/etc"),
            other(Kind::Fifo, "p", ""),
            file("implied/x", "two"),
        ];
        unpack(&live, "/link", true, &entries).unwrap();
        let at = root.join("target");
        assert_eq!(fs::read_to_string(at.join("d/h")).unwrap(), "one");
        assert_eq!(fs::metadata(at.join("d/h")).unwrap().nlink(), 2);
        for (name, mode) in [("d", 0o710), ("d/f", 0o640), ("p", 0o710), ("implied", 0o755)] {
            let found = fs::metadata(at.join(name)).unwrap();
            assert_eq!(found.permissions().mode() & 0o7777, mode, "{name}");
            assert!(name == "implied" || found.mtime() == 1_000_000_000, "{name}");
        }
        assert_eq!(fs::read_link(at.join("s")).unwrap(), Path::new("/etc"));
        // Again, over what is there.
        unpack(&live, "/target", true, &entries).unwrap();
        assert_eq!(fs::read_to_string(at.join("d/f")).unwrap(), "one");
    }

    #[test]
    fn kinds_are_kept_or_give_way() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("d/deep")).unwrap();
        fs::write(root.join("f"), "old").unwrap();
        let live = live(root);
        let error = unpack(&live, "/", true, &[file("d", "x")]).unwrap_err().to_string();
        assert_eq!(error, "cannot overwrite directory \"/d\" with non-directory \"/\"");
        let error = unpack(&live, "/", true, &[other(Kind::Directory, "f", "")]);
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "cannot overwrite non-directory \"/f\" with directory \"/\"");
        unpack(&live, "/", false, &[file("d", "x"), other(Kind::Directory, "f", "")]).unwrap();
        assert!(root.join("d").is_file() && root.join("f").is_dir());
        let missing = unpack(&live, "/none", true, &[]).unwrap_err();
        assert!(matches!(missing, Error::NotFound(_)), "{missing}");
        let error = unpack(&live, "/d", true, &[]).unwrap_err().to_string();
        assert_eq!(error, "extraction point is not a directory");
    }

    #[test]
    fn a_directory_of_our_own_has_no_links_that_lead() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        let own = Live::at(root).unwrap();
        unpack(&own, "/", true, &[file("link/x", "x")]).unwrap_err();
        unpack(&own, "/", true, &[other(Kind::Symlink, "new", "real"), file("new/x", "x")])
            .unwrap_err();
        assert_eq!(fs::read_dir(root.join("real")).unwrap().count(), 0);
        unpack(&own, "/", true, &[file("../x", "x")]).unwrap_err();
        unpack(&own, "/", true, &[file("plain/x", "x")]).unwrap();
    }

    #[test]
    fn files_of_the_kernel_are_refused() {
        let live = live(Path::new("/proc"));
        let error = live.pack(Path::new("/self/status"), None, io::sink()).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        let bytes = live.pack(Path::new("/"), Some(b"proc"), Vec::new()).unwrap();
        let mut tar = Tar::new(&bytes[..]);
        assert_eq!(tar.next().unwrap().unwrap().name, b"proc/");
        assert!(tar.next().unwrap().is_none());
    }
}

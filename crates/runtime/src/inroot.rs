//! A directory tree that belongs to somebody else, reached without ever leaving it.
//!
//! Every name in a container's root file system may be a symbolic link that its owner planted.
//! [`Root`] resolves names with openat2(2): absolute links and `..` end at the root, the magic
//! links of procfs are refused, and what is returned is a descriptor, never a path to walk again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, RawMode, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;

use crate::error::{Doing, Error};
use crate::weak::weakened;

/// How often a resolution is tried again when a concurrent rename disturbs it.
const RETRIES_MAX: u32 = 128;

/// How many links that lead to nothing are followed for one path, as `MAXSYMLINKS` of the kernel.
const LINKS_MAX: usize = 40;

/// The largest file that is read out of a root file system, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Most are smaller, in bytes, and are read at once.
const FILE_USUAL: usize = 4 << 10;

/// The root of a container, as a descriptor.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Root {
    /// Takes a directory as the root of everything that follows.
    pub(crate) fn new(directory: OwnedFd) -> Root {
        Root { directory }
    }

    /// The root of this process.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn of_process() -> Result<Root, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, "/", flags, Mode::empty())
            .doing(|| "open the root of the container")?;
        Ok(Root { directory })
    }

    /// The root of another process.
    ///
    /// # Errors
    /// When it has gone, or may not be looked at.
    pub(crate) fn of(pid: i32) -> Result<Root, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty())
            .doing(|| format!("open the root of process {pid}"))?;
        Ok(Root { directory })
    }

    /// Opens `path`, following links inside the root.
    ///
    /// # Errors
    /// Those of openat2(2); `ELOOP` for a magic link.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::empty())
    }

    /// Opens `path`, refusing every symbolic link on the way.
    ///
    /// # Errors
    /// Those of openat2(2); `ELOOP` for a link.
    pub(crate) fn open_without_links(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let flags = flags | OFlags::CLOEXEC;
        let mut path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        if weakened("names-outside-root") {
            (path, resolve) = (path.strip_prefix("/").unwrap_or(path), more);
        }
        for _ in 0..RETRIES_MAX {
            match openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens the directory `path`, making what is missing of it (mode 0755).
    ///
    /// Each missing component is made relative to the descriptor of its parent, so that a link
    /// put in the way afterwards cannot make this reach outside (CVE-2024-45310). A link that leads
    /// to nothing is followed inside the root, and what it names is made.
    ///
    /// # Errors
    /// When something in the way is no directory, or the kernel refuses.
    pub(crate) fn create_dir_all(&self, path: &Path) -> Result<OwnedFd, Error> {
        self.create_dirs(path, LINKS_MAX)
            .doing(|| format!("make the directory `{}`", path.display()))
    }

    fn create_dirs(&self, path: &Path, links: usize) -> io::Result<OwnedFd> {
        let (mut directory, missing) = self.existing_part(path)?;
        let mut done: PathBuf =
            path.components().take(path.components().count() - missing.len()).collect();
        for (at, name) in missing.iter().enumerate() {
            match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            directory = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let led = follow(&directory, &done, name)?;
                    let rest: PathBuf = missing[at + 1..].iter().collect();
                    let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                    return self.create_dirs(&led.join(rest), links);
                }
                Err(error) => return Err(error.into()),
            };
            done.push(name);
        }
        Ok(directory)
    }

    /// The deepest directory on the way to `path` that exists, and the names below it.
    fn existing_part(&self, path: &Path) -> io::Result<(OwnedFd, Vec<PathBuf>)> {
        let names: Vec<Component<'_>> = path.components().collect();
        for present in (0..=names.len()).rev() {
            let prefix: PathBuf = names[..present].iter().collect();
            match self.open(&prefix, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(directory) => {
                    let missing = &names[present..];
                    if !missing.iter().all(|name| matches!(name, Component::Normal(_))) {
                        return Err(Errno::NOENT.into());
                    }
                    return Ok((directory, missing.iter().map(PathBuf::from).collect()));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::NOENT.into())
    }

    /// Opens the directory or file `path` to mount on, making an empty one when it is missing.
    ///
    /// # Errors
    /// When its parents cannot be made, or it exists and is of the other kind.
    pub(crate) fn mount_point(&self, path: &Path, directory: bool) -> Result<OwnedFd, Error> {
        match self.existing_mount_point(path, directory)? {
            Some(target) => Ok(target),
            None => self.make_mount_point(path, directory),
        }
    }

    /// Opens the directory or file `path` to mount on, if there is one.
    ///
    /// # Errors
    /// When it is of the other kind, or the kernel refuses.
    pub(crate) fn existing_mount_point(
        &self,
        path: &Path,
        directory: bool,
    ) -> Result<Option<OwnedFd>, Error> {
        let doing = || format!("open the mount point `{}`", path.display());
        let target = match self.open(path, OFlags::PATH) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            other => other.doing(doing)?,
        };
        if (file_type(&target).doing(doing)? == FileType::Directory) == directory {
            return Ok(Some(target));
        }
        let wanted = if directory { "a directory" } else { "no directory" };
        Err(Error::Spec(format!(
            "the mount point `{}` must be {wanted}, as what is mounted there",
            path.display()
        )))
    }

    /// Makes an empty directory or file `path` to mount on.
    ///
    /// # Errors
    /// When its parents cannot be made.
    pub(crate) fn make_mount_point(&self, path: &Path, directory: bool) -> Result<OwnedFd, Error> {
        if directory { self.create_dir_all(path) } else { self.create_file(path) }
    }

    fn create_file(&self, path: &Path) -> Result<OwnedFd, Error> {
        self.create_file_at(path, LINKS_MAX)
            .doing(|| format!("make the mount point `{}`", path.display()))
    }

    fn create_file_at(&self, path: &Path, links: usize) -> io::Result<OwnedFd> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ISDIR.into());
        };
        let directory = self.create_dirs(parent, links)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644)) {
            Err(Errno::EXIST) => {
                let led = follow(&directory, parent, Path::new(name))?;
                self.create_file_at(&led, links.checked_sub(1).ok_or(Errno::LOOP)?)
            }
            other => Ok(other?),
        }
    }

    /// The content of the regular file `path`; `None` when there is none.
    ///
    /// A fifo or a device in its place is an error, not a hang (CVE-2024-9676).
    ///
    /// # Errors
    /// When it is not a regular file, is larger than 4 MiB, or cannot be read.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        flags.set(OFlags::NONBLOCK, !weakened("any-file-of-users"));
        let file = match self.open(path, flags) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(Error::kernel(format!("open `{}`", path.display()), error)),
        };
        read_regular(file, path).map(Some)
    }
}

/// Where the link `name` in `directory`, which is `path`, leads: a path from the root.
///
/// # Errors
/// Those of readlinkat(2); `EINVAL` for what is no link.
fn follow(directory: &OwnedFd, path: &Path, name: &Path) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(path.join(std::ffi::OsString::from_vec(target.into_bytes())))
}

fn read_regular(file: OwnedFd, path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read as _;
    let kind = file_type(&file).doing(|| format!("look at `{}`", path.display()))?;
    if kind != FileType::RegularFile && !weakened("any-file-of-users") {
        return Err(Error::Spec(format!("`{}` is not a regular file", path.display())));
    }
    let mut bytes = Vec::with_capacity(FILE_USUAL);
    std::fs::File::from(file)
        .take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .doing(|| format!("read `{}`", path.display()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(Error::Spec(format!("`{}` is larger than {FILE_MAX} bytes", path.display())));
    }
    Ok(bytes)
}

/// What kind of file a descriptor is of.
///
/// # Errors
/// Those of fstat(2).
pub(crate) fn file_type(file: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode as RawMode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = rustix::fs::open(directory.path(), flags, Mode::empty()).unwrap();
        (directory, Root::new(fd))
    }

    #[test]
    fn links_end_at_the_root() {
        let (directory, root) = root();
        symlink("/etc", directory.path().join("absolute")).unwrap();
        symlink("../../../../../../etc", directory.path().join("relative")).unwrap();
        for link in ["absolute", "relative"] {
            root.create_dir_all(&Path::new("/").join(link).join("deep")).unwrap();
            assert!(directory.path().join("etc/deep").is_dir());
            std::fs::remove_dir_all(directory.path().join("etc")).unwrap();
        }
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        for link in ["absolute", "relative"] {
            root.create_dir_all(&Path::new("/").join(link).join(link)).unwrap();
            assert!(directory.path().join("etc").join(link).is_dir());
        }
    }

    #[test]
    fn what_is_missing_is_made_and_dots_are_refused() {
        let (directory, root) = root();
        root.mount_point(Path::new("/a/b/c"), true).unwrap();
        root.mount_point(Path::new("/a/file"), false).unwrap();
        assert!(directory.path().join("a/b/c").is_dir());
        assert!(directory.path().join("a/file").is_file());
        root.create_dir_all(Path::new("/missing/../x")).unwrap_err();
        root.mount_point(Path::new("/a/file"), true).unwrap_err();
        root.mount_point(Path::new("/a/b"), false).unwrap_err();
    }

    #[test]
    fn a_link_that_leads_to_nothing_is_followed_inside() {
        let (directory, root) = root();
        symlink("/tmp/foo/bar", directory.path().join("jump")).unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        symlink("/jump/baz/hosts", directory.path().join("etc/hosts")).unwrap();
        root.mount_point(Path::new("/etc/hosts"), false).unwrap();
        assert!(directory.path().join("tmp/foo/bar/baz/hosts").is_file());
        symlink("../made/here", directory.path().join("etc/dir")).unwrap();
        root.mount_point(Path::new("/etc/dir/deep"), true).unwrap();
        assert!(directory.path().join("made/here/deep").is_dir());
        symlink("loop", directory.path().join("loop")).unwrap();
        root.mount_point(Path::new("/loop"), false).unwrap_err();
        root.mount_point(Path::new("/loop/x"), true).unwrap_err();
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let (directory, root) = root();
        assert!(root.read(Path::new("/etc/passwd")).unwrap().is_none());
        std::fs::write(directory.path().join("small"), "x").unwrap();
        assert_eq!(root.read(Path::new("/small")).unwrap().unwrap(), b"x");
        let large = std::fs::File::create(directory.path().join("large")).unwrap();
        large.set_len(FILE_MAX + 1).unwrap();
        root.read(Path::new("/large")).unwrap_err();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        root.read(Path::new("/fifo")).unwrap_err();
        root.read(Path::new("/")).unwrap_err();
    }
}

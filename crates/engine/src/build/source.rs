//! Files that a build copies: of its context, or of a tree of layers. Everything is reached from one
//! descriptor, and no link leads out of it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use build::{Glob, Ignore};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

use crate::error::{Doing, Error, Kind, Result};

/// Symbolic links followed on the way to one file; the kernel's own limit.
const LINKS_MAX: usize = 40;
/// Files and directories that one instruction copies.
const ENTRIES_MAX: usize = 10_000_000;

/// A directory that files are copied from.
#[derive(Debug)]
pub(crate) struct Source {
    root: OwnedFd,
    ignore: Ignore,
    /// Whether owners and attributes of files are theirs: in a tree they are, in a context they are
    /// those of whoever builds.
    pub(crate) keeps_owners: bool,
}

/// A file or directory to be copied.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Where it is, seen from the root of its source.
    pub(crate) path: PathBuf,
    /// Where it goes, seen from where all of it goes; empty for the directory itself.
    pub(crate) below: PathBuf,
    /// What it is.
    pub(crate) stat: Stat,
}

/// What one source of an instruction comes to.
#[derive(Debug, Clone)]
pub(crate) struct Picked {
    /// What it was called.
    pub(crate) name: OsString,
    /// Whether it is a directory, whose content is copied.
    pub(crate) is_directory: bool,
    /// Whether entries go where they were, with their directories.
    pub(crate) with_parents: bool,
    /// Each directory before what is in it.
    pub(crate) entries: Vec<Entry>,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Absolute, with wildcards.
    pub(crate) path: &'a str,
    /// Which of what is below, with their directories.
    pub(crate) parents: Option<&'a str>,
    /// What is left out.
    pub(crate) exclude: &'a Ignore,
}

impl Source {
    pub(crate) fn context(root: OwnedFd, ignore: Ignore) -> Self {
        Self { root, ignore, keeps_owners: false }
    }

    pub(crate) fn tree(root: OwnedFd) -> Self {
        Self { root, ignore: Ignore::default(), keeps_owners: true }
    }

    /// Everything that is wanted, in the order of its names.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a path without wildcards that does not exist.
    pub(crate) fn pick(&self, wanted: &Wanted<'_>) -> Result<Vec<Picked>> {
        if let Some(parents) = wanted.parents {
            return self.pick_parents(wanted, parents);
        }
        let path = wanted.path.trim_start_matches('/');
        if !Glob::has_wildcards(path) {
            return self.pick_exactly(wanted);
        }
        let mut picked = Vec::new();
        for (name, matched) in self.expand(path)? {
            let relative = Glob::below_fixed(path, &name.to_string_lossy());
            if wanted.exclude.matches(&relative) {
                continue;
            }
            if let Some(found) = self.find(&matched)? {
                let prefix = PathBuf::from(relative);
                picked.push(self.picked(&name, found, wanted, &prefix)?);
            }
        }
        Ok(picked)
    }

    /// As [`Source::pick`], without wildcards.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub(crate) fn pick_exactly(&self, wanted: &Wanted<'_>) -> Result<Vec<Picked>> {
        let path = Path::new(wanted.path.trim_start_matches('/'));
        match self.find(path)? {
            Some(found) => Ok(vec![self.picked(path, found, wanted, Path::new(""))?]),
            None => Err(self.missing(wanted.path)),
        }
    }

    fn missing(&self, path: &str) -> Error {
        let error = Error::new(Kind::NotFound, format!("{path:?}: not found"));
        match self.ignore.matches(path.trim_start_matches('/')) {
            true => error.hint("it is excluded by .dockerignore"),
            false => error,
        }
    }

    /// The names that a path with wildcards stands for.
    fn expand(&self, path: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut found = vec![(PathBuf::new(), PathBuf::new())];
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let glob = Glob::parse(part).map_err(|error| Error::invalid(error.to_string()))?;
            let mut next = Vec::new();
            for (name, real) in found {
                let Some((real, stat)) = self.find(&real)? else { continue };
                if !is_directory(&stat) {
                    continue;
                }
                for entry in self.names(&real)? {
                    if glob.matches(&entry.to_string_lossy()) {
                        next.push((name.join(&entry), real.join(&entry)));
                    }
                }
            }
            found = next;
        }
        Ok(found)
    }

    fn picked(
        &self,
        name: &Path,
        (path, stat): (PathBuf, Stat),
        wanted: &Wanted<'_>,
        prefix: &Path,
    ) -> Result<Picked> {
        let is_directory = is_directory(&stat);
        let top = Entry { path: path.clone(), below: PathBuf::new(), stat };
        let mut entries = vec![top];
        if is_directory {
            let keeps = |below: &Path| {
                let relative = prefix.join(below);
                match wanted.exclude.matches(&relative.to_string_lossy()) {
                    false => Keep::Yes,
                    true if wanted.exclude.may_return_below(&relative.to_string_lossy()) => {
                        Keep::Below
                    }
                    true => Keep::No,
                }
            };
            self.walk(&path, Path::new(""), &keeps, &mut entries)?;
        } else {
            let base = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if prefix.as_os_str().is_empty() && wanted.exclude.matches(&base) {
                entries.clear();
            }
        }
        let name = name.file_name().unwrap_or_default().to_owned();
        Ok(Picked { name, is_directory, with_parents: false, entries })
    }

    /// What a pattern of `--parents` stands for, with all directories on the way; from each place
    /// that they start at.
    fn pick_parents(&self, wanted: &Wanted<'_>, parents: &str) -> Result<Vec<Picked>> {
        let pivot = wanted.path.trim_start_matches('/');
        let starts = match Glob::has_wildcards(pivot) {
            true => self.expand(pivot)?.into_iter().map(|(_, real)| real).collect(),
            false => vec![PathBuf::from(pivot)],
        };
        starts.iter().map(|start| self.pick_from(start, wanted, parents)).collect()
    }

    fn pick_from(&self, start: &Path, wanted: &Wanted<'_>, parents: &str) -> Result<Picked> {
        let Some((path, stat)) = self.find(start)? else { return Err(self.missing(wanted.path)) };
        let include = Ignore::new([parents]).map_err(|error| Error::invalid(error.to_string()))?;
        let mut entries = vec![Entry { path: path.clone(), below: PathBuf::new(), stat }];
        let keeps = |below: &Path| {
            let below = below.to_string_lossy();
            match include.matches(&below) && !wanted.exclude.matches(&below) {
                true => Keep::Yes,
                // Something below it may be meant.
                false => Keep::Below,
            }
        };
        if is_directory(&stat) {
            self.walk(&path, Path::new(""), &keeps, &mut entries)?;
        }
        let is_fixed = !Glob::has_wildcards(parents) && !Glob::has_wildcards(wanted.path);
        if is_fixed && entries.len() == 1 {
            return Err(self.missing(&format!("{}/{parents}", wanted.path.trim_end_matches('/'))));
        }
        Ok(Picked { name: OsString::new(), is_directory: true, with_parents: true, entries })
    }

    /// Where a path leads, following links, and what is there; `None` for what does not exist or is
    /// out of sight.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<(PathBuf, Stat)>> {
        let mut pending: Vec<OsString> = components(path);
        pending.reverse();
        let mut real = PathBuf::new();
        let mut stat = self.stat(&real)?.ok_or_else(|| self.missing("/"))?;
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == ".." {
                real.pop();
                stat = self.stat(&real)?.ok_or_else(|| self.missing("/"))?;
                continue;
            }
            let next = real.join(&part);
            let Some(found) = self.stat(&next)? else { return Ok(None) };
            if FileType::from_raw_mode(found.st_mode).is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::invalid(format!("{} is a chain of links", path.display())));
                }
                let target = self.link(&next)?;
                if target.is_absolute() {
                    real = PathBuf::new();
                    stat = self.stat(&real)?.ok_or_else(|| self.missing("/"))?;
                }
                pending.extend(components(&target).into_iter().rev());
                continue;
            }
            if !pending.is_empty() && !is_directory(&found) {
                return Ok(None);
            }
            (real, stat) = (next, found);
        }
        let shown = real.to_string_lossy();
        let is_hidden = self.ignore.matches(&shown)
            && !(is_directory(&stat) && self.ignore.may_return_below(&shown));
        Ok((!is_hidden).then_some((real, stat)))
    }

    /// Where a path leads, following links, whether anything is there yet or not.
    ///
    /// # Errors
    /// If links lead in circles.
    pub(crate) fn resolve(&self, path: &Path) -> Result<PathBuf> {
        let mut pending: Vec<OsString> = components(path);
        pending.reverse();
        let (mut real, mut links) = (PathBuf::new(), 0);
        while let Some(part) = pending.pop() {
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            let found = self.stat(&next)?;
            if !found.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink()) {
                real = next;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Error::invalid(format!("{} is a chain of links", path.display())));
            }
            let target = self.link(&next)?;
            if target.is_absolute() {
                real = PathBuf::new();
            }
            pending.extend(components(&target).into_iter().rev());
        }
        Ok(real)
    }

    /// Adds what is below a directory and kept; a directory that is not comes along if something
    /// below it is.
    fn walk(
        &self,
        path: &Path,
        below: &Path,
        keeps: &dyn Fn(&Path) -> Keep,
        entries: &mut Vec<Entry>,
    ) -> Result<()> {
        let directory = self.list(path)?;
        for name in names(&directory).doing(|| format!("list {}", path.display()))? {
            let (path, below) = (path.join(&name), below.join(&name));
            let shown = path.to_string_lossy();
            let is_ignored = self.ignore.matches(&shown);
            let keep = match keeps(&below) {
                Keep::Yes if is_ignored && self.ignore.may_return_below(&shown) => Keep::Below,
                Keep::Below if is_ignored && !self.ignore.may_return_below(&shown) => Keep::No,
                Keep::Yes if is_ignored => Keep::No,
                keep => keep,
            };
            // What vanishes meanwhile was not there.
            let stat = lstat(directory.as_fd(), &name);
            let Some(stat) = stat.doing(|| format!("look at {}", path.display()))? else {
                continue;
            };
            if keep == Keep::No || keep == Keep::Below && !is_directory(&stat) {
                continue;
            }
            if entries.len() == ENTRIES_MAX {
                return Err(Error::invalid(format!(
                    "more than {ENTRIES_MAX} files are to be copied"
                )));
            }
            let place = entries.len();
            entries.push(Entry { path: path.clone(), below: below.clone(), stat });
            if is_directory(&stat) {
                self.walk(&path, &below, keeps, entries)?;
            }
            if keep == Keep::Below && entries.len() == place + 1 {
                entries.pop();
            }
        }
        Ok(())
    }

    /// Opens a directory to list it.
    fn list(&self, path: &Path) -> Result<OwnedFd> {
        let opened = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY);
        opened.doing(|| format!("list {}", path.display()))
    }

    /// The names in a directory, sorted by their bytes.
    fn names(&self, path: &Path) -> Result<Vec<OsString>> {
        names(&self.list(path)?).doing(|| format!("list {}", path.display()))
    }

    /// Opens what is there, and nothing that a link leads to.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, named(path), flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Opens a regular file for reading, whatever is put in its place meanwhile.
    pub(crate) fn open_file(&self, path: &Path) -> Result<std::fs::File> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        store::open_regular(&self.root, named(path), resolve)
            .doing(|| format!("open {}", path.display()))
    }

    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        let opened = match self.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            opened => opened.doing(|| format!("look at {}", path.display()))?,
        };
        let stat = rustix::fs::fstat(&opened).doing(|| format!("look at {}", path.display()))?;
        Ok(Some(stat))
    }

    /// What a symbolic link says.
    pub(crate) fn link(&self, path: &Path) -> Result<PathBuf> {
        let doing = || format!("read the link {}", path.display());
        let link = self.open(path, OFlags::PATH | OFlags::NOFOLLOW).doing(doing)?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new()).doing(doing)?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }
}

/// The names in a directory, sorted by their bytes.
fn names(directory: &OwnedFd) -> std::result::Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(&name[..], b"." | b"..") {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

/// Whether something is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    /// If something in it is.
    Below,
    No,
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

/// A path that is empty means where one is.
pub(crate) fn named(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

fn components(path: &Path) -> Vec<OsString> {
    use std::path::Component;
    let parts = path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    parts.collect()
}

/// Whether something is at this name, itself and not what it links to.
pub(crate) fn lstat(at: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<Option<Stat>, Errno> {
    match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        stat => stat.map(Some),
    }
}

//! Which files change, told by inotify(7).

use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use engine::{Error, Kind, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// How long it has to be quiet before what has changed is looked at: an editor writes in steps.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How many directories are watched.
const DIRECTORIES_MAX: usize = 8192;

/// Directories, with all below them.
pub(super) struct Watched {
    watch: OwnedFd,
    directories: HashMap<i32, PathBuf>,
}

impl Watched {
    pub(super) fn new(paths: &BTreeSet<PathBuf>) -> Result<Self> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
        let mut watched = Self { watch, directories: HashMap::new() };
        for path in paths {
            watched.add(path)?;
        }
        Ok(watched)
    }

    /// Watches a directory and those below it, or the one that a file is in.
    fn add(&mut self, path: &Path) -> Result<()> {
        let found = std::fs::symlink_metadata(path).map_err(|error| {
            Error::caused(Kind::NotFound, format!("watch {}", path.display()), error)
        })?;
        if !found.is_dir() {
            let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
            return self.add_one(&parent);
        }
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            self.add_one(&path)?;
            let below = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let directories =
                below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(
                directories.map(|entry| entry.path()).filter(|path| !path.ends_with(".git")),
            );
        }
        Ok(())
    }

    fn add_one(&mut self, path: &Path) -> Result<()> {
        if self.directories.len() >= DIRECTORIES_MAX {
            let message = format!("more than {DIRECTORIES_MAX} directories to watch");
            return Err(
                Error::new(Kind::Unsupported, message).hint("watch fewer with another path")
            );
        }
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB;
        let number = inotify::add_watch(&self.watch, path, flags).map_err(failed)?;
        self.directories.insert(number, path.to_owned());
        Ok(())
    }

    /// What has changed, once it is quiet again.
    pub(super) fn next(&mut self) -> Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        let mut patience = None;
        loop {
            let mut set = [PollFd::new(&self.watch, PollFlags::IN)];
            let ready = rustix::io::retry_on_intr(|| poll(&mut set, patience)).map_err(failed)?;
            if ready == 0 {
                return Ok(changed);
            }
            changed.extend(self.read()?);
            patience = (!changed.is_empty()).then_some(&QUIET);
        }
    }

    fn read(&mut self) -> Result<Vec<PathBuf>> {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut all = Vec::new();
        {
            let mut reader = inotify::Reader::new(&self.watch, &mut buffer);
            while let Ok(event) = reader.next() {
                let Some(directory) = self.directories.get(&event.wd()) else { continue };
                let name =
                    event.file_name().map(|name| std::ffi::OsStr::from_bytes(name.to_bytes()));
                let path = name.map_or_else(|| directory.clone(), |name| directory.join(name));
                let is_new = event.events().contains(ReadFlags::ISDIR)
                    && event.events().intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                all.push((path, is_new));
            }
        }
        for (path, is_new) in &all {
            if *is_new && !path.ends_with(".git") {
                // One that is gone again has nothing to tell.
                let _ = self.add(path);
            }
        }
        Ok(all.into_iter().map(|(path, _)| path).collect())
    }
}

fn failed(error: rustix::io::Errno) -> Error {
    Error::caused(Kind::Internal, "watch files", std::io::Error::from(error))
}

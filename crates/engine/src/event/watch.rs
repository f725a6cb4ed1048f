//! Reading events, and waiting for more.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::Event;
use super::history::{LOG, OLD, READ_BYTES_MAX};
use crate::error::{Doing, Result};

/// What is read at once.
const READ_BYTES: usize = 64 << 10;

/// Which events are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventQuery {
    /// Nanoseconds since 1970; without it, only what happens from now on.
    pub since_ns: Option<i64>,
    /// As `since_ns`; without it, without end.
    pub until_ns: Option<i64>,
}

/// Events, one after the other.
#[derive(Debug)]
pub struct Events {
    directory: PathBuf,
    query: EventQuery,
    /// Files that are read to their end, then the one that is appended to.
    files: VecDeque<Source>,
    /// Tells of changes in the directory.
    watch: OwnedFd,
    /// What ends them, and how it is seen to.
    end: Option<(OwnedFd, PollFlags)>,
    ready: VecDeque<Event>,
}

/// A file being read.
#[derive(Debug)]
struct Source {
    file: File,
    /// The line that is not complete yet.
    line: Vec<u8>,
}

impl Events {
    /// Opens the history, from its end on unless the past is asked for.
    pub(super) fn open(directory: &Path, query: EventQuery) -> Result<Self> {
        let doing = || format!("watch {}", directory.display());
        crate::file::create_dir(directory)?;
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).doing(doing)?;
        let flags = WatchFlags::MODIFY | WatchFlags::MOVED_FROM | WatchFlags::CREATE;
        inotify::add_watch(&watch, directory, flags).doing(doing)?;
        let directory = directory.to_owned();
        let mut events = Self {
            directory,
            query,
            files: VecDeque::new(),
            watch,
            end: None,
            ready: VecDeque::new(),
        };
        events.begin().doing(|| "read the events".to_owned())?;
        Ok(events)
    }

    /// The same, for as long as whoever is at the other end of a socket has not hung up.
    #[must_use]
    pub fn for_reader(self, socket: OwnedFd) -> Self {
        Self { end: Some((socket, PollFlags::RDHUP)), ..self }
    }

    /// The same, until there is something to read from a descriptor.
    #[must_use]
    pub fn until_readable(self, descriptor: OwnedFd) -> Self {
        Self { end: Some((descriptor, PollFlags::IN)), ..self }
    }

    /// Opens what there is. Between the two, the file may be turned: then it is opened twice, which
    /// is seen by its number.
    fn begin(&mut self) -> io::Result<()> {
        for name in [OLD, LOG] {
            let Some(mut file) = open(&self.directory.join(name))? else { continue };
            if self.query.since_ns.is_none() {
                file.seek(SeekFrom::End(0))?;
            }
            self.add(file)?;
        }
        Ok(())
    }

    fn add(&mut self, file: File) -> io::Result<()> {
        let number = file.metadata()?.ino();
        for known in &self.files {
            if known.file.metadata()?.ino() == number {
                return Ok(());
            }
        }
        self.files.push_back(Source { file, line: Vec::new() });
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        let doing = || "read the events".to_owned();
        loop {
            while let Some(event) = self.ready.pop_front() {
                if self.query.until_ns.is_some_and(|until| event.time_ns > until) {
                    return Ok(None);
                }
                if self.query.since_ns.is_none_or(|since| event.time_ns >= since) {
                    return Ok(Some(event));
                }
            }
            if !self.read().doing(doing)? && !self.wait().doing(doing)? {
                return Ok(None);
            }
        }
    }

    /// Reads on; whether there was anything.
    fn read(&mut self) -> io::Result<bool> {
        while let Some(source) = self.files.front_mut() {
            if source.read(&mut self.ready)? {
                return Ok(true);
            }
            if self.files.len() == 1 && !self.turned()? {
                // The last line has no newline behind it.
                let source = self.files.front_mut().expect("it is there, as above");
                return Ok(source.end(&mut self.ready));
            }
            if self.files.len() > 1 {
                let mut done = self.files.pop_front().expect("there are two");
                // What was appended since it was read to its end, before it was turned.
                let more = done.read(&mut self.ready)?;
                done.end(&mut self.ready);
                if more {
                    self.files.push_front(done);
                    return Ok(true);
                }
            }
        }
        self.turned()
    }

    /// Whether there are files that are newer than our last, which is held open: its number is not
    /// another's.
    fn turned(&mut self) -> io::Result<bool> {
        let Some(newest) = open(&self.directory.join(LOG))? else { return Ok(false) };
        if let Some(last) = self.files.back()
            && last.file.metadata()?.ino() == newest.metadata()?.ino()
        {
            return Ok(false);
        }
        // If it was turned twice, there is one between ours and the newest.
        if let Some(between) = open(&self.directory.join(OLD))? {
            self.add(between)?;
        }
        self.add(newest)?;
        Ok(true)
    }

    /// Waits until something changes; `false` if the time is over before.
    fn wait(&mut self) -> io::Result<bool> {
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let left = self.query.until_ns.map(|until| until.saturating_sub(now));
        if left.is_some_and(|left| left <= 0) {
            return Ok(false);
        }
        let left =
            left.map(|ns| Timespec { tv_sec: ns / 1_000_000_000, tv_nsec: ns % 1_000_000_000 });
        let mut set = vec![PollFd::new(&self.watch, PollFlags::IN)];
        let end = self.end.as_ref();
        set.extend(end.map(|(descriptor, sign)| PollFd::new(descriptor, *sign)));
        let ready = rustix::io::retry_on_intr(|| poll(&mut set, left.as_ref()))?;
        if set.get(1).is_some_and(|end| !end.revents().is_empty()) {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        while ready > 0 && rustix::io::read(&self.watch, &mut buffer).is_ok_and(|read| read > 0) {}
        // What came in the last moment is read, too; the next look at the clock ends it.
        Ok(true)
    }
}

/// Each next event, which is waited for; there is none when the end that was asked for has come.
impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl Source {
    /// Reads a piece; whether there was one.
    fn read(&mut self, into: &mut VecDeque<Event>) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES];
        let read = self.file.read(&mut buffer)?;
        for piece in buffer[..read].split_inclusive(|&b| b == b'\n') {
            if let [.., b'\n'] = piece {
                self.line.extend_from_slice(&piece[..piece.len() - 1]);
                self.end(into);
                self.line.clear();
            } else if self.line.len() <= READ_BYTES_MAX {
                self.line.extend_from_slice(piece);
            }
        }
        Ok(read > 0)
    }

    /// Takes the line as it is; whether it was an event.
    fn end(&mut self, into: &mut VecDeque<Event>) -> bool {
        match serde_json::from_slice(&self.line) {
            Ok(event) => {
                self.line.clear();
                into.push_back(event);
                true
            }
            Err(_) => false,
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

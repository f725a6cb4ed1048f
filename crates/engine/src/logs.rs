//! Reading a container's log, as far as it goes and as it grows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Engine;
use crate::container::Container;
use crate::error::{Doing, Result};
use crate::monitor::log::{Entry, FILES_MAX, Stream, file};

/// Which lines are wanted. Times are RFC 3339 with nanoseconds, in UTC.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Only this many of the last lines.
    pub tail: Option<usize>,
    /// Only lines from this time on.
    pub since: Option<String>,
    /// Only lines before this time.
    pub until: Option<String>,
    /// Whether to wait for more until the container ends.
    pub follow: bool,
}

/// One line that was written, or a part of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written.
    pub stream: Stream,
    /// When, RFC 3339.
    pub time: String,
    /// What; ends in a newline where the line did.
    pub text: String,
}

impl LogQuery {
    fn wants(&self, entry: &Entry) -> bool {
        self.since.as_ref().is_none_or(|since| entry.time >= *since)
            && self.until.as_ref().is_none_or(|until| entry.time < *until)
    }
}

impl Engine {
    /// Gives each wanted line to `take`, until it says that it wants no more by failing. Returns
    /// whether there were more: a container that writes faster than `take` takes has its oldest
    /// lines removed before they are read.
    ///
    /// # Errors
    /// If the log cannot be read, or as `take` fails.
    pub fn logs(
        &self,
        container: &Container,
        query: &LogQuery,
        take: &mut dyn FnMut(LogLine) -> io::Result<()>,
    ) -> Result<bool> {
        let path = container.log_path();
        let doing = || format!("read the log of {}", container.record.name);
        let mut tail = Tail::open(&path, query).doing(doing)?;
        tail.existing(take).doing(doing)?;
        if query.follow && container.is_running() {
            tail.follow(container, take).doing(doing)?;
        }
        Ok(tail.lost)
    }
}

/// A place in a log that grows.
struct Tail<'a> {
    path: &'a Path,
    query: &'a LogQuery,
    /// The file that is being read; `None` before there is one.
    reader: Option<BufReader<File>>,
    partial: Vec<u8>,
    /// Whether files were removed before they were read.
    lost: bool,
}

impl<'a> Tail<'a> {
    /// Starts with the oldest file.
    fn open(path: &'a Path, query: &'a LogQuery) -> io::Result<Self> {
        let reader = oldest(path)?.map(BufReader::new);
        Ok(Self { path, query, reader, partial: Vec::new(), lost: false })
    }

    /// What is there already.
    fn existing(&mut self, take: &mut dyn FnMut(LogLine) -> io::Result<()>) -> io::Result<()> {
        let mut last = VecDeque::new();
        loop {
            while let Some(entry) = self.next()? {
                let Some(tail) = self.query.tail else {
                    take(entry.into())?;
                    continue;
                };
                last.push_back(entry);
                if last.len() > tail {
                    last.pop_front();
                }
            }
            if !self.advance()? {
                return last.into_iter().try_for_each(|entry| take(entry.into()));
            }
        }
    }

    /// The next wanted entry that is whole.
    fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            reader.read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') {
                return Ok(None);
            }
            let parsed = serde_json::from_slice::<Entry>(&self.partial);
            self.partial.clear();
            // A line torn by a crash is not worth failing for.
            if let Ok(entry) = parsed
                && self.query.wants(&entry)
            {
                return Ok(Some(entry));
            }
        }
    }

    /// Waits for more until the container's monitor has ended.
    fn follow(
        &mut self,
        container: &Container,
        take: &mut dyn FnMut(LogLine) -> io::Result<()>,
    ) -> io::Result<()> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
        inotify::add_watch(&watch, container.directory(), events)?;
        let monitor = Pid::from_raw(container.state.monitor_pid)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        loop {
            let ended = !container.has_monitor();
            while let Some(entry) = self.next()? {
                take(entry.into())?;
            }
            if self.advance()? {
                continue;
            }
            if ended {
                return Ok(());
            }
            wait(&watch, monitor.as_ref())?;
        }
    }

    /// Moves on to the file that follows the one being read; returns whether there is one.
    fn advance(&mut self) -> io::Result<bool> {
        let next = match &self.reader {
            None => oldest(self.path)?,
            Some(reader) => match successor(self.path, reader.get_ref())? {
                Successor::None => return Ok(false),
                Successor::File(file) => {
                    // It may have grown between the last look at its end and its rotation.
                    if self
                        .reader
                        .as_mut()
                        .is_some_and(|r| r.fill_buf().is_ok_and(|b| !b.is_empty()))
                    {
                        return Ok(true);
                    }
                    Some(file)
                }
                Successor::Lost => {
                    self.lost = true;
                    oldest(self.path)?
                }
            },
        };
        let Some(next) = next else { return Ok(false) };
        self.partial.clear();
        self.reader = Some(BufReader::new(next));
        Ok(true)
    }
}

/// What comes after a file of a log.
enum Successor {
    /// It is the current one.
    None,
    File(File),
    /// It was removed, and perhaps others after it.
    Lost,
}

fn successor(path: &Path, read: &File) -> io::Result<Successor> {
    let inode = read.metadata()?.ino();
    let is_read = |age| file(path, age).metadata().is_ok_and(|meta| meta.ino() == inode);
    let find = || (0..FILES_MAX).find(|age| is_read(*age));
    loop {
        let age = match find().or_else(find) {
            Some(0) => return Ok(Successor::None),
            Some(age) => age,
            // Once may be bad luck, while it was renamed; not twice.
            None => return Ok(Successor::Lost),
        };
        match File::open(file(path, age - 1)) {
            // A rotation renames the older ones first, so if ours has not moved on, neither has
            // the one that follows it.
            Ok(next) if is_read(age) => return Ok(Successor::File(next)),
            Ok(_) => {}
            // It is about to be made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Successor::None),
            Err(error) => return Err(error),
        }
    }
}

/// The first file of a log, if it has one yet.
fn oldest(path: &Path) -> io::Result<Option<File>> {
    for age in (0..FILES_MAX).rev() {
        match File::open(file(path, age)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}

fn wait(watch: &OwnedFd, monitor: Option<&OwnedFd>) -> io::Result<()> {
    let mut set = vec![PollFd::new(watch, PollFlags::IN)];
    set.extend(monitor.map(|monitor| PollFd::new(monitor, PollFlags::IN)));
    rustix::io::retry_on_intr(|| poll(&mut set, None))?;
    let mut events = [0; 4096];
    // Only that something happened matters, not what.
    while matches!(rustix::io::read(watch, &mut events), Ok(read) if read > 0) {}
    Ok(())
}

impl From<Entry> for LogLine {
    fn from(entry: Entry) -> Self {
        Self { stream: entry.stream, time: entry.time, text: entry.log }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::log::Writer;

    fn lines(path: &Path, query: &LogQuery) -> Vec<String> {
        let mut lines = Vec::new();
        let mut tail = Tail::open(path, query).unwrap();
        tail.existing(&mut |line| {
            lines.push(line.text);
            Ok(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn tail_and_times_select() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Writer::open(&path).unwrap();
        log.write(Stream::Stdout, b"a\nb\nc\n").unwrap();
        assert_eq!(lines(&path, &LogQuery::default()), ["a\n", "b\n", "c\n"]);
        let tail = LogQuery { tail: Some(2), ..LogQuery::default() };
        assert_eq!(lines(&path, &tail), ["b\n", "c\n"]);
        let none = LogQuery { tail: Some(0), ..LogQuery::default() };
        assert!(lines(&path, &none).is_empty());
        let later = LogQuery { since: Some("9999".into()), ..LogQuery::default() };
        assert!(lines(&path, &later).is_empty());
        let before = LogQuery { until: Some("1970".into()), ..LogQuery::default() };
        assert!(lines(&path, &before).is_empty());
    }

    /// Rotates as the writer does, with one line in each file.
    fn rotate(path: &Path, line: &str) {
        for age in (0..FILES_MAX - 1).rev() {
            let _ = std::fs::rename(file(path, age), file(path, age + 1));
        }
        Writer::open(path).unwrap().write(Stream::Stdout, line.as_bytes()).unwrap();
    }

    fn more(tail: &mut Tail<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut take = |line: LogLine| {
            lines.push(line.text);
            Ok(())
        };
        tail.existing(&mut take).unwrap();
        lines
    }

    #[test]
    fn no_rotated_file_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let query = LogQuery::default();
        let mut tail = Tail::open(&path, &query).unwrap();
        assert!(more(&mut tail).is_empty());
        rotate(&path, "a\n");
        assert_eq!(more(&mut tail), ["a\n"]);
        ["b\n", "c\n", "d\n"].iter().for_each(|line| rotate(&path, line));
        Writer::open(&path).unwrap().write(Stream::Stdout, b"e\n").unwrap();
        assert_eq!(more(&mut tail), ["b\n", "c\n", "d\n", "e\n"]);
        assert!(!tail.lost);
    }

    #[test]
    fn what_was_removed_unread_is_known_to_be_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let query = LogQuery::default();
        rotate(&path, "first\n");
        let mut tail = Tail::open(&path, &query).unwrap();
        assert_eq!(more(&mut tail), ["first\n"]);
        (0..7).for_each(|number| rotate(&path, &format!("{number}\n")));
        assert_eq!(more(&mut tail), ["2\n", "3\n", "4\n", "5\n", "6\n"]);
        assert!(tail.lost);
    }
}

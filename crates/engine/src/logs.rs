//! Reading a container's log, as far as it goes and as it grows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Engine;
use crate::container::Container;
use crate::error::{Doing, Result};
use crate::monitor::log::{Entry, Stream, files};

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
    /// Gives each wanted line to `take`, until it says that it wants no more by failing.
    ///
    /// # Errors
    /// If the log cannot be read, or as `take` fails.
    pub fn logs(
        &self,
        container: &Container,
        query: &LogQuery,
        take: &mut dyn FnMut(LogLine) -> std::io::Result<()>,
    ) -> Result<()> {
        let path = container.log_path();
        let doing = || format!("read the log of {}", container.record.name);
        let mut tail = Tail::open(&path, query).doing(doing)?;
        tail.existing(take).doing(doing)?;
        if !query.follow || !container.is_running() {
            return Ok(());
        }
        tail.follow(container, take).doing(doing)
    }
}

/// A place in a log that grows.
struct Tail<'a> {
    path: &'a Path,
    query: &'a LogQuery,
    reader: Option<BufReader<File>>,
    partial: Vec<u8>,
}

impl<'a> Tail<'a> {
    #[expect(clippy::unnecessary_wraps, reason = "opens nothing yet; reading may fail")]
    fn open(path: &'a Path, query: &'a LogQuery) -> std::io::Result<Self> {
        Ok(Self { path, query, reader: None, partial: Vec::new() })
    }

    /// What is there already, the rotated files first.
    fn existing(
        &mut self,
        take: &mut dyn FnMut(LogLine) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut last = VecDeque::new();
        for path in files(self.path) {
            self.reader = Some(BufReader::new(File::open(path)?));
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
        }
        last.into_iter().try_for_each(|entry| take(entry.into()))
    }

    /// The next wanted entry that is whole.
    fn next(&mut self) -> std::io::Result<Option<Entry>> {
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
        take: &mut dyn FnMut(LogLine) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
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
            if self.rotated()? {
                continue;
            }
            if ended {
                return Ok(());
            }
            wait(&watch, monitor.as_ref())?;
        }
    }

    /// Moves on to the current file if the one being read was rotated away.
    fn rotated(&mut self) -> std::io::Result<bool> {
        let inode = |file: &File| file.metadata().map(|meta| meta.ino());
        let current = match File::open(self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let same = match &self.reader {
            Some(reader) => inode(reader.get_ref())? == inode(&current)?,
            None => false,
        };
        if !same {
            self.partial.clear();
            self.reader = Some(BufReader::new(current));
        }
        Ok(!same)
    }
}

fn wait(watch: &OwnedFd, monitor: Option<&OwnedFd>) -> std::io::Result<()> {
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
}

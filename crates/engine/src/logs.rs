//! Reading a container's log, as far as it goes and as it grows.

mod files;
mod start;

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Engine;
use crate::container::Container;
use crate::error::{Doing, Error, Kind, Result};
use crate::monitor::log::plan::Plan;
use crate::monitor::log::{Entry, Stream};

use self::files::{Input, Opened, by_number, current, is_at, numbers};

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
    /// What, byte for byte; ends in a newline where the line did.
    pub text: Vec<u8>,
    /// What its container says with each line.
    pub attrs: BTreeMap<String, String>,
}

/// What is found in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A line.
    Line(LogLine),
    /// This many full files were removed before they were read: the container writes faster than
    /// they are taken.
    Lost(u64),
}

type Take<'a> = dyn FnMut(LogItem) -> io::Result<()> + 'a;

impl LogQuery {
    fn wants(&self, entry: &Entry) -> bool {
        self.since.as_ref().is_none_or(|since| entry.time >= *since) && !self.is_over(entry)
    }

    /// Whether no later entry is wanted either.
    fn is_over(&self, entry: &Entry) -> bool {
        self.until.as_ref().is_some_and(|until| entry.time >= *until)
    }

    /// How long it may take until no entry is wanted any more.
    fn left(&self) -> Option<Timespec> {
        let until: jiff::Timestamp = self.until.as_ref()?.parse().ok()?;
        let left = until.as_nanosecond() - jiff::Timestamp::now().as_nanosecond();
        let left = left.clamp(0, i128::from(i64::MAX));
        Some(Timespec {
            tv_sec: i64::try_from(left / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(left % 1_000_000_000).unwrap_or(0),
        })
    }
}

impl Engine {
    /// Gives each wanted line to `take`, until it says that it wants no more by failing.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if the container's lines are not kept here; if the log cannot be read,
    /// or as `take` fails.
    pub fn logs(&self, container: &Container, query: &LogQuery, take: &mut Take<'_>) -> Result<()> {
        self.logs_for(container, query, None, take)
    }

    /// Whether a container's lines are kept here.
    ///
    /// # Errors
    /// For a log driver that is none.
    pub fn keeps_log(&self, container: &Container) -> Result<bool> {
        Ok(Plan::of(&container.record)?.files.is_some())
    }

    /// As [`Engine::logs`], for as long as whoever is at the other end of a socket has not hung up.
    ///
    /// # Errors
    /// As of that.
    pub fn logs_for(
        &self,
        container: &Container,
        query: &LogQuery,
        reader: Option<BorrowedFd<'_>>,
        take: &mut Take<'_>,
    ) -> Result<()> {
        if !self.keeps_log(container)? {
            let text = "configured logging driver does not support reading";
            return Err(Error::new(Kind::Unsupported, text));
        }
        let path = container.log_path();
        let doing = || format!("read the log of {}", container.record.name);
        let mut tail = Tail::open(&path, query, reader).doing(doing)?;
        tail.existing(take).doing(doing)?;
        let mut current = container.clone();
        while query.follow && current.is_running() && !tail.over {
            tail.follow(&current, take).doing(doing)?;
            // A monitor that was killed is not the end of its container.
            match self.find(&current.record.id) {
                Ok(found) if found.has_monitor() => current = found,
                _ => break,
            }
        }
        Ok(())
    }
}

/// A place in a log that grows.
struct Tail<'a> {
    path: &'a Path,
    query: &'a LogQuery,
    reader: Option<BorrowedFd<'a>>,
    /// The file that is being read; `None` before there is one.
    open: Option<Opened>,
    partial: Vec<u8>,
    /// Whether everything that follows is too late.
    over: bool,
}

impl<'a> Tail<'a> {
    /// Starts with the first file that may have wanted lines.
    fn open(
        path: &'a Path,
        query: &'a LogQuery,
        reader: Option<BorrowedFd<'a>>,
    ) -> io::Result<Self> {
        let open = start::start(path, query)?;
        Ok(Self { path, query, reader, open, partial: Vec::new(), over: false })
    }

    /// What is there already.
    fn existing(&mut self, take: &mut Take<'_>) -> io::Result<()> {
        loop {
            while let Some(entry) = self.next()? {
                take(entry.into())?;
            }
            if self.over || !self.advance(take)? {
                return Ok(());
            }
        }
    }

    /// The next wanted entry that is whole.
    fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let Some(open) = self.open.as_mut().filter(|_| !self.over) else { return Ok(None) };
            open.input.read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') {
                return Ok(None);
            }
            let parsed = serde_json::from_slice::<Entry>(&self.partial);
            self.partial.clear();
            // A line torn by a crash is not worth failing for.
            let Ok(entry) = parsed else { continue };
            if self.query.wants(&entry) {
                return Ok(Some(entry));
            }
            self.over = self.query.is_over(&entry);
        }
    }

    /// Waits for more until the container's monitor has ended.
    fn follow(&mut self, container: &Container, take: &mut Take<'_>) -> io::Result<()> {
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
            if self.over {
                return Ok(());
            }
            if self.advance(take)? {
                continue;
            }
            let left = self.query.left();
            if ended || left == Some(Timespec::default()) {
                return Ok(());
            }
            self.over = !wait(&watch, monitor.as_ref(), self.reader, left.as_ref())?;
        }
    }

    /// Moves on to the file that follows the one being read; returns whether there is more to read.
    fn advance(&mut self, take: &mut Take<'_>) -> io::Result<bool> {
        let Some(open) = &mut self.open else {
            self.open = following(self.path, 0)?;
            return Ok(self.open.is_some());
        };
        if let Input::Plain(input) = &open.input
            && is_at(self.path, input.get_ref())?
        {
            return Ok(false);
        }
        // It may have grown between the last look at its end and its being full.
        if !open.input.fill_buf()?.is_empty() {
            return Ok(true);
        }
        let read = open.serial;
        let Some(next) = following(self.path, read)? else { return Ok(false) };
        self.partial.clear();
        let lost = next.serial - read - 1;
        self.open = Some(next);
        if lost > 0 {
            take(LogItem::Lost(lost))?;
        }
        Ok(true)
    }
}

/// The first file after a number that is there; `None` if none is yet.
fn following(path: &Path, read: u64) -> io::Result<Option<Opened>> {
    let full = |before: u64| -> io::Result<Option<Opened>> {
        let numbers = numbers(path, read + 1)?.into_iter().filter(|serial| *serial < before);
        let mut opened = numbers.map(|serial| by_number(path, serial));
        opened.find_map(io::Result::transpose).transpose()
    };
    if let Some(opened) = full(u64::MAX)? {
        return Ok(Some(opened));
    }
    let Some(opened) = current(path)?.filter(|opened| opened.serial > read) else {
        return Ok(None);
    };
    // What became full meanwhile comes first.
    Ok(full(opened.serial)?.or(Some(opened)))
}

/// Waits for more; whether whoever reads is still there.
fn wait(
    watch: &OwnedFd,
    monitor: Option<&OwnedFd>,
    reader: Option<BorrowedFd<'_>>,
    left: Option<&Timespec>,
) -> io::Result<bool> {
    let mut set = vec![PollFd::new(watch, PollFlags::IN)];
    set.extend(reader.map(|reader| PollFd::from_borrowed_fd(reader, PollFlags::RDHUP)));
    set.extend(monitor.map(|monitor| PollFd::new(monitor, PollFlags::IN)));
    rustix::io::retry_on_intr(|| poll(&mut set, left))?;
    if reader.is_some() && !set[1].revents().is_empty() {
        return Ok(false);
    }
    let mut events = [0; 4096];
    // Only that something happened matters, not what.
    while matches!(rustix::io::read(watch, &mut events), Ok(read) if read > 0) {}
    Ok(true)
}

impl From<Entry> for LogItem {
    fn from(entry: Entry) -> Self {
        let Entry { log, stream, time, attrs } = entry;
        Self::Line(LogLine { stream, time, text: log, attrs })
    }
}

#[cfg(test)]
mod tests;

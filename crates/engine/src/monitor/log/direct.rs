//! Lines to where they are kept: what happens to them, in the process that writes them.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use crate::container::Record;

use super::Stream;
use super::file::Files;
use super::line::{Envelope, Lines};
use super::plan::Plan;
use super::rate::{Dropped, Rate};
use super::remote::Remote;

const TOO_FAST: &str = "the container wrote more than max-rate allows";
const UNREACHABLE: &str = "the log driver could not be reached";

/// Writes lines at once.
#[derive(Debug)]
pub(super) struct Direct {
    lines: Lines,
    rate: Option<Rate>,
    to: Places,
}

/// Where lines are kept.
#[derive(Debug)]
struct Places {
    files: Option<Files>,
    remote: Option<Remote>,
    /// What the service did not take.
    missed: Dropped,
    /// `,"attrs":{…}` of each entry, or nothing.
    attrs: String,
}

impl Direct {
    /// Opens the files at `path`, and the service, if there are any.
    pub(super) fn open(plan: &Plan, path: &Path, record: &Record) -> io::Result<Self> {
        let remote =
            plan.remote.as_ref().map(|kind| Remote::open(kind, plan, record)).transpose()?;
        let mut direct = Self::open_files(plan, path)?;
        direct.to.remote = remote;
        Ok(direct)
    }

    /// Opens the files at `path` alone.
    pub(super) fn open_files(plan: &Plan, path: &Path) -> io::Result<Self> {
        let files = plan.files.map(|bounds| Files::new(path, bounds));
        let attrs = match plan.attrs.is_empty() {
            true => String::new(),
            false => format!(r#","attrs":{}"#, serde_json::to_string(&plan.attrs)?),
        };
        let rate = plan.max_rate.map(|rate| Rate::new(rate, Instant::now()));
        let to = Places { files, remote: None, missed: Dropped::default(), attrs };
        Ok(Self { lines: Lines::default(), rate, to })
    }

    /// Takes what a stream wrote; whole lines are kept at once.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if let Some(rate) = &mut self.rate {
            rate.fill(Instant::now());
        }
        self.each(|lines, take| lines.feed(stream, bytes, take), stream, false)
    }

    /// Keeps what is left without a newline, and what is left to say: the container has ended.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.each(|lines, take| lines.finish(stream, take), stream, true)?;
        }
        Ok(())
    }

    fn each(
        &mut self,
        feed: impl FnOnce(&mut Lines, &mut dyn FnMut(&[u8])),
        stream: Stream,
        is_last: bool,
    ) -> io::Result<()> {
        let Self { lines, rate, to } = self;
        // What was read at once was written at about the same time.
        let mut envelope = None;
        let mut outcome = Ok(());
        feed(lines, &mut |part| {
            if let Some(rate) = rate {
                if !rate.admits(part) {
                    return;
                }
                if let Some(mark) = rate.dropped.mark(TOO_FAST) {
                    let _ = to.keep(mark.as_bytes(), &to.envelope(Stream::Stderr));
                    // What follows is not older than what was said of it.
                    envelope = None;
                }
            }
            let kept = to.keep(part, envelope.get_or_insert_with(|| to.envelope(stream)));
            if outcome.is_ok() {
                outcome = kept;
            }
        });
        if let Some(mark) = rate.as_mut().filter(|_| is_last).and_then(|r| r.dropped.mark(TOO_FAST))
        {
            let _ = to.keep(mark.as_bytes(), &to.envelope(Stream::Stderr));
        }
        outcome.and(to.files.as_mut().map_or(Ok(()), Files::flush))
    }

    /// The descriptors that this holds.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let files = self.to.files.iter().filter_map(Files::fd);
        files.chain(self.to.remote.iter().filter_map(Remote::descriptor)).collect()
    }

    /// What becomes readable when [`Direct::advance`] has something to do.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.to.files.as_ref().and_then(Files::source)
    }

    pub(super) fn advance(&mut self) {
        if let Some(files) = &mut self.to.files {
            files.advance();
        }
    }
}

impl Places {
    /// Of what a stream says now.
    fn envelope(&self, stream: Stream) -> Envelope {
        Envelope::new(stream, &crate::clock::now(), &self.attrs)
    }

    fn keep(&mut self, text: &[u8], envelope: &Envelope) -> io::Result<()> {
        if let Some(remote) = &mut self.remote {
            let mark = self.missed.mark(UNREACHABLE);
            if let Some(mark) = mark {
                // Said again with the next line, if it does not get there now.
                let _ = remote.send(Stream::Stderr, mark.as_bytes());
            }
            if remote.send(envelope.stream, text).is_err() {
                self.missed.add(text);
            }
        }
        let Some(files) = &mut self.files else { return Ok(()) };
        files.add(text, envelope)
    }
}

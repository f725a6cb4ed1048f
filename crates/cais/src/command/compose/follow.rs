//! The lines of several containers, each behind the name of who wrote it.
//!
//! While containers are started, which forks, no other thread may run: so a process of its own
//! follows the lines, and is told over a pipe of each container that is there. Over another it
//! tells which has ended.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, IsTerminal, PipeReader, PipeWriter, Read as _, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::{Container, Engine, Error, Kind, LogItem, LogLine, LogQuery, Result, Stream};
use runtime::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, getppid, pidfd_open};

use super::observed;

/// The colours of names, one after the other: cyan, yellow, green, magenta, blue, then the same
/// brighter.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];
/// The longest line that is held back until it is complete, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// How lines are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) has_prefix: bool,
    pub(super) has_colour: bool,
    pub(super) has_time: bool,
}

impl Style {
    /// Lines behind names, coloured as `ansi` says.
    pub(super) fn new(ansi: &str, no_color: bool, no_prefix: bool, timestamps: bool) -> Self {
        let has_colour = !no_color
            && match ansi {
                "always" => true,
                "auto" => io::stdout().is_terminal(),
                _ => false,
            };
        Self { has_prefix: !no_prefix, has_colour, has_time: timestamps }
    }
}

/// Shows the lines of several containers.
pub(super) struct Printer {
    style: Style,
    width: AtomicUsize,
    names: Mutex<HashMap<String, usize>>,
    out: Mutex<()>,
}

impl Printer {
    pub(super) fn new(style: Style) -> Self {
        Self { style, width: AtomicUsize::new(0), names: Mutex::default(), out: Mutex::default() }
    }

    /// Makes room for a name.
    pub(super) fn expect(&self, name: &str) {
        self.width.fetch_max(name.chars().count(), Ordering::Relaxed);
        let mut names = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = names.len();
        names.entry(name.to_owned()).or_insert(next);
    }

    fn coloured(&self, name: &str, text: &str) -> String {
        let names = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match names.get(name).filter(|_| self.style.has_colour) {
            Some(index) => format!("\x1b[{}m{text}\x1b[0m", COLOURS[index % COLOURS.len()]),
            None => text.to_owned(),
        }
    }

    fn prefix(&self, name: &str) -> String {
        let width = self.width.load(Ordering::Relaxed);
        match self.style.has_prefix {
            true => self.coloured(name, &format!("{name:width$}  | ")),
            false => String::new(),
        }
    }

    fn line(&self, name: &str, time: &str, stream: Stream, text: &[u8]) -> io::Result<()> {
        let mut line = self.prefix(name).into_bytes();
        if self.style.has_time {
            line.extend(time.as_bytes());
            line.push(b' ');
        }
        line.extend(text);
        if !text.ends_with(b"\n") {
            line.push(b'\n');
        }
        self.write(stream, &line)
    }

    fn write(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let _out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match stream {
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Stream::Stderr => io::stderr().write_all(bytes),
        }
    }

    /// Says what became of a container.
    pub(super) fn say(&self, name: &str, what: &str) {
        let text = self.coloured(name, &format!("{name} {what}"));
        // Whoever read it has gone.
        let _ = self.write(Stream::Stdout, format!("{text}\n").as_bytes());
    }

    /// Shows the lines of a container, until there are no more.
    pub(super) fn show(
        &self,
        engine: &Engine,
        container: &Container,
        query: &LogQuery,
    ) -> Result<()> {
        let name = observed::short_name(container);
        let mut lines = Lines { printer: self, name: &name, held: [None, None] };
        let shown = engine.logs(container, query, &mut |item| lines.take(item));
        let ended = lines.end();
        match shown {
            // The reader has gone, as `head` does.
            Err(error) if is_broken_pipe(&error) => Ok(()),
            outcome => outcome
                .and(ended.map_err(|error| Error::caused(Kind::Internal, "write lines", error))),
        }
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The lines of one container; parts of lines are held back until they are whole.
struct Lines<'a> {
    printer: &'a Printer,
    name: &'a str,
    held: [Option<LogLine>; 2],
}

impl Lines<'_> {
    fn take(&mut self, item: LogItem) -> io::Result<()> {
        match item {
            LogItem::Lost(files) => {
                crate::progress::note(&format!(
                    "cais: {} lost {files} files of its log before they were read",
                    self.name
                ));
                Ok(())
            }
            LogItem::Line(line) => {
                let place = &mut self.held[usize::from(line.stream == Stream::Stderr)];
                let whole = match place.take() {
                    Some(mut held) => {
                        held.text.extend(line.text);
                        held
                    }
                    None => line,
                };
                if whole.text.ends_with(b"\n") || whole.text.len() > LINE_BYTES_MAX {
                    return self.print(&whole);
                }
                *place = Some(whole);
                Ok(())
            }
        }
    }

    fn print(&self, line: &LogLine) -> io::Result<()> {
        self.printer.line(self.name, &line.time, line.stream, &line.text)
    }

    fn end(&mut self) -> io::Result<()> {
        let rest: Vec<LogLine> = self.held.iter_mut().filter_map(Option::take).collect();
        rest.iter().try_for_each(|line| self.print(line))
    }
}

/// The process that shows the lines of what is started.
pub(super) struct Follower {
    /// The services whose lines are shown; of the others only the end is told.
    shown: Option<Vec<String>>,
    to: PipeWriter,
    from: BufReader<PipeReader>,
    child: runtime::Child,
    /// What asks us to end, once that is heeded.
    signals: Option<SignalFd>,
}

/// What comes of following.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// Somebody asks us to end.
    Interrupted,
    /// A container has ended with this code.
    Ended { id: String, code: i32 },
    /// There are no more lines.
    Over,
}

impl Follower {
    /// Forks it. This process must have one thread.
    pub(super) fn start(engine: &Engine, style: Style) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::caused(Kind::Internal, "follow the lines of containers", error)
        };
        let (reader, to) = io::pipe().map_err(failed)?;
        let (from, writer) = io::pipe().map_err(failed)?;
        match runtime::fork().map_err(failed)? {
            runtime::Fork::Parent(child) => {
                Ok(Self { shown: None, to, from: BufReader::new(from), child, signals: None })
            }
            runtime::Fork::Child => {
                drop((to, from));
                let outcome = serve(engine, style, reader, writer);
                runtime::exit_now(i32::from(outcome.is_err()))
            }
        }
    }

    /// Shows the lines of a container since it was started.
    pub(super) fn follow(&mut self, container: &Container) -> Result<()> {
        self.order(container, &container.state.started_at)
    }

    /// Shows the lines of these services alone.
    pub(super) fn only(&mut self, services: &[String]) {
        self.shown = Some(services.to_vec());
    }

    fn order(&mut self, container: &Container, since: &str) -> Result<()> {
        let service = observed::service(container);
        let is_shown = self.shown.as_ref().is_none_or(|shown| shown.contains(&service));
        let word = if is_shown { "show" } else { "wait" };
        self.tell(&format!("{word} {} {since}\n", container.record.id))
    }

    /// Shows the lines that a container writes from now on.
    pub(super) fn follow_from_now(&mut self, container: &Container) -> Result<()> {
        self.order(container, &engine::clock::now())
    }

    fn tell(&mut self, text: &str) -> Result<()> {
        match self.to.write_all(text.as_bytes()) {
            // It has gone, because whoever read its lines has.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome
                .map_err(|error| Error::caused(Kind::Internal, "tell who follows lines", error)),
        }
    }

    /// From now on signals that ask us to end are news, instead of our end.
    pub(super) fn heed_signals(&mut self) -> Result<()> {
        let signals = SignalFd::ending();
        let signals =
            signals.map_err(|error| Error::caused(Kind::Internal, "take over signals", error))?;
        self.signals = Some(signals);
        Ok(())
    }

    /// The signals that are heeded.
    pub(super) fn signals(&self) -> Option<&SignalFd> {
        self.signals.as_ref()
    }

    /// Whether somebody asks us to end.
    pub(super) fn is_interrupted(&self) -> bool {
        let Some(signals) = &self.signals else { return false };
        let mut set = [PollFd::new(signals, PollFlags::IN)];
        let polled = rustix::io::retry_on_intr(|| poll(&mut set, Some(&Timespec::default())));
        polled.is_ok_and(|ready| ready > 0)
    }

    /// What happens next; waits for it.
    pub(super) fn next(&mut self) -> Result<News> {
        if !self.from.buffer().is_empty() {
            return Ok(self.read());
        }
        let failed = |error| Error::caused(Kind::Internal, "wait for containers", error);
        if let Some(signals) = &mut self.signals {
            let mut set = [
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                PollFd::new(self.from.get_ref(), PollFlags::IN),
            ];
            let polled = rustix::io::retry_on_intr(|| poll(&mut set, None));
            polled.map_err(|error| failed(error.into()))?;
            if !set[0].revents().is_empty() {
                signals.read().map_err(failed)?;
                return Ok(News::Interrupted);
            }
        }
        Ok(self.read())
    }

    /// What it says next; waits for it.
    fn read(&mut self) -> News {
        let mut line = String::new();
        if self.from.read_line(&mut line).unwrap_or(0) == 0 {
            return News::Over;
        }
        let (id, code) = line.trim().split_once(' ').unwrap_or_default();
        News::Ended { id: id.to_owned(), code: code.parse().unwrap_or(1) }
    }

    /// Lets it show what there is left, and waits for that.
    pub(super) fn finish(mut self) -> Result<()> {
        self.tell("end\n")?;
        let Self { to, mut from, child, .. } = self;
        drop(to);
        let mut rest = Vec::new();
        // Its end is what is waited for, not what it says.
        let _ = from.read_to_end(&mut rest);
        child
            .wait()
            .map_err(|error| Error::caused(Kind::Internal, "wait for who follows lines", error))
    }
}

/// The follower's own life: a thread for each container.
fn serve(engine: &Engine, style: Style, orders: PipeReader, news: PipeWriter) -> io::Result<()> {
    // The terminal's signals are for who started us; we end when there is nothing more to show.
    let _blocked = SignalFd::ending()?;
    let parent = getppid().and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let printer = Printer::new(style);
    let news = Mutex::new(news);
    std::thread::scope(|scope| {
        let mut orders = Orders { pipe: orders, parent, line: Vec::new() };
        while let Some(order) = orders.next() {
            let mut words = order.splitn(3, ' ');
            let (word, id) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let since = words.next().filter(|since| !since.is_empty()).map(str::to_owned);
            let Ok(container) = engine.find(id) else { continue };
            let is_shown = word == "show";
            if is_shown {
                printer.expect(&observed::short_name(&container));
            }
            let (printer, news) = (is_shown.then_some(&printer), &news);
            scope.spawn(move || follow_one(engine, printer, &container, since, news));
        }
    });
    Ok(())
}

fn follow_one(
    engine: &Engine,
    printer: Option<&Printer>,
    container: &Container,
    since: Option<String>,
    news: &Mutex<PipeWriter>,
) {
    let query = LogQuery { since, follow: true, ..LogQuery::default() };
    if let Some(Err(error)) = printer.map(|printer| printer.show(engine, container, &query))
        && error.kind() != Kind::Unsupported
    {
        crate::command::report(&error);
    }
    // One whose log is not kept here, or that is removed when it exits, is waited for all the same.
    let code = engine.wait(container).unwrap_or(container.state.exit_code);
    if let Some(printer) = printer {
        printer.say(&observed::short_name(container), &format!("exited with code {code}"));
    }
    let mut news = news.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Who started us has gone.
    let _ = writeln!(news, "{} {code}", container.record.id);
}

/// What a follower is told, line by line, until it is told to end or nobody is there to tell it.
struct Orders {
    pipe: PipeReader,
    parent: Option<OwnedFd>,
    line: Vec<u8>,
}

impl Orders {
    fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                return (line != "end").then_some(line);
            }
            let mut set = vec![PollFd::new(&self.pipe, PollFlags::IN)];
            set.extend(self.parent.as_ref().map(|parent| PollFd::new(parent, PollFlags::IN)));
            rustix::io::retry_on_intr(|| poll(&mut set, None)).ok()?;
            let ready: Vec<bool> = set.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[0] {
                let mut buffer = [0; 4096];
                match self.pipe.read(&mut buffer) {
                    Ok(0) | Err(_) => return None,
                    Ok(read) => self.line.extend(&buffer[..read]),
                }
            } else if ready.get(1) == Some(&true) {
                // Whoever started us was killed; nobody waits for these lines.
                runtime::exit_now(1);
            }
        }
    }
}

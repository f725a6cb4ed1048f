//! What a build shows while it runs: as BuildKit on a terminal, in its plain style, or its events as
//! JSON.

mod json;
mod plain;
mod screen;

use std::collections::{HashMap, VecDeque};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use build::{Finding, position};
use engine::{BuildEvent, Error, Result};
use jiff::Timestamp;

use super::Args;
use json::Json;
use plain::Plain;
use screen::Screen;

/// Lines of a failed command that are shown again.
const TAIL_LINES: usize = 20;
const STYLES: &str = "there are auto, tty, plain, rawjson and quiet";

/// How it is shown.
enum Style {
    Plain(Plain),
    Screen(Screen),
    Json(Json),
    Nothing,
}

/// Shows what happens, on standard error.
pub(super) struct Show {
    style: Style,
    vertices: HashMap<usize, Vertex>,
    count: usize,
}

/// A step as it is shown.
struct Vertex {
    number: usize,
    name: String,
    started: Instant,
    started_at: Timestamp,
    tail: VecDeque<String>,
}

/// How a step has ended.
enum End<'a> {
    Done(Duration),
    Cached,
    /// It is the same as the one with this number.
    SameAs(usize),
    Failed(&'a str),
}

impl Vertex {
    fn new(number: usize, name: &str) -> Self {
        let name = crate::output::printable(name).into_owned();
        let (started, started_at) = (Instant::now(), Timestamp::now());
        Self { number, name, started, started_at, tail: VecDeque::new() }
    }
}

impl Show {
    pub(super) fn new(args: &Args) -> Result<Self> {
        let asked = args.progress.clone().or_else(|| std::env::var("BUILDKIT_PROGRESS").ok());
        let is_terminal = std::io::stderr().is_terminal();
        let style = match asked.as_deref().unwrap_or("auto") {
            _ if args.quiet => Style::Nothing,
            "auto" | "" if is_terminal => Style::Screen(Screen::new()),
            "auto" | "plain" | "" => Style::Plain(Plain::default()),
            "tty" if is_terminal => Style::Screen(Screen::new()),
            "tty" => {
                return Err(Error::invalid("failed to get console: standard error is no terminal")
                    .hint("--progress plain needs none"));
            }
            "rawjson" => Style::Json(Json),
            "quiet" | "none" => Style::Nothing,
            other => {
                return Err(Error::invalid(format!("invalid progress {other:?}")).hint(STYLES));
            }
        };
        Ok(Self::of(style))
    }

    pub(super) fn silent() -> Self {
        Self::of(Style::Nothing)
    }

    fn of(style: Style) -> Self {
        Self { style, vertices: HashMap::new(), count: 0 }
    }

    /// Whether anything is shown in words.
    pub(super) fn is_shown(&self) -> bool {
        matches!(self.style, Style::Plain(_) | Style::Screen(_))
    }

    /// Whether it is drawn, so that time that passes is to be seen.
    pub(super) fn is_drawn(&self) -> bool {
        matches!(self.style, Style::Screen(_))
    }

    /// Something that is no step, and done already.
    pub(super) fn internal(&mut self, name: &str, what: &str) {
        self.count += 1;
        let vertex = Vertex::new(self.count, name);
        match &mut self.style {
            Style::Nothing => {}
            Style::Plain(plain) => plain.internal(&vertex, what),
            Style::Screen(screen) => screen.internal(&vertex, what),
            Style::Json(json) => json.internal(&vertex, what),
        }
    }

    pub(super) fn event(&mut self, event: &BuildEvent<'_>) {
        match event {
            BuildEvent::Started { step, name } => self.begin(*step, name),
            BuildEvent::Cached { step, name } => {
                self.begin(*step, name);
                self.end(*step, &End::Cached);
            }
            BuildEvent::SameAs { step, name, other } => {
                self.begin(*step, name);
                let number = self.vertices.get(other).map_or(0, |vertex| vertex.number);
                self.end(*step, &End::SameAs(number));
            }
            BuildEvent::Internal { name, what } => {
                self.internal(name, &crate::output::printable(what));
            }
            BuildEvent::Output { step, stream, line } => {
                let Some(vertex) = self.vertices.get_mut(step) else { return };
                let text = String::from_utf8_lossy(line);
                let text = crate::output::printable(text.trim_end_matches('\r')).into_owned();
                let shown = format!("{:.3} {text}", vertex.started.elapsed().as_secs_f64());
                if vertex.tail.len() == TAIL_LINES {
                    vertex.tail.pop_front();
                }
                vertex.tail.push_back(shown.clone());
                match &mut self.style {
                    Style::Nothing => {}
                    Style::Plain(plain) => plain.output(vertex, &shown),
                    Style::Screen(screen) => screen.output(vertex, &text),
                    Style::Json(json) => json.output(vertex, *stream, line),
                }
            }
            BuildEvent::Tick => {
                if let Style::Screen(screen) = &mut self.style {
                    screen.draw();
                }
            }
            BuildEvent::Done { step, took } => self.end(*step, &End::Done(*took)),
        }
    }

    fn begin(&mut self, step: usize, name: &str) {
        self.count += 1;
        let vertex = Vertex::new(self.count, name);
        match &mut self.style {
            Style::Nothing => {}
            Style::Plain(plain) => plain.turn(&vertex),
            Style::Screen(screen) => screen.begin(&vertex),
            Style::Json(json) => json.begin(&vertex),
        }
        self.vertices.insert(step, vertex);
    }

    fn end(&mut self, step: usize, how: &End<'_>) {
        let Some(vertex) = self.vertices.get(&step) else { return };
        match &mut self.style {
            Style::Nothing => {}
            Style::Plain(plain) => plain.end(vertex, how),
            Style::Screen(screen) => screen.end(vertex, how),
            Style::Json(json) => json.end(vertex, how),
        }
    }

    /// What a step that failed said last.
    pub(super) fn failed(&mut self, step: Option<usize>, why: &str) {
        if let Some(step) = step {
            self.end(step, &End::Failed(why));
        }
        self.finish();
        let Some(vertex) = step.and_then(|step| self.vertices.get(&step)) else { return };
        if matches!(self.style, Style::Json(_)) {
            return;
        }
        let tail: String = vertex.tail.iter().map(|line| format!("{line}\n")).collect();
        say(&format!("------\n > {}:\n{tail}------\n", vertex.name));
    }

    /// Somebody else has written to the terminal: what was drawn stays.
    pub(super) fn go_on_below(&mut self) {
        if let Style::Screen(screen) = &mut self.style {
            screen.go_on_below();
        }
    }

    /// Everything has been shown.
    pub(super) fn finish(&mut self) {
        if let Style::Screen(screen) = &mut self.style {
            screen.finish();
        }
    }

    pub(super) fn excerpt(&self, text: &str) {
        if !matches!(self.style, Style::Json(_)) {
            say(&crate::output::printable(text));
        }
    }

    /// What the checks found, in few words.
    pub(super) fn findings(&self, findings: &[Finding], text: &str) {
        let found: Vec<_> = findings.iter().filter(|finding| !finding.rule.is_own).collect();
        if let Style::Json(json) = &self.style {
            found.iter().for_each(|finding| json.warning(finding, text));
        }
        if !self.is_shown() || found.is_empty() {
            return;
        }
        let count =
            if found.len() == 1 { "1 warning".into() } else { format!("{} warnings", found.len()) };
        say(&format!(" {count} found (cais build --check shows more):\n"));
        for finding in found {
            let (line, _) = position(text, finding.span.start);
            say(&format!(" - {}: {} (line {line})\n", finding.rule.name, finding.message));
        }
    }
}

/// Writes to standard error; whoever read it may have gone, and the build goes on all the same.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

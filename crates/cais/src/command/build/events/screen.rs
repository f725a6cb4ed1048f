//! BuildKit's style for terminals: all steps with their times, and below each that runs the last lines
//! of what it says; drawn anew in place.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::{End, Vertex, say};

/// Lines of a running step that are shown.
const TAIL_LINES: usize = 6;
/// Of a terminal that does not tell its size.
const SIZE: (usize, usize) = (24, 80);
const BLUE: &str = "\x1b[34m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";
/// Between two drawings, at least.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Screen {
    started: Instant,
    rows: Vec<Row>,
    /// Lines that were drawn last.
    drawn: usize,
    drawn_at: Option<Instant>,
    has_colours: bool,
}

/// A step.
struct Row {
    number: usize,
    name: String,
    started: Instant,
    ended: Option<(Duration, Outcome)>,
    /// What was done within it.
    parts: Vec<String>,
    tail: VecDeque<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Cached,
    Failed,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            rows: Vec::new(),
            drawn: 0,
            drawn_at: None,
            // https://no-color.org
            has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    pub(super) fn internal(&mut self, vertex: &Vertex, what: &str) {
        self.begin(vertex);
        if let Some(row) = self.rows.last_mut() {
            row.parts =
                what.lines().map(|line| line.trim_end_matches(" done").to_owned()).collect();
        }
        self.end(vertex, &End::Done(Duration::ZERO));
    }

    pub(super) fn begin(&mut self, vertex: &Vertex) {
        self.rows.push(Row {
            number: vertex.number,
            name: vertex.name.clone(),
            started: vertex.started,
            ended: None,
            parts: Vec::new(),
            tail: VecDeque::new(),
        });
        self.draw();
    }

    pub(super) fn output(&mut self, vertex: &Vertex, line: &str) {
        if let Some(row) = self.row(vertex) {
            if row.tail.len() == TAIL_LINES {
                row.tail.pop_front();
            }
            row.tail.push_back(line.to_owned());
        }
        self.draw();
    }

    pub(super) fn end(&mut self, vertex: &Vertex, how: &End<'_>) {
        if let Some(row) = self.row(vertex) {
            let ended = match how {
                End::Done(took) => (*took, Outcome::Done),
                End::Cached => (Duration::ZERO, Outcome::Cached),
                End::SameAs(_) => (Duration::ZERO, Outcome::Done),
                End::Failed(_) => (row.started.elapsed(), Outcome::Failed),
            };
            row.ended = Some(ended);
        }
        self.draw();
    }

    fn row(&mut self, vertex: &Vertex) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.number == vertex.number)
    }

    /// Draws, unless that was done a moment ago.
    pub(super) fn draw(&mut self) {
        if self.drawn_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.draw_now(false);
    }

    /// Leaves what was drawn, and draws further down from now on.
    pub(super) fn go_on_below(&mut self) {
        self.drawn = 0;
    }

    /// Draws for the last time: all steps, however many there are.
    pub(super) fn finish(&mut self) {
        self.draw_now(true);
        self.drawn = 0;
    }

    fn draw_now(&mut self, is_last: bool) {
        let (height, width) = size();
        let mut lines = vec![self.header(width, is_last)];
        let shown: Vec<Vec<String>> = self.rows.iter().map(|row| self.lines(row, width)).collect();
        let mut count: usize = shown.iter().map(Vec::len).sum();
        for (row, shown) in self.rows.iter().zip(shown) {
            // What is done gives way where not everything fits.
            if !is_last && count + 2 > height && row.ended.is_some() {
                count -= shown.len();
                continue;
            }
            lines.extend(shown);
        }
        if !is_last {
            lines.truncate(height.saturating_sub(1).max(1));
        }
        let mut out = String::new();
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = write!(out, "\r{line}\x1b[K\n");
        }
        // What was drawn further down goes.
        out += "\x1b[J";
        say(&out);
        (self.drawn, self.drawn_at) = (lines.len(), Some(Instant::now()));
    }

    fn header(&self, width: usize, is_last: bool) -> String {
        let done = self.rows.iter().filter(|row| row.ended.is_some()).count();
        let total = self.rows.len();
        let finished = if is_last && done == total { " FINISHED" } else { "" };
        let seconds = self.started.elapsed().as_secs_f64();
        cut(&format!("[+] Building {seconds:.1}s ({done}/{total}){finished}"), width)
    }

    fn lines(&self, row: &Row, width: usize) -> Vec<String> {
        let (took, outcome) = row
            .ended
            .map_or_else(|| (row.started.elapsed(), None), |(took, outcome)| (took, Some(outcome)));
        let word = match outcome {
            Some(Outcome::Cached) => "CACHED ",
            Some(Outcome::Failed) => "ERROR ",
            Some(Outcome::Done) | None => "",
        };
        let colour = match outcome {
            Some(Outcome::Failed) => RED,
            Some(_) => BLUE,
            None => "",
        };
        let name = row.name.lines().next().unwrap_or_default();
        let mut lines = vec![timed(&format!(" => {word}{name}"), took, width)];
        lines.extend(row.parts.iter().map(|part| timed(&format!(" => => {part}"), took, width)));
        if row.ended.is_none() {
            lines.extend(row.tail.iter().map(|line| cut(&format!(" => => # {line}"), width)));
        }
        match self.has_colours && !colour.is_empty() {
            true => lines.iter().map(|line| format!("{colour}{line}{PLAIN}")).collect(),
            false => lines,
        }
    }
}

/// A line with a time at its end.
fn timed(text: &str, took: Duration, width: usize) -> String {
    let time = format!(" {:.1}s", took.as_secs_f64());
    let room = width.saturating_sub(time.len());
    format!("{:room$}{time}", cut(text, room))
}

/// The beginning of a line, as much as fits.
fn cut(text: &str, width: usize) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).take(width).collect()
}

/// Rows and columns of the terminal on standard error.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    match size {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            (usize::from(size.ws_row), usize::from(size.ws_col))
        }
        _ => SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_the_terminal() {
        assert_eq!(timed(" => a", Duration::from_millis(1250), 20), " => a           1.2s");
        assert_eq!(timed(" => a long name", Duration::ZERO, 12), " => a l 0.0s");
        assert_eq!(cut("ä\tb", 2), "ä ");
    }

    #[test]
    fn a_step_shows_its_last_lines_while_it_runs() {
        let mut screen = Screen { has_colours: false, ..Screen::new() };
        let vertex = Vertex::new(1, "[1/1] RUN make");
        screen.drawn_at = Some(Instant::now());
        screen.begin(&vertex);
        for line in 0..9 {
            screen.output(&vertex, &line.to_string());
        }
        let is_timed = |line: &str, start: &str| {
            line.len() == 30 && line.starts_with(start) && line.ends_with('s')
        };
        let shown = screen.lines(&screen.rows[0], 30);
        assert!(is_timed(&shown[0], " => [1/1] RUN make "), "{shown:?}");
        assert_eq!(shown[1..], [3, 4, 5, 6, 7, 8].map(|n| format!(" => => # {n}")));
        screen.end(&vertex, &End::Failed("why"));
        let shown = screen.lines(&screen.rows[0], 30);
        assert!(shown.len() == 1 && is_timed(&shown[0], " => ERROR [1/1] RUN make "), "{shown:?}");
    }
}

//! What happens to which object, on standard error: lines of Docker Compose's.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// How what happens is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    is_quiet: bool,
    /// Whether only what is done is shown, with a mark and how long it took.
    is_terminal: bool,
    has_colour: bool,
}

impl Report {
    pub(super) fn new(progress: &str, ansi: &str) -> Self {
        let is_terminal = match progress {
            "tty" => true,
            "auto" => std::io::stderr().is_terminal(),
            _ => false,
        };
        let has_colour = ansi == "always" || (is_terminal && ansi == "auto");
        Self { is_quiet: progress == "quiet", is_terminal, has_colour }
    }

    /// The same, showing nothing if `is_quiet`.
    pub(super) fn quiet(self, is_quiet: bool) -> Self {
        Self { is_quiet: self.is_quiet || is_quiet, ..self }
    }

    pub(super) fn is_quiet(self) -> bool {
        self.is_quiet
    }

    /// Says that something begins; when, for [`Report::done`].
    pub(super) fn begin(self, what: &str, doing: &str) -> Instant {
        if !self.is_terminal {
            self.line(&format!(" {what}  {doing}"));
        }
        Instant::now()
    }

    /// Says that something is done.
    pub(super) fn done(self, what: &str, done: &str, since: Instant) {
        if !self.is_terminal {
            return self.line(&format!(" {what}  {done}"));
        }
        let seconds = format!("{:.1}s", since.elapsed().as_secs_f64());
        let line = match self.has_colour {
            true => {
                format!(" \x1b[32m✔\x1b[0m {what}  \x1b[32m{done}\x1b[0m  \x1b[34m{seconds}\x1b[0m")
            }
            false => format!(" ✔ {what}  {done}  {seconds}"),
        };
        self.line(&line);
    }

    fn line(self, text: &str) {
        if !self.is_quiet {
            // Nobody to tell if standard error is closed.
            let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
        }
    }
}

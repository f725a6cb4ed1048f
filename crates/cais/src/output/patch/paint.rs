//! A patch for a terminal, in colours if they are wanted: what it would obey is spelt out, line by
//! line.

use std::io::{self, Write};

use super::super::printable;

const BOLD: &str = "\x1b[1m";
const CYAN: &str = "\x1b[36m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[m";

/// Passes a patch on, line by line, in git's colours or without.
pub(crate) struct Paint<W: Write> {
    out: W,
    is_colour: bool,
    line: Vec<u8>,
    /// Whether hunks follow: before them, lines that start alike are names.
    is_hunk: bool,
}

impl<W: Write> Paint<W> {
    pub(crate) fn new(out: W, is_colour: bool) -> Self {
        Self { out, is_colour, line: Vec::new(), is_hunk: false }
    }

    fn paint(&mut self) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.line).into_owned();
        let text = printable(text.trim_end_matches('\n'));
        let colour = match text.as_bytes() {
            [b'd', b'i', b'f', b'f', b' ', ..] => {
                self.is_hunk = false;
                BOLD
            }
            [b'@', ..] => {
                self.is_hunk = true;
                CYAN
            }
            [b'#', ..] => DIM,
            [b'+', ..] if self.is_hunk => GREEN,
            [b'-', ..] if self.is_hunk => RED,
            [b' ' | b'\\', ..] => "",
            _ if self.is_hunk => "",
            _ => BOLD,
        };
        let colour = if self.is_colour { colour } else { "" };
        let reset = if colour.is_empty() { "" } else { RESET };
        writeln!(self.out, "{colour}{text}{reset}")?;
        self.line.clear();
        Ok(())
    }
}

impl<W: Write> Write for Paint<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.paint()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_colours_and_no_commands() {
        let mut out = Vec::new();
        let mut paint = Paint::new(&mut out, true);
        paint
            .write_all(b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\x1b[2J\n+b\n")
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "\x1b[1mdiff --git a/x b/x\x1b[m\n\x1b[1m--- a/x\x1b[m\n\x1b[1m+++ b/x\x1b[m\n\
             \x1b[36m@@ -1 +1 @@\x1b[m\n\x1b[31m-a\\x1b[2J\x1b[m\n\x1b[32m+b\x1b[m\n"
        );
        let mut out = Vec::new();
        Paint::new(&mut out, false).write_all(b"-a\x1b[2J\n").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "-a\\x1b[2J\n");
    }
}

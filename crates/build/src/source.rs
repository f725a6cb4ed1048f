//! Places in a file, and how they are shown to people.

use std::fmt::Write as _;

/// Lines shown before and after what is meant.
const AROUND: usize = 2;
const RULE: &str = "--------------------";

/// A part of a file, in bytes from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

impl Span {
    /// From `start` to before `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }
}

/// The number of the line that a byte is on, from 1, and of its character there, from 1.
#[must_use]
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = floor(text, offset);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

/// The numbers of the first and the last line of a part, from 1.
#[must_use]
pub fn lines(text: &str, span: Span) -> (usize, usize) {
    let (first, _) = position(text, span.start);
    let last = span.end.saturating_sub(1).max(span.start);
    (first, position(text, last).0.max(first))
}

/// The text up to an offset, which need not be the boundary of a character.
fn floor(text: &str, offset: usize) -> &str {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    &text[..offset]
}

/// The lines around a part of a file, as BuildKit shows them, and a caret under its beginning where
/// that says more than the line does.
#[must_use]
pub fn excerpt(name: &str, text: &str, span: Span) -> String {
    let (first, last) = lines(text, span);
    let (_, column) = position(text, span.start);
    let shown = (first.saturating_sub(AROUND).max(1), last + AROUND);
    let mut out = format!("{name}:{first}\n{RULE}\n");
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if number < shown.0 || number > shown.1 {
            continue;
        }
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let line = line.trim_end_matches('\r');
        let _ = writeln!(out, "{number:4} | {mark} {}", oci::redacted(line));
        if number == first && first == last {
            let _ = writeln!(out, "     |     {}", caret(line, column, span.end - span.start));
        }
    }
    out + RULE + "\n"
}

/// Carets under `length` bytes from a character of a line; tabs stay tabs, so that they line up.
fn caret(line: &str, column: usize, length: usize) -> String {
    let before = line.chars().take(column - 1);
    let blank: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let meant: String = line.chars().skip(column - 1).collect();
    let meant = floor(&meant, length).chars().count().max(1);
    blank + &"^".repeat(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let text = "FROM ä\nRUN x\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 7), (1, 7));
        assert_eq!(position(text, 8), (2, 1));
        assert_eq!(position(text, 999), (3, 1));
        assert_eq!(lines(text, Span::new(0, 8)), (1, 1));
    }

    #[test]
    fn an_excerpt_has_a_caret() {
        let text = "FROM busybox\n\nRNU echo\nCMD x\n";
        let expected = "Dockerfile:3\n--------------------\n   1 |     FROM busybox\n   2 |     \n   \
                        3 | >>> RNU echo\n     |     ^^^\n   4 |     CMD x\n--------------------\n";
        assert_eq!(excerpt("Dockerfile", text, Span::new(14, 17)), expected);
    }

    #[test]
    fn an_excerpt_of_several_lines_has_none() {
        let text = "RUN a \\\n  b\n";
        assert!(!excerpt("D", text, Span::new(0, 11)).contains('^'));
    }
}

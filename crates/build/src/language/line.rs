//! Physical lines become logical ones: continuations are joined, comments taken out, and the bodies
//! of here-documents attached. Every byte of a logical line knows where it came from.

use crate::error::{Error, Result};
use crate::language::directive::{DirectiveReader, Directives};
use crate::language::heredoc::{Heredoc, heredocs, may_have_heredocs};
use crate::source::Span;

/// An instruction as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// With its continuations joined.
    pub(crate) text: String,
    /// Where parts of the text begin: in the text, and in the file.
    segments: Vec<(usize, usize)>,
    /// All its lines, with its here-documents.
    pub(crate) span: Span,
    pub(crate) heredocs: Vec<Heredoc>,
    /// The comments right before it, without their `#`.
    pub(crate) comments: Vec<String>,
    /// Where an empty line stands in it, which will be an error some day.
    pub(crate) empty: Option<Span>,
}

impl Line {
    /// The same line, all of which stands at `span`.
    pub(crate) fn moved_to(&self, span: Span) -> Self {
        Self { segments: Vec::new(), span, ..self.clone() }
    }

    fn new(text: &str, span: Span) -> Self {
        Self {
            text: text.to_owned(),
            segments: Vec::new(),
            span,
            heredocs: Vec::new(),
            comments: Vec::new(),
            empty: None,
        }
    }

    /// The line from there on, as one of its own.
    pub(crate) fn tail(&self, start: usize) -> Self {
        let (index, place) = self.segment(start);
        let behind = self.segments.iter().skip(index + 1).map(|(at, place)| (at - start, *place));
        let segments = place.map(|place| (0, place)).into_iter().chain(behind).collect();
        Self { text: self.text[start..].to_owned(), segments, ..self.clone() }
    }

    /// Where a part of the text stands in the file.
    pub(crate) fn span_of(&self, start: usize, end: usize) -> Span {
        let Some(from) = self.segment(start).1 else { return self.span };
        // The end of what was joined lies on a later line.
        let last = if end > start { self.segment(end - 1).1 } else { None };
        Span::new(from, last.map_or(from, |last| last + 1))
    }

    /// The segment of a byte of the text, and its place in the file.
    fn segment(&self, offset: usize) -> (usize, Option<usize>) {
        let behind = self.segments.partition_point(|(start, _)| *start <= offset);
        let index = behind.saturating_sub(1);
        (index, self.segments.get(index).map(|(start, place)| place + (offset - start)))
    }
}

/// A file as its lines.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) directives: Directives,
    pub(crate) lines: Vec<Line>,
}

/// Splits a file into logical lines.
///
/// # Errors
/// For directives that are wrong, and for here-documents without an end.
pub(crate) fn split(text: &str) -> Result<Lines> {
    let mut reader = Reader { text, at: 0, directives: DirectiveReader::default() };
    if text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    let (mut lines, mut comments) = (Vec::new(), Vec::new());
    while let Some((start, physical)) = reader.next() {
        let span = Span::new(start, start + physical.len());
        let content = trim_newline(physical);
        let trimmed = content.trim_start();
        if reader.directives.line(trimmed, span)? {
            continue;
        }
        if let Some(comment) = trimmed.strip_prefix('#') {
            match comment.trim() {
                "" => comments.clear(),
                comment => comments.push(comment.to_owned()),
            }
            continue;
        }
        let start = start + (content.len() - trimmed.len());
        if let Some(mut line) = reader.logical(start, trimmed)? {
            line.comments = std::mem::take(&mut comments);
            lines.push(line);
        }
    }
    Ok(Lines { directives: reader.directives.found, lines })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    directives: DirectiveReader,
}

impl<'a> Reader<'a> {
    /// The next physical line with its newline, and where it begins.
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let start = self.at;
        self.at += length;
        Some((start, &rest[..length]))
    }

    /// Reads the rest of a line that begins with `first`; `None` if it is empty.
    fn logical(&mut self, start: usize, first: &str) -> Result<Option<Line>> {
        let escape = self.directives.found.escape;
        let (content, mut continues) = trim_continuation(first, escape);
        if !continues && content.is_empty() {
            return Ok(None);
        }
        let mut line = Line::new(content, Span::new(start, start + first.len()));
        line.segments.push((0, start));
        while continues {
            let Some((start, physical)) = self.next() else { break };
            let content = trim_newline(physical);
            if content.trim_start().starts_with('#') {
                continue;
            }
            if content.trim().is_empty() {
                line.empty = Some(Span::new(start, start + physical.len()));
                continue;
            }
            let content;
            (content, continues) = trim_continuation(trim_newline(physical), escape);
            line.segments.push((line.text.len(), start));
            line.text += content;
            line.span.end = start + trim_newline(physical).len();
        }
        if may_have_heredocs(&line.text) {
            self.bodies(&mut line)?;
        }
        Ok(Some(line))
    }

    /// Reads the bodies of the here-documents that a line announces.
    fn bodies(&mut self, line: &mut Line) -> Result<()> {
        for mut heredoc in heredocs(&line.text).map_err(|error| error.or_at(line.span))? {
            loop {
                let Some((start, physical)) = self.next() else {
                    let message =
                        format!("unterminated heredoc: there is no line `{}`", heredoc.name);
                    return Err(Error::at(line.span, message));
                };
                let mut end = trim_newline(physical);
                if heredoc.chomp {
                    end = end.trim_start_matches('\t');
                }
                line.span.end = start + trim_newline(physical).len();
                if end == heredoc.name {
                    break;
                }
                heredoc.content += physical;
            }
            line.heredocs.push(heredoc);
        }
        Ok(())
    }
}

fn trim_newline(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// The line without an escape character at its end, and whether there was one: one that is escaped
/// itself is none.
fn trim_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        split(text).unwrap().lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn continuations_are_joined() {
        assert_eq!(texts("RUN a \\\n  b\nCMD c"), ["RUN a   b", "CMD c"]);
        assert_eq!(texts("RUN a\\  \n b"), ["RUN a b"]);
        assert_eq!(texts("RUN a \\\n# no\n  # nor this\n\n b"), ["RUN a  b"]);
        assert_eq!(texts("RUN a \\\\\nCMD b"), ["RUN a \\\\", "CMD b"]);
        assert_eq!(texts("\\\nRUN a"), ["RUN a"]);
        assert_eq!(texts("RUN a \\"), ["RUN a "]);
        assert_eq!(texts("# escape=`\nRUN a `\n b"), ["RUN a  b"]);
        assert_eq!(texts("  RUN a\r\n\r\nCMD b\r\n"), ["RUN a", "CMD b"]);
        assert_eq!(texts("\u{feff}FROM x"), ["FROM x"]);
    }

    #[test]
    fn every_byte_knows_its_place() {
        let file = "# x\n  RUN ab \\\n# c\n  cd\n";
        let line = split(file).unwrap().lines.remove(0);
        let at = line.text.find("cd").unwrap();
        let span = line.span_of(at, at + 2);
        assert_eq!(&file[span.start..span.end], "cd");
        assert_eq!(&file[line.span.start..line.span.end], "RUN ab \\\n# c\n  cd");
        let ab = line.span_of(4, 6);
        assert_eq!(&file[ab.start..ab.end], "ab");
    }

    #[test]
    fn an_empty_line_in_an_instruction_is_noted() {
        let lines = split("RUN a \\\n\n b\n").unwrap().lines;
        assert!(lines[0].empty.is_some());
    }

    #[test]
    fn comments_before_an_instruction_are_its_own() {
        let lines = split("# a\n#\n# b\n# c\nARG x\nRUN y").unwrap().lines;
        assert_eq!(lines[0].comments, ["b", "c"]);
        assert!(lines[1].comments.is_empty());
    }

    #[test]
    fn bodies_belong_to_their_line() {
        let lines = split("RUN cat <<A <<-B\na\nA\n\tb\n\tB\nCMD x").unwrap().lines;
        let bodies: Vec<_> = lines[0].heredocs.iter().map(|h| h.content.as_str()).collect();
        assert_eq!(bodies, ["a\n", "\tb\n"]);
        assert_eq!(lines[1].text, "CMD x");
        let error = split("FROM x\nRUN <<EOF\na").unwrap_err();
        assert!(error.to_string().starts_with("unterminated heredoc"));
        assert_eq!(error.span().unwrap().start, 7);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[A-Z <\\\\\n\t#'\"EOFé-]{0,60}") {
            if let Ok(lines) = split(&text) {
                for line in lines.lines {
                    let span = line.span_of(0, line.text.len());
                    proptest::prop_assert!(span.end <= text.len());
                }
            }
        }
    }
}

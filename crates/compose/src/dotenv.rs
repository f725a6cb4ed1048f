//! Files of variables: `.env` and `env_file`.

use std::collections::BTreeSet;

use crate::error::{Error, Place, Result};
use crate::template::Variables;

/// How the lines of a file are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Compose's: quotes, comments and variables mean what they do for a shell.
    Dotenv,
    /// `format: raw`: everything behind `=` is the value.
    Raw,
}

/// The variables of a file, in its order; `None` for a name without a value. `lookup` knows
/// variables from elsewhere, which win over those of the file where a value mentions both.
///
/// # Errors
/// With file and line, if it cannot be read.
pub fn parse(
    file: &str,
    text: &str,
    format: Format,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(String, Option<String>)>> {
    let mut reader = Reader { file, rest: text, line: 1, all: Vec::new(), lookup };
    reader.rest = reader.rest.trim_start_matches('\u{feff}');
    while !reader.rest.is_empty() {
        match format {
            Format::Dotenv => reader.entry()?,
            Format::Raw => reader.raw()?,
        }
    }
    Ok(reader.all)
}

struct Reader<'a> {
    file: &'a str,
    rest: &'a str,
    line: u32,
    all: Vec<(String, Option<String>)>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Reader<'a> {
    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::at(&Place { file: self.file.into(), line: self.line, column: 1 }, message))
    }

    /// The line that comes, without its end.
    fn take_line(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line.trim_end_matches('\r')
    }

    fn raw(&mut self) -> Result<()> {
        let line = self.take_line();
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            return Ok(());
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line, (self.lookup)(line.trim())),
        };
        self.add(key.trim(), value)
    }

    fn add(&mut self, key: &str, value: Option<String>) -> Result<()> {
        let sound = !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || c.is_control());
        if !sound {
            self.line -= 1;
            return self.error(format!("unexpected character in variable name \"{key}\""));
        }
        self.all.retain(|(known, _)| known != key);
        self.all.push((key.to_owned(), value));
        Ok(())
    }

    fn entry(&mut self) -> Result<()> {
        let line = self.rest.split('\n').next().unwrap_or_default();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            self.take_line();
            return Ok(());
        }
        let start = line.len() - line.trim_start().len();
        let mut at = start;
        if let Some(behind) = line[start..].strip_prefix("export ") {
            at = line.len() - behind.trim_start().len();
        }
        let Some(end) = line[at..].find(['=', ':']).map(|end| at + end) else {
            let key = line[at..].split(" #").next().unwrap_or_default().trim();
            let value = (self.lookup)(key);
            self.take_line();
            return self.add(key, value);
        };
        let key = line[at..end].trim().to_owned();
        self.rest = &self.rest[end + 1..];
        let value = self.value()?;
        self.add(&key, Some(value))
    }

    fn value(&mut self) -> Result<String> {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let inner = &self.rest[1..];
                let Some(end) = end_of_quote(inner, quote) else {
                    return self.error("unterminated quoted value");
                };
                let text = &inner[..end];
                self.rest = &inner[end + 1..];
                self.line += u32::try_from(text.matches('\n').count()).unwrap_or(0);
                // What follows on its line is a comment.
                self.take_line();
                match quote {
                    '\'' => Ok(text.replace("\\'", "'")),
                    _ => Ok(self.expand(&escapes(text))?.replace('\0', "$")),
                }
            }
            _ => {
                let line = self.take_line();
                let comment = line
                    .char_indices()
                    .find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
                let value = comment.map_or(line, |(at, _)| &line[..at]).trim();
                self.expand(value)
            }
        }
    }

    fn expand(&self, text: &str) -> Result<String> {
        let own = |name: &str| {
            let own = self.all.iter().find(|(key, _)| key == name);
            (self.lookup)(name).or_else(|| own?.1.clone())
        };
        let missing = std::cell::RefCell::<BTreeSet<String>>::default();
        let expanded = Variables::new(&own, &missing).expand(text);
        expanded.or_else(|error| self.error(error))
    }
}

fn end_of_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// What backslashes mean between double quotes. A dollar that is not to begin a variable becomes a
/// NUL until variables are replaced.
fn escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push('\0'),
            Some(c @ ('"' | '\'' | '\\')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: Format) -> String {
        let lookup = |name: &str| (name == "HOST").then(|| "h".to_owned());
        let show = |(key, value): (String, Option<String>)| match value {
            Some(value) => format!("{key}={value:?}"),
            None => key,
        };
        match parse(".env", text, format, &lookup) {
            Ok(all) => all.into_iter().map(show).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn lines_are_read_as_compose_does() {
        for (text, expected) in [
            ("A=1\nB=two words  \n", r#"A="1" B="two words""#),
            ("# c\n\nexport A=1 # c\nB=a#b\r\n", r##"A="1" B="a#b""##),
            ("A='$X \\n'\nB=\"x\\ny\\$Z\"", r#"A="$X \\n" B="x\ny$Z""#),
            ("A=1\nB=$A-${A}-$HOST-${NO:-d}", r#"A="1" B="1-1-h-d""#),
            ("A=\"x\n y\"\nB=1", r#"A="x\n y" B="1""#),
            ("A: 1", r#"A="1""#),
            ("HOST\nNONE\n", r#"HOST="h" NONE"#),
            ("A=\nB=''", r#"A="" B="""#),
            ("A=1\nA=2", r#"A="2""#),
            ("A=\"1\" # c\nB=2", r#"A="1" B="2""#),
        ] {
            assert_eq!(read(text, Format::Dotenv), expected, "{text}");
        }
    }

    #[test]
    fn raw_lines_are_taken_as_they_are() {
        assert_eq!(read("A='$X' # c\nB= x ", Format::Raw), r#"A="'$X' # c" B=" x ""#);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(read("A=1\nB='x", Format::Dotenv), ".env:2:1: unterminated quoted value");
        assert!(read("A=1\nB C=1", Format::Dotenv).starts_with(".env:2:1: unexpected character"));
        assert!(read("A=${X:?no}", Format::Dotenv).contains("required variable X"));
    }
}

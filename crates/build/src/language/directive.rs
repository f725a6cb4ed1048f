//! Parser directives: `# syntax=`, `# escape=` and `# check=` before everything else.

use crate::error::{Error, Result};
use crate::language::check::CheckOptions;
use crate::source::Span;

/// What the first lines of a file say about how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The frontend that the file asks for, as written.
    pub syntax: Option<String>,
    /// The escape character.
    pub escape: char,
    /// Which checks are made, and what they do.
    pub check: CheckOptions,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: CheckOptions::default() }
    }
}

/// Reads directives line by line, until there are none.
#[derive(Debug, Default)]
pub(crate) struct DirectiveReader {
    pub(crate) found: Directives,
    seen: Vec<&'static str>,
    is_done: bool,
}

impl DirectiveReader {
    /// Takes a line; returns whether it is a directive.
    ///
    /// # Errors
    /// If it is repeated or has a value that it cannot have.
    pub(crate) fn line(&mut self, line: &str, span: Span) -> Result<bool> {
        if self.is_done {
            return Ok(false);
        }
        let Some((key, value)) = parse(line) else {
            self.is_done = true;
            return Ok(false);
        };
        if self.seen.contains(&key) {
            let message = format!("only one {key} parser directive can be used");
            return Err(Error::at(span, message));
        }
        self.seen.push(key);
        match key {
            "syntax" => self.found.syntax = Some(first_word(value).to_owned()),
            "check" => {
                let options = CheckOptions::parse(first_word(value));
                self.found.check = options.map_err(|error| error.or_at(span))?;
            }
            _ => {
                self.found.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => {
                        let message =
                            format!("invalid escape token '{value}' does not match ` or \\");
                        return Err(Error::at(span, message));
                    }
                }
            }
        }
        Ok(true)
    }
}

/// `# key = value`, for the keys there are.
fn parse(line: &str) -> Option<(&'static str, &str)> {
    let (key, value) = line.strip_prefix('#')?.trim_start().split_once('=')?;
    let key = key.trim_end().to_lowercase();
    let known = ["syntax", "escape", "check"].into_iter().find(|known| *known == key)?;
    let value = value.trim();
    (!value.is_empty()).then_some((known, value))
}

fn first_word(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

/// The options for checks in a comment right before an instruction: `# check=skip=…`.
pub(crate) fn check_options(comments: &[String]) -> Option<CheckOptions> {
    let options = comments.iter().find_map(|comment| {
        let hashed = format!("#{comment}");
        let (key, value) = parse(&hashed)?;
        (key == "check").then(|| CheckOptions::parse(first_word(value)))
    });
    options?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Directives> {
        let mut reader = DirectiveReader::default();
        for line in lines {
            reader.line(line, Span::default())?;
        }
        Ok(reader.found)
    }

    #[test]
    fn directives_stand_before_everything_else() {
        let found = read(&["# syntax=docker/dockerfile:1 x", "#escape = `"]).unwrap();
        assert_eq!(found.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(found.escape, '`');
        assert_eq!(read(&["# about", "# escape=`"]).unwrap().escape, '\\');
        assert_eq!(read(&["# other=1", "# escape=`"]).unwrap().escape, '\\');
        assert_eq!(read(&["", "# escape=`"]).unwrap().escape, '\\');
        assert_eq!(read(&["# SYNTAX=x"]).unwrap().syntax.as_deref(), Some("x"));
    }

    #[test]
    fn a_directive_that_is_wrong_says_so() {
        let twice = read(&["# escape=`", "# escape=\\"]).unwrap_err();
        assert_eq!(twice.to_string(), "only one escape parser directive can be used");
        let wrong = read(&["# escape=x"]).unwrap_err();
        assert_eq!(wrong.to_string(), "invalid escape token 'x' does not match ` or \\");
    }

    #[test]
    fn options_of_one_instruction() {
        let options = check_options(&["check=skip=UndefinedVar".to_owned()]).unwrap();
        assert!(options.skips("UndefinedVar", false));
        assert!(check_options(&["say skip=x".to_owned()]).is_none());
    }
}

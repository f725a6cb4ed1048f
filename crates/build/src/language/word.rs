//! A logical line becomes its keyword, its flags and its arguments.

use crate::error::{Error, Result};

/// A part of a logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// Of flags: without quotes and escapes. Of words: with them.
    pub(crate) text: String,
    /// Where it begins in the line.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

/// A line, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Parts<'a> {
    pub(crate) keyword: &'a str,
    /// Where the keyword begins.
    pub(crate) start: usize,
    pub(crate) flags: Vec<Word>,
    /// Everything behind the flags.
    pub(crate) rest: &'a str,
    /// Where that begins.
    pub(crate) rest_start: usize,
}

const SPACES: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// Takes a line apart.
pub(crate) fn parts(line: &str, escape: char) -> Parts<'_> {
    let trimmed = line.trim();
    let start = line.len() - line.trim_start().len();
    let length = trimmed.find(SPACES).unwrap_or(trimmed.len());
    let keyword = &trimmed[..length];
    let behind = trimmed[length..].trim_start_matches(SPACES);
    let behind_start = start + trimmed.len() - behind.len();
    let (flags, used) = flags(behind, behind_start, escape);
    let rest = behind[used..].trim();
    let rest_start =
        behind_start + used + (behind[used..].len() - behind[used..].trim_start().len());
    Parts { keyword, start, flags, rest, rest_start }
}

/// The words at the beginning that start with `--`, and where what follows them begins.
fn flags(text: &str, offset: usize, escape: char) -> (Vec<Word>, usize) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, at);
        }
        let (word, length) = unquoted(&text[at..], escape);
        let start = offset + at;
        at += length;
        if word == "--" {
            return (flags, at);
        }
        flags.push(Word { text: word, start, end: offset + at });
    }
}

/// A word without its quotes and escapes, and how long it was with them.
fn unquoted(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, at),
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => word.push(c),
        }
    }
    (word, text.len())
}

/// Splits at spaces that are neither quoted nor escaped; quotes and escapes stay.
pub(crate) fn words(text: &str, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word = Word { text: String::new(), start: 0, end: 0 };
    let (mut quote, mut is_word) = (None, false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if is_word {
                words.push(Word { end: at, ..std::mem::replace(&mut word, empty()) });
            }
            is_word = false;
            continue;
        }
        if word.text.is_empty() && !is_word {
            word.start = at;
        }
        match quote {
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // One at the very end is nothing.
            let Some((_, escaped)) = chars.next() else { break };
            word.text.push(c);
            word.text.push(escaped);
        } else {
            word.text.push(c);
        }
        is_word = true;
    }
    if is_word {
        words.push(Word { end: text.len(), ..word });
    }
    words
}

fn empty() -> Word {
    Word { text: String::new(), start: 0, end: 0 }
}

/// Splits at spaces, whatever quotes there are.
pub(crate) fn plain_words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    for part in text.split(SPACES) {
        if !part.is_empty() {
            words.push(Word { text: part.to_owned(), start: at, end: at + part.len() });
        }
        at += part.len() + 1;
    }
    words
}

/// Reads a JSON array of strings; `None` for anything else, which is then a line for the shell.
///
/// # Errors
/// For an array of other things.
pub(crate) fn json(text: &str) -> Result<Option<Vec<String>>> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(items) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let strings = items.into_iter().map(|item| match item {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(Error::new(
            "when using JSON array syntax, arrays must be comprised of strings only",
        )),
    });
    strings.collect::<Result<_>>().map(Some)
}

/// Whether the arguments of a line are a JSON array, also behind ONBUILD.
pub(crate) fn is_json(line: &str) -> bool {
    let parts = parts(line, '\\');
    match parts.keyword.eq_ignore_ascii_case("onbuild") {
        true => is_json(parts.rest),
        false => matches!(json(parts.rest), Ok(Some(_))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag_texts(line: &str) -> (Vec<String>, String) {
        let parts = parts(line, '\\');
        (parts.flags.into_iter().map(|flag| flag.text).collect(), parts.rest.to_owned())
    }

    #[test]
    fn flags_stand_before_arguments() {
        let check = |line: &str, flags: &[&str], rest: &str| {
            let expected = flags.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
            assert_eq!(flag_texts(line), (expected, rest.to_owned()), "{line}");
        };
        check("RUN  --mount=type=cache  --x a --y", &["--mount=type=cache", "--x"], "a --y");
        check("COPY --from='a b' x y", &["--from=a b"], "x y");
        check("RUN -- --x", &[], "--x");
        check("RUN --a\\ b c", &["--a b"], "c");
        check("RUN -x", &[], "-x");
        check("RUN", &[], "");
        check("\tRUN\t--x", &["--x"], "");
    }

    #[test]
    fn parts_know_their_places() {
        let line = " COPY  --link   a b ";
        let parts = parts(line, '\\');
        assert_eq!((parts.keyword, parts.start), ("COPY", 1));
        assert_eq!(&line[parts.flags[0].start..parts.flags[0].end], "--link");
        assert_eq!(&line[parts.rest_start..], "a b ");
    }

    #[test]
    fn words_keep_their_quotes() {
        let texts = |text: &str| -> Vec<String> {
            words(text, '\\').into_iter().map(|word| word.text).collect()
        };
        assert_eq!(
            texts("a=\"b c\" d=e\\ f g='h\\' i=''"),
            ["a=\"b c\"", "d=e\\ f", "g='h\\'", "i=''"]
        );
        assert_eq!(texts("  a  "), ["a"]);
        assert_eq!(texts("a\\"), ["a"]);
        assert_eq!(texts(""), Vec::<String>::new());
        let found = words("ab  \"c d\"", '\\');
        assert_eq!((found[1].start, found[1].end), (4, 9));
    }

    #[test]
    fn json_is_an_array_of_strings_or_a_line() {
        let own = |words: &[&str]| Some(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(json("[\"a\", \"b c\"]").unwrap(), own(&["a", "b c"]));
        assert_eq!(json("[]").unwrap(), own(&[]));
        assert_eq!(json("['a']").unwrap(), None);
        assert_eq!(json("[\"a\"] x").unwrap(), None);
        assert_eq!(json("[ -f x ]").unwrap(), None);
        assert_eq!(json("a").unwrap(), None);
        assert!(json("[\"a\", 1]").is_err());
        assert!(json("[[\"a\"]]").is_err());
    }
}

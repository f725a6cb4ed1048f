//! Variables and quotes in the words of instructions, as a shell has them.
//!
//! The rules are those of BuildKit's shell lexer: `docs/reference.md`, "Environment replacement".

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::language::pattern::Pattern;

/// Braces within braces.
const DEPTH_MAX: usize = 64;

/// Where the values of variables come from.
pub trait Variables {
    /// The value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// No variable is set.
pub(crate) fn none(_: &str) -> Option<String> {
    None
}

/// How words are read.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// Whether quotes are kept.
    pub raw_quotes: bool,
    /// Whether escapes are kept.
    pub raw_escapes: bool,
    /// Whether quotes are characters like all others.
    pub ignores_quotes: bool,
    /// Whether variables that are not set stay as they are written.
    pub keeps_unset: bool,
}

/// What a word became.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole.
    pub text: String,
    /// The same, split at spaces that are not quoted.
    pub words: Vec<String>,
    /// The variables in it that were set.
    pub matched: BTreeSet<String>,
    /// Those that were not.
    pub unmatched: BTreeSet<String>,
}

impl Lexer {
    /// Takes quotes and escapes away and puts values in.
    #[must_use]
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            ignores_quotes: false,
            keeps_unset: false,
        }
    }

    /// Expands one word.
    ///
    /// # Errors
    /// If quotes or braces are not closed, a modifier is unknown, or a variable that must be set is not.
    pub fn expand(&self, word: &str, variables: &dyn Variables) -> Result<Expanded> {
        let mut reader = Reader {
            lexer: *self,
            chars: word.chars().collect(),
            at: 0,
            depth: 0,
            variables,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        let (text, words) = reader
            .until(None, self.raw_escapes)
            .map_err(|error| Error::new(format!("failed to process {word:?}: {error}")))?;
        Ok(Expanded { text, words, matched: reader.matched, unmatched: reader.unmatched })
    }
}

/// Words that are being put together.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    word: String,
}

impl Words {
    /// A character that may end a word.
    fn push(&mut self, c: char) {
        match c.is_whitespace() {
            true => self.end(),
            false => self.word.push(c),
        }
    }

    fn end(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }
}

struct Reader<'a> {
    lexer: Lexer,
    chars: Vec<char>,
    at: usize,
    depth: usize,
    variables: &'a dyn Variables,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    /// Reads to the end, or to a character that ends it, which is taken, too.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>)> {
        if self.depth == DEPTH_MAX {
            return Err(Error::new(format!("more than {DEPTH_MAX} substitutions in each other")));
        }
        self.depth += 1;
        let before = std::mem::replace(&mut self.lexer.raw_escapes, raw_escapes);
        let outcome = self.run(stop);
        self.lexer.raw_escapes = before;
        self.depth -= 1;
        outcome
    }

    fn run(&mut self, stop: Option<char>) -> Result<(String, Vec<String>)> {
        let (mut text, mut words) = (String::new(), Words::default());
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                words.end();
                return Ok((text, words.words));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    text += &value;
                }
                '\'' | '"' if !self.lexer.ignores_quotes => {
                    let value =
                        if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.word += &value;
                    text += &value;
                }
                '<' => {
                    let value = self.possible_heredoc();
                    words.word += &value;
                    text += &value;
                }
                _ => {
                    self.at += 1;
                    if c != self.lexer.escape {
                        words.push(c);
                        text.push(c);
                        continue;
                    }
                    if self.lexer.raw_escapes {
                        words.word.push(c);
                        text.push(c);
                    }
                    // An escape at the very end is nothing.
                    let Some(escaped) = self.next() else { break };
                    words.word.push(escaped);
                    text.push(escaped);
                }
            }
        }
        match stop {
            None => {
                words.end();
                Ok((text, words.words))
            }
            Some(stop) => Err(Error::new(format!(
                "unexpected end of statement while looking for matching {stop}"
            ))),
        }
    }

    /// `<<` keeps the spaces behind it, so that it stays one word with its name.
    fn possible_heredoc(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.at += 1;
        let mut out = "<<".to_owned();
        while let Some(space @ ('\t' | '\r' | ' ')) = self.peek() {
            out.push(space);
            self.at += 1;
        }
        out
    }

    /// Everything up to the next quote, as it is: nothing can be escaped.
    fn single_quoted(&mut self) -> Result<String> {
        let mut out = String::new();
        self.quote(&mut out);
        loop {
            match self.peek() {
                None => return Err(unclosed("single")),
                Some('\'') => {
                    self.quote(&mut out);
                    return Ok(out);
                }
                Some(c) => out.push(c),
            }
            self.at += 1;
        }
    }

    fn double_quoted(&mut self) -> Result<String> {
        let mut out = String::new();
        self.quote(&mut out);
        loop {
            match self.peek() {
                None => return Err(unclosed("double")),
                Some('"') => {
                    self.quote(&mut out);
                    return Ok(out);
                }
                Some('$') => out += &self.dollar()?,
                Some(c) if c == self.lexer.escape => {
                    self.at += 1;
                    if self.lexer.raw_escapes {
                        out.push(c);
                    }
                    match self.peek() {
                        None => {}
                        // Only these can be escaped; before others the escape is a character.
                        Some(next) if matches!(next, '"' | '$') || next == self.lexer.escape => {
                            self.at += 1;
                            out.push(next);
                        }
                        Some(_) => out.push(c),
                    }
                }
                Some(c) => {
                    self.at += 1;
                    out.push(c);
                }
            }
        }
    }

    fn quote(&mut self, out: &mut String) {
        let quote = self.next();
        out.extend(quote.filter(|_| self.lexer.raw_quotes));
    }

    fn dollar(&mut self) -> Result<String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value(&name);
            return Ok(match value {
                None if self.lexer.keeps_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(Error::new("syntax error: missing '}'")),
            Some('{' | '}' | ':') => return Err(Error::new("syntax error: bad substitution")),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            Some('}') => Ok(match self.value(&name) {
                None if self.lexer.keeps_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.replace(&name),
            Some(':') => {
                let modifier = self.next();
                self.modified(&name, modifier, true)
            }
            modifier => self.modified(&name, modifier, false),
        }
    }

    /// `${name<modifier>word}`; with `null_is_unset` a colon stands before the modifier.
    fn modified(
        &mut self,
        name: &str,
        modifier: Option<char>,
        null_is_unset: bool,
    ) -> Result<String> {
        let colon = if null_is_unset { ":" } else { "" };
        let shown = format!("{colon}{}", modifier.map(String::from).unwrap_or_default());
        let trims = matches!(modifier, Some('#' | '%'));
        let Some(modifier @ ('+' | '-' | '?' | '#' | '%')) =
            modifier.filter(|_| !(trims && null_is_unset))
        else {
            return Err(Error::new(format!("unsupported modifier ({shown}) in substitution")));
        };
        let word = self.part('}', trims, "syntax error: missing '}'")?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keeps_unset {
            return Ok(format!("${{{name}{shown}{word}}}"));
        }
        let usable = value.clone().filter(|value| !(null_is_unset && value.is_empty()));
        match (modifier, usable) {
            ('-', usable) => Ok(usable.unwrap_or(word)),
            ('+', usable) => Ok(usable.map(|_| word).unwrap_or_default()),
            ('?', Some(usable)) => Ok(usable),
            ('?', None) => {
                let state = if value.is_none() { "unset" } else { "empty" };
                let default = format!("is not allowed to be {state}");
                let why = if word.is_empty() { default } else { word };
                Err(Error::new(format!("{name}: {why}")))
            }
            (modifier, usable) => trim(modifier, &word, &usable.unwrap_or_default()),
        }
    }

    /// `${name/pattern/replacement}`, and with two slashes for every match.
    fn replace(&mut self, name: &str) -> Result<String> {
        let all = self.peek() == Some('/');
        self.at += usize::from(all);
        let text = self.part('/', true, "syntax error: missing '/' in ${}")?;
        let replacement = self.part('}', true, "syntax error: missing '}'")?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keeps_unset {
            return Ok(format!("${{{name}/{text}/{replacement}}}"));
        }
        let pattern = parse_pattern(&text, true)?;
        Ok(pattern.replace(&value.unwrap_or_default(), &replacement, all))
    }

    /// Up to a character that ends it, which may not be missing.
    fn part(&mut self, stop: char, raw_escapes: bool, missing: &str) -> Result<String> {
        match self.until(Some(stop), raw_escapes) {
            Ok((text, _)) => Ok(text),
            Err(_) if self.peek().is_none() => Err(Error::new(missing)),
            Err(error) => Err(error),
        }
    }

    /// A name, a number, or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let first = self.peek();
        if let Some(special @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) = first {
            self.at += 1;
            return special.to_string();
        }
        let is_number = first.is_some_and(char::is_numeric);
        let belongs = |c: &char| match is_number {
            true => c.is_numeric(),
            false => c.is_alphanumeric() || *c == '_',
        };
        let name: String = self.chars[self.at..].iter().take_while(|c| belongs(c)).collect();
        self.at += name.chars().count();
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name);
        let found = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        found.insert(name.to_owned());
        value
    }
}

fn unclosed(kind: &str) -> Error {
    Error::new(format!("unexpected end of statement while looking for matching {kind}-quote"))
}

/// `${name#pattern}` and `${name%pattern}`; with the character twice, as much as possible.
fn trim(modifier: char, word: &str, value: &str) -> Result<String> {
    let longest = word.strip_prefix(modifier);
    let pattern = parse_pattern(longest.unwrap_or(word), longest.is_some())?;
    Ok(match modifier {
        '#' => pattern.trim_start(value),
        _ => pattern.trim_end(value),
    })
}

fn parse_pattern(text: &str, greedy: bool) -> Result<Pattern> {
    Pattern::parse(text, greedy)
        .map_err(|error| Error::new(format!("invalid pattern ({text}) in substitution: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "HOME" => "/home/me",
            "EMPTY" => "",
            "V" => "foobarbaz.tar.gz",
            "W" => "a b  c",
            "äöü" => "umlauts",
            "STAR" => "a*b",
            "SLASH" => "x/y/z",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn check(word: &str, expected: &str) {
        let found = Lexer::new('\\').expand(word, &environment).map(|e| e.text);
        assert_eq!(found.as_deref(), Ok(expected), "{word}");
    }

    fn fails(word: &str, expected: &str) {
        let error = Lexer::new('\\').expand(word, &environment).unwrap_err().to_string();
        assert!(error.contains(expected), "{word}: {error}");
    }

    #[test]
    fn values_take_the_place_of_names() {
        check("$HOME", "/home/me");
        check("${HOME}x", "/home/mex");
        check("$HOMEx", "");
        check("a$HOME/b", "a/home/me/b");
        check("$1x", "x");
        check("$ x", "$ x");
        check("$", "$");
        check("$äöü", "umlauts");
        check("$$HOME", "HOME");
    }

    #[test]
    fn quotes_and_escapes_are_taken_away() {
        check("'$HOME'", "$HOME");
        check("\"$HOME\"", "/home/me");
        check("\\$HOME", "$HOME");
        check("\"\\$HOME\"", "$HOME");
        check("\"a\\b\"", "a\\b");
        check("a\\b", "ab");
        check("'a\\b'", "a\\b");
        check("a\\", "a");
        check("\"it's\"", "it's");
        fails("'x", "matching single-quote");
        fails("\"x", "matching double-quote");
    }

    #[test]
    fn another_escape_character() {
        let lexer = Lexer::new('`');
        let text = |word: &str| lexer.expand(word, &environment).unwrap().text;
        assert_eq!(text("`$HOME"), "$HOME");
        assert_eq!(text("c:\\x"), "c:\\x");
    }

    #[test]
    fn defaults_and_demands() {
        check("${HOME:-x}", "/home/me");
        check("${EMPTY:-x}", "x");
        check("${EMPTY-x}", "");
        check("${NO-x}", "x");
        check("${NO:-$HOME/a}", "/home/me/a");
        check("${NO:-${NEITHER:-z}}", "z");
        check("${NO:-\"a b\"}", "a b");
        check("${HOME:+x}", "x");
        check("${EMPTY:+x}", "");
        check("${EMPTY+x}", "x");
        check("${NO+x}", "");
        check("${HOME:?x}", "/home/me");
        fails("${NO?}", "NO: is not allowed to be unset");
        fails("${NO:?say it}", "NO: say it");
        fails("${EMPTY:?}", "EMPTY: is not allowed to be empty");
        check("${EMPTY?}", "");
    }

    #[test]
    fn prefixes_and_suffixes() {
        check("${V#foo}", "barbaz.tar.gz");
        check("${V#*a}", "rbaz.tar.gz");
        check("${V##*a}", "r.gz");
        check("${V%.gz}", "foobarbaz.tar");
        check("${V%.*}", "foobarbaz.tar");
        check("${V%%.*}", "foobarbaz");
        check("${V#???}", "barbaz.tar.gz");
        check("${V#x}", "foobarbaz.tar.gz");
        check("${STAR#a\\*}", "b");
        check("${STAR%\\*b}", "a");
        check("${SLASH##*/}", "z");
        check("${NO#x}", "");
        fails("${V:#x}", "unsupported modifier (:#)");
        fails("${V#\\q}", "invalid escape '\\q'");
    }

    #[test]
    fn replacements() {
        check("${V/ba/X}", "fooXrbaz.tar.gz");
        check("${V//ba/X}", "fooXrXz.tar.gz");
        check("${V//b?/X}", "fooXrXz.tar.gz");
        check("${V/b*r/X}", "fooX.gz");
        check("${SLASH//\\//-}", "x-y-z");
        check("${SLASH/\\/y/}", "x/z");
        check("${NO/a/b}", "");
        fails("${V/a}", "missing '/'");
        fails("${V/a/b", "missing '}'");
    }

    #[test]
    fn what_is_malformed_says_so() {
        fails("${", "missing '}'");
        fails("${}", "bad substitution");
        fails("${:x}", "bad substitution");
        fails("${HOME", "unsupported modifier");
        fails("${HOME:-x", "missing '}'");
        fails("${HOME~x}", "unsupported modifier (~)");
    }

    #[test]
    fn words_are_split_behind_expansion() {
        let words = |text: &str| Lexer::new('\\').expand(text, &environment).unwrap().words;
        assert_eq!(words("x $W 'd e'"), ["x", "a", "b", "c", "d e"]);
        assert_eq!(words("\"$W\""), ["a b  c"]);
        assert_eq!(words("a${NO:-b c}d"), ["ab", "cd"]);
        assert_eq!(words("cat << EOF x"), ["cat", "<< EOF", "x"]);
    }

    #[test]
    fn what_was_used_is_known() {
        let found = Lexer::new('\\').expand("$HOME ${NO:-$äöü}", &environment).unwrap();
        assert_eq!(found.matched, BTreeSet::from(["HOME".to_owned(), "äöü".to_owned()]));
        assert_eq!(found.unmatched, BTreeSet::from(["NO".to_owned()]));
    }

    #[test]
    fn what_is_not_set_can_stay() {
        let lexer = Lexer { keeps_unset: true, raw_quotes: true, ..Lexer::new('\\') };
        let text = |word: &str| lexer.expand(word, &environment).unwrap().text;
        assert_eq!(text("'a' $NO ${NO} ${NO:-x} $HOME"), "'a' $NO ${NO} ${NO:-x} /home/me");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(word in "[a-z$\\{}:#%/*?'\"<\\\\ +-]{0,24}") {
            let _ = Lexer::new('\\').expand(&word, &environment);
        }
    }
}

//! Wildcards in the sources of COPY and ADD: Go's `filepath.Match`, one part of a path at a time.

use crate::error::Result;
use crate::ignore::{How, Token, compile, matches};

/// A part of a path that may have wildcards.
#[derive(Debug, Clone)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Reads one part of a path.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(part: &str) -> Result<Self> {
        // Two stars are two times one here.
        let part = part.replace("**", "*");
        let tokens = match compile(&part)? {
            How::Tokens(tokens) => tokens.into_iter().map(plain).collect(),
            How::Exact | How::Prefix(_) | How::Suffix(_) => part.chars().map(Token::Is).collect(),
        };
        Ok(Self { tokens })
    }

    /// Whether a name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        matches(&self.tokens, &name)
    }

    /// Whether a path has wildcards.
    #[must_use]
    pub fn has_wildcards(path: &str) -> bool {
        let mut chars = path.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' | '?' | '[' => return true,
                '\\' => drop(chars.next()),
                _ => {}
            }
        }
        false
    }

    /// What a pattern matched, seen from the last directory before its first wildcard.
    #[must_use]
    pub fn below_fixed(pattern: &str, matched: &str) -> String {
        let fixed = pattern.split('/').take_while(|part| !Self::has_wildcards(part)).count();
        let parts: Vec<&str> = matched.split('/').skip(fixed).collect();
        parts.join("/")
    }
}

/// Only ignore files know a mark of the beginning.
fn plain(token: Token) -> Token {
    match token {
        Token::Start => Token::Is('^'),
        token => token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched() {
        let is = |glob: &str, name: &str| Glob::parse(glob).unwrap().matches(name);
        assert!(is("*.txt", "a.txt") && !is("*.txt", "a.txtx"));
        assert!(is("hom?", "home") && !is("hom?", "hom"));
        assert!(is("a[[]0]", "a[0]") && is("[a-c]", "b") && !is("[^a-c]", "b"));
        assert!(is("a\\*", "a*") && !is("a\\*", "ab"));
        assert!(is("**", "x") && is("*", ".x"));
        assert!(is("plain", "plain") && !is("plain", "plainer"));
        assert!(is("a^b", "a^b") && is("a^*", "a^b"));
        assert!(Glob::parse("[").is_err());
    }

    #[test]
    fn paths_are_told_apart() {
        assert!(Glob::has_wildcards("a/*") && !Glob::has_wildcards("a\\*"));
        assert_eq!(Glob::below_fixed("a/b*/c", "a/bx/c"), "bx/c");
        assert_eq!(Glob::below_fixed("*", "x"), "x");
    }
}

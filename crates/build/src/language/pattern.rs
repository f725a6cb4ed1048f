//! The patterns in `${name#pattern}` and `${name/pattern/replacement}`: `*`, `?` and escapes, without
//! brackets.

use std::collections::HashSet;

/// Of a pattern; each is a step of a recursion.
const PARTS_MAX: usize = 1000;

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// This character.
    Is(char),
    /// Any character.
    One,
    /// Any number of characters.
    Any,
}

/// What a part of a value may look like.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
    /// Whether `*` takes as much as it can.
    greedy: bool,
}

impl Pattern {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, greedy: bool) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                // They had to be escaped to stand in the braces: that is not part of the pattern.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => Part::Is(c),
                    other => {
                        let shown = other.map(String::from).unwrap_or_default();
                        return Err(format!("invalid escape '\\{shown}'"));
                    }
                },
                c => Part::Is(c),
            });
        }
        match parts.len() {
            0..=PARTS_MAX => Ok(Self { parts, greedy }),
            _ => Err(format!("it has more than {PARTS_MAX} characters")),
        }
    }

    /// The value without what matches at its beginning.
    pub(crate) fn trim_start(&self, value: &str) -> String {
        let value: Vec<char> = value.chars().collect();
        let end = self.match_at(&value, 0).unwrap_or(0);
        value[end..].iter().collect()
    }

    /// The value without what matches at its end.
    pub(crate) fn trim_end(&self, value: &str) -> String {
        let turned =
            Self { parts: self.parts.iter().rev().copied().collect(), greedy: self.greedy };
        let value: String = value.chars().rev().collect();
        turned.trim_start(&value).chars().rev().collect()
    }

    /// The value with the first match, or all of them, replaced.
    pub(crate) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let (mut at, mut last_end) = (0, None);
        while at <= value.len() {
            match self.match_at(&value, at) {
                // Nothing is matched right behind a match only once.
                Some(end) if end > at || last_end != Some(at) => {
                    out += replacement;
                    if !all {
                        out.extend(&value[end..]);
                        return out;
                    }
                    last_end = Some(end);
                    if end == at {
                        out.extend(value.get(at));
                        at += 1;
                    } else {
                        at = end;
                    }
                }
                _ => {
                    out.extend(value.get(at));
                    at += 1;
                }
            }
        }
        out
    }

    /// Where the match that begins at `start` ends.
    fn match_at(&self, value: &[char], start: usize) -> Option<usize> {
        self.walk(0, value, start, &mut HashSet::new())
    }

    /// Tries what `*` may take in its order of preference; `failed` keeps that from taking for ever.
    fn walk(
        &self,
        part: usize,
        value: &[char],
        at: usize,
        failed: &mut HashSet<(usize, usize)>,
    ) -> Option<usize> {
        let Some(first) = self.parts.get(part) else { return Some(at) };
        if failed.contains(&(part, at)) {
            return None;
        }
        let found = match first {
            Part::Is(c) if value.get(at) == Some(c) => self.walk(part + 1, value, at + 1, failed),
            Part::One if at < value.len() && value[at] != '\n' => {
                self.walk(part + 1, value, at + 1, failed)
            }
            Part::Any => {
                let taken = value[at..].iter().take_while(|c| **c != '\n').count();
                let mut ends: Vec<usize> = (at..=at + taken).collect();
                if self.greedy {
                    ends.reverse();
                }
                ends.into_iter().find_map(|end| self.walk(part + 1, value, end, failed))
            }
            _ => None,
        };
        if found.is_none() {
            failed.insert((part, at));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_take_little_or_much() {
        let trimmed = |text, greedy| Pattern::parse(text, greedy).unwrap().trim_start("aXbXc");
        assert_eq!(trimmed("*X", false), "bXc");
        assert_eq!(trimmed("*X", true), "c");
        assert_eq!(trimmed("", true), "aXbXc");
    }

    #[test]
    fn an_empty_pattern_matches_between_all_characters() {
        let pattern = Pattern::parse("", true).unwrap();
        assert_eq!(pattern.replace("ab", "-", true), "-a-b-");
        assert_eq!(pattern.replace("ab", "-", false), "-ab");
        assert_eq!(Pattern::parse("*", true).unwrap().replace("ab", "-", true), "-");
    }

    #[test]
    fn many_stars_end() {
        let pattern = Pattern::parse(&"*a".repeat(40), true).unwrap();
        assert_eq!(pattern.trim_start(&"a".repeat(39)), "a".repeat(39));
        assert_eq!(pattern.trim_start(&("a".repeat(60) + "b")), "b");
    }
}

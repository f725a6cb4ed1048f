//! Regular expressions as filters of names use them: the common part of Go's `regexp`.
//!
//! A pattern is matched by following all places that it may have come to at once, so that no
//! repetition is tried in more ways than the text has places.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// Groups within groups that a pattern may have.
const DEPTH_MAX: usize = 32;
/// The highest count of a repetition, as in Go.
const REPEAT_MAX: u32 = 1000;

/// A pattern, ready to be matched.
#[derive(Debug)]
pub struct Pattern(Node);

#[derive(Debug)]
enum Node {
    Any,
    /// One of these ranges, or none of them.
    Class(bool, Vec<(char, char)>),
    Start,
    End,
    All(Vec<Node>),
    OneOf(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.chars().peekable(), depth: 0 };
        let node = parser.alternatives()?;
        match parser.rest.next() {
            None => Ok(Self(node)),
            Some(_) => Err("unexpected )".into()),
        }
    }

    /// Whether some part of `text` fits.
    pub fn is_match(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        !self.0.ends(&text, &(0..=text.len()).collect()).is_empty()
    }
}

impl Node {
    /// Where a match may end that starts at one of `from`.
    fn ends(&self, text: &[char], from: &BTreeSet<usize>) -> BTreeSet<usize> {
        let step = |fits: &dyn Fn(char) -> bool| {
            let fits = from.iter().filter(|at| text.get(**at).is_some_and(|c| fits(*c)));
            fits.map(|at| at + 1).collect()
        };
        let only = |place: usize| from.iter().copied().filter(|at| *at == place).collect();
        match self {
            Self::Any => step(&|c| c != '\n'),
            Self::Class(negated, ranges) => {
                step(&|c| ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated)
            }
            Self::Start => only(0),
            Self::End => only(text.len()),
            Self::All(nodes) => {
                nodes.iter().fold(from.clone(), |places, node| node.ends(text, &places))
            }
            Self::OneOf(nodes) => nodes.iter().flat_map(|node| node.ends(text, from)).collect(),
            Self::Repeat(node, min, max) => {
                let mut last = from.clone();
                for _ in 0..*min {
                    let next = node.ends(text, &last);
                    // None, or what any further round would lead to.
                    let settled = next == last || next.is_empty();
                    last = next;
                    if settled {
                        break;
                    }
                }
                let mut all = last.clone();
                let more = max.map_or(u32::MAX, |max| max - min);
                for _ in 0..more {
                    last = node.ends(text, &last).difference(&all).copied().collect();
                    if last.is_empty() {
                        break;
                    }
                    all.extend(&last);
                }
                all
            }
        }
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    depth: usize,
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.sequence()?];
        while self.rest.next_if_eq(&'|').is_some() {
            nodes.push(self.sequence()?);
        }
        Ok(Node::OneOf(nodes))
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while let Some(c) = self.rest.next_if(|c| !matches!(c, '|' | ')')) {
            let node = match c {
                '(' => self.group()?,
                '[' => self.class()?,
                '.' => Node::Any,
                '^' => Node::Start,
                '$' => Node::End,
                '\\' => escaped(self.rest.next())?,
                '*' | '+' | '?' => return Err(format!("nothing to repeat before {c}")),
                c => one(c),
            };
            nodes.push(self.repeated(node)?);
        }
        Ok(Node::All(nodes))
    }

    fn group(&mut self) -> Result<Node, String> {
        if self.rest.next_if_eq(&'?').is_some() && self.rest.next_if_eq(&':').is_none() {
            return Err("only (?: ) may start with (?".into());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} groups within each other"));
        }
        let node = self.alternatives()?;
        self.depth -= 1;
        self.rest.next_if_eq(&')').map(|_| node).ok_or_else(|| "missing )".into())
    }

    fn class(&mut self) -> Result<Node, String> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut ranges = Vec::new();
        loop {
            let low = match self.rest.next() {
                None => return Err("missing ]".into()),
                // The first one is itself.
                Some(']') if !ranges.is_empty() => return Ok(Node::Class(negated, ranges)),
                Some('\\') => match escaped(self.rest.next())? {
                    Node::Class(false, more) if more.len() == 1 && more[0].0 == more[0].1 => {
                        more[0].0
                    }
                    Node::Class(false, more) => {
                        ranges.extend(more);
                        continue;
                    }
                    _ => return Err("no such class within [ ]".into()),
                },
                Some(c) => c,
            };
            let mut ahead = self.rest.clone();
            let high = match (ahead.next(), ahead.next()) {
                (Some('-'), Some(high)) if high != ']' && high != '\\' => {
                    self.rest = ahead;
                    high
                }
                _ => low,
            };
            if high < low {
                return Err(format!("invalid range {low}-{high}"));
            }
            ranges.push((low, high));
        }
    }

    /// The node, as often as what follows it says. Whether a repetition is greedy makes no
    /// difference to whether a text fits.
    fn repeated(&mut self, node: Node) -> Result<Node, String> {
        let (min, max) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.counts()? {
                Some(counts) => counts,
                None => return Ok(node),
            },
            _ => return Ok(node),
        };
        self.rest.next();
        self.rest.next_if_eq(&'?');
        Ok(Node::Repeat(Box::new(node), min, max))
    }

    /// `{2}`, `{2,}` or `{2,3}`, up to the bracket that closes it; `None` where it is mere text.
    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        let inner: String = self.rest.clone().skip(1).take_while(|c| *c != '}').collect();
        let (min, max) = inner.split_once(',').map_or((&*inner, None), |(a, b)| (a, Some(b)));
        let Ok(min) = min.parse::<u32>() else { return Ok(None) };
        let max = match max {
            None => Some(min),
            Some("") => None,
            Some(max) => match max.parse() {
                Ok(max) => Some(max),
                Err(_) => return Ok(None),
            },
        };
        if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || max < min) {
            return Err(format!("invalid count {{{inner}}}"));
        }
        // The first one counts as the opening bracket.
        self.rest.nth(inner.chars().count());
        Ok(Some((min, max)))
    }
}

fn one(c: char) -> Node {
    Node::Class(false, vec![(c, c)])
}

fn escaped(c: Option<char>) -> Result<Node, String> {
    let word = || vec![('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')];
    let blank = || vec![('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
    Ok(match c {
        Some('d') => Node::Class(false, vec![('0', '9')]),
        Some('D') => Node::Class(true, vec![('0', '9')]),
        Some('w') => Node::Class(false, word()),
        Some('W') => Node::Class(true, word()),
        Some('s') => Node::Class(false, blank()),
        Some('S') => Node::Class(true, blank()),
        Some('A') => Node::Start,
        Some('z') => Node::End,
        Some(c) if !c.is_ascii_alphanumeric() => one(c),
        Some(c) => return Err(format!("\\{c} is not known")),
        None => return Err("a backslash at the end".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, fits: &[&str], others: &[&str]) {
        let pattern = Pattern::parse(pattern).unwrap();
        fits.iter().for_each(|text| assert!(pattern.is_match(text), "{text}"));
        others.iter().for_each(|text| assert!(!pattern.is_match(text), "{text}"));
    }

    #[test]
    fn patterns_fit_as_in_go() {
        check("", &["", "a"], &[]);
        check("web", &["web", "my-web-1"], &["we"]);
        check("^/?web$", &["web", "/web"], &["web1", "aweb"]);
        check("^web-[12]$", &["web-1", "web-2"], &["web-3", "web-12"]);
        check("^(a|b|cd)+$", &["a", "abcd", "cdcd"], &["", "c", "abc"]);
        check("^a.*z$", &["az", "a--z"], &["a", "zaz1"]);
        check(r"^a\.b\d?$", &["a.b", "a.b7"], &["axb", "a.b77"]);
        check("^[^a-c_]{2,3}$", &["de", "def"], &["d", "ab", "defg"]);
        check("^[]x-]+$", &["]x-"], &["a"]);
        check("^[a.-]$", &["-", "."], &["b"]);
        check(r"^[\w-]{2}$", &["a-"], &["a+"]);
        check("^(?:a{2}){1,}$", &["aa", "aaaa"], &["a", "aaa"]);
        check("a{x", &["a{x"], &["a"]);
        check("^a??b$", &["ab", "b"], &["aab"]);
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for bad in ["(", ")", "a)", "[", "[b-a]", "*", "a**", r"\", r"\q", "(?i)a", "a{2,1}"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(Pattern::parse(&"(".repeat(10_000)).is_err());
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let pattern = Pattern::parse("^(a*)*(a|aa)+((a+)+)+((a?){1000}){1000}$").unwrap();
        assert!(!pattern.is_match(&("a".repeat(200) + "b")));
    }
}

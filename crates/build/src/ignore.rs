//! `.dockerignore`: which files of a context a build does not see.
//!
//! The rules are those of moby's `patternmatcher`, which are not those of `.gitignore`: patterns are
//! anchored, a later one overrides an earlier one, and a file is out if a directory above it is.

use crate::error::{Error, Result};

/// A list of patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    has_exceptions: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Whether it takes files back in.
    is_exception: bool,
    text: String,
    how: How,
}

/// How a pattern is compared: most need no search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum How {
    Exact,
    /// `dir/**`: everything that begins with this.
    Prefix(String),
    /// `**/name`: everything that ends with this.
    Suffix(String),
    Tokens(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Is(char),
    /// `?`: anything but a slash.
    One,
    /// `*`: any number of anything but slashes.
    Any,
    /// `**/`: nothing, or what [`Token::Inside`] takes, which follows it.
    Directories,
    /// Anything that ends with a slash.
    Inside,
    /// `**` at the end.
    Rest,
    /// `[…]`.
    Class(Class),
    /// `^`, which patterns have never been protected from.
    Start,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    is_negated: bool,
    ranges: Vec<(char, char)>,
}

impl Ignore {
    /// Reads the text of an ignore file.
    ///
    /// # Errors
    /// For a pattern that is malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        let patterns = lines.filter(|line| !line.is_empty()).map(|line| {
            let (mark, pattern) = match line.strip_prefix('!') {
                Some(pattern) => ("!", pattern.trim()),
                None => ("", line),
            };
            if pattern.is_empty() {
                return mark.to_owned();
            }
            let pattern = clean(pattern);
            let anchored = pattern.strip_prefix('/').filter(|rest| !rest.is_empty());
            format!("{mark}{}", anchored.unwrap_or(&pattern))
        });
        Self::new(patterns)
    }

    /// A list of patterns as they are: `--exclude`, for example.
    ///
    /// # Errors
    /// For a pattern that is malformed.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut ignore = Self::default();
        for text in patterns {
            let text = text.as_ref().trim();
            if text.is_empty() {
                continue;
            }
            let cleaned = clean(text);
            let (text, is_exception) = match cleaned.strip_prefix('!') {
                Some("") => return Err(Error::new("illegal exclusion pattern: \"!\"")),
                Some(rest) => (rest.to_owned(), true),
                None => (cleaned, false),
            };
            ignore.has_exceptions |= is_exception;
            let how = compile(&text)?;
            ignore.patterns.push(Pattern { is_exception, text, how });
        }
        Ok(ignore)
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether any pattern takes files back in.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.has_exceptions
    }

    /// Whether a pattern leaves everything out: `*`, `**`, `**/*`.
    #[must_use]
    pub fn ignores_root(&self) -> bool {
        let all = |pattern: &Pattern| matches!(pattern.text.as_str(), "*" | "**" | "**/*");
        self.patterns.iter().any(|pattern| !pattern.is_exception && all(pattern))
    }

    /// Whether a path, relative and with slashes, is out, by itself or by a directory above it.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut matched = false;
        for pattern in &self.patterns {
            // It could change nothing.
            if pattern.is_exception != matched {
                continue;
            }
            let above = path.match_indices('/').map(|(slash, _)| &path[..slash]);
            if pattern.matches(path) || above.into_iter().any(|above| pattern.matches(above)) {
                matched = !pattern.is_exception;
            }
        }
        matched
    }

    /// Whether something below a directory that is out may be in all the same.
    #[must_use]
    pub fn may_return_below(&self, directory: &str) -> bool {
        let below = format!("{directory}/");
        self.patterns.iter().filter(|pattern| pattern.is_exception).any(|pattern| {
            let fixed = pattern.text.split(['*', '?', '[', '\\']).next().unwrap_or_default();
            let has_wildcard = fixed.len() < pattern.text.len();
            fixed.starts_with(&below) || has_wildcard && below.starts_with(fixed)
        })
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match &self.how {
            How::Exact => self.text == path,
            How::Prefix(prefix) => path.starts_with(prefix.as_str()),
            How::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/') == Some(path)
            }
            How::Tokens(tokens) => {
                let path: Vec<char> = path.chars().collect();
                matches(tokens, &path)
            }
        }
    }
}

/// `filepath.Clean`: without `.`, `..` and empty parts.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

fn malformed(pattern: &str) -> Error {
    Error::new(format!("syntax error in pattern {pattern:?}"))
}

pub(crate) fn compile(pattern: &str) -> Result<How> {
    let mut chars = pattern.chars().peekable();
    let mut tokens = Vec::new();
    let mut how = How::Exact;
    let mut is_first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    match how {
                        How::Exact => {
                            how = How::Prefix(pattern[..pattern.len() - 2].to_owned());
                        }
                        _ => how = How::Tokens(Vec::new()),
                    }
                    tokens.push(Token::Rest);
                } else {
                    tokens.extend([Token::Directories, Token::Inside]);
                    how = How::Tokens(Vec::new());
                }
                if is_first {
                    how = How::Suffix(pattern[2..].to_owned());
                }
            }
            '*' => {
                tokens.push(Token::Any);
                how = How::Tokens(Vec::new());
            }
            '?' => {
                tokens.push(Token::One);
                how = How::Tokens(Vec::new());
            }
            '\\' => {
                let escaped = chars.next().ok_or_else(|| malformed(pattern))?;
                tokens.push(Token::Is(escaped));
                how = How::Tokens(Vec::new());
            }
            '[' => {
                tokens.push(Token::Class(class(&mut chars).ok_or_else(|| malformed(pattern))?));
                how = How::Tokens(Vec::new());
            }
            '^' => tokens.push(Token::Start),
            c => tokens.push(Token::Is(c)),
        }
        is_first = false;
    }
    Ok(if let How::Tokens(_) = how { How::Tokens(tokens) } else { how })
}

/// Reads a class up to its closing bracket.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Class> {
    let is_negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Class { is_negated, ranges }),
            ']' | '-' => return None,
            '\\' => chars.next()?,
            c => c,
        };
        let high = match chars.next_if_eq(&'-') {
            None => low,
            Some(_) => match chars.next()? {
                '\\' => chars.next()?,
                ']' | '-' => return None,
                c => c,
            },
        };
        ranges.push((low, high));
    }
}

impl Class {
    fn contains(&self, c: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != self.is_negated
    }
}

/// Whether the whole path is what the tokens say, in time that grows with their product.
pub(crate) fn matches(tokens: &[Token], path: &[char]) -> bool {
    // Which tokens may come next, at each place of the path.
    let mut here = vec![false; tokens.len() + 1];
    here[0] = true;
    for at in 0..=path.len() {
        let mut next = vec![false; tokens.len() + 1];
        for index in 0..tokens.len() {
            if !here[index] {
                continue;
            }
            let c = path.get(at).copied();
            let is = |wanted: fn(char) -> bool| c.is_some_and(wanted);
            match &tokens[index] {
                Token::Is(wanted) => next[index + 1] |= c == Some(*wanted),
                Token::One => next[index + 1] |= is(|c| c != '/'),
                Token::Class(class) => next[index + 1] |= c.is_some_and(|c| class.contains(c)),
                Token::Any => {
                    here[index + 1] = true;
                    next[index] |= is(|c| c != '/');
                }
                Token::Rest => {
                    here[index + 1] = true;
                    next[index] |= is(|c| c != '\n');
                }
                Token::Directories => {
                    here[index + 1] = true;
                    here[index + 2] = true;
                }
                Token::Inside => {
                    next[index] |= is(|c| c != '\n');
                    next[index + 1] |= c == Some('/');
                }
                Token::Start => here[index + 1] |= at == 0,
            }
        }
        if at == path.len() {
            return here[tokens.len()];
        }
        here = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &str, out: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(patterns).unwrap();
        for path in out {
            assert!(ignore.matches(path), "{patterns:?} should match {path}");
        }
        for path in kept {
            assert!(!ignore.matches(path), "{patterns:?} should not match {path}");
        }
    }

    #[test]
    fn patterns_match_as_in_moby() {
        check("**", &["file", "file/", "/", "dir/file"], &[]);
        check("**/", &["file", "dir/file"], &[]);
        check("**/**", &["dir/file", "dir/dir2/file"], &[]);
        check("dir/**", &["dir/file", "dir/dir2/file"], &["dir", "dirx"]);
        check("**/dir2/*", &["dir/dir2/file", "dir/dir2/file/"], &[]);
        check("**/dir2/**", &["dir/dir2/dir2/file"], &[]);
        check("**file", &["file", "dir/file", "dir/dir/file"], &["filex"]);
        check("**/file", &["file", "dir/file", "dir/dir/file"], &["xfile"]);
        check("**file*", &["dir/dir/file", "dir/dir/file.txt"], &[]);
        check("**/file*txt", &["dir/dir/file.txt"], &["dir/dir/file.txtx"]);
        check("a**/*.txt", &["a/file.txt", "a/dir/file.txt"], &["a/b/file.text"]);
        check("a/*.txt", &["a/file.txt"], &["a/a/file.txt"]);
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb"]);
        check("a[b-d]e", &["ace"], &["aae"]);
        check("a[^b-d]e", &["aze"], &["ace"]);
        check("a\\*b", &["a*b"], &["axb"]);
        check("abc.def", &["abc.def"], &["abcdef", "abcZdef"]);
        check("abc?def", &["abcZdef"], &["abcdef", "abc/def"]);
        check("?", &["a"], &["ab"]);
        check("**/foo/bar", &["foo/bar", "dir/foo/bar"], &["dir/foo/barx"]);
        check("abc/**", &["abc/def", "abc/def/ghi"], &["abc"]);
        check("**/.foo", &[".foo", "bar/.foo"], &["foo"]);
        check("a.|)$(}+{bc", &["a.|)$(}+{bc"], &[]);
        check("*/dist/*/**/*.whl", &["x/dist/y/z.whl", "x/dist/y/a/b.whl"], &["x/dist/z.whl"]);
        check("dist/package.whl", &["dist/package.whl"], &["a/dist/package.whl"]);
    }

    #[test]
    fn a_directory_takes_what_is_in_it_along() {
        check("docs", &["docs", "docs/a", "docs/a/b"], &["docsx", "x/docs"]);
        check("/docs/", &["docs", "docs/a"], &[]);
        check("./docs/../x", &["x"], &["docs"]);
        check("*", &["a", "a/b"], &[]);
    }

    #[test]
    fn the_last_pattern_wins() {
        check("*.md\n!README.md", &["a.md"], &["README.md"]);
        check("docs\n!docs/README.md", &["docs/a"], &["docs/README.md"]);
        check("!a\na", &["a"], &[]);
        check("*\n! a \na/b", &["a/b", "c"], &["a", "a/c"]);
        check("**\n!util/docker/web", &["util", "x"], &["util/docker/web", "util/docker/web/f"]);
    }

    #[test]
    fn comments_and_spaces_are_no_patterns() {
        check("\u{feff}# x\n  a  \n\n", &["a"], &["# x"]);
        check(" # x", &["# x"], &[]);
    }

    #[test]
    fn what_is_malformed_says_so() {
        for pattern in ["[", "[^", "[^]", "[^bc", "a[", "[a-]", "a\\"] {
            assert!(Ignore::parse(pattern).is_err(), "{pattern}");
        }
        assert!(Ignore::parse("!").is_err());
    }

    #[test]
    fn directories_that_may_have_something_in_are_known() {
        let ignore = Ignore::parse("*\n!a/b\n!c/*/d").unwrap();
        assert!(ignore.may_return_below("a"));
        assert!(ignore.may_return_below("c") && ignore.may_return_below("c/x"));
        assert!(!ignore.may_return_below("b"));
        assert!(!Ignore::parse("*").unwrap().may_return_below("a"));
        assert!(Ignore::parse("*\n!**/x").unwrap().may_return_below("deep/er"));
    }

    #[test]
    fn an_ignored_root_is_known() {
        assert!(Ignore::parse("**/*").unwrap().ignores_root());
        assert!(!Ignore::parse("a\n!*").unwrap().ignores_root());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(pattern in "[a-c*?/!.\\\\^\\[\\]-]{0,16}", path in "[a-c/.]{0,12}") {
            if let Ok(ignore) = Ignore::parse(&pattern) {
                let _ = ignore.matches(&path);
                let _ = ignore.may_return_below(&path);
            }
        }
    }
}

//! A Rust file as the rules see it: its lines, its code without comments and literals, its tests
//! and its functions.

use std::ops::Range;

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the root of the tree.
    pub(crate) path: String,
    /// As written.
    pub(crate) lines: Vec<String>,
    /// The same lines with comments and the contents of literals blanked.
    pub(crate) code: Vec<String>,
    /// Lines of modules under `#[cfg(test)]`, counted from 0.
    tests: Vec<Range<usize>>,
}

/// A function with a body; lines are counted from 0 and the last is included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let masked = mask(text);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let code = lines(&masked);
        let tests = test_modules(&code);
        Self { path: path.to_owned(), lines: lines(text), code, tests }
    }

    /// Whether the whole file is tests: `tests.rs`, or anything in a directory named `tests`.
    pub(crate) fn is_test_file(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&line))
    }

    /// How many lines are not tests.
    pub(crate) fn length(&self) -> usize {
        (0..self.lines.len()).filter(|line| !self.is_test_line(*line)).count()
    }

    /// Lines whose code contains `word`, not as a part of a longer word.
    pub(crate) fn find(&self, word: &str) -> Vec<usize> {
        let lines = self.code.iter().enumerate();
        lines.filter(|(_, line)| has_word(line, word)).map(|(number, _)| number).collect()
    }

    /// The functions that have a body, nested ones too.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let code = Code::new(&self.code);
        code.words("fn").filter_map(|at| function(&code, at)).collect()
    }

    /// The text of a comment that begins with `mark` and stands in the comment lines and attributes
    /// right above `line`.
    pub(crate) fn comment_above(&self, line: usize, mark: &str) -> Option<&str> {
        let above = self.lines[..line].iter().rev().map(|line| line.trim());
        let mut near = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
        near.find_map(|line| line.strip_prefix(mark)).map(str::trim)
    }
}

fn is_word(c: u8) -> bool {
    c == b'_' || c.is_ascii_alphanumeric() || !c.is_ascii()
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| stands_alone(line.as_bytes(), at, word))
}

fn stands_alone(text: &[u8], at: usize, word: &str) -> bool {
    let ends = word.as_bytes();
    let before = at.checked_sub(1).is_some_and(|before| is_word(text[before]));
    let after = text.get(at + word.len()).copied().is_some_and(is_word);
    (!before || !is_word(ends[0])) && (!after || !is_word(ends[ends.len() - 1]))
}

/// Code as one text, and the line of every byte.
struct Code {
    text: Vec<u8>,
    line: Vec<usize>,
}

impl Code {
    fn new(lines: &[String]) -> Self {
        let mut code = Self { text: Vec::new(), line: Vec::new() };
        for (number, line) in lines.iter().enumerate() {
            code.text.extend_from_slice(line.as_bytes());
            code.text.push(b'\n');
            code.line.resize(code.text.len(), number);
        }
        code
    }

    fn words<'c>(&'c self, word: &'c str) -> impl Iterator<Item = usize> + 'c {
        let windows = self.text.windows(word.len()).enumerate();
        windows
            .filter(|(at, window)| {
                *window == word.as_bytes() && stands_alone(&self.text, *at, word)
            })
            .map(|(at, _)| at)
    }

    /// Where the brace that opens at `open` closes.
    fn close(&self, open: usize) -> Option<usize> {
        let mut depth = 0usize;
        for (at, byte) in self.text.iter().enumerate().skip(open) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.checked_sub(1)?,
                _ => continue,
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// The next `{` outside parentheses and brackets, unless a `;` comes first.
    fn body(&self, from: usize) -> Option<usize> {
        let mut depth = 0i32;
        for (at, byte) in self.text.iter().enumerate().skip(from) {
            match byte {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth -= 1,
                b';' if depth == 0 => return None,
                b'{' if depth == 0 => return Some(at),
                _ => {}
            }
        }
        None
    }
}

/// The function whose `fn` stands at `at`; `None` for a type such as `fn(u8)` or a bare signature.
fn function(code: &Code, at: usize) -> Option<Function> {
    let rest = &code.text[at + 2..];
    let spaces = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let name = rest[spaces..].iter().take_while(|byte| is_word(**byte)).count();
    if spaces == 0 || name == 0 {
        return None;
    }
    let open = code.body(at)?;
    let name = String::from_utf8_lossy(&rest[spaces..spaces + name]).into_owned();
    Some(Function { name, first: code.line[at], last: code.line[code.close(open)?] })
}

fn test_modules(code: &[String]) -> Vec<Range<usize>> {
    let text = Code::new(code);
    let marks = (0..code.len()).filter(|line| code[*line].trim() == "#[cfg(test)]");
    marks
        .filter_map(|mark| {
            let start = text.line.iter().position(|line| *line == mark)?;
            let open = text.body(start + code[mark].len())?;
            Some(mark..text.line[text.close(open)?] + 1)
        })
        .collect()
}

/// Blanks comments and the contents of string and character literals, keeping every line break.
fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if at == 0 || !is_word(bytes[at - 1]) => raw_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Only whole literals and comments were blanked, so that no character was cut in two.
    String::from_utf8_lossy(&out).into_owned()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    let mut at = at;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"`, `r#"…"#` and their byte and C forms; `at` itself if none begins there.
fn raw_end(bytes: &[u8], at: usize) -> usize {
    let prefix = bytes[at..].iter().take_while(|byte| b"rbc".contains(byte)).count().min(2);
    let hashes = bytes[at + prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + prefix + hashes;
    if bytes[at + prefix - 1] != b'r' || bytes.get(open) != Some(&b'"') {
        return at;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let found = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    found.map_or(bytes.len(), |length| open + 1 + length + close.len())
}

/// The end of a character literal; `at` itself for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        let close = bytes[at + 3..].iter().position(|byte| *byte == b'\'');
        return close.map_or(bytes.len(), |length| at + 3 + length + 1);
    }
    let text = String::from_utf8_lossy(&bytes[at + 1..bytes.len().min(at + 6)]);
    let Some(c) = text.chars().next() else { return at };
    let close = at + 1 + c.len_utf8();
    if bytes.get(close) == Some(&b'\'') { close + 1 } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("a.rs", text).code.join("\n")
    }

    #[test]
    fn comments_and_literals_are_blank() {
        for (text, expected) in [
            ("a // b { \"", "a"),
            ("a /* b /* c */ { */ d", "a d"),
            ("f(\"{ \\\" }\", x)", "f( , x)"),
            ("f(r#\"{ \" }\"#, x)", "f( , x)"),
            ("f(b\"{\", br\"{\", c\"{\")", "f(b , , c )"),
            ("f('{', '\\'', '\\u{7d}', 'é')", "f( , , , )"),
            ("fn a<'a>(x: &'a str) {}", "fn a<'a>(x: &'a str) {}"),
            ("for r in b {}", "for r in b {}"),
            ("\"two\nlines {\" }", "}"),
        ] {
            let masked = code(text);
            let words: Vec<&str> = masked.split_whitespace().collect();
            assert_eq!(words.join(" "), expected, "{text}");
            assert_eq!(masked.chars().filter(|c| *c == '\n').count(), text.matches('\n').count());
        }
    }

    #[test]
    fn functions_are_measured_by_their_braces() {
        let text = "fn a(f: fn(u8) -> u8) -> [u8; 2] {\n    \"}\";\n}\ntrait T { fn b(); }\n\
                    impl X {\n    pub fn c() { fn d() {}\n    }\n}\n";
        let names: Vec<_> = Source::new("a.rs", text)
            .functions()
            .into_iter()
            .map(|function| (function.name, function.first, function.last))
            .collect();
        let expected = [("a", 0, 2), ("c", 5, 6), ("d", 5, 5)];
        assert_eq!(names, expected.map(|(name, first, last)| (name.to_owned(), first, last)));
    }

    #[test]
    fn test_modules_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("a.rs", text);
        assert_eq!(source.length(), 3);
        assert!(source.is_test_line(4) && !source.is_test_line(0) && !source.is_test_line(6));
        let source = Source::new("a.rs", "#[cfg(test)]\nmod tests;\nfn c() {}\n");
        assert_eq!(source.length(), 3);
        assert_eq!(Source::new("crates/x/tests/it.rs", "fn a() {}").length(), 0);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe { x }", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(has_word("std::thread::sleep(d)", "thread::sleep"));
        assert!(has_word("    dbg!(x)", "dbg!"));
        assert!(!has_word("my_dbg!(x)", "dbg!"));
    }
}

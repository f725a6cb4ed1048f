//! Objects as YAML, in the very form of kubectl's: that of Go's `yaml.v2` with sorted keys.

use serde_json::{Map, Value};

/// Where a line is broken, in characters.
const WIDTH: usize = 80;

/// An object as YAML.
pub(crate) fn write(value: &Value) -> String {
    let mut writer = Writer { out: String::new(), column: 0 };
    match value {
        Value::Object(fields) if !fields.is_empty() => writer.fields(fields, 0),
        Value::Array(items) if !items.is_empty() => writer.items(items, 0),
        _ => {
            writer.scalar(value, 0, false);
            writer.line();
        }
    }
    writer.out
}

struct Writer {
    out: String,
    column: usize,
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Block,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    fn pad(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column += indent;
    }

    fn fields(&mut self, fields: &Map<String, Value>, indent: usize) {
        let mut keys: Vec<&String> = fields.keys().collect();
        keys.sort_unstable_by(|a, b| order(a, b));
        for (at, key) in keys.into_iter().enumerate() {
            if at > 0 || self.column == 0 {
                self.pad(indent);
            }
            self.text(key, indent, true);
            self.put(":");
            match &fields[key] {
                Value::Object(inner) if !inner.is_empty() => {
                    self.line();
                    self.fields(inner, indent + 2);
                }
                Value::Array(items) if !items.is_empty() => {
                    self.line();
                    self.items(items, indent);
                }
                value => {
                    self.put(" ");
                    self.scalar(value, indent + 2, false);
                    self.line();
                }
            }
        }
    }

    fn items(&mut self, items: &[Value], indent: usize) {
        for (at, item) in items.iter().enumerate() {
            if at > 0 || self.column == 0 {
                self.pad(indent);
            }
            self.put("- ");
            match item {
                Value::Object(inner) if !inner.is_empty() => self.fields(inner, indent + 2),
                Value::Array(inner) if !inner.is_empty() => self.items(inner, indent + 2),
                value => {
                    self.scalar(value, indent + 2, false);
                    self.line();
                }
            }
        }
    }

    fn scalar(&mut self, value: &Value, indent: usize, is_key: bool) {
        match value {
            Value::Null => self.put("null"),
            Value::Bool(_) | Value::Number(_) => self.put(&value.to_string()),
            Value::String(text) => self.text(text, indent, is_key),
            Value::Array(_) => self.put("[]"),
            Value::Object(_) => self.put("{}"),
        }
    }

    fn text(&mut self, text: &str, indent: usize, is_key: bool) {
        match style(text, is_key) {
            Style::Block => self.block(text, indent),
            Style::Double => self.double(text, indent, is_key),
            style => self.folded(text, indent, style == Style::Single, is_key),
        }
    }

    fn block(&mut self, text: &str, indent: usize) {
        let body = text.trim_end_matches('\n');
        let trailing = text.len() - body.len();
        // One newline alone is no end of a line.
        let keeps = trailing > 1 || body.is_empty();
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        self.put(match trailing {
            0 => "-",
            _ if keeps => "+",
            _ => "",
        });
        let lines = if keeps { &text[..text.len() - 1] } else { body };
        for line in lines.split('\n') {
            self.line();
            if !line.is_empty() {
                self.pad(indent);
                self.put(line);
            }
        }
    }

    /// Plain or in single quotes, with lines that are broken at blanks.
    fn folded(&mut self, text: &str, indent: usize, is_quoted: bool, is_key: bool) {
        let chars: Vec<char> = text.chars().collect();
        if is_quoted {
            self.put("'");
        }
        let (mut after_blank, mut after_break) = (false, false);
        for (at, letter) in chars.iter().enumerate() {
            let is_inside = at > 0 && at + 1 < chars.len();
            let next_is_blank = chars.get(at + 1) == Some(&' ');
            match letter {
                ' ' if !is_key
                    && !after_blank
                    && self.column > WIDTH
                    && !next_is_blank
                    && (is_inside || !is_quoted) =>
                {
                    self.line();
                    self.pad(indent);
                    after_blank = true;
                }
                ' ' => {
                    self.put(" ");
                    after_blank = true;
                }
                '\n' => {
                    if !after_break && *letter == '\n' {
                        self.line();
                    }
                    self.line();
                    after_break = true;
                    continue;
                }
                _ => {
                    if after_break {
                        self.pad(indent);
                    }
                    if *letter == '\'' && is_quoted {
                        self.put("'");
                    }
                    let mut bytes = [0; 4];
                    self.put(letter.encode_utf8(&mut bytes));
                    after_blank = false;
                }
            }
            after_break = false;
        }
        if is_quoted {
            self.put("'");
        }
    }

    fn double(&mut self, text: &str, indent: usize, is_key: bool) {
        self.put("\"");
        let chars: Vec<char> = text.chars().collect();
        let mut after_blank = false;
        for (at, letter) in chars.iter().enumerate() {
            if *letter == ' ' {
                let is_inside = at > 0 && at + 1 < chars.len();
                if !is_key && !after_blank && self.column > WIDTH && is_inside {
                    self.line();
                    self.pad(indent);
                    if chars[at + 1] == ' ' {
                        self.put("\\");
                    }
                } else {
                    self.put(" ");
                }
                after_blank = true;
                continue;
            }
            after_blank = false;
            let escaped = escape(*letter);
            self.put(&escaped);
        }
        self.put("\"");
    }
}

fn escape(letter: char) -> String {
    let short = match letter {
        '\0' => "0",
        '\u{7}' => "a",
        '\u{8}' => "b",
        '\t' => "t",
        '\n' => "n",
        '\u{b}' => "v",
        '\u{c}' => "f",
        '\r' => "r",
        '\u{1b}' => "e",
        '"' => "\"",
        '\\' => "\\",
        '\u{85}' => "N",
        '\u{a0}' => "_",
        '\u{2028}' => "L",
        '\u{2029}' => "P",
        _ if is_printable(letter) => return letter.to_string(),
        _ => {
            let code = u32::from(letter);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}

fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && !matches!(letter, '\u{feff}' | '\u{2028}' | '\u{2029}')
}

/// Which of the forms a text has, by the rules of libyaml's emitter.
fn style(text: &str, is_key: bool) -> Style {
    if text.contains('\n') && !is_key && !has_special(text) && !has_space_break(text) {
        return Style::Block;
    }
    if has_special(text) || text.contains('\n') && (is_key || has_space_break(text)) {
        return Style::Double;
    }
    // What another reader would take for something else is quoted as Go does it.
    if looks_like_other(text) {
        return Style::Double;
    }
    match is_plain(text) {
        true => Style::Plain,
        false if is_key && text.contains('\n') => Style::Double,
        false => Style::Single,
    }
}

fn has_special(text: &str) -> bool {
    text.chars().any(|letter| !is_printable(letter) || letter == '\u{85}')
}

/// Whether a line ends with a blank, which blocks do not keep for every reader.
fn has_space_break(text: &str) -> bool {
    text.contains(" \n") || text.ends_with(' ')
}

fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let second_is_blank = text.chars().nth(1).is_none_or(|letter| matches!(letter, ' ' | '\n'));
    let indicator = "#,[]{}&*!|>'\"%@`".contains(first)
        || "?:-".contains(first) && second_is_blank
        || matches!(first, '=') && text.len() == 1;
    let inside = text.contains(": ") || text.contains(" #") || text.ends_with(':');
    let ends = text.starts_with(' ') || text.ends_with(' ');
    let document = text.starts_with("---") || text.starts_with("...");
    !(indicator || inside || ends || document || text.contains('\n'))
}

/// Whether plain text would be read as a number, a truth, a time or nothing.
fn looks_like_other(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE", "y",
        "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off",
        "OFF", "<<", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
        ".nan", ".NaN", ".NAN",
    ];
    WORDS.contains(&text) || is_number(text) || is_sixty(text) || is_time(text)
}

fn is_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let digits = plain.strip_prefix(['-', '+']).unwrap_or(&plain);
    let radix = |prefix: &str, radix: u32| {
        digits.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|letter| letter.is_digit(radix))
        })
    };
    if radix("0x", 16) || radix("0o", 8) || radix("0b", 2) {
        return true;
    }
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let is_all_digits = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let exponent = exponent.is_none_or(|e| is_all_digits(e.strip_prefix(['-', '+']).unwrap_or(e)));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = is_all_digits(whole) || whole.is_empty() && is_all_digits(part);
    exponent && has_digits && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Numbers of base 60: `1:30`.
fn is_sixty(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let is_digits = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let low = |word: &str| {
        is_digits(word) && word.len() <= 2 && word.as_bytes()[0] <= b'5'
            || word.len() == 1 && is_digits(word)
    };
    let last = last.split_once('.').map_or(*last, |(whole, _)| whole);
    is_digits(first) && middle.iter().all(|word| low(word)) && low(last)
}

/// `2026-01-31`, alone or with a time.
fn is_time(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    let is_date = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let allowed = |byte: u8| byte.is_ascii_digit() || b"TtZz:. +-".contains(&byte);
    is_date && (rest.is_empty() || rest.starts_with(['T', 't', ' ']) && rest.bytes().all(allowed))
}

/// Go's order of keys: numbers in them count as numbers, letters come after everything else.
fn order(a: &str, b: &str) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for (at, (l, r)) in left.iter().zip(&right).enumerate() {
        if l == r {
            digits = l.is_ascii_digit();
            continue;
        }
        match (l.is_alphabetic(), r.is_alphabetic()) {
            (true, true) => return l.cmp(r),
            (true, false) if digits => return Ordering::Less,
            (true, false) => return Ordering::Greater,
            (false, true) if digits => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        return numbers(&left, &right, at).unwrap_or_else(|| l.cmp(r));
    }
    left.len().cmp(&right.len())
}

/// Compares the numbers that stand at a place, if there are any.
fn numbers(left: &[char], right: &[char], at: usize) -> Option<std::cmp::Ordering> {
    let run = |all: &[char]| all[at..].iter().take_while(|letter| letter.is_ascii_digit()).count();
    let counts = (run(left), run(right));
    if counts == (0, 0) {
        return None;
    }
    // A zero within a number does not begin one.
    let before = left[..at].iter().rev().take_while(|letter| letter.is_ascii_digit());
    let is_within = (left[at] == '0' || right[at] == '0') && before.into_iter().any(|d| *d != '0');
    let value = |all: &[char], count: usize| {
        all[at..at + count].iter().fold(u64::from(is_within), |sum, digit| {
            sum.wrapping_mul(10).wrapping_add(digit.to_digit(10).unwrap_or(0).into())
        })
    };
    let by_value = value(left, counts.0).cmp(&value(right, counts.1));
    Some(by_value.then(counts.0.cmp(&counts.1))).filter(|order| order.is_ne())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_written_as_kubectl_does() {
        let object = json!({
            "kind": "X", "apiVersion": "v1",
            "spec": {"b": [{"name": "a", "v": ["x", ["y"]]}], "a": {}, "c": [], "n": null, "i": 5},
            "data": {"t": "true", "one": "1", "s": "a: b", "e": "", "text": "a\nb\n", "z": "it's #1"},
        });
        let expected = "apiVersion: v1\ndata:\n  e: \"\"\n  one: \"1\"\n  s: 'a: b'\n  t: \"true\"\n  \
            text: |\n    a\n    b\n  z: 'it''s #1'\nkind: X\nspec:\n  a: {}\n  b:\n  - name: a\n    \
            v:\n    - x\n    - - \"y\"\n  c: []\n  i: 5\n  \"n\": null\n";
        assert_eq!(write(&object), expected);
    }

    #[test]
    fn long_lines_are_broken_at_blanks() {
        let text = vec!["words"; 20].join(" ");
        let written = write(&json!({"message": text}));
        assert_eq!(written.lines().count(), 2);
        assert!(written.lines().nth(1).unwrap().starts_with("  words"));
        assert_eq!(objects::yaml::parse(&written).unwrap()["message"], text);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            key in "[a-z:#' \\-?0-9.]{1,12}",
            text in "\\PC*|[a-z:#' \"\n\\-?0-9.{}\\[\\]]{0,12}|([a-z]{1,9} ){0,30}x",
        ) {
            let object = json!({key: text, "l": [text, {"k": text}]});
            let written = write(&object);
            prop_assert_eq!(objects::yaml::parse(&written), Ok(object), "{}", written);
        }
    }
}

//! Words that stand for numbers, times and sizes, in Compose's spelling.

use crate::node::Kind;

/// What a plain scalar is, by YAML's core schema.
pub(crate) fn kind(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Kind::Bool,
        _ if integer(text).is_some() => Kind::Int,
        _ if is_float(text) => Kind::Float,
        _ => Kind::Text,
    }
}

/// A whole number: decimal, or octal with `0` or `0o` before it, hexadecimal, binary.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', _, ..] if digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    i64::from_str_radix(digits, radix).ok().map(|number| sign * number)
}

fn is_float(text: &str) -> bool {
    let shape = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().all(shape)
        && text.parse::<f64>().is_ok()
}

/// A truth, in the words that Compose takes.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" | "1" => Some(true),
        "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Nanoseconds of a duration: `1h30m`, `1.5s`, `2d`, `500ms`.
#[must_use]
pub fn nanoseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "d" => 86_400e9,
                "w" => 604_800e9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    let whole = !text.is_empty() && total.is_finite() && total < 9e18;
    whole.then_some((sign * total) as i64)
}

/// A duration as Go writes it: `1m30s`.
pub(crate) fn duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let decimal = |unit: u64, name: &str| {
        let (whole, rest) = (ns / unit, ns % unit);
        let digits = format!("{:0width$}", rest, width = unit.ilog10() as usize);
        match digits.trim_end_matches('0') {
            "" => format!("{sign}{whole}{name}"),
            digits => format!("{sign}{whole}.{digits}{name}"),
        }
    };
    match ns {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{sign}{ns}ns"),
        1_000..1_000_000 => return decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => return decimal(1_000_000, "ms"),
        _ => {}
    }
    let minutes = ns / 60_000_000_000;
    let seconds = ns % 60_000_000_000;
    let seconds = {
        let (whole, rest) = (seconds / 1_000_000_000, format!("{:09}", seconds % 1_000_000_000));
        match rest.trim_end_matches('0') {
            "" => format!("{whole}s"),
            digits => format!("{whole}.{digits}s"),
        }
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

/// Bytes of a size: `512m`, `1.5gb`, `64MiB`, `1024`.
#[must_use]
pub fn bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    (bytes.abs() < 9e18).then_some(bytes as i64)
}

/// A line as a shell splits it into words; `None` where a quote is not closed.
pub(crate) fn shell_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('"') | None, '\\') => {
                let next = chars.next()?;
                let word = word.get_or_insert_default();
                if quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(next);
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == c => quote = None,
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_yaml_says() {
        for (text, expected) in [
            ("", Kind::Null),
            ("~", Kind::Null),
            ("true", Kind::Bool),
            ("yes", Kind::Text),
            ("12", Kind::Int),
            ("0440", Kind::Int),
            ("0o17", Kind::Int),
            ("089", Kind::Int),
            ("1.5", Kind::Float),
            ("1e3", Kind::Float),
            ("3.8.1", Kind::Text),
            ("80:80", Kind::Text),
            ("-", Kind::Text),
            ("nan", Kind::Text),
        ] {
            assert_eq!(kind(text), expected, "{text:?}");
        }
        assert_eq!(integer("0440"), Some(0o440));
        assert_eq!(integer("-5"), Some(-5));
        assert_eq!(integer("0x_1"), None);
    }

    #[test]
    fn durations_go_there_and_back() {
        for (text, ns, canonical) in [
            ("90s", 90_000_000_000, "1m30s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("250ms", 250_000_000, "250ms"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("2d", 172_800_000_000_000, "48h0m0s"),
            ("0", 0, "0s"),
            ("10us", 10_000, "10µs"),
        ] {
            assert_eq!(nanoseconds(text), Some(ns), "{text}");
            assert_eq!(duration(ns), canonical);
        }
        for bad in ["", "5", "s", "1x", "1..5s"] {
            assert_eq!(nanoseconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_in_powers_of_1024() {
        assert_eq!(bytes("512m"), Some(512 << 20));
        assert_eq!(bytes("1.5gb"), Some(3 << 29));
        assert_eq!(bytes("64 MiB"), Some(64 << 20));
        assert_eq!(bytes("1024"), Some(1024));
        assert_eq!(bytes("x"), None);
        assert_eq!(bytes("1x"), None);
    }

    #[test]
    fn lines_are_split_as_a_shell_does() {
        let split = |line| shell_words(line).map(|words| words.join("|"));
        assert_eq!(split("sh -c 'a  b' \"c\\\"d\" e\\ f").unwrap(), "sh|-c|a  b|c\"d|e f");
        assert_eq!(split("a '' b").unwrap(), "a||b");
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("\"a\\nb\"").unwrap(), "a\\nb");
    }
}

//! Values in the spelling that Go's `fmt` gives them, which histories of images have.

use std::fmt::Write as _;

use oci::Healthcheck;

/// `%q` of a list of strings.
pub(super) fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// `%v` of a list of strings.
pub(super) fn plain(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

fn quote(word: &str) -> String {
    let mut out = String::from('"');
    for c in word.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            '\u{7}' => out += "\\a",
            '\u{8}' => out += "\\b",
            '\u{b}' => out += "\\v",
            '\u{c}' => out += "\\f",
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// `%+v` of a health check.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        plain(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// A duration in nanoseconds as Go prints it.
fn duration(ns: u64) -> String {
    let fraction = |whole: u64, unit: u64, name: &str| {
        let mut text = whole.to_string();
        let rest = format!("{:0width$}", ns % unit, width = unit.ilog10() as usize);
        let rest = rest.trim_end_matches('0');
        if !rest.is_empty() {
            let _ = write!(text, ".{rest}");
        }
        text + name
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => fraction(ns / 1_000, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(ns / 1_000_000, 1_000_000, "ms"),
        _ => {
            let seconds = ns / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = fraction(seconds % 60, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_go_does() {
        assert_eq!(
            quoted(&["/bin/sh".into(), "a \"b\"\n\u{1}".into()]),
            "[\"/bin/sh\" \"a \\\"b\\\"\\n\\x01\"]"
        );
        assert_eq!(plain(&["a".into(), "b".into()]), "[a b]");
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(90_000_000_000), "1m30s");
        assert_eq!(duration(1_500_000), "1.5ms");
        assert_eq!(duration(3_600_000_000_000), "1h0m0s");
        assert_eq!(duration(1_001_000_000), "1.001s");
    }
}

//! Text of others, made safe for a terminal.
//!
//! Images, registries and containers choose names, labels and messages. What a terminal would obey
//! (clear the screen, set the title, answer as if typed) or show in another order is spelt out, as
//! Go's `%q` and ls(1) do.

use std::borrow::Cow;

/// `text` with control characters spelt out, but for ends of lines and tabs.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    spell(text, |c| c != '\n' && c != '\t' && is_obeyed(c))
}

/// `text` with all control characters spelt out: it can make neither lines nor columns.
pub(crate) fn printable_line(text: &str) -> Cow<'_, str> {
    spell(text, is_obeyed)
}

/// Control characters (ECMA-48), and those that change the direction of text (CVE-2021-42574).
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn spell(text: &str, is_spelt: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_plain || !text.contains(&is_spelt) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let spelt = match c {
            _ if !is_spelt(c) => c.to_string(),
            '\n' => "\\n".into(),
            '\t' => "\\t".into(),
            '\r' => "\\r".into(),
            ..='\u{ff}' => format!("\\x{:02x}", u32::from(c)),
            _ => format!("\\u{:04x}", u32::from(c)),
        };
        plain.push_str(&spelt);
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_spelt_out() {
        let cases = [
            ("plain \u{e9}\u{4e2d}", "plain \u{e9}\u{4e2d}", "plain \u{e9}\u{4e2d}"),
            ("a\nb\tc", "a\nb\tc", "a\\nb\\tc"),
            ("\u{1b}[31m\u{7}\r", "\\x1b[31m\\x07\\r", "\\x1b[31m\\x07\\r"),
            ("\u{9b}2J\u{202e}", "\\x9b2J\\u202e", "\\x9b2J\\u202e"),
        ];
        for (text, several, one) in cases {
            assert_eq!((&*printable(text), &*printable_line(text)), (several, one), "{text:?}");
        }
    }
}

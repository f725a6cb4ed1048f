//! Sizes in Docker's spelling (`docker/go-units`), and its shortening of long texts.

use crate::template::general_float;

const BINARY: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];
const DECIMAL: &[&str] = &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// `size` in units of powers of `base`, with at most `digits` significant digits.
fn custom_size(size: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut size = size;
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    let sign = if size < 0.0 { "-" } else { "" };
    let number = general_float(size.abs(), digits);
    format!("{sign}{number}{}", units.get(unit).copied().unwrap_or(""))
}

/// A size in bytes with decimal units, such as `77.8MB`.
///
/// Docker shows images and layers with three digits and transfers with four.
pub(crate) fn human_size(bytes: u64, digits: usize) -> String {
    custom_size(bytes as f64, 1000.0, DECIMAL, digits)
}

/// A size in bytes with binary units and four digits, such as `1.5GiB`: memory, as Docker shows it.
pub(crate) fn binary_size(bytes: u64) -> String {
    custom_size(bytes as f64, 1024.0, BINARY, 4)
}

/// `text` cut to `width` columns of a terminal, the last of which is then `…`.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().map(columns).sum::<usize>() <= width {
        return text.to_owned();
    }
    if width <= 1 {
        return text.chars().take(width).collect();
    }
    let mut left = width - 1;
    let mut short = String::new();
    for c in text.chars() {
        match left.checked_sub(columns(c)) {
            Some(rest) => left = rest,
            None => break,
        }
        short.push(c);
    }
    short.push('…');
    short
}

/// How many columns of a terminal a character takes (Unicode Standard Annex 11, wide and fullwidth).
fn columns(c: char) -> usize {
    let wide = matches!(u32::from(c),
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0x4dbf | 0x4e00..=0xa4cf | 0xa960..=0xa97c
        | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6b | 0xff01..=0xff60 | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f | 0x1f680..=0x1f6fc | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd);
    if wide { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_sizes() {
        for (bytes, three, four) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1kB"),
            (1024, "1.02kB", "1.024kB"),
            (77_812_345, "77.8MB", "77.81MB"),
            (4_261_000, "4.26MB", "4.261MB"),
            (999_999, "1e+03kB", "1000kB"),
            (1_234_567_890, "1.23GB", "1.235GB"),
            (u64::MAX, "18.4EB", "18.45EB"),
        ] {
            assert_eq!(human_size(bytes, 3), three, "{bytes}");
            assert_eq!(human_size(bytes, 4), four, "{bytes}");
        }
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        for (text, width, expected) in [
            ("\"sleep 1d\"", 20, "\"sleep 1d\""),
            ("abcdef", 6, "abcdef"),
            ("abcdefg", 6, "abcde…"),
            ("abc", 1, "a"),
            ("abc", 0, ""),
            ("", 3, ""),
            ("日本語テキスト", 6, "日本…"),
            ("日本語", 6, "日本語"),
            ("ééééé", 3, "éé…"),
        ] {
            assert_eq!(ellipsis(text, width), expected, "{text} {width}");
        }
    }
}

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

/// Bytes from a size with binary units, as `--memory` takes it: `512m`, `1.5g`, `1GiB`, `10 kb`.
///
/// # Errors
/// Docker's message: `invalid size: '…'` or `invalid suffix: '…'`.
pub(crate) fn parse_ram(text: &str) -> Result<u64, String> {
    let bad_size = || format!("invalid size: '{text}'");
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
    let (number, suffix) = text.split_at(last.ok_or_else(bad_size)? + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let number: f64 = number.parse().ok().filter(|_| plain).ok_or_else(bad_size)?;
    let suffix = suffix.to_ascii_lowercase();
    let bad_suffix = || format!("invalid suffix: '{suffix}'");
    let power = match suffix.chars().next() {
        None => 0,
        Some('b') if suffix == "b" => 0,
        Some(unit) => "kmgtp".find(unit).ok_or_else(bad_suffix)? + 1,
    };
    if !matches!(suffix.get(1..).unwrap_or_default(), "" | "b" | "ib") {
        return Err(bad_suffix());
    }
    let bytes = number * 1024f64.powi(i32::try_from(power).unwrap_or(0));
    // Beyond this Docker's int64 overflows.
    if !(0.0..9.2e18).contains(&bytes) {
        return Err(bad_size());
    }
    Ok(bytes as u64)
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
    fn ram_sizes() {
        let mib = 1 << 20;
        for (text, expected) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32KiB", 32 << 10),
            ("512m", 512 * mib),
            ("1.5g", 1536 * mib),
            ("1GiB", 1024 * mib),
            ("10 mb", 10 * mib),
            ("1t", mib * mib),
            ("1p", 1024 * mib * mib),
            (".5k", 512),
        ] {
            assert_eq!(parse_ram(text), Ok(expected), "{text}");
        }
        for (text, message) in [
            ("", "invalid size: ''"),
            ("hello", "invalid size: 'hello'"),
            ("-32", "invalid size: '-32'"),
            (" 32 ", "invalid size: ' 32 '"),
            ("32m b", "invalid size: '32m b'"),
            ("inf", "invalid size: 'inf'"),
            ("1e40k", "invalid size: '1e40k'"),
            ("32bb", "invalid suffix: 'bb'"),
            ("32mm", "invalid suffix: 'mm'"),
            ("32mibb", "invalid suffix: 'mibb'"),
            ("32x", "invalid suffix: 'x'"),
            ("32é", "invalid suffix: 'é'"),
        ] {
            assert_eq!(parse_ram(text), Err(message.to_owned()), "{text}");
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

//! Sizes in Docker's spelling.

/// Bytes from a size with binary units, as `--memory` takes it: `512m`, `1.5g`, `1GiB`, `10 kb`.
///
/// # Errors
/// Docker's message: `invalid size: '…'` or `invalid suffix: '…'`.
pub fn parse_ram(text: &str) -> Result<u64, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}

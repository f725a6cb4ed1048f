//! Floating point numbers as Go's `strconv` writes them.

/// `%e`: at least two digits of exponent, always signed. `None` means the shortest exact digits.
pub(super) fn exponent(size: f64, precision: Option<usize>) -> String {
    let (digits, exponent) = split(size, precision);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// `%g`: `%e` for large and small exponents, `%f` otherwise, without trailing zeros.
///
/// Source: the `'g'` case of `strconv.FormatFloat`; where the precision is the shortest possible
/// the decision is made as for six digits.
pub(super) fn general(size: f64, precision: Option<usize>) -> String {
    let wanted = precision.map(|digits| digits.max(1) - 1);
    let (digits, power) = split(size, wanted);
    let digits = match digits.split_once('.') {
        Some((whole, fraction)) => {
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
        None => digits,
    };
    let count = digits.len() - usize::from(digits.contains('.'));
    let limit = match precision {
        None => 6,
        Some(wanted) => limit(wanted.max(1), count, power),
    };
    if power < -4 || power >= limit {
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", power.unsigned_abs());
    }
    let decimals = i32::try_from(count).unwrap_or(i32::MAX) - 1 - power;
    let rounded: f64 = format!("{digits}e{power}").parse().unwrap_or(size);
    format!("{rounded:.*}", usize::try_from(decimals).unwrap_or(0))
}

fn limit(wanted: usize, count: usize, power: i32) -> i32 {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
    if wanted > count && count > power { count } else { wanted }
}

/// The mantissa's digits and the power of ten.
fn split(size: f64, precision: Option<usize>) -> (String, i32) {
    let text = match precision {
        Some(digits) => format!("{size:.digits$e}"),
        None => format!("{size:e}"),
    };
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    (digits.to_owned(), power.parse().unwrap_or(0))
}

/// The `#` flag: a decimal point in any case, and zeros until there are `digits` significant ones.
pub(super) fn with_point(text: &str, digits: usize) -> String {
    let end = text.find(['e', 'E']).unwrap_or(text.len());
    let (number, exponent) = text.split_at(end);
    let point = if number.contains('.') { "" } else { "." };
    let significant = number.trim_start_matches(['0', '.']).bytes().filter(u8::is_ascii_digit);
    // A lone zero counts as a digit.
    let count = if number == "0" { 1 } else { significant.count() };
    let zeros = "0".repeat(digits.saturating_sub(count));
    format!("{number}{point}{zeros}{exponent}")
}

/// The bits of the mantissa, its highest one made explicit, and the power of two of its lowest.
fn bits(size: f64) -> (u64, i32) {
    let bits = size.to_bits();
    let mantissa = bits & ((1 << 52) - 1);
    match i32::try_from(bits >> 52).unwrap_or(0) & 0x7ff {
        0 => (mantissa, -1074),
        power => (mantissa | 1 << 52, power - 1075),
    }
}

/// `%b`: the mantissa as a whole number and a power of two.
pub(super) fn binary(size: f64) -> String {
    let (mantissa, power) = bits(size);
    format!("{mantissa}p{power:+}")
}

/// `%x`: a hexadecimal mantissa between one and two, and a power of two.
pub(super) fn hexadecimal(size: f64, precision: Option<usize>) -> String {
    let (mantissa, power) = bits(size);
    if mantissa == 0 {
        let zeros = "0".repeat(precision.unwrap_or(0));
        let point = if zeros.is_empty() { "" } else { "." };
        return format!("0x0{point}{zeros}p+00");
    }
    // The highest bit goes to place 52, so that thirteen digits follow it.
    let shift = mantissa.leading_zeros() - 11;
    let (mut mantissa, mut power) = (mantissa << shift, power + 52 - shift as i32);
    let digits = precision.unwrap_or(13);
    if digits < 13 {
        let dropped = 4 * (13 - digits);
        let (half, odd) = (1u64 << (dropped - 1), mantissa >> dropped & 1);
        // To the nearest, and from the middle to the even.
        mantissa = (mantissa + half - 1 + odd) >> dropped << dropped;
        if mantissa >> 53 == 1 {
            (mantissa, power) = (mantissa >> 1, power + 1);
        }
    }
    let fraction =
        format!("{:013x}{}", mantissa & ((1 << 52) - 1), "0".repeat(digits.max(13) - 13));
    let fraction = match precision {
        Some(digits) => &fraction[..digits],
        None => fraction.trim_end_matches('0'),
    };
    let point = if fraction.is_empty() { "" } else { "." };
    let sign = if power < 0 { '-' } else { '+' };
    format!("0x1{point}{fraction}p{sign}{:02}", power.unsigned_abs())
}

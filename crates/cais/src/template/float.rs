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

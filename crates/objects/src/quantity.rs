//! Amounts of resources: `500m`, `1.5Gi`, `1e3` (apimachinery, `resource.Quantity`).

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;
/// Digits of the longest number, its zeros included: more is no amount of anything.
const DIGITS_MAX: usize = 64;
/// What larger numbers count as.
const MAX: i128 = i64::MAX as i128 * NANO;

/// An amount, in billionths, and the way it was written. Amounts are equal if their numbers are.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `Ki`, `Mi`, …
    Binary,
    /// `m`, `k`, `M`, …, and numbers alone.
    Decimal,
    /// `e3`.
    Exponent,
}

/// Why a text is not a [`Quantity`], in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The general form is not met.
    #[error(
        "quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number is none, with two points for example.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// What follows the number means nothing.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nano: 0, format: Format::Decimal };

    /// So many whole units.
    #[must_use]
    pub fn units(number: i64) -> Self {
        Self { nano: i128::from(number) * NANO, format: Format::Decimal }
    }

    /// So many thousandths: of processors, for example.
    #[must_use]
    pub fn milli(number: i64) -> Self {
        Self { nano: i128::from(number) * (NANO / 1000), format: Format::Decimal }
    }

    /// Whole units, rounded up; what is more than an `i64` holds is its maximum.
    #[must_use]
    pub fn value(self) -> i64 {
        round_up(self.nano, NANO)
    }

    /// Thousandths, rounded up; what is more than an `i64` holds is its maximum.
    #[must_use]
    pub fn milli_value(self) -> i64 {
        round_up(self.nano, NANO / 1000)
    }

    /// The number, if it is a whole one.
    #[must_use]
    pub fn whole(self) -> Option<i64> {
        (self.nano % NANO == 0).then(|| i64::try_from(self.nano / NANO).ok()).flatten()
    }

    /// About the number.
    #[must_use]
    pub fn approximate(self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }
}

/// Away from zero for positive numbers, as someone who asks for something shall get something.
fn round_up(number: i128, unit: i128) -> i64 {
    let whole = number.div_euclid(unit) + i128::from(number.rem_euclid(unit) != 0);
    whole.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let digits_at = text.strip_prefix(['+', '-']).unwrap_or(text);
        let is_negative = text.starts_with('-');
        let end = digits_at.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = digits_at.split_at(end.unwrap_or(digits_at.len()));
        if number.is_empty() {
            return Err(QuantityError::Format);
        }
        let (base, exponent, format) = suffix_of(suffix)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let has_digits = !whole.is_empty() || !fraction.is_empty();
        if fraction.contains('.') || !has_digits || number.len() > DIGITS_MAX {
            return Err(QuantityError::Numeric);
        }
        let nano = scaled(whole, fraction, base, exponent);
        Ok(Self { nano: if is_negative { -nano } else { nano }, format })
    }
}

/// What a suffix multiplies with: a base, its exponent, and the format that it is a sign of.
fn suffix_of(suffix: &str) -> Result<(i128, i32, Format), QuantityError> {
    if !suffix.bytes().all(|byte| b"eEinumkKMGTP+-0123456789".contains(&byte)) {
        return Err(QuantityError::Format);
    }
    if let Some(power) = suffix.strip_suffix('i') {
        let power = "KMGTPE".find(power).filter(|_| power.len() == 1);
        let power = power.ok_or(QuantityError::Suffix)?;
        return Ok((1024, power as i32 + 1, Format::Binary));
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty()) {
        let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
        return Ok((10, exponent.clamp(-100, 100), Format::Exponent));
    }
    let exponent = match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => return Err(QuantityError::Suffix),
    };
    Ok((10, exponent, Format::Decimal))
}

/// `whole.fraction × base^exponent` in billionths, rounded up, at most [`MAX`].
fn scaled(whole: &str, fraction: &str, base: i128, exponent: i32) -> i128 {
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    // The number is `digits × 10^shift × factor`.
    let (factor, power) = match base {
        1024 => (1024_i128.pow(exponent.unsigned_abs()), 0),
        _ => (1, exponent),
    };
    let shift = power - fraction.len() as i32 + 9;
    let mut number: i128 = 0;
    for digit in digits.bytes() {
        let next = number.checked_mul(10).and_then(|n| n.checked_add((digit - b'0').into()));
        let Some(next) = next else { return too_long(digits, shift) };
        number = next;
    }
    let Some(number) = number.checked_mul(factor) else { return MAX };
    if shift >= 0 {
        let scaled = 10_i128.checked_pow(shift.unsigned_abs()).and_then(|s| number.checked_mul(s));
        return scaled.map_or(MAX, |number| number.min(MAX));
    }
    let unit = 10_i128.checked_pow(shift.unsigned_abs());
    unit.map_or(1, |unit| number.div_euclid(unit) + i128::from(number % unit != 0)).min(MAX)
}

/// The same of more digits than fit: only those count that are not below a billionth.
fn too_long(digits: &str, shift: i32) -> i128 {
    let kept = digits.len() as i64 + i64::from(shift);
    if !(0..=37).contains(&kept) {
        return if kept < 0 { 1 } else { MAX };
    }
    let (kept, lost) = digits.split_at(kept.unsigned_abs() as usize);
    let number: i128 = kept.parse().unwrap_or(0);
    (number + i128::from(lost.bytes().any(|digit| digit != b'0'))).min(MAX)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_small = self.nano.abs() < 1024 * NANO;
        if self.format == Format::Binary && !is_small {
            let mut number = i128::from(self.value());
            let mut power = 0;
            while number % 1024 == 0 && power < 6 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut number, mut exponent) = (self.nano, -9);
        while number != 0 && number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        let suffix = match exponent {
            _ if number == 0 => return f.write_str("0"),
            0 => "",
            _ if self.format == Format::Exponent => return write!(f, "{number}e{exponent}"),
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            _ => "E",
        };
        write!(f, "{number}{suffix}")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: self.nano.saturating_add(other.nano), format }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: self.nano.saturating_sub(other.nano), format }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    #[test]
    fn what_is_written_becomes_the_shortest_of_its_kind() {
        for (given, expected) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("100Ki", "100Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("0.1n", "1n"),
            ("1.1n", "2n"),
            ("-0.5", "-500m"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("1E", "1E"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("99999999999999999999", "9223372036854775807"),
            ("0000000000000000000000000000000000000000000000001", "1"),
            ("0.0000000000000000000000000000000000000000000000000001", "1n"),
        ] {
            assert_eq!(canonical(given), expected, "{given}");
        }
    }

    #[test]
    fn what_is_no_amount_is_told_in_upstreams_words() {
        for (given, expected) in [
            ("", QuantityError::Format),
            ("Mi", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1.2.3", QuantityError::Numeric),
            (".", QuantityError::Numeric),
            ("1mi", QuantityError::Suffix),
            ("1Kii", QuantityError::Suffix),
            ("1KM", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("5x", QuantityError::Format),
        ] {
            assert_eq!(given.parse::<Quantity>().unwrap_err(), expected, "{given}");
        }
    }

    #[test]
    fn values_are_rounded_up() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!((quantity("1.2").value(), quantity("1.2").milli_value()), (2, 1200));
        assert_eq!((quantity("-1.2").value(), quantity("1n").milli_value()), (-1, 1));
        assert!(quantity("1Gi") > quantity("1G") && quantity("1000m") == quantity("1"));
        assert_eq!((quantity("1Gi") + quantity("512Mi")).to_string(), "1536Mi");
        assert_eq!((quantity("2") - quantity("500m")).to_string(), "1500m");
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_the_same_amount(text in "[-+]?[0-9]{1,30}(\\.[0-9]{0,20})?(|m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]|e-[0-9])") {
            let quantity: Quantity = text.parse().unwrap();
            let again: Quantity = quantity.to_string().parse().unwrap();
            // A binary amount of a fraction is rounded up.
            prop_assert!(again == quantity || again.value() == quantity.value(), "{text}: {quantity}");
            prop_assert_eq!(again.to_string(), quantity.to_string());
        }

        #[test]
        fn no_text_is_too_much(text in ".{0,80}") {
            let _ = text.parse::<Quantity>();
        }
    }
}

//! Times and durations in Docker's and Go's spelling.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

const NANOS: i128 = 1_000_000_000;

/// Text that names no time or duration, in the words of Docker and Go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Of `--since` and its like.
    #[error("failed to parse value as time or duration: {0:?}")]
    Timestamp(String),
    /// A duration that is none.
    #[error("time: invalid duration {0:?}")]
    Duration(String),
    /// A number without its unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A number with a unit Go does not have, such as `d`.
    #[error("time: unknown unit {0:?} in duration {1:?}")]
    UnknownUnit(String, String),
}

/// How long ago an RFC 3339 time was, in words; empty where it is none.
#[must_use]
pub fn age(time: &str, now: Timestamp) -> String {
    time.parse::<Timestamp>()
        .map_or_else(|_| String::new(), |time| human_duration(now.duration_since(time)))
}

/// How long something has lasted, roughly: `About a minute`, `2 weeks` (`units.HumanDuration`).
#[must_use]
pub fn human_duration(lasted: SignedDuration) -> String {
    let seconds = lasted.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A duration as Go writes it: `1h30m`, `500ms`, `-1.5h`, `0`.
///
/// # Errors
/// Go's messages.
pub fn parse_duration(text: &str) -> Result<SignedDuration, TimeError> {
    let invalid = || TimeError::Duration(text.to_owned());
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let mut rest = unsigned;
    let mut total: i128 = 0;
    while !rest.is_empty() || unsigned.is_empty() {
        let (whole, fraction, after) = decimal(rest).ok_or_else(invalid)?;
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (name, next) = after.split_at(end);
        if name.is_empty() {
            return Err(TimeError::MissingUnit(text.to_owned()));
        }
        let unit =
            unit(name).ok_or_else(|| TimeError::UnknownUnit(name.to_owned(), text.to_owned()))?;
        // Go computes the fraction in floating point, too.
        total += whole * unit + (fraction * unit as f64) as i128;
        // Go's durations are 64 bits of nanoseconds.
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = next;
    }
    let signed = if text.starts_with('-') { -total } else { total };
    Ok(SignedDuration::from_nanos(i64::try_from(signed).map_err(|_| invalid())?))
}

/// Nanoseconds of a unit.
fn unit(name: &str) -> Option<i128> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS,
        "m" => 60 * NANOS,
        "h" => 3600 * NANOS,
        _ => return None,
    })
}

/// A decimal number as its whole part and its fraction, and the text after it.
fn decimal(text: &str) -> Option<(i128, f64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = format!("0{whole}").parse().ok()?;
    Some((whole.into(), format!("0.{fraction}").parse().ok()?, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A moment as `--since` and `--until` take it: a duration before `now`, RFC 3339 or its beginning
/// (in `zone` where it names none), or seconds since 1970 with a fraction.
///
/// # Errors
/// What is none of them.
pub fn parse_timestamp(text: &str, now: Timestamp, zone: Offset) -> Result<Timestamp, TimeError> {
    let before = parse_duration(text).ok().filter(|_| text != "0");
    let found = match before {
        Some(before) => now.checked_sub(before).ok(),
        None => calendar(text, zone).or_else(|| unix(text)),
    };
    found.ok_or_else(|| TimeError::Timestamp(text.to_owned()))
}

/// `2006-01-02[T15[:04[:05[.999]]]][Z|+07:00]`
fn calendar(text: &str, zone: Offset) -> Option<Timestamp> {
    let (year, rest) = number(text, 4)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 2)?;
    let (day, mut rest) = number(rest.strip_prefix('-')?, 2)?;
    let mut clock = [0; 3];
    let mut nanos = 0;
    if let Some(after) = rest.strip_prefix('T') {
        (clock[0], rest) = number(after, 2)?;
        for part in &mut clock[1..] {
            let Some(after) = rest.strip_prefix(':') else { break };
            (*part, rest) = number(after, 2)?;
        }
        if let Some(after) = rest.strip_prefix('.') {
            let (fraction, after) = digits(after);
            nanos = nanoseconds(fraction)?;
            rest = after;
        }
    }
    let offset = if rest.is_empty() { zone } else { offset(rest)? };
    let [hour, minute, second] = clock.map(|part| i8::try_from(part).unwrap_or(-1));
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    let civil =
        DateTime::new(i16::try_from(year).ok()?, month, day, hour, minute, second, nanos).ok()?;
    offset.to_timestamp(civil).ok()
}

fn offset(text: &str) -> Option<Offset> {
    if text == "Z" {
        return Some(Offset::UTC);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, rest) = number(text.strip_prefix(['+', '-'])?, 2)?;
    let (minutes, rest) = number(rest.strip_prefix(':')?, 2)?;
    let valid = rest.is_empty() && hours < 24 && minutes < 60;
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().filter(|_| valid)
}

/// Exactly `length` digits and the text after them.
fn number(text: &str, length: usize) -> Option<(i32, &str)> {
    let (number, rest) = text.split_at_checked(length)?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| plain)?, rest))
}

/// Nanoseconds from the digits after the point; what is finer is dropped.
fn nanoseconds(fraction: &str) -> Option<i32> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}")[..9].parse().ok()
}

fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let plain = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    Timestamp::new(seconds.parse().ok().filter(|_| plain)?, nanoseconds(fraction)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_rounded_for_people() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, expected) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (45 * 60, "45 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
            (3650 * DAY, "10 years"),
        ] {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn go_durations() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            ("-1.5s", -1_500_000_000),
            ("+2m", 120_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1us2µs3μs4ns", 6_004),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9223372036854775807ns", i64::MAX),
        ] {
            let parsed = parse_duration(text);
            assert_eq!(parsed, Ok(SignedDuration::from_nanos(nanos)), "{text}");
        }
        for (text, message) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("s", "time: invalid duration \"s\""),
            (".s", "time: invalid duration \".s\""),
            ("3", "time: missing unit in duration \"3\""),
            ("1h3", "time: missing unit in duration \"1h3\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("5 s", "time: unknown unit \" s\" in duration \"5 s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("3000000h", "time: invalid duration \"3000000h\""),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert_eq!(error.to_string(), message, "{text}");
        }
    }

    #[test]
    fn timestamps() {
        let now = Timestamp::new(1_700_000_000, 5).unwrap();
        let zone = Offset::from_seconds(7200).unwrap();
        for (text, seconds, nanos) in [
            ("10m", 1_699_999_400, 5),
            ("-1h", 1_700_003_600, 5),
            ("1h30m", 1_699_994_600, 5),
            ("0", 0, 0),
            ("1136073600", 1_136_073_600, 0),
            ("1136073600.000000001", 1_136_073_600, 1),
            ("1136073600.5", 1_136_073_600, 500_000_000),
            ("2006-01-02T15:04:05.999999999+07:00", 1_136_189_045, 999_999_999),
            ("2006-01-02T15:04:05.999999999Z", 1_136_214_245, 999_999_999),
            ("2006-01-02T15:04:05.999999999", 1_136_207_045, 999_999_999),
            ("2006-01-02T15:04:05Z", 1_136_214_245, 0),
            ("2006-01-02T15:04:05", 1_136_207_045, 0),
            ("2006-01-02T15:04:05-07:00", 1_136_239_445, 0),
            ("2006-01-02T15:04Z", 1_136_214_240, 0),
            ("2006-01-02T15:04", 1_136_207_040, 0),
            ("2006-01-02T15Z", 1_136_214_000, 0),
            ("2006-01-02T15", 1_136_206_800, 0),
            ("2006-01-02Z", 1_136_160_000, 0),
            ("2006-01-02", 1_136_152_800, 0),
            ("2006-01-02-07:00", 1_136_185_200, 0),
        ] {
            let expected = Timestamp::new(seconds, nanos).unwrap();
            assert_eq!(parse_timestamp(text, now, zone), Ok(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "5d",
            "2006-13-01",
            "2006-01-02T25",
            "2006-01-02T15:04:05z",
            "2006-01-02T15:04:05+25:00",
            "2006-1-2",
            "1.x",
            "-5",
            "1e9",
        ] {
            let error = parse_timestamp(text, now, zone).expect_err(text);
            let message = format!("failed to parse value as time or duration: {text:?}");
            assert_eq!(error.to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[-+0-9.:TZhmsnuµ ]{0,24}|\\PC{0,12}") {
            let _ = parse_duration(&text);
            let _ = parse_timestamp(&text, Timestamp::UNIX_EPOCH, Offset::UTC);
            let _ = super::super::parse_ram(&text);
        }
    }
}

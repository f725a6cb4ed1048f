//! HEALTHCHECK.

use oci::Healthcheck;

use crate::error::{Error, Result};
use crate::language::instruction::Command;
use crate::language::parse::Raw;
use crate::language::word::json;
use crate::source::Span;

const FLAGS: &[&str] = &["interval", "timeout", "start-period", "start-interval", "retries"];
/// What an interval is at least, in nanoseconds.
const INTERVAL_MIN_NS: u64 = 1_000_000;

pub(super) fn healthcheck(raw: &Raw<'_>) -> Result<Command> {
    let rest = raw.parts.rest;
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (kind, line) = (rest[..end].to_uppercase(), rest[end..].trim_start());
    let mut flags = raw.flags(FLAGS)?;
    match kind.as_str() {
        "" => return Err(raw.error("HEALTHCHECK requires at least one argument")),
        "NONE" if !line.is_empty() => {
            return Err(raw.error("HEALTHCHECK NONE takes no arguments"));
        }
        "NONE" => {
            let check = Healthcheck { test: vec![kind], ..Healthcheck::default() };
            return Ok(Command::Healthcheck(check));
        }
        "CMD" => {}
        _ => {
            return Err(raw.error(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")));
        }
    }
    let mut test = match json(line).map_err(|error| error.or_at(raw.rest_span()))? {
        Some(words) => [vec!["CMD".to_owned()], words].concat(),
        None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
    };
    test.retain(|word| !word.is_empty());
    if test.len() < 2 {
        return Err(raw.error("Missing command after HEALTHCHECK CMD"));
    }
    let mut interval = |name: &'static str| match flags.string(name)? {
        None => Ok(0),
        Some((value, span)) => duration(name, &value, span),
    };
    let check = Healthcheck {
        test,
        interval: interval("interval")?,
        timeout: interval("timeout")?,
        start_period: interval("start-period")?,
        start_interval: interval("start-interval")?,
        retries: 0,
    };
    let retries = match flags.string("retries")? {
        None => 0,
        Some((value, span)) => value.parse().map_err(|_| {
            Error::at(span, format!("--retries must be a number that is not negative, not {value}"))
        })?,
    };
    Ok(Command::Healthcheck(Healthcheck { retries, ..check }))
}

/// A duration as Go writes it, in nanoseconds.
fn duration(name: &str, text: &str, span: Span) -> Result<u64> {
    let Some(duration) = parse_duration(text) else {
        let message = format!("invalid duration {text:?} for --{name}: for example 30s or 1m30s");
        return Err(Error::at(span, message));
    };
    match duration {
        1..INTERVAL_MIN_NS => {
            Err(Error::at(span, format!("Interval \"{name}\" cannot be less than 1ms")))
        }
        duration => Ok(duration),
    }
}

fn parse_duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit_ns = match &rest[..length] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit_ns;
        rest = &rest[length..];
    }
    (total < 9e18).then_some(total.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        assert_eq!(parse_duration("1m30s"), Some(90_000_000_000));
        assert_eq!(parse_duration("1.5h"), Some(5_400_000_000_000));
        assert_eq!(parse_duration("0"), Some(0));
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration(""), None);
        assert_eq!(parse_duration("s"), None);
    }
}

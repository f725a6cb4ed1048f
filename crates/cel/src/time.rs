//! Points in time, and durations.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::eval::{EvalError, Result, overload};
use crate::parse::Operator;
use crate::value::Value;

/// A duration as Go writes it: `1h30m`, `1.5s`.
pub(crate) fn span(text: &str) -> Option<SignedDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    (!text.is_empty()).then(|| SignedDuration::try_from_secs_f64(sign * total).ok()).flatten()
}

pub(crate) fn of_time(name: &str, time: Timestamp, all: &[Value]) -> Result<Value> {
    let zone = match all.first() {
        None => TimeZone::UTC,
        Some(Value::String(zone)) if matches!(&**zone, "UTC" | "") => TimeZone::UTC,
        Some(Value::String(zone)) => TimeZone::get(zone)
            .map_err(|_| EvalError::Value(format!("unknown time zone {zone}")))?,
        Some(other) => return Err(overload(name, &[other])),
    };
    let own = zone.to_datetime(time);
    let number = match name {
        "getFullYear" => i64::from(own.year()),
        "getMonth" => i64::from(own.month()) - 1,
        "getDate" => i64::from(own.day()),
        "getDayOfMonth" => i64::from(own.day()) - 1,
        "getDayOfWeek" => i64::from(own.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(own.day_of_year()) - 1,
        "getHours" => i64::from(own.hour()),
        "getMinutes" => i64::from(own.minute()),
        "getSeconds" => i64::from(own.second()),
        "getMilliseconds" => i64::from(own.millisecond()),
        _ => return Err(overload(name, &[&Value::Timestamp(time)])),
    };
    Ok(Value::Int(number))
}

pub(crate) fn of_span(name: &str, span: SignedDuration) -> Result<Value> {
    Ok(Value::Int(match name {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        "getMilliseconds" => i64::from(span.subsec_millis()),
        _ => return Err(overload(name, &[&Value::Duration(span)])),
    }))
}

pub(crate) fn times(operator: Operator, a: &Value, b: &Value) -> Option<Value> {
    match (operator, a, b) {
        (Operator::Add, Value::Timestamp(time), Value::Duration(span))
        | (Operator::Add, Value::Duration(span), Value::Timestamp(time)) => {
            time.checked_add(*span).ok().map(Value::Timestamp)
        }
        (Operator::Add, Value::Duration(x), Value::Duration(y)) => {
            x.checked_add(*y).map(Value::Duration)
        }
        (Operator::Subtract, Value::Timestamp(time), Value::Duration(span)) => {
            time.checked_sub(*span).ok().map(Value::Timestamp)
        }
        (Operator::Subtract, Value::Timestamp(x), Value::Timestamp(y)) => {
            Some(Value::Duration(x.duration_since(*y)))
        }
        (Operator::Subtract, Value::Duration(x), Value::Duration(y)) => {
            x.checked_sub(*y).map(Value::Duration)
        }
        _ => None,
    }
}

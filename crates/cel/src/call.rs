//! Functions: those of the language, and what Kubernetes adds for lists, texts, patterns, amounts and
//! addresses (apiserver, `cel/library`).

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use objects::Quantity;
use regex::{Regex, RegexBuilder};

use crate::eval::{EvalError, Result, Scope, overload};
use crate::parse::Operator;
use crate::text::Url;
use crate::value::Value;

/// How much memory a pattern may take once it is compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Functions, and with how many arguments.
const FUNCTIONS: &[(&str, &[usize])] = &[
    ("size", &[1]),
    ("int", &[1]),
    ("uint", &[1]),
    ("double", &[1]),
    ("string", &[1]),
    ("bytes", &[1]),
    ("bool", &[1]),
    ("dyn", &[1]),
    ("type", &[1]),
    ("timestamp", &[1]),
    ("duration", &[1]),
    ("matches", &[2]),
    ("quantity", &[1]),
    ("isQuantity", &[1]),
    ("url", &[1]),
    ("isURL", &[1]),
    ("isIP", &[1]),
    ("isCIDR", &[1]),
    ("optional.of", &[1]),
    ("optional.none", &[0]),
    ("optional.ofNonZeroValue", &[1]),
];

/// Functions of a value, and with how many further arguments.
const METHODS: &[(&str, &[usize])] = &[
    ("size", &[0]),
    ("contains", &[1]),
    ("startsWith", &[1]),
    ("endsWith", &[1]),
    ("matches", &[1]),
    ("charAt", &[1]),
    ("indexOf", &[1, 2]),
    ("lastIndexOf", &[1]),
    ("lowerAscii", &[0]),
    ("upperAscii", &[0]),
    ("replace", &[2, 3]),
    ("split", &[1, 2]),
    ("substring", &[1, 2]),
    ("trim", &[0]),
    ("join", &[0, 1]),
    ("reverse", &[0]),
    ("isSorted", &[0]),
    ("sum", &[0]),
    ("min", &[0]),
    ("max", &[0]),
    ("find", &[1]),
    ("findAll", &[1, 2]),
    ("getFullYear", &[0, 1]),
    ("getMonth", &[0, 1]),
    ("getDate", &[0, 1]),
    ("getDayOfMonth", &[0, 1]),
    ("getDayOfWeek", &[0, 1]),
    ("getDayOfYear", &[0, 1]),
    ("getHours", &[0, 1]),
    ("getMinutes", &[0, 1]),
    ("getSeconds", &[0, 1]),
    ("getMilliseconds", &[0, 1]),
    ("sign", &[0]),
    ("isInteger", &[0]),
    ("asInteger", &[0]),
    ("asApproximateFloat", &[0]),
    ("add", &[1]),
    ("sub", &[1]),
    ("isGreaterThan", &[1]),
    ("isLessThan", &[1]),
    ("compareTo", &[1]),
    ("getScheme", &[0]),
    ("getHost", &[0]),
    ("getHostname", &[0]),
    ("getPort", &[0]),
    ("getEscapedPath", &[0]),
    ("hasValue", &[0]),
    ("value", &[0]),
    ("or", &[1]),
    ("orValue", &[1]),
];

fn knows(table: &[(&str, &[usize])], name: &str, count: usize) -> bool {
    table.iter().any(|(known, counts)| *known == name && counts.contains(&count))
}

pub(crate) fn is_function(name: &str, count: usize) -> bool {
    knows(FUNCTIONS, name, count)
}

pub(crate) fn is_method(name: &str, count: usize) -> bool {
    knows(METHODS, name, count)
}

pub(crate) fn overflow() -> EvalError {
    EvalError::Value("integer overflow".to_owned())
}

fn conversion(from: &Value, to: &str) -> EvalError {
    EvalError::Value(format!("type conversion error from '{}' to '{to}'", from.type_name()))
}

pub(crate) fn call(
    scope: &mut Scope<'_>,
    of: Option<&Value>,
    name: &str,
    all: &[Value],
) -> Result<Value> {
    let cost = of.map_or(0, Value::size) + all.iter().map(Value::size).sum::<u64>();
    scope.pay(cost)?;
    let own = match (of, all) {
        (None, []) if name == "optional.none" => return Ok(Value::Optional(None)),
        // Both forms are the same: `size(x)` and `x.size()`.
        (None, [first, rest @ ..]) if is_method(name, rest.len()) => (first, rest),
        (None, [one]) => return function(name, one),
        (Some(of), all) => (of, all),
        _ => return Err(EvalError::Overload(name.to_owned())),
    };
    let (of, all) = own;
    match of {
        Value::String(text) => of_text(name, text, all),
        Value::List(items) => of_list(name, items, all),
        Value::Timestamp(time) => of_time(name, *time, all),
        Value::Duration(span) => of_span(name, *span),
        Value::Quantity(amount) => of_amount(name, amount, all),
        Value::Url(url) => of_url(name, url),
        Value::Optional(inner) => of_optional(name, inner.as_ref(), all),
        Value::Map(map) if name == "size" => Ok(count(map.len())),
        Value::Bytes(bytes) if name == "size" => Ok(count(bytes.len())),
        other => Err(overload(name, &[other])),
    }
}

fn count(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn function(name: &str, own: &Value) -> Result<Value> {
    let text = match own {
        Value::String(text) => Some(&**text),
        _ => None,
    };
    match (name, own) {
        ("dyn", value) => Ok(value.clone()),
        ("type", value) => Ok(Value::Type(value.type_name())),
        ("int", _) => to_int(own),
        ("uint", _) => match to_int(own) {
            _ if matches!(own, Value::Uint(_)) => Ok(own.clone()),
            Ok(Value::Int(number)) => {
                u64::try_from(number).map(Value::Uint).map_err(|_| conversion(own, "uint"))
            }
            _ => Err(conversion(own, "uint")),
        },
        ("double", Value::Int(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::Uint(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::Double(_)) | ("string", Value::String(_)) | ("bool", Value::Bool(_)) => {
            Ok(own.clone())
        }
        ("double", Value::String(text)) => {
            text.parse().map(Value::Double).map_err(|_| conversion(own, "double"))
        }
        ("string", _) => to_text(own),
        ("bytes", Value::Bytes(_)) => Ok(own.clone()),
        ("bytes", Value::String(text)) => Ok(Value::Bytes(text.as_bytes().into())),
        ("bool", Value::String(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(conversion(own, "bool")),
        },
        ("timestamp", Value::Timestamp(_)) | ("duration", Value::Duration(_)) => Ok(own.clone()),
        ("timestamp", Value::String(text)) => {
            text.parse().map(Value::Timestamp).map_err(|_| conversion(own, "timestamp"))
        }
        ("duration", Value::String(text)) => {
            span(text).map(Value::Duration).ok_or_else(|| conversion(own, "duration"))
        }
        ("quantity", Value::String(text)) => {
            text.parse().map(Value::Quantity).map_err(|_| conversion(own, "quantity"))
        }
        ("isQuantity", _) => Ok(Value::Bool(text.is_some_and(|t| t.parse::<Quantity>().is_ok()))),
        ("url", Value::String(text)) => match Url::parse(text) {
            Some(url) => Ok(Value::Url(Arc::new(url))),
            None => Err(EvalError::Value(format!(
                "URL parse error during conversion from string: {text:?}"
            ))),
        },
        ("isURL", _) => Ok(Value::Bool(text.is_some_and(|t| Url::parse(t).is_some()))),
        ("isIP", _) => Ok(Value::Bool(text.is_some_and(|t| t.parse::<std::net::IpAddr>().is_ok()))),
        ("isCIDR", _) => Ok(Value::Bool(text.is_some_and(is_network))),
        ("optional.of", _) => Ok(Value::Optional(Some(Arc::new(own.clone())))),
        ("optional.ofNonZeroValue", _) => {
            Ok(Value::Optional((!is_zero(own)).then(|| Arc::new(own.clone()))))
        }
        _ => Err(overload(name, &[own])),
    }
}

fn is_zero(own: &Value) -> bool {
    match own {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn to_int(own: &Value) -> Result<Value> {
    let wrong = || conversion(own, "int");
    match own {
        Value::Int(_) => Ok(own.clone()),
        Value::Uint(number) => i64::try_from(*number).map(Value::Int).map_err(|_| overflow()),
        Value::Double(number) if number.abs() < 9.2e18 => Ok(Value::Int(number.trunc() as i64)),
        Value::String(text) => text.parse().map(Value::Int).map_err(|_| wrong()),
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        _ => Err(wrong()),
    }
}

fn to_text(own: &Value) -> Result<Value> {
    let text = match own {
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(span) => format!("{}s", span.as_secs_f64()),
        Value::Quantity(amount) => amount.to_string(),
        Value::Bytes(bytes) => {
            String::from_utf8(bytes.to_vec()).map_err(|_| conversion(own, "string"))?
        }
        _ => return Err(conversion(own, "string")),
    };
    Ok(Value::text(&text))
}

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

fn regex(pattern: &Value) -> Result<Regex> {
    let Value::String(text) = pattern else { return Err(overload("matches", &[pattern])) };
    let regex = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    regex.map_err(|_| EvalError::Value(format!("error parsing regexp: {text:?}")))
}

/// Text as its letters, of which places are counted.
fn letters(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn place(value: &Value, most: usize) -> Result<usize> {
    let number = match value {
        Value::Int(number) => usize::try_from(*number).ok(),
        _ => None,
    };
    number
        .filter(|number| *number <= most)
        .ok_or_else(|| EvalError::Value("index out of range".to_owned()))
}

fn of_text(name: &str, text: &str, all: &[Value]) -> Result<Value> {
    let given = |number: usize| match all.get(number) {
        Some(Value::String(text)) => Ok(&**text),
        Some(other) => Err(overload(name, &[other])),
        None => Err(EvalError::Overload(name.to_owned())),
    };
    let found = |at: Option<usize>| {
        let letters = at.map(|at| text[..at].chars().count());
        letters.map_or(Value::Int(-1), count)
    };
    Ok(match name {
        "size" => count(text.chars().count()),
        "contains" => Value::Bool(text.contains(given(0)?)),
        "startsWith" => Value::Bool(text.starts_with(given(0)?)),
        "endsWith" => Value::Bool(text.ends_with(given(0)?)),
        "matches" => Value::Bool(regex(&all[0])?.is_match(text)),
        "find" => Value::text(regex(&all[0])?.find(text).map_or("", |found| found.as_str())),
        "findAll" => {
            let most = match all.get(1) {
                Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let regex = regex(&all[0])?;
            let all = regex.find_iter(text).take(most).map(|found| Value::text(found.as_str()));
            Value::list(all.collect())
        }
        "charAt" => {
            let letters = letters(text);
            let at = place(&all[0], letters.len())?;
            Value::text(&letters.get(at).map(char::to_string).unwrap_or_default())
        }
        "indexOf" if all.len() == 1 => found(text.find(given(0)?)),
        "indexOf" => {
            let letters = letters(text);
            let from = place(&all[1], letters.len())?;
            let skipped: usize = letters[..from].iter().map(|letter| letter.len_utf8()).sum();
            found(text[skipped..].find(given(0)?).map(|at| at + skipped))
        }
        "lastIndexOf" => found(text.rfind(given(0)?)),
        "lowerAscii" => Value::text(&text.to_ascii_lowercase()),
        "upperAscii" => Value::text(&text.to_ascii_uppercase()),
        "trim" => Value::text(text.trim()),
        "reverse" => Value::text(&text.chars().rev().collect::<String>()),
        "replace" => {
            let (from, to) = (given(0)?, given(1)?);
            match all.get(2) {
                Some(Value::Int(most)) if *most >= 0 => {
                    Value::text(&text.replacen(from, to, usize::try_from(*most).unwrap_or(0)))
                }
                _ => Value::text(&text.replace(from, to)),
            }
        }
        "split" => split(text, given(0)?, all.get(1)),
        "substring" => {
            let letters = letters(text);
            let from = place(&all[0], letters.len())?;
            let to = all.get(1).map_or(Ok(letters.len()), |to| place(to, letters.len()))?;
            if from > to {
                return Err(EvalError::Value("invalid substring range".to_owned()));
            }
            Value::text(&letters[from..to].iter().collect::<String>())
        }
        _ => return Err(overload(name, &[&Value::text(text)])),
    })
}

fn split(text: &str, by: &str, most: Option<&Value>) -> Value {
    let most = match most {
        Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    if most == 0 {
        return Value::list(Vec::new());
    }
    let parts: Vec<Value> = match by {
        "" => text.chars().map(|letter| Value::text(&letter.to_string())).collect(),
        by => text.splitn(most, by).map(Value::text).collect(),
    };
    Value::list(parts)
}

fn of_list(name: &str, items: &[Value], all: &[Value]) -> Result<Value> {
    let wrong = || overload(name, &[&Value::list(items.to_vec())]);
    let best = |is: fn(std::cmp::Ordering) -> bool| {
        let mut best = items
            .first()
            .ok_or_else(|| EvalError::Value(format!("{name} called on empty list")))?;
        for item in items {
            if is(item.order(best).ok_or_else(wrong)?) {
                best = item;
            }
        }
        Ok(best.clone())
    };
    Ok(match name {
        "size" => count(items.len()),
        "isSorted" => {
            let mut pairs = items.windows(2).map(|pair| pair[0].order(&pair[1]));
            let mut is = true;
            for order in &mut pairs {
                is &= order.ok_or_else(wrong)?.is_le();
            }
            Value::Bool(is)
        }
        "sum" => {
            let first = items.first().map(|item| match item {
                Value::Double(_) => Value::Double(0.0),
                Value::Uint(_) => Value::Uint(0),
                Value::Duration(_) => Value::Duration(SignedDuration::ZERO),
                _ => Value::Int(0),
            });
            let start = first.unwrap_or(Value::Int(0));
            items.iter().try_fold(start, |sum, item| arithmetic(Operator::Add, &sum, item))?
        }
        "min" => best(std::cmp::Ordering::is_lt)?,
        "max" => best(std::cmp::Ordering::is_gt)?,
        "indexOf" => items.iter().position(|item| *item == all[0]).map_or(Value::Int(-1), count),
        "lastIndexOf" => {
            items.iter().rposition(|item| *item == all[0]).map_or(Value::Int(-1), count)
        }
        "reverse" => Value::list(items.iter().rev().cloned().collect()),
        "join" => {
            let by = match all.first() {
                Some(Value::String(by)) => by,
                None => "",
                Some(other) => return Err(overload(name, &[other])),
            };
            let words: Option<Vec<&str>> = items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Some(&**text),
                    _ => None,
                })
                .collect();
            Value::text(&words.ok_or_else(wrong)?.join(by))
        }
        _ => return Err(wrong()),
    })
}

fn of_time(name: &str, time: Timestamp, all: &[Value]) -> Result<Value> {
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

fn of_span(name: &str, span: SignedDuration) -> Result<Value> {
    Ok(Value::Int(match name {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        "getMilliseconds" => i64::from(span.subsec_millis()),
        _ => return Err(overload(name, &[&Value::Duration(span)])),
    }))
}

fn of_amount(name: &str, amount: &Quantity, all: &[Value]) -> Result<Value> {
    let own = || Value::Quantity(*amount);
    let other = match all.first() {
        None => None,
        Some(Value::Quantity(other)) => Some(*other),
        Some(Value::Int(number)) => number.to_string().parse().ok(),
        Some(other) => return Err(overload(name, &[&own(), other])),
    };
    let sign = |order: std::cmp::Ordering| Value::Int(order as i64);
    Ok(match (name, other) {
        ("isGreaterThan", Some(other)) => Value::Bool(*amount > other),
        ("isLessThan", Some(other)) => Value::Bool(*amount < other),
        ("compareTo", Some(other)) => sign(amount.cmp(&other)),
        ("add", Some(other)) => Value::Quantity(*amount + other),
        ("sub", Some(other)) => Value::Quantity(*amount - other),
        ("sign", None) => sign(amount.cmp(&Quantity::ZERO)),
        ("isInteger", None) => Value::Bool(amount.whole().is_some()),
        ("asInteger", None) => match amount.whole() {
            Some(number) => Value::Int(number),
            None => return Err(EvalError::Value("cannot convert value to integer".to_owned())),
        },
        ("asApproximateFloat", None) => Value::Double(amount.approximate()),
        _ => return Err(overload(name, &[&own()])),
    })
}

fn of_url(name: &str, url: &Arc<Url>) -> Result<Value> {
    Ok(Value::text(match name {
        "getScheme" => &url.scheme,
        "getHost" => &url.host,
        "getHostname" => url.hostname(),
        "getPort" => url.port(),
        "getEscapedPath" => &url.path,
        _ => return Err(overload(name, &[&Value::Url(url.clone())])),
    }))
}

fn of_optional(name: &str, inner: Option<&Arc<Value>>, all: &[Value]) -> Result<Value> {
    Ok(match (name, inner, all) {
        ("hasValue", inner, _) => Value::Bool(inner.is_some()),
        ("value", Some(inner), _) | ("orValue", Some(inner), _) => (**inner).clone(),
        ("value", None, _) => {
            return Err(EvalError::Value("optional.none() dereference".to_owned()));
        }
        ("orValue", None, [other]) => other.clone(),
        ("or", Some(inner), _) => Value::Optional(Some(inner.clone())),
        ("or", None, [other @ Value::Optional(_)]) => other.clone(),
        _ => return Err(overload(name, &[&Value::Optional(None)])),
    })
}

pub(crate) fn arithmetic(operator: Operator, a: &Value, b: &Value) -> Result<Value> {
    let name = match operator {
        Operator::Add => "_+_",
        Operator::Subtract => "_-_",
        Operator::Multiply => "_*_",
        Operator::Divide => "_/_",
        _ => "_%_",
    };
    let by_zero = |what: &str| EvalError::Value(format!("{what} by zero"));
    match (a, b) {
        (Value::Int(x), Value::Int(y)) => {
            let made = match operator {
                Operator::Add => x.checked_add(*y),
                Operator::Subtract => x.checked_sub(*y),
                Operator::Multiply => x.checked_mul(*y),
                Operator::Divide if *y == 0 => return Err(by_zero("division")),
                Operator::Divide => x.checked_div(*y),
                _ if *y == 0 => return Err(by_zero("modulus")),
                _ => x.checked_rem(*y),
            };
            made.map(Value::Int).ok_or_else(overflow)
        }
        (Value::Uint(x), Value::Uint(y)) => {
            let made = match operator {
                Operator::Add => x.checked_add(*y),
                Operator::Subtract => x.checked_sub(*y),
                Operator::Multiply => x.checked_mul(*y),
                Operator::Divide if *y == 0 => return Err(by_zero("division")),
                Operator::Divide => x.checked_div(*y),
                _ if *y == 0 => return Err(by_zero("modulus")),
                _ => x.checked_rem(*y),
            };
            made.map(Value::Uint)
                .ok_or_else(|| EvalError::Value("unsigned integer overflow".to_owned()))
        }
        (Value::Double(x), Value::Double(y)) => match operator {
            Operator::Add => Ok(Value::Double(x + y)),
            Operator::Subtract => Ok(Value::Double(x - y)),
            Operator::Multiply => Ok(Value::Double(x * y)),
            Operator::Divide => Ok(Value::Double(x / y)),
            _ => Err(overload(name, &[a, b])),
        },
        (Value::String(x), Value::String(y)) if operator == Operator::Add => {
            Ok(Value::text(&format!("{x}{y}")))
        }
        (Value::Bytes(x), Value::Bytes(y)) if operator == Operator::Add => {
            Ok(Value::Bytes([&x[..], &y[..]].concat().into()))
        }
        (Value::List(x), Value::List(y)) if operator == Operator::Add => {
            Ok(Value::list([&x[..], &y[..]].concat()))
        }
        _ => times(operator, a, b).ok_or_else(|| overload(name, &[a, b])),
    }
}

fn times(operator: Operator, a: &Value, b: &Value) -> Option<Value> {
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

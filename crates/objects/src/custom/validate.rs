//! Whether values are as their schema has them, in upstream's words (kube-openapi, `validate`).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::validate::{Findings, Invalid, Problem};

/// How much memory an expression may take once it is compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Expressions that are kept compiled.
const PATTERNS_MAX: usize = 1000;
/// What is wrong with an object is told so often; a long list helps nobody.
const FOUND_MAX: usize = 50;

/// What of an object is wrong.
pub(super) fn check(schema: &Value, object: &Value) -> Vec<Invalid> {
    let mut found = Findings::default();
    value(&mut found, "", schema, object);
    found.0
}

/// A regular expression, compiled once.
///
/// # Errors
/// What is wrong with it.
pub(super) fn pattern(text: &str) -> Result<Arc<Regex>, String> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = known.get(text) {
        return Ok(regex.clone());
    }
    let regex = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    let regex = Arc::new(regex.map_err(|why| why.to_string().replace('\n', " "))?);
    if known.len() >= PATTERNS_MAX {
        known.clear();
    }
    known.insert(text.to_owned(), regex.clone());
    Ok(regex)
}

fn value(found: &mut Findings, path: &str, schema: &Value, own: &Value) {
    if found.0.len() >= FOUND_MAX {
        return;
    }
    if own.is_null() && schema["nullable"] == true {
        return;
    }
    if let Some(wanted) = wrong_type(schema, own) {
        let name = type_of(own);
        let why = format!("{} in body must be of type {wanted}: {name:?}", shown(path));
        found.add(shown(path), Problem::Value(format!("{name:?}"), why));
        return;
    }
    if let Some(known) = schema["enum"].as_array()
        && !known.contains(own)
    {
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let known = known.iter().map(word).collect();
        found.add(shown(path), Problem::Unsupported(own.to_string(), known));
    }
    match own {
        Value::Number(_) => number(found, path, schema, own),
        Value::String(text) => self::text(found, path, schema, text),
        Value::Array(items) => list(found, path, schema, own, items),
        Value::Object(fields) => self::fields(found, path, schema, own, fields),
        _ => {}
    }
    logical(found, path, schema, own);
}

/// The type that a value must be of and is not.
fn wrong_type<'a>(schema: &'a Value, own: &Value) -> Option<&'a str> {
    if schema["x-kubernetes-int-or-string"] == true {
        return (!own.is_string() && !is_whole(own)).then_some("integer,string");
    }
    let wanted = schema["type"].as_str().filter(|wanted| !wanted.is_empty())?;
    let is_right = match wanted {
        "object" => own.is_object(),
        "array" => own.is_array(),
        "string" => own.is_string(),
        "boolean" => own.is_boolean(),
        "integer" => is_whole(own),
        "number" => own.is_number(),
        _ => true,
    };
    (!is_right).then_some(wanted)
}

fn is_whole(own: &Value) -> bool {
    own.is_i64() || own.is_u64() || own.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_of(own: &Value) -> &'static str {
    match own {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(own) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// As upstream shows the whole object.
fn shown(path: &str) -> String {
    if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() }
}

fn number(found: &mut Findings, path: &str, schema: &Value, own: &Value) {
    let size = own.as_f64().unwrap_or_default();
    let mut wrong = |words: String| {
        found.invalid(shown(path), own, format!("{} in body should be {words}", shown(path)));
    };
    if let Some(most) = schema["maximum"].as_f64() {
        if schema["exclusiveMaximum"] == true && size >= most {
            wrong(format!("less than {}", schema["maximum"]));
        } else if size > most {
            wrong(format!("less than or equal to {}", schema["maximum"]));
        }
    }
    if let Some(least) = schema["minimum"].as_f64() {
        if schema["exclusiveMinimum"] == true && size <= least {
            wrong(format!("greater than {}", schema["minimum"]));
        } else if size < least {
            wrong(format!("greater than or equal to {}", schema["minimum"]));
        }
    }
    if let Some(step) = schema["multipleOf"].as_f64().filter(|step| *step > 0.0) {
        let times = size / step;
        if (times - times.round()).abs() > 1e-9 {
            wrong(format!("a multiple of {}", schema["multipleOf"]));
        }
    }
    let is_out = match schema["format"].as_str() {
        Some("int32") => own.as_i64().is_none_or(|number| i32::try_from(number).is_err()),
        Some("int64") => own.as_i64().is_none() && own.as_u64().is_some(),
        _ => false,
    };
    if is_out && is_whole(own) {
        let format = schema["format"].as_str().unwrap_or_default();
        wrong(format!("within the range of {format}"));
    }
}

fn text(found: &mut Findings, path: &str, schema: &Value, own: &str) {
    let length = own.chars().count() as u64;
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        found.add(shown(path), Problem::TooLong(most));
    }
    let mut wrong = |words: String| {
        let why = format!("{} in body {words}", shown(path));
        found.invalid(shown(path), &own.into(), why);
    };
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        wrong(format!("should be at least {least} chars long"));
    }
    if let Some(text) = schema["pattern"].as_str()
        && pattern(text).is_ok_and(|pattern| !pattern.is_match(own))
    {
        wrong(format!("should match '{text}'"));
    }
    if let Some(format) = schema["format"].as_str().filter(|format| !has_format(format, own)) {
        wrong(format!("must be of type {format}: {own:?}"));
    }
}

/// Whether a text has a format; those that upstream does not check either are anything.
fn has_format(format: &str, text: &str) -> bool {
    use base64::Engine as _;
    use std::net::{Ipv4Addr, Ipv6Addr};
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match format {
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            let bits = bits.parse::<u8>().ok();
            (address.parse::<Ipv4Addr>().is_ok() && bits.is_some_and(|bits| bits <= 32))
                || (address.parse::<Ipv6Addr>().is_ok() && bits.is_some_and(|bits| bits <= 128))
        }),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "byte" => base64::prelude::BASE64_STANDARD.decode(text).is_ok(),
        "uuid" => {
            let groups: Vec<&str> = text.split('-').collect();
            let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
            (lengths == [8, 4, 4, 4, 12] || lengths == [32]) && groups.iter().all(|g| is_hex(g))
        }
        "mac" => {
            let groups: Vec<&str> = text.split([':', '-']).collect();
            groups.len() == 6 && groups.iter().all(|group| group.len() == 2 && is_hex(group))
        }
        "uri" => text.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        }),
        "hostname" => crate::name::check_subdomain(&text.to_ascii_lowercase()).is_ok(),
        _ => true,
    }
}

fn list(found: &mut Findings, path: &str, schema: &Value, own: &Value, items: &[Value]) {
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| items.len() as u64 > *most) {
        found.add(shown(path), Problem::TooMany(items.len(), most));
    }
    if let Some(least) = schema["minItems"].as_u64().filter(|least| (items.len() as u64) < *least) {
        let why = format!("{} in body should have at least {least} items", shown(path));
        found.invalid(shown(path), own, why);
    }
    if schema["items"].is_object() {
        for (place, item) in items.iter().enumerate() {
            value(found, &format!("{path}[{place}]"), &schema["items"], item);
        }
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    let key = |item: &Value| -> Option<Value> {
        match schema["x-kubernetes-list-type"].as_str()? {
            "set" => Some(item.clone()),
            "map" => {
                let names = keys?.iter().filter_map(Value::as_str);
                let own = names.filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())));
                Some(Value::Object(own.collect()))
            }
            _ => None,
        }
    };
    let mut seen = BTreeSet::new();
    for (place, item) in items.iter().enumerate() {
        let Some(key) = key(item).map(|key| key.to_string()) else { return };
        if !seen.insert(key.clone()) {
            found.add(format!("{path}[{place}]"), Problem::Duplicate(key));
        }
    }
}

fn fields(
    found: &mut Findings,
    path: &str,
    schema: &Value,
    own: &Value,
    fields: &Map<String, Value>,
) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            found.require(below(name));
        }
    }
    let count = fields.len() as u64;
    if let Some(most) = schema["maxProperties"].as_u64().filter(|most| count > *most) {
        found.add(shown(path), Problem::TooMany(fields.len(), most));
    }
    if let Some(least) = schema["minProperties"].as_u64().filter(|least| count < *least) {
        let why = format!("{} in body should have at least {least} properties", shown(path));
        found.invalid(shown(path), own, why);
    }
    for (name, inner) in fields {
        let known = schema["properties"].get(name);
        let others = || Some(&schema["additionalProperties"]).filter(|others| others.is_object());
        if let Some(schema) = known.or_else(others) {
            value(found, &below(name), schema, inner);
        }
    }
    if schema["x-kubernetes-embedded-resource"] == true {
        for name in ["apiVersion", "kind"] {
            if fields.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                found.add(below(name), Problem::Required("must not be empty".to_owned()));
            }
        }
    }
}

fn logical(found: &mut Findings, path: &str, schema: &Value, own: &Value) {
    let passes = |inner: &&Value| {
        let mut inside = Findings::default();
        value(&mut inside, path, inner, own);
        inside.0.is_empty()
    };
    let all = |keyword: &str| schema[keyword].as_array().map_or(&[][..], Vec::as_slice);
    let mut wrong = |words: &str| {
        let why = format!("{:?} must {words}", shown(path));
        found.add(shown(path), Problem::Value(own.to_string(), why));
    };
    let (any, one) = (all("anyOf"), all("oneOf"));
    if !any.is_empty() && !any.iter().any(|inner| passes(&inner)) {
        wrong("validate at least one schema (anyOf)");
    }
    if !one.is_empty() {
        match one.iter().filter(passes).count() {
            1 => {}
            0 => wrong("validate one and only one schema (oneOf). Found none valid"),
            count => wrong(&format!(
                "validate one and only one schema (oneOf). Found {count} valid alternatives"
            )),
        }
    }
    if !schema["not"].is_null() && passes(&&schema["not"]) {
        wrong("not validate the schema (not)");
    }
    for inner in all("allOf") {
        value(found, path, inner, own);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(schema: &Value, own: &Value) -> Vec<String> {
        let whole = json!({"type": "object", "properties": {"a": schema}});
        check(&whole, &json!({"a": own})).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_keyword_is_checked_in_upstreams_words() {
        for (schema, good, bad, words) in [
            (
                json!({"type": "integer"}),
                json!(1),
                json!("x"),
                r#"a: Invalid value: "string": a in body must be of type integer: "string""#,
            ),
            (
                json!({"enum": ["x", "y"]}),
                json!("x"),
                json!("z"),
                r#"a: Unsupported value: "z": supported values: "x", "y""#,
            ),
            (
                json!({"maximum": 2}),
                json!(2),
                json!(3),
                "a: Invalid value: 3: a in body should be less than or equal to 2",
            ),
            (
                json!({"minimum": 2, "exclusiveMinimum": true}),
                json!(3),
                json!(2),
                "a: Invalid value: 2: a in body should be greater than 2",
            ),
            (
                json!({"multipleOf": 0.1}),
                json!(0.3),
                json!(0.35),
                "a: Invalid value: 0.35: a in body should be a multiple of 0.1",
            ),
            (
                json!({"maxLength": 2}),
                json!("äö"),
                json!("abc"),
                "a: Too long: may not be more than 2 bytes",
            ),
            (
                json!({"minLength": 2}),
                json!("ab"),
                json!("a"),
                r#"a: Invalid value: "a": a in body should be at least 2 chars long"#,
            ),
            (
                json!({"pattern": "^a+$"}),
                json!("aa"),
                json!("b"),
                r#"a: Invalid value: "b": a in body should match '^a+$'"#,
            ),
            (
                json!({"format": "ipv4"}),
                json!("1.2.3.4"),
                json!("1.2.3"),
                r#"a: Invalid value: "1.2.3": a in body must be of type ipv4: "1.2.3""#,
            ),
            (
                json!({"maxItems": 1}),
                json!([1]),
                json!([1, 2]),
                "a: Too many: 2: must have at most 1 items",
            ),
            (json!({"required": ["b"]}), json!({"b": 1}), json!({}), "a.b: Required value"),
            (
                json!({"x-kubernetes-list-type": "set"}),
                json!([1, 2]),
                json!([1, 1]),
                "a[1]: Duplicate value: 1",
            ),
            (
                json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}),
                json!([{"n": 1}, {"n": 2}]),
                json!([{"n": 1}, {"n": 1, "b": 2}]),
                r#"a[1]: Duplicate value: {"n":1}"#,
            ),
            (
                json!({"anyOf": [{"required": ["b"]}, {"required": ["c"]}]}),
                json!({"c": 1}),
                json!({}),
                r#"a: Invalid value: {}: "a" must validate at least one schema (anyOf)"#,
            ),
            (
                json!({"not": {"required": ["b"]}}),
                json!({}),
                json!({"b": 1}),
                r#"a: Invalid value: {"b":1}: "a" must not validate the schema (not)"#,
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!("5%"),
                json!(1.5),
                r#"a: Invalid value: "number": a in body must be of type integer,string: "number""#,
            ),
        ] {
            assert!(
                wrong(&schema, &good).is_empty(),
                "{schema} {good}: {:?}",
                wrong(&schema, &good)
            );
            assert_eq!(wrong(&schema, &bad), [words]);
        }
        assert!(wrong(&json!({"type": "string", "nullable": true}), &Value::Null).is_empty());
        assert_eq!(wrong(&json!({"type": "string"}), &Value::Null).len(), 1);
    }
}

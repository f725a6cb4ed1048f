//! Rules of custom resources' schemas (`x-kubernetes-validations`): read when a kind is defined, and
//! evaluated over its objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use objects::validate::{Invalid, Problem};
use serde_json::Value as Json;

use crate::call;
use crate::parse::{ParseError, Program};
use crate::value::{Key, Value};

/// What one rule may cost (apiserver, `PerCallLimit`).
const RULE_COST_MAX: u64 = 1_000_000;
/// What all rules of an object may cost (apiserver, `RuntimeCELCostBudget`).
const OBJECT_COST_MAX: u64 = 10_000_000;
/// Rules that are kept parsed.
const PROGRAMS_MAX: usize = 4000;
/// How deep a schema may go.
const DEPTH_MAX: usize = 64;

const RULES: &str = "x-kubernetes-validations";
const REASONS: &[&str] =
    &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
const KEYWORDS: &[&str] =
    &["rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf"];
/// Words of the language that a field may be called, and is written `__word__` then.
const ESCAPED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What is wrong with the rules of a definition's schemas.
#[must_use]
pub fn check_definition(definition: &Json) -> Vec<Invalid> {
    let mut found = Vec::new();
    for (number, version) in items(&definition["spec"]["versions"]).iter().enumerate() {
        let path = format!("spec.versions[{number}].schema.openAPIV3Schema");
        check_schema(&mut found, &path, &version["schema"]["openAPIV3Schema"], 0);
    }
    found
}

fn items(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn check_schema(found: &mut Vec<Invalid>, path: &str, schema: &Json, depth: usize) {
    if depth > DEPTH_MAX || !schema.is_object() {
        return;
    }
    for (number, rule) in items(&schema[RULES]).iter().enumerate() {
        check_rule(found, &format!("{path}.{RULES}[{number}]"), rule);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        check_schema(found, &format!("{path}.properties[{name}]"), inner, depth + 1);
    }
    for keyword in ["items", "additionalProperties"] {
        check_schema(found, &format!("{path}.{keyword}"), &schema[keyword], depth + 1);
    }
}

fn check_rule(found: &mut Vec<Invalid>, path: &str, rule: &Json) {
    let mut add = |field: String, problem| found.push(Invalid { field, problem });
    for (name, value) in rule.as_object().into_iter().flatten() {
        if !KEYWORDS.contains(&name.as_str()) {
            let why = "no such keyword of a rule".to_owned();
            add(format!("{path}.{name}"), Problem::Value(value.to_string(), why));
        }
    }
    for field in ["rule", "messageExpression"] {
        match rule[field].as_str().map(str::trim) {
            None | Some("") if field == "rule" => {
                add(format!("{path}.rule"), Problem::Required("rule is not specified".to_owned()));
            }
            None => {}
            Some(text) => {
                if let Err(why) = program(text) {
                    let why = format!("compilation failed: ERROR: {why}");
                    add(format!("{path}.{field}"), Problem::Value(rule[field].to_string(), why));
                }
            }
        }
    }
    if let Some(reason) = rule["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
        let known = REASONS.iter().map(|reason| (*reason).to_owned()).collect();
        add(format!("{path}.reason"), Problem::Unsupported(format!("{reason:?}"), known));
    }
    if let Some(place) = rule["fieldPath"].as_str() {
        if !place.starts_with(['.', '[']) {
            let why = "must begin with a dot: .spec.field".to_owned();
            add(format!("{path}.fieldPath"), Problem::Value(format!("{place:?}"), why));
        }
    }
}

/// An expression, parsed once.
fn program(text: &str) -> Result<Arc<Program>, ParseError> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Program>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = known.get(text) {
        return Ok(program.clone());
    }
    let program = Arc::new(Program::parse(text)?);
    if known.len() >= PROGRAMS_MAX {
        known.clear();
    }
    known.insert(text.to_owned(), program.clone());
    Ok(program)
}

/// What of an object breaks the rules of its schema; `old` is what it was before.
#[must_use]
pub fn check_object(schema: &Json, object: &Json, old: Option<&Json>) -> Vec<Invalid> {
    if !has_rules(schema, 0) {
        return Vec::new();
    }
    let mut walk = Walk { found: Vec::new(), budget: OBJECT_COST_MAX };
    walk.value("", schema, object, old, true);
    walk.found
}

fn has_rules(schema: &Json, depth: usize) -> bool {
    let Some(fields) = schema.as_object().filter(|_| depth <= DEPTH_MAX) else { return false };
    let below = |name: &str| fields.get(name).is_some_and(|inner| has_rules(inner, depth + 1));
    let mut properties = schema["properties"].as_object().into_iter().flatten();
    fields.contains_key(RULES)
        || below("items")
        || below("additionalProperties")
        || properties.any(|(_, inner)| has_rules(inner, depth + 1))
}

struct Walk {
    found: Vec<Invalid>,
    budget: u64,
}

impl Walk {
    fn value(&mut self, path: &str, schema: &Json, own: &Json, old: Option<&Json>, is_whole: bool) {
        if own.is_null() {
            return;
        }
        for rule in items(&schema[RULES]) {
            self.rule(path, schema, own, old, is_whole, rule);
        }
        match own {
            Json::Object(fields) => {
                for (name, value) in fields {
                    let known = schema["properties"].get(name);
                    let others = &schema["additionalProperties"];
                    let inner = known.or_else(|| others.is_object().then_some(others));
                    let Some(inner) = inner else { continue };
                    let dot = if path.is_empty() { "" } else { "." };
                    let old = old.and_then(|old| old.get(name));
                    let is_whole = inner["x-kubernetes-embedded-resource"] == true;
                    self.value(&format!("{path}{dot}{name}"), inner, value, old, is_whole);
                }
            }
            Json::Array(values) => {
                for (place, value) in values.iter().enumerate() {
                    let old = old.and_then(|old| same_item(schema, value, old));
                    self.value(&format!("{path}[{place}]"), &schema["items"], value, old, false);
                }
            }
            _ => {}
        }
    }

    fn rule(
        &mut self,
        path: &str,
        schema: &Json,
        own: &Json,
        old: Option<&Json>,
        is_whole: bool,
        rule: &Json,
    ) {
        let text = rule["rule"].as_str().unwrap_or_default().trim();
        let Ok(program) = program(text) else { return };
        let is_optional = rule["optionalOldSelf"] == true;
        let is_transition = program.uses("oldSelf");
        // A rule about a change says nothing of what is new.
        if is_transition && old.is_none() && !is_optional {
            return;
        }
        let mut names = vec![("self", typed(schema, own, is_whole))];
        if is_transition {
            let old = old.map(|old| typed(schema, old, is_whole));
            let old = match (is_optional, old) {
                (true, old) => Value::Optional(old.map(Arc::new)),
                (false, old) => old.unwrap_or(Value::Null),
            };
            names.push(("oldSelf", old));
        }
        let mut budget = self.budget.min(RULE_COST_MAX);
        let before = budget;
        let outcome = program.evaluate(&names, &mut budget);
        self.budget -= before - budget;
        let why = match outcome {
            Ok(Value::Bool(true)) => return,
            Ok(Value::Bool(false)) => self.message(rule, text, &names),
            Ok(other) => {
                format!("rule evaluation error: it is a {} and no bool", other.type_name())
            }
            Err(error) => format!("rule evaluation error: {error}: evaluating rule: {text}"),
        };
        let field = match (path, rule["fieldPath"].as_str()) {
            ("", None) => "<nil>".to_owned(),
            (path, more) => format!("{path}{}", more.unwrap_or_default()),
        };
        let field = field.trim_start_matches('.').to_owned();
        let kind = schema["type"].as_str().unwrap_or("");
        let problem = match rule["reason"].as_str() {
            Some("FieldValueRequired") => Problem::Required(why),
            Some("FieldValueForbidden") => Problem::Forbidden(why),
            Some("FieldValueDuplicate") => Problem::Duplicate(format!("{kind:?}")),
            _ => Problem::Value(format!("{kind:?}"), why),
        };
        self.found.push(Invalid { field, problem });
    }

    fn message(&mut self, rule: &Json, text: &str, names: &[(&str, Value)]) -> String {
        let made = rule["messageExpression"].as_str().and_then(|expression| {
            let program = program(expression.trim()).ok()?;
            let mut budget = self.budget.min(RULE_COST_MAX);
            let before = budget;
            let made = program.evaluate(names, &mut budget);
            self.budget -= before - budget;
            match made {
                Ok(Value::String(text)) if !text.trim().is_empty() => Some(text.to_string()),
                // What cannot be said is said otherwise.
                _ => None,
            }
        });
        let fixed = || rule["message"].as_str().map(str::to_owned);
        made.or_else(fixed).unwrap_or_else(|| format!("failed rule: {text}"))
    }
}

/// The item that one was before: by its keys, where the list has any.
fn same_item<'a>(schema: &Json, item: &Json, old: &'a Json) -> Option<&'a Json> {
    if schema["x-kubernetes-list-type"] != "map" {
        return None;
    }
    let keys = items(&schema["x-kubernetes-list-map-keys"]);
    let is_same =
        |other: &&Json| keys.iter().filter_map(Json::as_str).all(|key| other[key] == item[key]);
    items(old).iter().find(is_same)
}

/// A value as its schema types it: fields that the schema does not know are not there.
fn typed(schema: &Json, own: &Json, is_whole: bool) -> Value {
    match own {
        Json::String(text) => of_format(schema, text),
        Json::Number(number) if schema["type"] == "number" => {
            number.as_f64().map_or(Value::Null, Value::Double)
        }
        Json::Number(number) if schema["type"] == "integer" => match number.as_f64() {
            // A whole number may have been written with a point.
            Some(float) if !number.is_i64() && float.abs() < 9e18 => Value::Int(float as i64),
            _ => Value::of_json(own),
        },
        Json::Array(values) => {
            let item = |value| typed(&schema["items"], value, false);
            Value::List(values.iter().map(item).collect())
        }
        Json::Object(fields) => {
            let mut map = BTreeMap::new();
            let others = &schema["additionalProperties"];
            for (name, value) in fields {
                let known = schema["properties"].get(name);
                let key = |name: String| Key::String(name.into());
                match known {
                    _ if is_whole && matches!(name.as_str(), "apiVersion" | "kind") => {
                        map.insert(key(name.clone()), Value::of_json(value));
                    }
                    // Of metadata rules see what names it.
                    _ if is_whole && name == "metadata" => {
                        map.insert(key(name.clone()), named(value));
                    }
                    Some(inner) => {
                        let is_whole = inner["x-kubernetes-embedded-resource"] == true;
                        map.insert(key(escaped(name)), typed(inner, value, is_whole));
                    }
                    None if others.is_object() => {
                        map.insert(key(name.clone()), typed(others, value, false));
                    }
                    None => {}
                }
            }
            Value::Map(Arc::new(map))
        }
        other => Value::of_json(other),
    }
}

fn named(metadata: &Json) -> Value {
    let name = |field: &str| {
        let value = metadata[field].as_str()?;
        Some((Key::String(field.into()), Value::text(value)))
    };
    Value::Map(Arc::new(["name", "generateName"].iter().filter_map(|field| name(field)).collect()))
}

fn of_format(schema: &Json, text: &str) -> Value {
    use base64::Engine as _;
    let plain = || Value::text(text);
    match schema["format"].as_str() {
        Some("date-time") => text.parse().map_or_else(|_| plain(), Value::Timestamp),
        Some("date") => {
            let day = format!("{text}T00:00:00Z").parse();
            day.map_or_else(|_| plain(), Value::Timestamp)
        }
        Some("duration") => call::span(text).map_or_else(plain, Value::Duration),
        Some("byte") => {
            let bytes = base64::prelude::BASE64_STANDARD.decode(text);
            bytes.map_or_else(|_| plain(), |bytes| Value::Bytes(bytes.into()))
        }
        _ => plain(),
    }
}

/// A field's name as expressions write it.
fn escaped(name: &str) -> String {
    if ESCAPED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn broken(schema: &Json, object: &Json, old: Option<&Json>) -> Vec<String> {
        check_object(schema, object, old).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn objects_that_break_rules_are_told_in_upstreams_words() {
        let schema = json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "x-kubernetes-validations": [
                {"rule": "self.minReplicas <= self.replicas", "message": "replicas must not be fewer"},
                {"rule": "self.replicas <= 10"},
                {"rule": "!has(self.x__dash__y) || self.x__dash__y > 1.0", "fieldPath": ".x-y",
                    "reason": "FieldValueForbidden", "messageExpression": "'it is ' + string(self.x__dash__y)"},
            ],
            "properties": {
                "minReplicas": {"type": "integer"}, "replicas": {"type": "integer"},
                "x-y": {"type": "number"},
                "at": {"type": "string", "format": "date-time",
                    "x-kubernetes-validations": [{"rule": "self.getFullYear() > 2000"}]},
            },
        }}});
        let object = |spec: Json| json!({"kind": "K", "metadata": {"name": "n"}, "spec": spec});
        let good = object(
            json!({"minReplicas": 1, "replicas": 2, "x-y": 2, "at": "2026-01-01T00:00:00Z"}),
        );
        assert_eq!(broken(&schema, &good, None), [""; 0]);
        let bad = object(
            json!({"minReplicas": 30, "replicas": 20, "x-y": 1, "at": "1999-01-01T00:00:00Z"}),
        );
        let expected = [
            "spec: Invalid value: \"object\": replicas must not be fewer",
            "spec: Invalid value: \"object\": failed rule: self.replicas <= 10",
            "spec.x-y: Forbidden: it is 1",
            "spec.at: Invalid value: \"string\": failed rule: self.getFullYear() > 2000",
        ];
        assert_eq!(broken(&schema, &bad, None), expected);
        let absent = broken(&schema, &object(json!({"replicas": 1})), None);
        assert!(absent[0].contains("no such key: minReplicas"), "{absent:?}");
    }

    #[test]
    fn rules_about_changes_see_what_was() {
        let schema = json!({"type": "object", "properties": {
            "fixed": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "fixed is immutable"}]},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                "items": {"type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}},
            "once": {"type": "string", "x-kubernetes-validations": [
                {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": true}]},
        }});
        let old = json!({"fixed": "a", "list": [{"n": "x", "v": 2}, {"n": "y", "v": 1}]});
        let new = json!({"fixed": "b", "list": [{"n": "y", "v": 1}, {"n": "x", "v": 1}], "once": "second"});
        let expected = [
            "fixed: Invalid value: \"string\": fixed is immutable",
            "list[1]: Invalid value: \"object\": failed rule: self.v >= oldSelf.v",
            "once: Invalid value: \"string\": failed rule: oldSelf.hasValue() || self == 'first'",
        ];
        assert_eq!(broken(&schema, &new, Some(&old)), expected);
        assert_eq!(broken(&schema, &old, None), [""; 0]);
    }

    #[test]
    fn rules_that_are_none_are_refused_when_they_are_defined() {
        let definition = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"properties": {"a": {
        "x-kubernetes-validations": [
            {"rule": "self.nosuch("}, {"rule": ""}, {"rule": "true", "reason": "Because"},
            {"rule": "self.nosuch()"}, {"rule": "true", "fieldPath": "x"}, {"rule": "true", "more": 1},
        ]}}}}}]}});
        let found: Vec<String> =
            check_definition(&definition).iter().map(|one| one.to_string()).collect();
        let place =
            "spec.versions[0].schema.openAPIV3Schema.properties[a].x-kubernetes-validations";
        assert_eq!(found.len(), 6, "{found:?}");
        assert!(found[0].starts_with(&format!("{place}[0].rule: Invalid value: ")), "{found:?}");
        assert!(found[3].contains("undeclared reference to 'nosuch'"), "{found:?}");
    }
}

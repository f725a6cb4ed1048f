//! What a schema may be: structural, so that every field has one place where its type is said
//! (apiextensions-apiserver, `schema.ValidateStructural`), and without what this server cannot do.

use serde_json::{Map, Value, json};

use crate::decode::Unknown;
use crate::validate::{Findings, Problem};

/// How deep a schema may go.
const DEPTH_MAX: usize = 64;

/// Keywords of upstream's `JSONSchemaProps`: others are unknown fields of a definition.
const KEYWORDS: &[&str] = &[
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "definitions",
    "dependencies",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "id",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "patternProperties",
    "properties",
    "required",
    "title",
    "type",
    "uniqueItems",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Keywords that no schema may have.
const NEVER: &[(&str, &str)] = &[
    ("$ref", "$ref is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("id", "id is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("additionalItems", "additionalItems is not supported"),
];

/// Keywords that may not stand below `allOf`, `anyOf`, `oneOf` and `not`, which add to what is said
/// of a value and do not say what it is.
const NOT_INSIDE: &[&str] = &[
    "additionalProperties",
    "default",
    "description",
    "nullable",
    "title",
    "type",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Finds what is wrong with the schema of whole objects.
pub(super) fn check(found: &mut Findings, path: &str, schema: &Value) {
    match schema["type"].as_str() {
        None | Some("") => {
            let words = "must not be empty at the root".to_owned();
            found.add(format!("{path}.type"), Problem::Required(words));
        }
        Some("object") => {}
        Some(_) => {
            found.invalid(format!("{path}.type"), &schema["type"], "must be object at the root");
        }
    }
    if schema["nullable"] == true {
        found.forbid(format!("{path}.nullable"), "nullable cannot be true at the root");
    }
    check_metadata(found, path, schema);
    level(found, path, schema, &Place { is_root: true, of: "", depth: 0 });
}

/// Of metadata nothing can be said but what names may be.
fn check_metadata(found: &mut Findings, path: &str, schema: &Value) {
    let metadata = &schema["properties"]["metadata"];
    let only = ["type", "properties", "description"];
    let keywords = metadata.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let properties = metadata["properties"].as_object().into_iter().flatten();
    let mut names = properties.map(|(name, _)| name.as_str());
    let mut keywords = keywords.filter(|key| !only.contains(key));
    if keywords.next().is_some() || names.any(|name| name != "name" && name != "generateName") {
        let why = "must not specify anything other than name and generateName, but metadata is \
                   implicitly specified";
        found.forbid(format!("{path}.properties[metadata]"), why);
    }
}

/// Where a schema stands.
struct Place {
    is_root: bool,
    /// What it describes, in upstream's words.
    of: &'static str,
    depth: usize,
}

fn level(found: &mut Findings, path: &str, schema: &Value, place: &Place) {
    if place.depth > DEPTH_MAX {
        found.forbid(path, "the schema is nested too deeply");
        return;
    }
    if !schema.is_object() {
        found.invalid(path, schema, "must be a schema");
        return;
    }
    keywords(found, path, schema);
    kind(found, path, schema, place);
    extensions(found, path, schema);
    let below = |of| Place { is_root: false, of, depth: place.depth + 1 };
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        // What is said of metadata is checked at the root.
        if place.is_root && name == "metadata" {
            continue;
        }
        let path = format!("{path}.properties[{name}]");
        level(found, &path, inner, &below("must not be empty for specified object fields"));
    }
    let others = &schema["additionalProperties"];
    if others.is_object() {
        let path = format!("{path}.additionalProperties");
        level(found, &path, others, &below("must not be empty for specified object fields"));
    }
    if !schema["items"].is_null() {
        let path = format!("{path}.items");
        level(
            found,
            &path,
            &schema["items"],
            &below("must not be empty for specified array items"),
        );
    }
    for (path, inner) in logical(path, schema) {
        nested(found, &path, inner, schema, place.depth + 1);
    }
}

/// What stands below `allOf`, `anyOf`, `oneOf` and `not`, with where it stands.
fn logical<'a>(path: &str, schema: &'a Value) -> Vec<(String, &'a Value)> {
    let mut all = Vec::new();
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let inner = schema[keyword].as_array().into_iter().flatten().enumerate();
        all.extend(inner.map(|(number, inner)| (format!("{path}.{keyword}[{number}]"), inner)));
    }
    if !schema["not"].is_null() {
        all.push((format!("{path}.not"), &schema["not"]));
    }
    all
}

fn keywords(found: &mut Findings, path: &str, schema: &Value) {
    for (keyword, why) in NEVER {
        if !schema[keyword].is_null() {
            found.forbid(format!("{path}.{keyword}"), why);
        }
    }
    if schema["uniqueItems"] == true {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        found.forbid(format!("{path}.uniqueItems"), why);
    }
    let others = &schema["additionalProperties"];
    let has_properties = schema["properties"].as_object().is_some_and(|all| !all.is_empty());
    if *others == false {
        let why = "additionalProperties cannot be set to false";
        found.forbid(format!("{path}.additionalProperties"), why);
    } else if !others.is_null() && has_properties {
        let why = "additionalProperties and properties are mutual exclusive";
        found.forbid(format!("{path}.additionalProperties"), why);
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        if let Err(why) = super::validate::pattern(pattern) {
            let why = format!("must be a valid regular expression, but isn't: {why}");
            found.invalid(format!("{path}.pattern"), &schema["pattern"], why);
        }
    }
}

fn kind(found: &mut Findings, path: &str, schema: &Value, place: &Place) {
    let is_free = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let is_either = schema["x-kubernetes-int-or-string"] == true;
    match schema["type"].as_str() {
        None | Some("") if is_free || is_either || place.is_root => {}
        None | Some("") => {
            found.add(format!("{path}.type"), Problem::Required(place.of.to_owned()));
        }
        Some(_) if is_either => {
            let why = "must be empty if x-kubernetes-int-or-string is true";
            found.invalid(format!("{path}.type"), &schema["type"], why);
        }
        Some(known) if TYPES.contains(&known) => {}
        Some(_) => {
            let problem = Problem::unsupported(&schema["type"], TYPES);
            found.add(format!("{path}.type"), problem);
        }
    }
    if schema["type"] == "array" && schema["items"].is_null() {
        let words = "must be specified".to_owned();
        found.add(format!("{path}.items"), Problem::Required(words));
    }
}

fn extensions(found: &mut Findings, path: &str, schema: &Value) {
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let why = "must be true or undefined";
        let field = format!("{path}.x-kubernetes-preserve-unknown-fields");
        found.invalid(field, &json!(false), why);
    }
    if schema["x-kubernetes-embedded-resource"] == true {
        if schema["type"] != "object" {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            found.invalid(format!("{path}.type"), &schema["type"], why);
        }
        let is_free = schema["x-kubernetes-preserve-unknown-fields"] == true;
        if !is_free && schema["properties"].as_object().is_none_or(Map::is_empty) {
            let words = "must not be empty if x-kubernetes-embedded-resource is true without \
                         x-kubernetes-preserve-unknown-fields";
            found.add(format!("{path}.properties"), Problem::Required(words.to_owned()));
        }
    }
    let map = &schema["x-kubernetes-map-type"];
    if !map.is_null() && *map != "granular" && *map != "atomic" {
        let problem = Problem::unsupported(map, &["atomic", "granular"]);
        found.add(format!("{path}.x-kubernetes-map-type"), problem);
    }
    list(found, path, schema);
}

fn list(found: &mut Findings, path: &str, schema: &Value) {
    let (kind, keys) = (&schema["x-kubernetes-list-type"], &schema["x-kubernetes-list-map-keys"]);
    if kind.is_null() && keys.is_null() {
        return;
    }
    if schema["type"] != "array" {
        let why = "must be array if x-kubernetes-list-type is specified";
        found.invalid(format!("{path}.type"), &schema["type"], why);
    }
    let (field, items) = (format!("{path}.x-kubernetes-list-map-keys"), &schema["items"]);
    match kind.as_str() {
        Some("atomic" | "set") if keys.is_null() => {}
        Some("atomic" | "set") | None => {
            found.invalid(field, keys, "must be empty if x-kubernetes-list-type is not map");
        }
        Some("map") => {
            let all: Vec<&str> =
                keys.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if all.is_empty() {
                let words = "must not be empty if x-kubernetes-list-type is map".to_owned();
                found.add(&*field, Problem::Required(words));
            }
            if items["type"] != "object" {
                let why = "must be object if parent array's x-kubernetes-list-type is map";
                found.invalid(format!("{path}.items.type"), &items["type"], why);
            }
            for key in all {
                map_key(found, path, items, key);
            }
        }
        Some(_) => {
            let problem = Problem::unsupported(kind, &["atomic", "map", "set"]);
            found.add(format!("{path}.x-kubernetes-list-type"), problem);
        }
    }
}

fn map_key(found: &mut Findings, path: &str, items: &Value, key: &str) {
    let own = &items["properties"][key];
    let place = format!("{path}.items.properties[{key}]");
    if own.is_null() {
        let why = "entries must all be names of item properties";
        let field = format!("{path}.x-kubernetes-list-map-keys");
        found.invalid(field, &key.into(), why);
        return;
    }
    if matches!(own["type"].as_str(), Some("object" | "array")) {
        let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
        found.invalid(format!("{place}.type"), &own["type"], why);
    }
    let is_required =
        items["required"].as_array().is_some_and(|all| all.iter().any(|name| name == key));
    if !is_required && own.get("default").is_none() {
        let words = "this property is in x-kubernetes-list-map-keys, so it must have a default or \
                     be a required property";
        found.add(format!("{place}.default"), Problem::Required(words.to_owned()));
    }
}

/// A schema below a logical keyword: it may say more of the fields that its neighbour has.
fn nested(found: &mut Findings, path: &str, schema: &Value, beside: &Value, depth: usize) {
    if depth > DEPTH_MAX {
        found.forbid(path, "the schema is nested too deeply");
        return;
    }
    keywords(found, path, schema);
    let is_either = beside["x-kubernetes-int-or-string"] == true;
    for keyword in NOT_INSIDE {
        let is_pattern = *keyword == "type" && is_either;
        if !schema[keyword].is_null() && !is_pattern {
            found.forbid(format!("{path}.{keyword}"), "must be empty to be structural");
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let own = &beside["properties"][name];
        let place = format!("{path}.properties[{name}]");
        if own.is_null() && beside["additionalProperties"].is_null() {
            let words = format!("because it is defined in {place}");
            let field = format!("{}.properties[{name}]", outside(path));
            found.add(field, Problem::Required(words));
            continue;
        }
        let own = if own.is_null() { &beside["additionalProperties"] } else { own };
        nested(found, &place, inner, own, depth + 1);
    }
    if !schema["items"].is_null() {
        nested(found, &format!("{path}.items"), &schema["items"], &beside["items"], depth + 1);
    }
    for (path, inner) in logical(path, schema) {
        nested(found, &path, inner, beside, depth + 1);
    }
}

/// The path without its logical keywords.
fn outside(path: &str) -> String {
    let is_logical = |part: &str| {
        part == "not" || ["allOf[", "anyOf[", "oneOf["].iter().any(|word| part.starts_with(word))
    };
    path.split('.').filter(|part| !is_logical(part)).collect::<Vec<_>>().join(".")
}

/// Removes keywords that no schema has from a definition's schemas, and returns them.
#[must_use]
pub fn forget_unknown(definition: &mut Map<String, Value>) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    let versions = definition.get_mut("spec").and_then(|spec| spec.get_mut("versions"));
    let versions = versions.and_then(Value::as_array_mut).into_iter().flatten();
    for (number, version) in versions.enumerate() {
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            let path = format!("spec.versions[{number}].schema.openAPIV3Schema");
            forget(schema, &path, &mut unknown, 0);
        }
    }
    unknown
}

fn forget(schema: &mut Value, path: &str, unknown: &mut Vec<Unknown>, depth: usize) {
    let Some(fields) = schema.as_object_mut().filter(|_| depth <= DEPTH_MAX) else { return };
    fields.retain(|name, value| {
        let is_known = KEYWORDS.contains(&name.as_str());
        if !is_known {
            unknown.push(Unknown { path: format!("{path}.{name}"), meant: None });
        }
        is_known && !value.is_null()
    });
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match (name.as_str(), value) {
            ("properties", Value::Object(inner)) => {
                for (name, schema) in inner {
                    forget(schema, &format!("{path}.{name}"), unknown, depth + 1);
                }
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(inner)) => {
                for (number, schema) in inner.iter_mut().enumerate() {
                    forget(schema, &format!("{path}[{number}]"), unknown, depth + 1);
                }
            }
            ("items" | "additionalProperties" | "not", inner) => {
                forget(inner, &path, unknown, depth + 1);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(schema: &Value) -> Vec<String> {
        let mut found = Findings::default();
        check(&mut found, "s", schema);
        found.0.iter().map(ToString::to_string).collect()
    }

    fn field(schema: &Value) -> Vec<String> {
        wrong(&json!({"type": "object", "properties": {"a": schema}}))
    }

    #[test]
    fn structural_schemas_pass() {
        let none: [&str; 0] = [];
        assert_eq!(wrong(&json!({"type": "object"})), none);
        for schema in [
            json!({"type": "string", "pattern": "^a$"}),
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!({"x-kubernetes-preserve-unknown-fields": true}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"b": {"type": "string"}, "c": {"type": "string"}},
                "oneOf": [{"required": ["b"]}, {"properties": {"c": {"enum": ["x"]}}}]}),
            json!({"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["n"],
                "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}}}}),
        ] {
            assert_eq!(field(&schema), none, "{schema}");
        }
    }

    #[test]
    fn others_are_refused_with_place_and_reason() {
        for (schema, expected) in [
            (
                json!({}),
                "s.properties[a].type: Required value: must not be empty for specified object fields",
            ),
            (json!({"type": "array"}), "s.properties[a].items: Required value: must be specified"),
            (
                json!({"type": "string", "$ref": "x"}),
                "s.properties[a].$ref: Forbidden: $ref is not supported",
            ),
            (
                json!({"type": "object", "additionalProperties": false}),
                "s.properties[a].additionalProperties: Forbidden: additionalProperties cannot be set to false",
            ),
            (
                json!({"type": "object", "anyOf": [{"properties": {"b": {}}}]}),
                "s.properties[a].properties[b]: Required value: because it is defined in \
                 s.properties[a].anyOf[0].properties[b]",
            ),
            (
                json!({"type": "object", "allOf": [{"type": "object"}]}),
                "s.properties[a].allOf[0].type: Forbidden: must be empty to be structural",
            ),
        ] {
            assert_eq!(field(&schema), [expected]);
        }
        let inside =
            json!({"type": "string", "anyOf": [{"x-kubernetes-validations": [{"rule": "true"}]}]});
        assert_eq!(field(&inside).len(), 1);
        let keys = json!({"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["n", "m"],
            "items": {"type": "object", "properties": {"n": {"type": "string"}}}});
        assert_eq!(field(&keys).len(), 2);
        assert_eq!(
            wrong(&json!({"type": "string"})),
            ["s.type: Invalid value: \"string\": must be object at the root"]
        );
    }

    #[test]
    fn unknown_keywords_are_told() {
        let Value::Object(mut definition) = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "type": "object", "propertys": {}, "properties": {"a": {"type": "string", "lenght": 1}},
        }}}]}}) else {
            panic!()
        };
        let unknown = forget_unknown(&mut definition);
        let paths: Vec<&str> = unknown.iter().map(|one| one.path.as_str()).collect();
        let root = "spec.versions[0].schema.openAPIV3Schema";
        assert_eq!(paths, [format!("{root}.propertys"), format!("{root}.properties.a.lenght")]);
    }
}

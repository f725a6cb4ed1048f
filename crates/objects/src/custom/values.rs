//! What becomes of values by their schema: unknown fields go, absent ones come.

use serde_json::{Map, Value};

use crate::decode::Unknown;

/// Fields of every object, which its schema need not name.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Unknown fields that are told; the rest goes in silence.
const UNKNOWN_MAX: usize = 100;

/// Removes unknown fields.
pub(super) fn prune(schema: &Value, object: &mut Map<String, Value>) -> Vec<Unknown> {
    let mut pruner = Pruner { path: String::new(), unknown: Vec::new() };
    pruner.fields(schema, object, true);
    pruner.unknown
}

struct Pruner {
    path: String,
    unknown: Vec<Unknown>,
}

impl Pruner {
    fn fields(&mut self, schema: &Value, object: &mut Map<String, Value>, is_whole: bool) {
        let properties = schema["properties"].as_object();
        let others = &schema["additionalProperties"];
        let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true || *others == true;
        let length = self.path.len();
        object.retain(|name, value| {
            if is_whole && OF_EVERY_OBJECT.contains(&name.as_str()) {
                return true;
            }
            let dot = if length == 0 { "" } else { "." };
            self.path.push_str(&format!("{dot}{name}"));
            let known = properties.and_then(|all| all.get(name));
            let known = known.or_else(|| others.is_object().then_some(others));
            match known {
                Some(inner) => self.value(inner, value),
                None if keeps => {}
                None if self.unknown.len() < UNKNOWN_MAX => {
                    self.unknown.push(Unknown { path: self.path.clone(), meant: None });
                }
                None => {}
            }
            self.path.truncate(length);
            known.is_some() || keeps
        });
    }

    fn value(&mut self, schema: &Value, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let is_whole = schema["x-kubernetes-embedded-resource"] == true;
                self.fields(schema, fields, is_whole);
            }
            Value::Array(items) if schema["items"].is_object() => {
                let length = self.path.len();
                for (place, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{place}]"));
                    self.value(&schema["items"], item);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }
}

/// Sets defaults.
pub(super) fn complete(schema: &Value, object: &mut Map<String, Value>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let may_be_null = inner["nullable"] == true;
        let is_absent = match object.get(name) {
            None => true,
            Some(value) => value.is_null() && !may_be_null,
        };
        match inner.get("default") {
            Some(default) if is_absent => {
                object.insert(name.clone(), default.clone());
            }
            None if is_absent => {
                object.shift_remove(name);
            }
            _ => {}
        }
        if let Some(value) = object.get_mut(name) {
            complete_value(inner, value);
        }
    }
    let others = &schema["additionalProperties"];
    if others.is_object() {
        for value in object.values_mut() {
            complete_item(others, value);
        }
    }
}

fn complete_value(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => complete(schema, fields),
        Value::Array(items) => {
            items.iter_mut().for_each(|item| complete_item(&schema["items"], item));
        }
        _ => {}
    }
}

fn complete_item(schema: &Value, value: &mut Value) {
    if let (true, false, Some(default)) =
        (value.is_null(), schema["nullable"] == true, schema.get("default"))
    {
        *value = default.clone();
    }
    complete_value(schema, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("an object") };
        fields
    }

    #[test]
    fn what_is_unknown_goes_unless_it_may_stay() {
        let schema = json!({"type": "object", "properties": {
            "known": {"type": "object", "properties": {"a": {"type": "string"}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"b": {"type": "object", "properties": {}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {}}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"d": {}}}},
            "whole": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {}},
        }});
        let mut object = fields(json!({
            "apiVersion": "x", "kind": "y", "metadata": {"name": "z"},
            "known": {"a": 1, "x": 1}, "free": {"b": {"x": 1}, "y": {"z": 1}},
            "map": {"k": {"c": 1, "x": 1}}, "list": [{"d": 1, "x": 1}],
            "whole": {"kind": "a", "metadata": {}, "x": 1}, "more": 1,
        }));
        let unknown = prune(&schema, &mut object);
        let expected = json!({
            "apiVersion": "x", "kind": "y", "metadata": {"name": "z"},
            "known": {"a": 1}, "free": {"b": {}, "y": {"z": 1}},
            "map": {"k": {"c": 1}}, "list": [{"d": 1}], "whole": {"kind": "a", "metadata": {}},
        });
        assert_eq!(Value::Object(object), expected);
        let paths: Vec<&str> = unknown.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["known.x", "free.b.x", "map.k.x", "list[0].x", "whole.x", "more"]);
    }

    #[test]
    fn absent_fields_get_defaults_inside_of_those_that_are_there() {
        let schema = json!({"properties": {
            "a": {"default": {"b": null}, "properties": {"b": {"default": 1}}},
            "n": {"nullable": true, "default": 2},
            "plain": {"properties": {"d": {"default": 3}}},
            "list": {"items": {"properties": {"e": {"default": 4}}}},
            "gone": {"type": "string"},
        }});
        let mut object = fields(json!({"n": null, "list": [{}], "gone": null}));
        complete(&schema, &mut object);
        let expected = json!({"n": null, "list": [{"e": 4}], "a": {"b": 1}});
        assert_eq!(Value::Object(object), expected);
    }
}

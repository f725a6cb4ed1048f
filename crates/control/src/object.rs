//! Reading objects, which are JSON.

use jiff::Timestamp;
use objects::Selector;
use serde_json::{Map, Value, json};

pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub(crate) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// Whether somebody has asked for its end.
pub(crate) fn is_ending(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"][key].as_str()
}

pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

pub(crate) fn created(object: &Value) -> Option<Timestamp> {
    time(&object["metadata"]["creationTimestamp"])
}

/// A time (RFC 3339).
pub(crate) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// A time as objects have it: whole seconds.
pub(crate) fn stamp(time: Timestamp) -> String {
    objects::time::seconds(time.as_second())
}

/// A number at a JSON pointer, or another one if there is none.
pub(crate) fn number(object: &Value, pointer: &str, otherwise: i64) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(otherwise)
}

/// The objects of a list; none if it is none.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    items(&object["metadata"]["finalizers"]).iter().any(|own| own == finalizer)
}

/// Whether a selector (`metav1.LabelSelector`) selects an object's labels. None at all, and one that
/// cannot be read, select nothing.
pub(crate) fn selects(selector: &Value, object: &Value) -> bool {
    let selector = (!selector.is_null()).then(|| Selector::from_json(selector));
    selector.is_some_and(|selector| selector.is_ok_and(|own| own.matches_object(object)))
}

/// The selector of an owner, in the form that most have it; the oldest kinds have labels alone.
pub(crate) fn selector(owner: &Value) -> Value {
    let own = &owner["spec"]["selector"];
    match owner["kind"].as_str() {
        Some("ReplicationController" | "Service") if !own.is_null() => json!({"matchLabels": own}),
        _ => own.clone(),
    }
}

/// The owner that controls an object.
pub(crate) fn controller(object: &Value) -> Option<&Value> {
    items(&object["metadata"]["ownerReferences"]).iter().find(|owner| owner["controller"] == true)
}

/// What a controlled object says of its owner.
pub(crate) fn owner_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name(owner),
        "uid": uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// A condition of a status, by its type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(&object["status"]["conditions"]).iter().find(|own| own["type"] == kind)
}

pub(crate) fn is_true(object: &Value, condition_kind: &str) -> bool {
    condition(object, condition_kind).is_some_and(|own| own["status"] == "True")
}

/// Sets a condition in a list of conditions; its times change only with what they tell of.
pub(crate) fn set_condition(
    conditions: &mut Vec<Value>,
    kind: &str,
    status: &str,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    let known = conditions.iter_mut().find(|own| own["type"] == kind);
    let moved = match &known {
        Some(own) if own["status"] == status => own["lastTransitionTime"].clone(),
        _ => stamp(now).into(),
    };
    let new = json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": moved,
    });
    match known {
        Some(own) => *own = new,
        None => conditions.push(new),
    }
}

/// A number or a share of a whole (`intstr.IntOrString`), shares rounded up or down.
pub(crate) fn scaled(value: &Value, whole: i64, is_up: bool, otherwise: i64) -> i64 {
    match value {
        Value::Number(number) => number.as_i64().unwrap_or(otherwise),
        Value::String(text) => {
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok());
            let Some(percent) = percent else { return text.parse().unwrap_or(otherwise) };
            let all = percent.saturating_mul(whole);
            if is_up { (all + 99).div_euclid(100) } else { all.div_euclid(100) }
        }
        _ => otherwise,
    }
}

/// An object without entries that are null.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let full: Map<String, Value> = map.into_iter().filter(|(_, v)| !v.is_null()).collect();
            Value::Object(full)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded() {
        assert_eq!(scaled(&json!("25%"), 10, true, 0), 3);
        assert_eq!(scaled(&json!("25%"), 10, false, 0), 2);
        assert_eq!(scaled(&json!(4), 10, false, 0), 4);
        assert_eq!(scaled(&Value::Null, 10, false, 7), 7);
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut conditions = Vec::new();
        set_condition(&mut conditions, "Available", "False", ("A", "a"), at(1));
        set_condition(&mut conditions, "Available", "False", ("B", "b"), at(2));
        assert_eq!(conditions[0]["lastTransitionTime"], "1970-01-01T00:00:01Z");
        assert_eq!(conditions[0]["reason"], "B");
        set_condition(&mut conditions, "Available", "True", ("C", "c"), at(3));
        assert_eq!(conditions[0]["lastTransitionTime"], "1970-01-01T00:00:03Z");
        assert_eq!(conditions.len(), 1);
    }
}

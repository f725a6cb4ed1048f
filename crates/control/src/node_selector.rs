//! Which nodes a pod may be on, by what they are called and labelled (`core/v1` `NodeSelector`).

use serde_json::Value;

use crate::object::{items, label, name};

/// Whether a node has the labels of a pod's `nodeSelector` and meets its required affinity.
pub(crate) fn admits(spec: &Value, node: &Value) -> bool {
    let labels = spec["nodeSelector"].as_object().into_iter().flatten();
    let has_all = labels.into_iter().all(|(key, value)| label(node, key) == value.as_str());
    let affinity = &spec["affinity"]["nodeAffinity"];
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    has_all && (required.is_null() || meets(required, node))
}

/// Whether a node meets one of a selector's terms.
pub(crate) fn meets(selector: &Value, node: &Value) -> bool {
    items(&selector["nodeSelectorTerms"]).iter().any(|term| {
        let expressions = items(&term["matchExpressions"]);
        let fields = items(&term["matchFields"]);
        // A term without conditions selects nothing.
        (!expressions.is_empty() || !fields.is_empty())
            && expressions.iter().all(|own| {
                let key = own["key"].as_str().unwrap_or_default();
                holds(own, label(node, key))
            })
            && fields
                .iter()
                .all(|own| own["key"] == "metadata.name" && holds(own, Some(name(node))))
    })
}

fn holds(expression: &Value, found: Option<&str>) -> bool {
    let values = items(&expression["values"]);
    let is_one = |found: &str| values.iter().any(|value| value == found);
    let number = |text: &str| text.parse::<i64>().ok();
    let limit = || values.first().and_then(Value::as_str).and_then(number);
    match expression["operator"].as_str() {
        Some("In") => found.is_some_and(is_one),
        Some("NotIn") => !found.is_some_and(is_one),
        Some("Exists") => found.is_some(),
        Some("DoesNotExist") => found.is_none(),
        Some("Gt") => found.and_then(number).zip(limit()).is_some_and(|(own, limit)| own > limit),
        Some("Lt") => found.and_then(number).zip(limit()).is_some_and(|(own, limit)| own < limit),
        _ => false,
    }
}

/// Whether a pod tolerates a taint of a node.
pub(crate) fn tolerates(tolerations: &[Value], taint: &Value) -> bool {
    tolerations.iter().any(|own| tolerates_by(own, taint))
}

/// Whether it does so by this toleration.
pub(crate) fn tolerates_by(toleration: &Value, taint: &Value) -> bool {
    let word = |of: &Value, field: &str| of[field].as_str().unwrap_or_default().to_owned();
    let (effect, key) = (word(toleration, "effect"), word(toleration, "key"));
    if !effect.is_empty() && effect != word(taint, "effect") {
        return false;
    }
    if !key.is_empty() && key != word(taint, "key") {
        return false;
    }
    match toleration["operator"].as_str().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" => !key.is_empty() && word(toleration, "value") == word(taint, "value"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn terms_are_alternatives_and_their_conditions_are_not() {
        let node = json!({"metadata": {"name": "n", "labels": {"zone": "a", "cores": "8"}}});
        let meets_all = |expressions: Value| {
            meets(&json!({"nodeSelectorTerms": [{"matchExpressions": expressions}]}), &node)
        };
        let of = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
        assert!(meets_all(json!([of("zone", "In", &["a", "b"]), of("cores", "Gt", &["4"])])));
        assert!(!meets_all(json!([of("zone", "In", &["a"]), of("cores", "Lt", &["8"])])));
        assert!(meets_all(json!([of("other", "NotIn", &["a"])])));
        assert!(meets_all(json!([of("other", "DoesNotExist", &[])])));
        assert!(!meets_all(json!([])));
        let field =
            json!({"nodeSelectorTerms": [{"matchFields": [of("metadata.name", "In", &["n"])]}]});
        assert!(meets(&field, &node));
    }

    #[test]
    fn tolerations_are_as_wide_as_they_say() {
        let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        let tolerates = |toleration: Value| tolerates_by(&toleration, &taint);
        assert!(tolerates(json!({"operator": "Exists"})));
        assert!(tolerates(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})));
        assert!(tolerates(json!({"key": "k", "value": "v"})));
        assert!(!tolerates(json!({"key": "k", "value": "w"})));
        assert!(!tolerates(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})));
    }
}

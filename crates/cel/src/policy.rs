//! Policies of admission (`ValidatingAdmissionPolicy`): which requests they are about, and what their
//! expressions say of those.

use std::collections::BTreeMap;
use std::sync::Arc;

use objects::Selector;
use objects::validate::{Invalid, Problem};
use serde_json::{Value as Json, json};

use crate::eval::EvalError;
use crate::rules::{compiled, items};
use crate::value::{Key, Value};

/// What all expressions of a policy may cost for one request (apiserver, `RuntimeCELCostBudget`).
const COST_MAX: u64 = 10_000_000;

/// A request that would change something.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    /// The resource's group, version, plural name and kind.
    pub resource: (&'a str, &'a str, &'a str, &'a str),
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for what is in none.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// As it shall be; null if it shall go.
    pub object: &'a Json,
    /// As it is; null if it is not.
    pub old: &'a Json,
    /// The namespace itself, for objects that are in one.
    pub namespace_object: Option<&'a Json>,
    /// Who asks: `username`, `groups`, …
    pub user: &'a Json,
    /// Whether nothing is to be changed.
    pub is_dry_run: bool,
}

/// What a policy says of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it says no, if it does.
    pub denials: Vec<Denial>,
    /// What auditors are told: keys, and what stands there.
    pub annotations: Vec<(String, String)>,
}

/// Why a policy says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Which of its validations it was, from 0.
    pub number: usize,
    /// In words.
    pub message: String,
    /// `Invalid`, `Forbidden`, …: what the status says.
    pub reason: String,
}

/// What is wrong with a policy: expressions that are none, and what is not evaluated here.
#[must_use]
pub fn check_policy(policy: &Json) -> Vec<Invalid> {
    let spec = &policy["spec"];
    let mut found = Vec::new();
    let mut check = |field: String, expression: &Json| {
        let Some(text) = expression.as_str() else { return };
        let why = match compiled(text.trim()) {
            Err(why) => format!("compilation failed: ERROR: {why}"),
            Ok(program) if program.uses("authorizer") => {
                "authorizer is not known to this server's expressions yet".to_owned()
            }
            Ok(_) => return,
        };
        found.push(Invalid { field, problem: Problem::Value(expression.to_string(), why) });
    };
    for (list, fields) in [
        ("validations", &["expression", "messageExpression"][..]),
        ("matchConditions", &["expression"]),
        ("variables", &["expression"]),
        ("auditAnnotations", &["valueExpression"]),
    ] {
        for (number, one) in items(&spec[list]).iter().enumerate() {
            for field in fields {
                check(format!("spec.{list}[{number}].{field}"), &one[*field]);
            }
        }
    }
    found
}

/// What is wrong with `matchConditions` below a field.
#[must_use]
pub fn check_conditions(place: &str, conditions: &Json) -> Vec<Invalid> {
    let inner = check_policy(&json!({"spec": {"matchConditions": conditions}}));
    let moved = |invalid: Invalid| Invalid {
        field: invalid.field.replacen("spec.", &format!("{place}."), 1),
        ..invalid
    };
    inner.into_iter().map(moved).collect()
}

/// Whether an attempt meets all conditions (`matchConditions`). One that it does not meet decides,
/// even if others cannot be evaluated.
///
/// # Errors
/// Why one cannot be evaluated.
pub fn meets(conditions: &Json, attempt: &Attempt<'_>) -> Result<bool, String> {
    if items(conditions).is_empty() {
        return Ok(true);
    }
    let mut budget = COST_MAX;
    meets_all(conditions, &names(None, attempt), &mut budget)
}

fn meets_all(
    conditions: &Json,
    names: &[(&'static str, Value)],
    budget: &mut u64,
) -> Result<bool, String> {
    let mut failed = None;
    for condition in items(conditions) {
        let text = condition["expression"].as_str().unwrap_or_default().trim();
        match value(text, names, budget) {
            Ok(Value::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(error) => {
                failed.get_or_insert(format!("expression '{text}' resulted in error: {error}"));
            }
        }
    }
    failed.map_or(Ok(true), Err)
}

/// Whether constraints (`matchConstraints`, `matchResources`) are about an attempt. Those that are not
/// there are about everything.
#[must_use]
pub fn matches(constraints: &Json, attempt: &Attempt<'_>) -> bool {
    let is_about = |rules: &Json| items(rules).iter().any(|rule| is_about(rule, attempt));
    if is_about(&constraints["excludeResourceRules"]) {
        return false;
    }
    let rules = &constraints["resourceRules"];
    if !items(rules).is_empty() && !is_about(rules) {
        return false;
    }
    // A selector that is none selects nothing.
    let selects = |selector: &Json, object: &Json| {
        Selector::from_json(selector).is_ok_and(|selector| selector.matches_object(object))
    };
    let of_object = &constraints["objectSelector"];
    if !of_object.is_null()
        && !selects(of_object, attempt.object)
        && (attempt.old.is_null() || !selects(of_object, attempt.old))
    {
        return false;
    }
    let of_namespace = &constraints["namespaceSelector"];
    let namespace = match attempt.resource {
        ("", _, "namespaces", _) if !attempt.object.is_null() => Some(attempt.object),
        ("", _, "namespaces", _) => Some(attempt.old),
        _ => attempt.namespace_object,
    };
    of_namespace.is_null() || namespace.is_none_or(|namespace| selects(of_namespace, namespace))
}

fn is_about(rule: &Json, attempt: &Attempt<'_>) -> bool {
    let has =
        |field: &str, own: &str| items(&rule[field]).iter().any(|one| one == "*" || one == own);
    let (group, version, resource, _) = attempt.resource;
    let is_resource = items(&rule["resources"]).iter().filter_map(Json::as_str).any(|pattern| {
        let (own, part) = pattern.split_once('/').unwrap_or((pattern, ""));
        (own == "*" || own == resource) && (part == "*" || part == attempt.subresource)
    });
    let names = items(&rule["resourceNames"]);
    let is_scope = match rule["scope"].as_str() {
        Some("Namespaced") => !attempt.namespace.is_empty(),
        Some("Cluster") => attempt.namespace.is_empty(),
        _ => true,
    };
    has("apiGroups", group)
        && has("apiVersions", version)
        && has("operations", attempt.operation)
        && is_resource
        && is_scope
        && (names.is_empty() || names.iter().any(|name| name == attempt.name))
}

/// What a policy says of an attempt that it is about, with the parameters of a binding.
#[must_use]
pub fn evaluate(policy: &Json, params: Option<&Json>, attempt: &Attempt<'_>) -> Verdict {
    let spec = &policy["spec"];
    let fails = spec["failurePolicy"] != "Ignore";
    let mut names = names(params, attempt);
    let mut budget = COST_MAX;
    let mut verdict = Verdict::default();
    let invalid = |number, message| Denial { number, message, reason: "Invalid".to_owned() };
    match meets_all(&spec["matchConditions"], &names, &mut budget) {
        Ok(true) => {}
        Err(why) if fails => {
            verdict.denials.push(invalid(0, why));
            return verdict;
        }
        Ok(false) | Err(_) => return verdict,
    }
    let mut variables = BTreeMap::new();
    for variable in items(&spec["variables"]) {
        let text = variable["expression"].as_str().unwrap_or_default().trim();
        // One that cannot be computed is missing for who asks for it.
        if let (Ok(value), Some(name)) =
            (value(text, &names, &mut budget), variable["name"].as_str())
        {
            variables.insert(Key::String(name.into()), value);
            names.retain(|(name, _)| *name != "variables");
            names.push(("variables", Value::Map(Arc::new(variables.clone()))));
        }
    }
    for (number, validation) in items(&spec["validations"]).iter().enumerate() {
        let text = validation["expression"].as_str().unwrap_or_default().trim();
        match value(text, &names, &mut budget) {
            Ok(Value::Bool(true)) => {}
            Ok(_) => verdict.denials.push(Denial {
                number,
                message: message(validation, text, &names, &mut budget),
                reason: validation["reason"].as_str().unwrap_or("Invalid").to_owned(),
            }),
            Err(error) if fails => {
                let why = format!("expression '{text}' resulted in error: {error}");
                verdict.denials.push(invalid(number, why));
            }
            Err(_) => {}
        }
    }
    for annotation in items(&spec["auditAnnotations"]) {
        let text = annotation["valueExpression"].as_str().unwrap_or_default().trim();
        let key = annotation["key"].as_str().unwrap_or_default();
        match value(text, &names, &mut budget) {
            Ok(Value::String(value)) if !value.is_empty() => {
                verdict.annotations.push((key.to_owned(), value.to_string()));
            }
            Ok(_) => {}
            Err(error) if fails => {
                let why = format!("valueExpression '{text}' resulted in error: {error}");
                verdict.denials.push(invalid(0, why));
            }
            Err(_) => {}
        }
    }
    verdict
}

fn value(text: &str, names: &[(&str, Value)], budget: &mut u64) -> Result<Value, EvalError> {
    let program = compiled(text).map_err(|why| EvalError::Value(why.to_string()))?;
    program.evaluate(names, budget)
}

fn message(validation: &Json, text: &str, names: &[(&str, Value)], budget: &mut u64) -> String {
    let expression = validation["messageExpression"].as_str();
    let made = expression.and_then(|text| match value(text.trim(), names, budget) {
        Ok(Value::String(text)) if !text.trim().is_empty() => Some(text.to_string()),
        _ => None,
    });
    let fixed = || validation["message"].as_str().map(str::to_owned);
    made.or_else(fixed).unwrap_or_else(|| format!("failed expression: {text}"))
}

fn names(params: Option<&Json>, attempt: &Attempt<'_>) -> Vec<(&'static str, Value)> {
    let (group, version, resource, kind) = attempt.resource;
    let request = json!({
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": group, "version": version, "resource": resource},
        "requestKind": {"group": group, "version": version, "kind": kind},
        "requestResource": {"group": group, "version": version, "resource": resource},
        "subResource": attempt.subresource,
        "requestSubResource": attempt.subresource,
        "name": attempt.name,
        "namespace": attempt.namespace,
        "operation": attempt.operation,
        "userInfo": attempt.user,
        "dryRun": attempt.is_dry_run,
    });
    vec![
        ("object", Value::of_json(attempt.object)),
        ("oldObject", Value::of_json(attempt.old)),
        ("request", Value::of_json(&request)),
        ("params", params.map_or(Value::Null, Value::of_json)),
        ("namespaceObject", attempt.namespace_object.map_or(Value::Null, Value::of_json)),
        ("variables", Value::Map(Arc::default())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt<'a>(object: &'a Json, user: &'a Json, namespace: &'a Json) -> Attempt<'a> {
        Attempt {
            operation: "CREATE",
            resource: ("apps", "v1", "deployments", "Deployment"),
            subresource: "",
            namespace: "default",
            name: "web",
            object,
            old: &Json::Null,
            namespace_object: Some(namespace),
            user,
            is_dry_run: false,
        }
    }

    #[test]
    fn policies_are_about_what_they_say() {
        let (object, user) = (json!({"metadata": {"labels": {"a": "b"}}}), json!({}));
        let namespace = json!({"metadata": {"labels": {"env": "test"}}});
        let attempt = attempt(&object, &user, &namespace);
        let rule = |resources: &str, operations: &str| {
            json!({"apiGroups": ["apps"], "apiVersions": ["*"],
            "operations": [operations], "resources": [resources]})
        };
        for (constraints, expected) in [
            (json!(null), true),
            (json!({"resourceRules": [rule("deployments", "CREATE")]}), true),
            (json!({"resourceRules": [rule("*", "*")]}), true),
            (json!({"resourceRules": [rule("deployments/status", "*")]}), false),
            (json!({"resourceRules": [rule("deployments", "UPDATE")]}), false),
            (
                json!({"resourceRules": [rule("*", "*")], "excludeResourceRules": [rule("deployments", "*")]}),
                false,
            ),
            (json!({"namespaceSelector": {"matchLabels": {"env": "test"}}}), true),
            (json!({"namespaceSelector": {"matchLabels": {"env": "other"}}}), false),
            (json!({"objectSelector": {"matchLabels": {"a": "c"}}}), false),
        ] {
            assert_eq!(matches(&constraints, &attempt), expected, "{constraints}");
        }
    }

    #[test]
    fn what_breaks_a_policy_is_denied_with_its_words() {
        let policy = json!({"spec": {
            "variables": [{"name": "n", "expression": "object.spec.replicas"},
                {"name": "twice", "expression": "variables.n * 2"}],
            "matchConditions": [{"name": "m", "expression": "request.userInfo.username != 'root'"}],
            "validations": [
                {"expression": "object.spec.replicas <= params.max"},
                {"expression": "variables.twice < 10", "messageExpression": "'twice is ' + string(variables.twice)",
                    "reason": "Forbidden"},
                {"expression": "namespaceObject.metadata.name == 'default' && oldObject == null"},
            ],
        }});
        let params = json!({"max": 5});
        let (object, namespace) =
            (json!({"spec": {"replicas": 6}}), json!({"metadata": {"name": "default"}}));
        let user = json!({"username": "a"});
        let denials =
            evaluate(&policy, Some(&params), &attempt(&object, &user, &namespace)).denials;
        let words: Vec<(&str, &str)> =
            denials.iter().map(|one| (one.message.as_str(), one.reason.as_str())).collect();
        let expected = [
            ("failed expression: object.spec.replicas <= params.max", "Invalid"),
            ("twice is 12", "Forbidden"),
        ];
        assert_eq!(words, expected);
        let mut told = policy.clone();
        told["spec"]["auditAnnotations"] = json!([
            {"key": "a", "valueExpression": "'replicas: ' + string(object.spec.replicas)"},
            {"key": "b", "valueExpression": "null"},
        ]);
        let verdict = evaluate(&told, Some(&params), &attempt(&object, &user, &namespace));
        assert_eq!(verdict.annotations, [("a".to_owned(), "replicas: 6".to_owned())]);
        let root = json!({"username": "root"});
        let verdict = evaluate(&policy, Some(&params), &attempt(&object, &root, &namespace));
        assert_eq!(verdict, Verdict::default());
        let empty = json!({});
        let failed = evaluate(&policy, Some(&params), &attempt(&empty, &user, &namespace)).denials;
        assert!(failed[0].message.contains("no such key: spec"), "{failed:?}");
        let mut lenient = policy;
        lenient["spec"]["failurePolicy"] = "Ignore".into();
        let denials =
            evaluate(&lenient, Some(&params), &attempt(&empty, &user, &namespace)).denials;
        assert!(denials.is_empty(), "{denials:?}");
    }

    #[test]
    fn policies_that_cannot_be_evaluated_are_refused() {
        let policy = json!({"spec": {"validations": [
            {"expression": "object."}, {"expression": "authorizer == null"}, {"expression": "true"},
        ]}});
        let found: Vec<String> = check_policy(&policy).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("spec.validations[0].expression: Invalid value"), "{found:?}");
    }
}

//! Whether an object may be so: upstream's rules for what its schema cannot say, in its words.

mod meta;
mod part;
mod pod;
mod service;
mod workload;

use std::fmt;

use serde_json::Value;

/// A field that may not be as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// `spec.containers[0].name`, for example.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a field (apimachinery, `field.ErrorType`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is not there.
    Required(String),
    /// Its value, as JSON, may not be, and why.
    Value(String, String),
    /// Its value is none of those there are.
    Unsupported(String, Vec<String>),
    /// It has more characters or bytes than this.
    TooLong(u64),
    /// It has so many items, and may have only so many.
    TooMany(usize, u64),
    /// Something else has the same value.
    Duplicate(String),
    /// What it names is not there.
    NotFound(String),
    /// It may not be there.
    Forbidden(String),
}

impl Problem {
    pub(crate) fn unsupported(value: &Value, known: &[&str]) -> Self {
        let known = known.iter().map(|word| (*word).to_owned()).collect();
        Self::Unsupported(value.to_string(), known)
    }

    /// What the cause is called in a `Status`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Problem::Required(_) => "FieldValueRequired",
            Problem::Value(..) => "FieldValueInvalid",
            Problem::Unsupported(..) => "FieldValueNotSupported",
            Problem::TooLong(_) => "FieldValueTooLong",
            Problem::TooMany(..) => "FieldValueTooMany",
            Problem::Duplicate(_) => "FieldValueDuplicate",
            Problem::NotFound(_) => "FieldValueNotFound",
            Problem::Forbidden(_) => "FieldValueForbidden",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Required(detail) if detail.is_empty() => f.write_str("Required value"),
            Problem::Required(detail) => write!(f, "Required value: {detail}"),
            Problem::Value(value, why) => write!(f, "Invalid value: {value}: {why}"),
            Problem::Unsupported(value, known) => {
                let known: Vec<_> = known.iter().map(|word| format!("{word:?}")).collect();
                write!(f, "Unsupported value: {value}: supported values: {}", known.join(", "))
            }
            Problem::TooLong(most) => write!(f, "Too long: may not be more than {most} bytes"),
            Problem::TooMany(count, most) => {
                write!(f, "Too many: {count}: must have at most {most} items")
            }
            Problem::Duplicate(value) => write!(f, "Duplicate value: {value}"),
            Problem::NotFound(value) => write!(f, "Not found: {value}"),
            Problem::Forbidden(why) => write!(f, "Forbidden: {why}"),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// What an object of a kind may not be; nothing if it may.
#[must_use]
pub fn check(group: &str, kind: &str, is_namespaced: bool, object: &Value) -> Vec<Invalid> {
    let mut found = Findings::default();
    meta::check(&mut found, group, kind, is_namespaced, object);
    match (group, kind) {
        ("", "Pod") => pod::check(&mut found, "spec", &object["spec"]),
        ("", "Service") => service::check(&mut found, object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            crate::custom::check(&mut found, object);
        }
        _ => workload::check(&mut found, group, kind, object),
    }
    found.0
}

/// What of an object may not become what it would be.
#[must_use]
pub fn check_update(group: &str, kind: &str, old: &Value, new: &Value) -> Vec<Invalid> {
    let mut found = Findings::default();
    meta::check_update(&mut found, old, new);
    match (group, kind) {
        ("", "Pod") => pod::check_update(&mut found, old, new),
        ("", "Service") => service::check_update(&mut found, old, new),
        ("", "Secret" | "ConfigMap") if old["immutable"] == true => {
            for field in ["data", "binaryData", "stringData"] {
                if old[field] != new[field] {
                    found.forbid(field, "field is immutable when `immutable` is set");
                }
            }
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            crate::custom::check_update(&mut found, old, new);
        }
        _ => workload::check_update(&mut found, group, kind, old, new),
    }
    found.0
}

/// What of a part of a pod, by its subresource, may not be changed so: `ephemeralcontainers`, or
/// `resize`.
#[must_use]
pub fn check_part(subresource: &str, old: &Value, new: &Value) -> Vec<Invalid> {
    let mut found = Findings::default();
    match subresource {
        "resize" => part::resize(&mut found, old, new),
        _ => part::ephemeral(&mut found, old, new),
    }
    found.0
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings(pub(crate) Vec<Invalid>);

impl Findings {
    pub(crate) fn add(&mut self, field: impl Into<String>, problem: Problem) {
        self.0.push(Invalid { field: field.into(), problem });
    }

    pub(crate) fn require(&mut self, field: impl Into<String>) {
        self.add(field, Problem::Required(String::new()));
    }

    pub(crate) fn invalid(
        &mut self,
        field: impl Into<String>,
        value: &Value,
        why: impl Into<String>,
    ) {
        self.add(field, Problem::Value(value.to_string(), why.into()));
    }

    pub(crate) fn forbid(&mut self, field: impl Into<String>, why: &str) {
        self.add(field, Problem::Forbidden(why.to_owned()));
    }

    /// The field must be there and one of these.
    pub(crate) fn one_of(
        &mut self,
        field: impl Into<String>,
        value: &Value,
        known: &[&'static str],
    ) {
        match value.as_str() {
            None | Some("") => self.require(field),
            Some(word) if known.contains(&word) => {}
            Some(_) => self.add(field, Problem::unsupported(value, known)),
        }
    }

    /// The text must pass a check of [`crate::name`].
    pub(crate) fn named(
        &mut self,
        field: impl Into<String>,
        value: &Value,
        check: fn(&str) -> Result<(), String>,
    ) {
        match value.as_str() {
            None | Some("") => self.require(field),
            Some(text) => {
                if let Err(why) = check(text) {
                    self.invalid(field, value, why);
                }
            }
        }
    }

    /// A port's number.
    fn port(&mut self, field: impl Into<String>, value: &Value) {
        match value.as_i64() {
            Some(1..=65_535) => {}
            None | Some(0) => self.require(field),
            Some(_) => self.invalid(field, value, "must be between 1 and 65535, inclusive"),
        }
    }

    fn not_negative(&mut self, field: impl Into<String>, value: &Value) {
        if value.as_i64().is_some_and(|number| number < 0) {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
    }

    /// The field may not change.
    pub(crate) fn unchanged(&mut self, field: impl Into<String>, old: &Value, new: &Value) {
        if old != new {
            self.invalid(field, new, "field is immutable");
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better as values")]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(group: &str, kind: &str, mut object: Value) -> Vec<String> {
        if object["metadata"].is_null() {
            object["metadata"] = json!({"name": "x", "namespace": "default"});
        }
        check(group, kind, true, &object).iter().map(ToString::to_string).collect()
    }

    fn pod(spec: Value) -> Vec<String> {
        said("", "Pod", json!({"spec": spec}))
    }

    #[test]
    fn names_are_checked_in_upstreams_words() {
        let object = |metadata: Value| json!({"metadata": metadata, "data": {}});
        let names = said("", "ConfigMap", object(json!({"name": "A", "namespace": "d"})));
        assert!(
            names[0]
                .starts_with("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain")
        );
        let none = said("", "ConfigMap", object(json!({"namespace": "d"})));
        assert_eq!(none, ["metadata.name: Required value: name or generateName is required"]);
        let labels = json!({"name": "a", "namespace": "d", "labels": {"a b": "c", "k": "x y"}});
        assert_eq!(said("", "ConfigMap", object(labels)).len(), 2);
        let key = json!({"metadata": {"name": "a", "namespace": "d"}, "data": {"a/b": "c"}});
        assert!(said("", "ConfigMap", key)[0].starts_with("data[a/b]: Invalid value"));
    }

    #[test]
    fn pods_are_checked() {
        let container = |more: Value| {
            let mut container = json!({"name": "c", "image": "i"});
            container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"containers": [container]})
        };
        for (spec, expected) in [
            (json!({}), "spec.containers: Required value"),
            (json!({"containers": [{"name": "c"}]}), "spec.containers[0].image: Required value"),
            (json!({"containers": [{"image": "i"}]}), "spec.containers[0].name: Required value"),
            (
                json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
                "spec.containers[1].name: Duplicate value: \"c\"",
            ),
            (
                container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            ),
            (
                container(json!({"ports": [{"containerPort": 70000}]})),
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                container(json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})),
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                container(json!({"imagePullPolicy": "Sometimes"})),
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            (
                container(json!({"livenessProbe": {"periodSeconds": 1}})),
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            ),
        ] {
            let mut spec = spec;
            spec["restartPolicy"] = "Always".into();
            spec["dnsPolicy"] = "ClusterFirst".into();
            assert_eq!(pod(spec), [expected]);
        }
    }

    #[test]
    fn what_keeps_pods_running_must_know_them() {
        let deployment = |labels: Value, policy: &str| {
            json!({"spec": {
                "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "restartPolicy": policy, "dnsPolicy": "Default",
                    "containers": [{"name": "c", "image": "i"}]}},
            }})
        };
        let fine = deployment(json!({"a": "b", "c": "d"}), "Always");
        assert_eq!(said("apps", "Deployment", fine.clone()), Vec::<String>::new());
        assert_eq!(
            said("apps", "Deployment", deployment(json!({"a": "c"}), "Always")),
            [
                "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`"
            ]
        );
        assert_eq!(
            said("apps", "Deployment", deployment(json!({"a": "b"}), "Never")),
            [
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
            ]
        );
        let mut changed = fine.clone();
        changed["spec"]["selector"]["matchLabels"]["a"] = "z".into();
        let found = check_update("apps", "Deployment", &fine, &changed);
        let words = found[0].to_string();
        assert_eq!(
            words,
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"z\"}}: field is immutable"
        );
        assert_eq!(found[0].problem.reason(), "FieldValueInvalid");
    }

    #[test]
    fn services_are_checked() {
        let service = |spec: Value| said("", "Service", json!({"spec": spec}));
        assert_eq!(service(json!({"type": "ClusterIP"})), ["spec.ports: Required value"]);
        let twice = json!({"type": "ClusterIP", "ports": [{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "TCP"}]});
        assert_eq!(service(twice)[0], "spec.ports[0].name: Required value");
        let external = json!({"type": "ExternalName", "externalName": "example.com"});
        assert_eq!(service(external), Vec::<String>::new());
        assert!(
            service(json!({"type": "X", "ports": [{"port": 1, "protocol": "TCP"}]}))[0]
                .contains("Unsupported value")
        );
    }

    #[test]
    fn names_and_pods_stay_what_they_are() {
        let old = json!({"metadata": {"name": "a", "uid": "1"}, "spec": {"nodeName": "n", "containers": [{"image": "i"}]}});
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = "j".into();
        assert_eq!(check_update("", "Pod", &old, &new), []);
        new["spec"]["nodeName"] = "m".into();
        let words = check_update("", "Pod", &old, &new)[0].to_string();
        assert!(
            words.starts_with("spec: Forbidden: pod updates may not change fields other than"),
            "{words}"
        );
        let mut renamed = old.clone();
        renamed["metadata"]["uid"] = "2".into();
        assert!(
            check_update("", "ConfigMap", &old, &renamed)[0]
                .to_string()
                .starts_with("metadata.uid")
        );
    }
}

//! The environment of a container: values, references, and services that it finds there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use objects::Quantity;
use serde_json::Value;

use crate::field::{at, entries, items, text};
use crate::pod::{amount, name, namespace, uid};

/// What variables are taken from.
pub(crate) trait Sources {
    /// The data of a `ConfigMap` or `Secret` of the pod's namespace; none if it is not there.
    fn data(&self, kind: &'static str, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
    /// A field of the pod that is known here only: `status.podIP` and the like.
    fn status(&self, path: &str) -> Option<String>;
    /// What the machine has of a resource, for who has no limit.
    fn allocatable(&self, resource: &str) -> Option<Quantity>;
    /// The services that the pod sees, `kubernetes` of the default namespace included.
    fn services(&self) -> Vec<client::Object>;
}

/// Why a container cannot have its environment, in upstream's words.
pub(crate) type Failure = String;

/// All variables, `NAME=value`, in the order in which they stand.
pub(crate) fn variables(
    pod: &Value,
    container: &Value,
    sources: &dyn Sources,
) -> Result<Vec<String>, Failure> {
    let mut all: Vec<(String, String)> = Vec::new();
    let services = service_variables(pod, sources);
    let mut known: BTreeMap<String, String> = services.iter().cloned().collect();
    all.extend(services);
    for from in items(container, "envFrom") {
        for (name, value) in from_whole(from, sources)? {
            known.insert(name.clone(), value.clone());
            all.push((name, value));
        }
    }
    for variable in items(container, "env") {
        let name = text(variable, &["name"]);
        let value = match variable["valueFrom"].is_object() {
            true => match referenced(pod, container, &variable["valueFrom"], sources)? {
                Some(value) => value,
                None => continue,
            },
            false => expand(text(variable, &["value"]), &known),
        };
        known.insert(name.to_owned(), value.clone());
        all.push((name.to_owned(), value));
    }
    Ok(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Replaces `$(NAME)` by what is known, and `$$` by `$`; what is not known stays (upstream's
/// `expansion`).
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match known.get(name) {
                Some(value) => out.push_str(value),
                // Writing to a string cannot fail.
                None => drop(write!(out, "$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Variables as a map, for what is expanded with them.
pub(crate) fn map(variables: &[String]) -> BTreeMap<String, String> {
    let pairs = variables.iter().filter_map(|variable| variable.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn from_whole(from: &Value, sources: &dyn Sources) -> Result<Vec<(String, String)>, Failure> {
    let prefix = text(from, &["prefix"]);
    let (kind, reference) = match from["configMapRef"].is_object() {
        true => ("ConfigMap", &from["configMapRef"]),
        false => ("Secret", &from["secretRef"]),
    };
    let Some(data) = sources.data(kind, text(reference, &["name"])) else {
        return missing(kind, reference).map(|()| Vec::new());
    };
    let variable = |(key, value): (String, Vec<u8>)| {
        let is_name = !key.is_empty() && !key.contains('=');
        is_name.then(|| (format!("{prefix}{key}"), String::from_utf8_lossy(&value).into_owned()))
    };
    Ok(data.into_iter().filter_map(variable).collect())
}

/// Fails unless whoever refers to something may do without it.
fn missing(kind: &str, reference: &Value) -> Result<(), Failure> {
    match reference["optional"] == true {
        true => Ok(()),
        false => {
            let name = text(reference, &["name"]);
            let of = if kind == "Secret" { "secret" } else { "configmap" };
            Err(format!("{of} \"{name}\" not found"))
        }
    }
}

fn referenced(
    pod: &Value,
    container: &Value,
    from: &Value,
    sources: &dyn Sources,
) -> Result<Option<String>, Failure> {
    for (field, kind) in [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")] {
        let reference = &from[field];
        if !reference.is_object() {
            continue;
        }
        let (name, key) = (text(reference, &["name"]), text(reference, &["key"]));
        let Some(data) = sources.data(kind, name) else {
            return missing(kind, reference).map(|()| None);
        };
        return match data.get(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if reference["optional"] == true => Ok(None),
            None => Err(format!("couldn't find key {key} in {kind} {}/{name}", namespace(pod))),
        };
    }
    if from["fieldRef"].is_object() {
        let path = text(&from["fieldRef"], &["fieldPath"]);
        let value = field(pod, path, sources);
        return value.map(Some).ok_or_else(|| format!("unsupported fieldPath: {path}"));
    }
    let reference = &from["resourceFieldRef"];
    resource(pod, container, reference, sources).map(Some)
}

/// A field of a pod by its path.
pub(crate) fn field(pod: &Value, path: &str, sources: &dyn Sources) -> Option<String> {
    let lines = |field: &str| {
        let lines =
            entries(&pod["metadata"], field).map(|(key, value)| format!("{key}={value:?}\n"));
        lines.collect::<String>().trim_end().to_owned()
    };
    if let Some((map, key)) = subscript(path) {
        let map = map.strip_prefix("metadata.")?;
        return Some(text(pod, &["metadata", map, key]).to_owned());
    }
    Some(match path {
        "metadata.name" => name(pod).to_owned(),
        "metadata.namespace" => namespace(pod).to_owned(),
        "metadata.uid" => uid(pod).to_owned(),
        "metadata.labels" => lines("labels"),
        "metadata.annotations" => lines("annotations"),
        "spec.nodeName" => text(pod, &["spec", "nodeName"]).to_owned(),
        "spec.serviceAccountName" => text(pod, &["spec", "serviceAccountName"]).to_owned(),
        status => sources.status(status)?,
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// An amount that a container has, as a number of its divisor.
pub(crate) fn resource(
    pod: &Value,
    container: &Value,
    reference: &Value,
    sources: &dyn Sources,
) -> Result<String, Failure> {
    let named = text(reference, &["containerName"]);
    let all = items(&pod["spec"], "containers").iter().chain(items(&pod["spec"], "initContainers"));
    let container = match named {
        "" => container,
        named => {
            let mut all = all;
            let found = all.find(|one| text(one, &["name"]) == named);
            found.ok_or_else(|| format!("container {named} not found"))?
        }
    };
    let path = text(reference, &["resource"]);
    let unsupported = || format!("unsupported container resource : {path}");
    let (of, resource) = path.split_once('.').ok_or_else(unsupported)?;
    let found = amount(container, of, resource);
    let found = match (found, of) {
        (Some(amount), _) => amount,
        (None, "limits") => sources.allocatable(resource).ok_or_else(unsupported)?,
        (None, _) => Quantity::ZERO,
    };
    let divisor = &reference["divisor"];
    let divisor = divisor.as_str().map_or_else(|| divisor.to_string(), str::to_owned);
    let divisor: Quantity = divisor.parse().unwrap_or(Quantity::ZERO);
    let divisor = if divisor == Quantity::ZERO { Quantity::units(1) } else { divisor };
    // Rounded up, as upstream does; processors may be divided into thousandths.
    let (amount, by) = match resource {
        "cpu" => (found.milli_value(), divisor.milli_value()),
        _ => (found.value(), divisor.value()),
    };
    let by = by.max(1);
    Ok((amount.saturating_add(by - 1) / by).to_string())
}

/// `NAME_SERVICE_HOST` and its like, of all services with an address.
fn service_variables(pod: &Value, sources: &dyn Sources) -> Vec<(String, String)> {
    let links = at(pod, &["spec", "enableServiceLinks"]) != &Value::Bool(false);
    let mut all = Vec::new();
    for service in sources.services() {
        let (space, name) = (namespace(&service), name(&service));
        let is_master = space == "default" && name == "kubernetes";
        let address = text(&service, &["spec", "clusterIP"]);
        if address.is_empty()
            || address == "None"
            || !(is_master || links && space == namespace(pod))
        {
            continue;
        }
        let word: String =
            name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }).collect();
        let ports = items(&service["spec"], "ports");
        let Some(first) = ports.first() else { continue };
        let mut add = |name: String, value: String| all.push((name, value));
        add(format!("{word}_SERVICE_HOST"), address.to_owned());
        add(format!("{word}_SERVICE_PORT"), first["port"].to_string());
        for port in ports {
            let named = text(port, &["name"]).to_ascii_uppercase().replace('-', "_");
            if !named.is_empty() {
                add(format!("{word}_SERVICE_PORT_{named}"), port["port"].to_string());
            }
        }
        for (index, port) in ports.iter().enumerate() {
            let protocol = match text(port, &["protocol"]) {
                "" => "tcp".to_owned(),
                protocol => protocol.to_ascii_lowercase(),
            };
            let number = &port["port"];
            let url = format!("{protocol}://{address}:{number}");
            if index == 0 {
                add(format!("{word}_PORT"), url.clone());
            }
            let prefix = format!("{word}_PORT_{number}_{}", protocol.to_ascii_uppercase());
            add(prefix.clone(), url);
            add(format!("{prefix}_PROTO"), protocol);
            add(format!("{prefix}_PORT"), number.to_string());
            add(format!("{prefix}_ADDR"), address.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    struct Fixed;

    impl Sources for Fixed {
        fn data(&self, kind: &'static str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
            let data = [("a".to_owned(), b"1".to_vec()), ("b-c".to_owned(), b"2".to_vec())];
            (name == kind.to_lowercase()).then(|| data.into())
        }

        fn status(&self, path: &str) -> Option<String> {
            (path == "status.podIP").then(|| "10.0.0.9".to_owned())
        }

        fn allocatable(&self, resource: &str) -> Option<Quantity> {
            (resource == "cpu").then(|| Quantity::units(4))
        }

        fn services(&self) -> Vec<client::Object> {
            vec![Arc::new(json!({
                "metadata": {"namespace": "n", "name": "my-db"},
                "spec": {"clusterIP": "10.96.0.5", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]},
            }))]
        }
    }

    fn check(container: &Value, expected: &[&str]) {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
            "spec": {"enableServiceLinks": false, "containers": [container]},
        });
        assert_eq!(variables(&pod, container, &Fixed).unwrap(), expected);
    }

    #[test]
    fn values_come_from_everywhere() {
        check(
            &json!({
                "name": "c",
                "resources": {"limits": {"memory": "1Gi"}},
                "envFrom": [{"configMapRef": {"name": "configmap"}, "prefix": "X_"}],
                "env": [
                    {"name": "A", "value": "a"},
                    {"name": "B", "value": "$(A)-$(NO)-$$(A)"},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "a"}}},
                    {"name": "O", "valueFrom": {"secretKeyRef": {"name": "x", "key": "a", "optional": true}}},
                    {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
                    {"name": "I", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ],
            }),
            &[
                "X_a=1",
                "X_b-c=2",
                "A=a",
                "B=a-$(NO)-$(A)",
                "S=1",
                "N=p",
                "L=b",
                "I=10.0.0.9",
                "M=1024",
                "C=4",
            ],
        );
    }

    #[test]
    fn services_are_found() {
        let pod = json!({"metadata": {"namespace": "n"}, "spec": {}});
        let found = variables(&pod, &json!({}), &Fixed).unwrap();
        assert_eq!(found.len(), 8);
        assert!(found.contains(&"MY_DB_SERVICE_PORT_SQL=5432".to_owned()));
        assert!(found.contains(&"MY_DB_PORT_5432_TCP_ADDR=10.96.0.5".to_owned()));
    }

    #[test]
    fn what_is_missing_is_said() {
        let pod = json!({"metadata": {"namespace": "n"}, "spec": {"enableServiceLinks": false}});
        let check = |from: Value, expected: &str| {
            let container = json!({"env": [{"name": "A", "valueFrom": from}]});
            assert_eq!(variables(&pod, &container, &Fixed).unwrap_err(), expected);
        };
        check(json!({"configMapKeyRef": {"name": "x", "key": "a"}}), "configmap \"x\" not found");
        check(
            json!({"configMapKeyRef": {"name": "configmap", "key": "z"}}),
            "couldn't find key z in ConfigMap n/configmap",
        );
    }
}

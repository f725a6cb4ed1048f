//! What an absent field means, written into an object (upstream's `SetDefaults_…` of each group).
//!
//! Defaults that do not depend on anything are a table, `schema/defaults.txt`: group and version, type,
//! field, value. The others are functions here, by type.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::schema::{Schema, Shape, Type, TypeId};

const TABLE: &str = include_str!("schema/defaults.txt");

/// How deep an object may go.
const DEPTH_MAX: usize = 128;

type Fields = Map<String, Value>;

/// Writes the defaults into an object of a kind.
pub fn set(schema: &Schema, of: TypeId, object: &mut Fields) {
    walk(schema, of, object, 0);
}

/// A structure gets its own defaults before its parts get theirs: a part may be one of them.
fn walk(schema: &Schema, of: TypeId, object: &mut Fields, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    let of_type = schema.get(of);
    set_here(of_type, object);
    for field in &of_type.fields {
        match (&field.shape, field.is_inline) {
            (Shape::Object(inner), true) => walk(schema, *inner, object, depth + 1),
            (shape, _) => {
                if let Some(value) = object.get_mut(field.name) {
                    walk_value(schema, shape, value, depth + 1);
                }
            }
        }
    }
    finish(of_type, object);
}

fn walk_value(schema: &Schema, shape: &Shape, value: &mut Value, depth: usize) {
    match (shape, value) {
        (Shape::Object(of), Value::Object(object)) => walk(schema, *of, object, depth),
        (Shape::List(item), Value::Array(items)) => {
            items.iter_mut().for_each(|value| walk_value(schema, item, value, depth));
        }
        (Shape::Map(inner), Value::Object(map)) => {
            map.values_mut().for_each(|value| walk_value(schema, inner, value, depth));
        }
        _ => {}
    }
}

/// By group and version and type: fields and their defaults.
type Table = HashMap<(&'static str, &'static str), Vec<(&'static str, Value)>>;

fn table() -> &'static Table {
    static READ: OnceLock<Table> = OnceLock::new();
    READ.get_or_init(|| {
        let mut table = Table::new();
        for line in TABLE.lines() {
            let mut words = line.splitn(4, ' ');
            let mut word = || words.next().unwrap_or_else(|| panic!("a word is missing: {line}"));
            let (group_version, name, field) = (word(), word(), word());
            let value = serde_json::from_str(word()).unwrap_or_else(|_| panic!("no JSON: {line}"));
            table.entry((group_version, name)).or_default().push((field, value));
        }
        table
    })
}

fn set_here(of: &Type, object: &mut Fields) {
    before(of, object);
    for (field, value) in table().get(&(of.group_version, of.name)).into_iter().flatten() {
        or_insert(object, field, || value.clone());
    }
}

fn or_insert(object: &mut Fields, field: &str, value: impl FnOnce() -> Value) {
    if !object.contains_key(field) {
        object.insert(field.to_owned(), value());
    }
}

/// Defaults that a constant one would hide.
fn before(of: &Type, object: &mut Fields) {
    match (of.group_version, of.name) {
        ("core/v1", "Container" | "EphemeralContainerCommon") => set_pull_policy(object),
        ("core/v1", "ReplicationControllerSpec") => {
            let labels = object.get("template").map(|t| t["metadata"]["labels"].clone());
            if let Some(labels @ Value::Object(_)) = labels {
                or_insert(object, "selector", || labels);
            }
        }
        ("core/v1", "Volume") if !object.keys().any(|key| key != "name") => {
            object.insert("emptyDir".to_owned(), json!({}));
        }
        _ => {}
    }
}

/// Defaults that depend on others.
fn finish(of: &Type, object: &mut Fields) {
    match (of.group_version, of.name) {
        ("core/v1", "ResourceRequirements") => request_what_is_limited(object),
        ("core/v1", "PodSpec") => set_service_account(object),
        ("core/v1", "ServicePort") => {
            let port = object.get("port").cloned();
            if let Some(port) = port.filter(|_| is_zero(object.get("targetPort"))) {
                object.insert("targetPort".to_owned(), port);
            }
        }
        ("core/v1", "ServiceSpec") => set_service(object),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => crate::custom::complete(object),
        ("core/v1", "Secret") => take_string_data(object),
        ("core/v1", "LimitRangeItem") => set_limit_range(object),
        ("apps/v1", "DeploymentStrategy") if is(object, "type", "RollingUpdate") => {
            let rolling = part(object, "rollingUpdate");
            or_insert(rolling, "maxSurge", || "25%".into());
            or_insert(rolling, "maxUnavailable", || "25%".into());
        }
        ("apps/v1", "StatefulSetUpdateStrategy") if is(object, "type", "RollingUpdate") => {
            or_insert(part(object, "rollingUpdate"), "partition", || 0.into());
        }
        ("apps/v1", "DaemonSetUpdateStrategy") if is(object, "type", "RollingUpdate") => {
            let rolling = part(object, "rollingUpdate");
            or_insert(rolling, "maxUnavailable", || 1.into());
            or_insert(rolling, "maxSurge", || 0.into());
        }
        ("batch/v1", "JobSpec") => set_job(object),
        ("autoscaling/v2", "HorizontalPodAutoscalerSpec") => {
            or_insert(object, "metrics", || {
                let target = json!({"type": "Utilization", "averageUtilization": 80});
                json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}])
            });
        }
        ("networking.k8s.io/v1", "NetworkPolicySpec") => {
            let has_egress = object.get("egress").is_some();
            or_insert(object, "policyTypes", || match has_egress {
                true => json!(["Ingress", "Egress"]),
                false => json!(["Ingress"]),
            });
        }
        ("rbac.authorization.k8s.io/v1", "Subject") => {
            let group = match object.get("kind").and_then(Value::as_str) {
                Some("User" | "Group") => "rbac.authorization.k8s.io",
                _ => return,
            };
            or_insert(object, "apiGroup", || group.into());
        }
        _ => {}
    }
}

fn is(object: &Fields, field: &str, value: &str) -> bool {
    object.get(field).and_then(Value::as_str) == Some(value)
}

/// Nothing, zero or an empty text, which Go's structures do not tell apart.
fn is_zero(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || value == 0 || value == "")
}

/// A structure in another, made where it is not.
fn part<'o>(object: &'o mut Fields, name: &str) -> &'o mut Fields {
    let value = object.entry(name).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made one")
}

/// `Always` for what may be another image tomorrow: the tag `latest`, or none and no digest.
fn set_pull_policy(container: &mut Fields) {
    let Some(image) = container.get("image").and_then(Value::as_str) else { return };
    let last = image.rsplit('/').next().unwrap_or(image);
    let is_moving =
        !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    let policy = if is_moving { "Always" } else { "IfNotPresent" };
    or_insert(container, "imagePullPolicy", || policy.into());
}

fn request_what_is_limited(resources: &mut Fields) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = part(resources, "requests");
    for (name, amount) in limits {
        or_insert(requests, &name, || amount);
    }
}

/// The older name of a field says the same.
fn set_service_account(spec: &mut Fields) {
    let name = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount")).cloned();
    if let Some(name) = name.filter(|name| !is_zero(Some(name))) {
        spec.insert("serviceAccountName".to_owned(), name.clone());
        spec.insert("serviceAccount".to_owned(), name);
    }
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        set_host_ports(spec);
    }
}

/// On the host's network a container's port is the host's.
fn set_host_ports(spec: &mut Fields) {
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers {
            let ports =
                container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
            for port in ports.filter_map(Value::as_object_mut) {
                if let Some(own) = port.get("containerPort").cloned() {
                    or_insert(port, "hostPort", || own);
                }
            }
        }
    }
}

fn set_service(spec: &mut Fields) {
    if is(spec, "sessionAffinity", "ClientIP") {
        let client = part(part(spec, "sessionAffinityConfig"), "clientIP");
        or_insert(client, "timeoutSeconds", || 10_800.into());
    }
    let is_external = is(spec, "type", "NodePort") || is(spec, "type", "LoadBalancer");
    if is_external {
        or_insert(spec, "externalTrafficPolicy", || "Cluster".into());
    }
    if is(spec, "type", "LoadBalancer") {
        or_insert(spec, "allocateLoadBalancerNodePorts", || true.into());
    }
    if !is(spec, "type", "ExternalName") {
        or_insert(spec, "internalTrafficPolicy", || "Cluster".into());
    }
}

/// `stringData` is a way of writing `data`, and never read.
fn take_string_data(secret: &mut Fields) {
    use base64::Engine as _;
    let Some(Value::Object(texts)) = secret.shift_remove("stringData") else { return };
    let data = part(secret, "data");
    for (key, text) in texts {
        let text = text.as_str().unwrap_or_default();
        data.insert(key, base64::prelude::BASE64_STANDARD.encode(text).into());
    }
}

/// For containers, what is allowed at most is the default, and the default is requested.
fn set_limit_range(item: &mut Fields) {
    if !is(item, "type", "Container") {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")]
    {
        let Some(Value::Object(amounts)) = item.get(from).cloned() else { continue };
        let target = part(item, to);
        for (name, amount) in amounts {
            or_insert(target, &name, || amount);
        }
    }
}

fn set_job(spec: &mut Fields) {
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        spec.insert("completions".to_owned(), 1.into());
    }
    or_insert(spec, "parallelism", || 1.into());
    if spec.contains_key("podFailurePolicy") {
        spec.insert("podReplacementPolicy".to_owned(), "Failed".into());
    }
    if spec.contains_key("backoffLimitPerIndex") && spec.get("backoffLimit") == Some(&json!(6)) {
        spec.insert("backoffLimit".to_owned(), i32::MAX.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_defaults(api_version: &str, kind: &str, object: Value) -> Value {
        let schema = Schema::built_in();
        let Value::Object(mut object) = object else { panic!() };
        set(schema, schema.kind(api_version, kind).unwrap(), &mut object);
        Value::Object(object)
    }

    #[test]
    fn the_table_is_about_fields_that_there_are() {
        let schema = Schema::built_in();
        for ((group_version, name), fields) in table() {
            let (of, _) = schema
                .types()
                .find(|(_, of)| of.group_version == *group_version && of.name == *name)
                .unwrap_or_else(|| panic!("{group_version} has no {name}"));
            for (field, _) in fields {
                assert!(schema.field(of, field).is_some(), "{name}.{field}");
            }
        }
    }

    #[test]
    fn a_deployment_becomes_what_the_cluster_shows() {
        let given = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {
            "containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1"}}}],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}],
        }}}});
        let expected = json!({"spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"spec": {
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
                "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler",
                "securityContext": {}, "enableServiceLinks": true,
                "containers": [{
                    "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                        "failureThreshold": 3},
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                }],
                "volumes": [{"name": "v", "emptyDir": {}},
                    {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
            }},
        }});
        assert_eq!(with_defaults("apps/v1", "Deployment", given), expected);
    }

    #[test]
    fn defaults_depend_on_other_fields() {
        let service = |spec: Value| with_defaults("v1", "Service", json!({"spec": spec}));
        let plain = service(json!({"ports": [{"port": 80}]}));
        assert_eq!(
            plain["spec"]["ports"][0],
            json!({"port": 80, "protocol": "TCP", "targetPort": 80})
        );
        assert_eq!(plain["spec"]["internalTrafficPolicy"], "Cluster");
        assert_eq!(plain["spec"].get("externalTrafficPolicy"), None);
        let balanced = service(json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"}));
        assert_eq!(balanced["spec"]["allocateLoadBalancerNodePorts"], true);
        let timeout = &balanced["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
        assert_eq!(*timeout, 10_800);
        let secret = with_defaults("v1", "Secret", json!({"stringData": {"a": "b"}}));
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "Yg=="}}));
        let job = with_defaults("batch/v1", "Job", json!({"spec": {"backoffLimitPerIndex": 1}}));
        assert_eq!(job["spec"]["backoffLimit"], i32::MAX);
        let policy = json!({"spec": {"egress": []}});
        let policy = with_defaults("networking.k8s.io/v1", "NetworkPolicy", policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        for (image, expected) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:x", "IfNotPresent"),
        ] {
            let pod = json!({"spec": {"containers": [{"image": image}]}});
            let pod = with_defaults("v1", "Pod", pod);
            assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], expected, "{image}");
        }
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let given = json!({"spec": {"template": {"spec": {"hostNetwork": true, "containers": [
            {"name": "c", "image": "x", "ports": [{"containerPort": 1}]}]}}}});
        let once = with_defaults("batch/v1", "Job", given);
        assert_eq!(with_defaults("batch/v1", "Job", once.clone()), once);
        let port = &once["spec"]["template"]["spec"]["containers"][0]["ports"][0];
        assert_eq!(port["hostPort"], 1);
    }
}

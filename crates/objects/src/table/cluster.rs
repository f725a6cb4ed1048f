//! What a cluster consists of: nodes, namespaces, storage, rights, what happens.

use jiff::Timestamp;
use serde_json::Value;

use crate::Quantity;

use super::{
    AGE, Column, Printer, age, column, count, human, joined, list, number, or_none, since, size,
    text, wide,
};

/// What labels of a node say that it is for.
const ROLE: &str = "node-role.kubernetes.io/";

pub(super) fn core(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Namespace" => Printer::new(const { &[column("Status"), AGE] }, |o, now| {
            vec![text(&o["status"]["phase"]).into(), age(o, now)]
        }),
        "Node" => Printer::new(NODE, node),
        "Secret" => Printer::new(const { &[column("Type"), number("Data"), AGE] }, |o, now| {
            vec![text(&o["type"]).into(), size(&o["data"]).into(), age(o, now)]
        }),
        "ConfigMap" => Printer::new(const { &[column("Data"), AGE] }, |o, now| {
            let entries = size(&o["data"]) + size(&o["binaryData"]);
            vec![entries.into(), age(o, now)]
        }),
        "ServiceAccount" => Printer::new(const { &[number("Secrets"), AGE] }, |o, now| {
            vec![list(&o["secrets"]).len().into(), age(o, now)]
        }),
        "PersistentVolume" => Printer::new(VOLUME, volume),
        "PersistentVolumeClaim" => Printer::new(CLAIM, claim),
        "ResourceQuota" => {
            Printer::new(const { &[column("Request"), column("Limit"), AGE] }, quota)
        }
        "Event" => Printer { has_name: false, ..Printer::new(EVENT, event) },
        "ComponentStatus" => Printer::new(
            const { &[column("Status"), column("Message"), column("Error")] },
            |o, _| {
                let healthy = list(&o["conditions"]).iter().find(|c| c["type"] == "Healthy");
                let condition = healthy.unwrap_or(&Value::Null);
                let status = match text(&condition["status"]) {
                    "True" => "Healthy",
                    "False" => "Unhealthy",
                    _ => "Unknown",
                };
                vec![
                    status.into(),
                    text(&condition["message"]).into(),
                    text(&condition["error"]).into(),
                ]
            },
        ),
        _ => return None,
    })
}

const USED: &[Column] = &[column("CPU"), column("Memory"), column("Window")];

/// What all of these use, and over which time.
fn used(all: &[&Value], object: &Value) -> Vec<Value> {
    let sum = |resource: &str| -> Value {
        let amounts = all.iter().filter_map(|own| text(&own[resource]).parse::<Quantity>().ok());
        let sum = amounts.reduce(|sum, one| sum + one).unwrap_or(Quantity::ZERO);
        sum.to_string().into()
    };
    vec![sum("cpu"), sum("memory"), text(&object["window"]).into()]
}

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    Some(match (group, kind) {
        // The columns of metrics-server.
        ("metrics.k8s.io", "NodeMetrics") => Printer::new(USED, |o, _| used(&[&o["usage"]], o)),
        ("metrics.k8s.io", "PodMetrics") => Printer::new(USED, |o, _| {
            let all: Vec<&Value> = list(&o["containers"]).iter().map(|one| &one["usage"]).collect();
            used(&all, o)
        }),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            Printer::new(BINDING, binding)
        }
        ("events.k8s.io", "Event") => Printer { has_name: false, ..Printer::new(EVENT, event) },
        ("coordination.k8s.io", "Lease") => {
            Printer::new(const { &[column("Holder"), AGE] }, |o, now| {
                vec![text(&o["spec"]["holderIdentity"]).into(), age(o, now)]
            })
        }
        ("storage.k8s.io", "StorageClass") => {
            Printer { has_name: false, ..Printer::new(STORAGE, storage) }
        }
        ("scheduling.k8s.io", "PriorityClass") => Printer::new(
            const { &[number("Value"), column("Global-Default"), AGE, column("PreemptionPolicy")] },
            |o, now| {
                let is_default = o["globalDefault"] == true;
                let policy = text(&o["preemptionPolicy"]).into();
                vec![count(&o["value"]).into(), is_default.into(), age(o, now), policy]
            },
        ),
        ("node.k8s.io", "RuntimeClass") => {
            Printer::new(const { &[column("Handler"), AGE] }, |o, now| {
                vec![text(&o["handler"]).into(), age(o, now)]
            })
        }
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => Printer::new(const { &[number("Webhooks"), AGE] }, |o, now| {
            vec![list(&o["webhooks"]).len().into(), age(o, now)]
        }),
        ("certificates.k8s.io", "CertificateSigningRequest") => Printer::new(REQUEST, request),
        _ => return None,
    })
}

const NODE: &[Column] = &[
    column("Status"),
    column("Roles"),
    AGE,
    column("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let info = &object["status"]["nodeInfo"];
    let ready = list(&object["status"]["conditions"]).iter().find(|c| c["type"] == "Ready");
    let mut state = match ready.map(|c| text(&c["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        state += ",SchedulingDisabled";
    }
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => Some(text(value)),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let address = |kind: &str| {
        let found = list(&object["status"]["addresses"]).iter().find(|a| a["type"] == kind);
        or_none(found.map_or("", |address| text(&address["address"])))
    };
    let or_unknown = |value: &Value| match text(value) {
        "" => Value::from("<unknown>"),
        text => text.into(),
    };
    vec![
        state.into(),
        or_none(&roles.join(",")),
        age(object, now),
        text(&info["kubeletVersion"]).into(),
        address("InternalIP"),
        address("ExternalIP"),
        or_unknown(&info["osImage"]),
        or_unknown(&info["kernelVersion"]),
        or_unknown(&info["containerRuntimeVersion"]),
    ]
}

/// `RWO,ROX`: who may write and read.
fn access_modes(modes: &Value) -> String {
    let short = |mode: &Value| match text(mode) {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let mut seen: Vec<&str> = Vec::new();
    for mode in list(modes).iter().map(short) {
        if !mode.is_empty() && !seen.contains(&mode) {
            seen.push(mode);
        }
    }
    seen.join(",")
}

const VOLUME: &[Column] = &[
    column("Capacity"),
    column("Access Modes"),
    column("Reclaim Policy"),
    column("Status"),
    column("Claim"),
    column("StorageClass"),
    column("VolumeAttributesClass"),
    column("Reason"),
    AGE,
    wide("VolumeMode"),
];

/// A phase, unless it is going: upstream's name for that is not one.
fn phase(object: &Value) -> Value {
    match object["metadata"]["deletionTimestamp"].is_null() {
        true => text(&object["status"]["phase"]).into(),
        false => "Terminating".into(),
    }
}

fn volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let claim = match spec["claimRef"].is_null() {
        true => String::new(),
        false => {
            let claim = &spec["claimRef"];
            format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]))
        }
    };
    vec![
        text(&spec["capacity"]["storage"]).into(),
        access_modes(&spec["accessModes"]).into(),
        text(&spec["persistentVolumeReclaimPolicy"]).into(),
        phase(object),
        claim.into(),
        text(&spec["storageClassName"]).into(),
        unset(&spec["volumeAttributesClassName"]),
        text(&object["status"]["reason"]).into(),
        age(object, now),
        unset(&spec["volumeMode"]),
    ]
}

fn unset(value: &Value) -> Value {
    match text(value) {
        "" => "<unset>".into(),
        text => text.into(),
    }
}

const CLAIM: &[Column] = &[
    column("Status"),
    column("Volume"),
    column("Capacity"),
    column("Access Modes"),
    column("StorageClass"),
    column("VolumeAttributesClass"),
    AGE,
    wide("VolumeMode"),
];

fn claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let volume = text(&spec["volumeName"]);
    // Before it is bound, it has nothing.
    let of_volume = |value: String| if volume.is_empty() { String::new() } else { value };
    vec![
        phase(object),
        volume.into(),
        of_volume(text(&status["capacity"]["storage"]).to_owned()).into(),
        of_volume(access_modes(&status["accessModes"])).into(),
        text(&spec["storageClassName"]).into(),
        unset(&spec["volumeAttributesClassName"]),
        age(object, now),
        unset(&spec["volumeMode"]),
    ]
}

fn quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = &object["status"];
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<_> = status["hard"].as_object().into_iter().flatten().collect();
    hard.sort_by_key(|(name, _)| *name);
    for (name, most) in hard {
        let used = text(&status["used"][name]);
        let line = format!("{name}: {used}/{}", text(most));
        match name.starts_with("limits.") {
            true => limits.push(line),
            false => requests.push(line),
        }
    }
    vec![requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
}

const EVENT: &[Column] = &[
    column("Last Seen"),
    column("Type"),
    column("Reason"),
    column("Object"),
    wide("Subobject"),
    wide("Source"),
    column("Message"),
    wide("First Seen"),
    wide("Count"),
    wide("Name"),
];

fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let or = |one: &str, other: &str| {
        let first = &object[one];
        if first.is_null() { object[other].clone() } else { first.clone() }
    };
    let first = or("firstTimestamp", "eventTime");
    let series = &object["series"];
    let (last, times) = match series.is_null() {
        false => (series["lastObservedTime"].clone(), count(&series["count"])),
        true => {
            let last = or("lastTimestamp", "deprecatedLastTimestamp");
            (if last.is_null() { first.clone() } else { last }, count(&object["count"]).max(1))
        }
    };
    let about = match object["involvedObject"].is_null() {
        true => &object["regarding"],
        false => &object["involvedObject"],
    };
    let source = match text(&object["source"]["component"]) {
        "" => text(&object["reportingComponent"]),
        component => component,
    };
    let host = text(&object["source"]["host"]);
    let source = if host.is_empty() { source.to_owned() } else { format!("{source}, {host}") };
    let message = match text(&object["message"]) {
        "" => text(&object["note"]),
        message => message,
    };
    vec![
        since(&last, now).into(),
        text(&object["type"]).into(),
        text(&object["reason"]).into(),
        format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"])).into(),
        text(&about["fieldPath"]).into(),
        source.into(),
        message.trim().into(),
        since(&first, now).into(),
        times.to_string().into(),
        object["metadata"]["name"].clone(),
    ]
}

const BINDING: &[Column] =
    &[column("Role"), AGE, wide("Users"), wide("Groups"), wide("ServiceAccounts")];

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = &object["roleRef"];
    let subjects = list(&object["subjects"]);
    let named = |kind: &str| -> Value {
        let names = subjects.iter().filter(|s| s["kind"] == kind).map(|s| match kind {
            "ServiceAccount" => format!("{}/{}", text(&s["namespace"]), text(&s["name"])),
            _ => text(&s["name"]).to_owned(),
        });
        names.collect::<Vec<_>>().join(", ").into()
    };
    vec![
        format!("{}/{}", text(&role["kind"]), text(&role["name"])).into(),
        age(object, now),
        named("User"),
        named("Group"),
        named("ServiceAccount"),
    ]
}

const STORAGE: &[Column] = &[
    column("Name"),
    column("Provisioner"),
    column("ReclaimPolicy"),
    column("VolumeBindingMode"),
    column("AllowVolumeExpansion"),
    AGE,
];

/// The name, and whether claims get this class that name none.
fn default_name(class: &Value) -> String {
    let annotations = &class["metadata"]["annotations"];
    let is_default = ["storageclass.kubernetes.io", "storageclass.beta.kubernetes.io"]
        .iter()
        .any(|group| annotations[format!("{group}/is-default-class")] == "true");
    let mark = if is_default { " (default)" } else { "" };
    format!("{}{mark}", text(&class["metadata"]["name"]))
}

fn storage(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        default_name(object).into(),
        text(&object["provisioner"]).into(),
        text(&object["reclaimPolicy"]).into(),
        text(&object["volumeBindingMode"]).into(),
        (object["allowVolumeExpansion"] == true).into(),
        age(object, now),
    ]
}

const REQUEST: &[Column] = &[
    AGE,
    column("SignerName"),
    column("Requestor"),
    column("RequestedDuration"),
    column("Condition"),
];

fn request(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let duration = match spec["expirationSeconds"].as_i64() {
        Some(seconds) => human(seconds),
        None => "<none>".to_owned(),
    };
    let conditions = list(&status["conditions"]).iter().map(|c| text(&c["type"]));
    let mut state = joined(conditions, ",");
    if state.is_empty() {
        state.push_str("Pending");
    }
    if !text(&status["certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    vec![
        age(object, now),
        text(&spec["signerName"]).into(),
        text(&spec["username"]).into(),
        duration.into(),
        state.into(),
    ]
}

//! Containers, volumes and templates of pods, described.

use serde_json::Value;

use super::super::{list, word};
use super::page::{Page, number, scalar, time, truth};

/// The containers of a list of a pod's, each with what is known of it.
pub(super) fn containers(
    page: &mut Page,
    label: &str,
    of: &Value,
    field: &str,
    status: Option<(&Value, &str)>,
    space: &str,
) {
    let all: Vec<&Value> = list(of, field).collect();
    let none = if all.is_empty() { " <none>" } else { "" };
    page.line(0, &format!("{space}{label}:{none}"));
    for container in all {
        let name = word(container, "/name");
        let own = status
            .and_then(|(pod, field)| list(pod, field).find(|status| word(status, "/name") == name));
        let indent = if space.is_empty() { "" } else { " " };
        page.line(1, &format!("{indent}{name}:"));
        basics(page, container, own);
        words(page, container);
        if let Some(own) = own {
            state(page, "State", &own["state"]);
            if !own["lastState"]["terminated"].is_null() {
                state(page, "Last State", &own["lastState"]);
            }
            page.field(2, "Ready", if own["ready"] == true { "True" } else { "False" });
            page.field(2, "Restart Count", number(own, "/restartCount"));
        }
        resources(page, &container["resources"], 2);
        probes(page, container);
        environment(page, container, status.map(|(pod, _)| pod));
        mounts(page, container);
    }
}

fn basics(page: &mut Page, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        page.field(2, "Container ID", word(status, "/containerID"));
    }
    page.field(2, "Image", word(container, "/image"));
    if let Some(status) = status {
        page.field(2, "Image ID", word(status, "/imageID"));
    }
    let ports = |field: &str, with_name: bool| -> Vec<String> {
        let port = |port: &Value| {
            let name = word(port, "/name");
            let name =
                if name.is_empty() || !with_name { String::new() } else { format!(" ({name})") };
            format!("{}/{}{name}", number(port, field), word(port, "/protocol"))
        };
        list(container, "/ports").map(port).collect()
    };
    for (name, ports) in
        [("Port", ports("/containerPort", true)), ("Host Port", ports("/hostPort", true))]
    {
        match ports.len() {
            0 => page.field(2, name, "<none>"),
            1 => page.field(2, name, &ports[0]),
            _ => page.field(2, &format!("{name}s"), ports.join(", ")),
        }
    }
    let profile = &container["securityContext"]["seccompProfile"];
    page.field_if(2, "SeccompProfile", word(profile, "/type"));
    page.field_if(3, "LocalhostProfile", word(profile, "/localhostProfile"));
}

fn words(page: &mut Page, container: &Value) {
    for (name, field) in [("Command:", "/command"), ("Args:", "/args")] {
        let words: Vec<&str> = list(container, field).filter_map(Value::as_str).collect();
        if !words.is_empty() {
            page.line(2, name);
            words.iter().flat_map(|word| word.split('\n')).for_each(|line| page.line(3, line));
        }
    }
}

fn state(page: &mut Page, name: &str, state: &Value) {
    if let Some(running) = state.get("running").filter(|own| !own.is_null()) {
        page.field(2, name, "Running");
        page.field(3, "Started", time(word(running, "/startedAt")));
    } else if let Some(ended) = state.get("terminated").filter(|own| !own.is_null()) {
        page.field(2, name, "Terminated");
        page.field_if(3, "Reason", word(ended, "/reason"));
        page.field_if(3, "Message", word(ended, "/message"));
        page.field(3, "Exit Code", number(ended, "/exitCode"));
        if number(ended, "/signal") > 0 {
            page.field(3, "Signal", number(ended, "/signal"));
        }
        page.field(3, "Started", time(word(ended, "/startedAt")));
        page.field(3, "Finished", time(word(ended, "/finishedAt")));
    } else {
        page.field(2, name, "Waiting");
        page.field_if(3, "Reason", word(state, "/waiting/reason"));
    }
}

pub(super) fn resources(page: &mut Page, resources: &Value, level: usize) {
    for (name, field) in [("Limits:", "limits"), ("Requests:", "requests")] {
        let mut all: Vec<(&String, &Value)> =
            resources[field].as_object().into_iter().flatten().collect();
        all.sort_by_key(|(key, _)| *key);
        if !all.is_empty() {
            page.line(level, name);
        }
        for (key, value) in all {
            page.field(level + 1, key, value.as_str().unwrap_or_default());
        }
    }
}

fn probes(page: &mut Page, container: &Value) {
    let all = [
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ];
    for (name, field) in all {
        let probe = &container[field];
        if !probe.is_null() {
            page.field(2, name, self::probe(probe));
        }
    }
}

fn probe(probe: &Value) -> String {
    let attributes = format!(
        "delay={}s timeout={}s period={}s successThreshold={} failureThreshold={}",
        number(probe, "/initialDelaySeconds"),
        number(probe, "/timeoutSeconds"),
        number(probe, "/periodSeconds"),
        number(probe, "/successThreshold"),
        number(probe, "/failureThreshold")
    );
    if !probe["exec"].is_null() {
        let words: Vec<&str> = list(probe, "/exec/command").filter_map(Value::as_str).collect();
        return format!("exec [{}] {attributes}", words.join(" "));
    }
    if !probe["httpGet"].is_null() {
        let own = &probe["httpGet"];
        let scheme = word(own, "/scheme").to_lowercase();
        let (host, port) = (word(own, "/host"), scalar(own, "/port", ""));
        let path = word(own, "/path");
        let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
        return format!("http-get {scheme}://{host}:{port}{slash}{path} {attributes}");
    }
    if !probe["tcpSocket"].is_null() {
        let own = &probe["tcpSocket"];
        let (host, port) = (word(own, "/host"), scalar(own, "/port", ""));
        return format!("tcp-socket {host}:{port} {attributes}");
    }
    if !probe["grpc"].is_null() {
        let (port, service) = (number(probe, "/grpc/port"), word(probe, "/grpc/service"));
        return format!("grpc <pod>:{port} {service} {attributes}");
    }
    format!("unknown {attributes}")
}

fn environment(page: &mut Page, container: &Value, pod: Option<&Value>) {
    let from: Vec<&Value> = list(container, "/envFrom").collect();
    if !from.is_empty() {
        page.line(2, "Environment Variables from:");
    }
    for source in from {
        let (own, what) = match source["configMapRef"].is_null() {
            false => (&source["configMapRef"], "ConfigMap"),
            true => (&source["secretRef"], "Secret"),
        };
        let prefix = match word(source, "/prefix") {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        let optional = truth(own, "/optional");
        page.line(3, &format!("{}\t{what}{prefix}\tOptional: {optional}", word(own, "/name")));
    }
    let all: Vec<&Value> = list(container, "/env").collect();
    page.line(2, if all.is_empty() { "Environment:\t<none>" } else { "Environment:" });
    for variable in all {
        let name = word(variable, "/name");
        let from = &variable["valueFrom"];
        if from.is_null() {
            let mut lines = word(variable, "/value").split('\n');
            page.line(3, &format!("{name}:\t{}", lines.next().unwrap_or_default()));
            lines.for_each(|line| page.line(3, &format!("\t{line}")));
        } else {
            page.line(3, &format!("{name}:\t{}", source(from, container, pod)));
        }
    }
}

/// Where a variable's value comes from.
fn source(from: &Value, container: &Value, pod: Option<&Value>) -> String {
    let own = |field: &str| Some(&from[field]).filter(|own| !own.is_null());
    if let Some(own) = own("fieldRef") {
        let path = word(own, "/fieldPath");
        let found = pod.map(|pod| field(pod, path)).unwrap_or_default();
        return format!("{found} ({}:{path})", word(own, "/apiVersion"));
    }
    if let Some(own) = own("resourceFieldRef") {
        let resource = word(own, "/resource");
        let found = match resource.split_once('.') {
            Some((list, name)) => scalar(&container["resources"][list], &format!("/{name}"), "0"),
            None => "0".to_owned(),
        };
        let found = match (found.as_str(), resource) {
            ("0", "limits.cpu" | "limits.memory") => "node allocatable",
            (found, _) => found,
        };
        return format!("{found} ({resource})");
    }
    let key = |own: &Value, between: &str, what: &str| {
        format!(
            "<set to the key '{}' {between} {what} '{}'>\tOptional: {}",
            word(own, "/key"),
            word(own, "/name"),
            truth(own, "/optional")
        )
    };
    match (own("secretKeyRef"), own("configMapKeyRef")) {
        (Some(own), _) => key(own, "in", "secret"),
        (_, Some(own)) => key(own, "of", "config map"),
        _ => String::new(),
    }
}

/// A field of a pod, as variables have it.
fn field(pod: &Value, path: &str) -> String {
    let quoted = |list: &str| {
        let key = path.strip_prefix(list)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(
            word(
                &pod["metadata"][list.strip_prefix("metadata.")?],
                &format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            )
            .to_owned(),
        )
    };
    quoted("metadata.labels")
        .or_else(|| quoted("metadata.annotations"))
        .unwrap_or_else(|| word(pod, &format!("/{}", path.replace('.', "/"))).to_owned())
}

fn mounts(page: &mut Page, container: &Value) {
    let mut all: Vec<&Value> = list(container, "/volumeMounts").collect();
    all.sort_by_key(|own| word(own, "/mountPath"));
    page.line(2, if all.is_empty() { "Mounts:\t<none>" } else { "Mounts:" });
    for own in all {
        let mut flags = vec![if truth(own, "/readOnly") { "ro" } else { "rw" }.to_owned()];
        if !word(own, "/subPath").is_empty() {
            flags.push(format!("path={:?}", word(own, "/subPath")));
        }
        let (path, name) = (word(own, "/mountPath"), word(own, "/name"));
        page.line(3, &format!("{path} from {name} ({})", flags.join(",")));
    }
    let devices: Vec<&Value> = list(container, "/volumeDevices").collect();
    if !devices.is_empty() {
        page.line(2, "Devices:");
    }
    for own in devices {
        page.line(3, &format!("{} from {}", word(own, "/devicePath"), word(own, "/name")));
    }
}

/// The template of a controller's pods.
pub(super) fn template(page: &mut Page, template: &Value) {
    page.line(0, "Pod Template:");
    page.labels("  ", "Labels", &template["metadata"]["labels"]);
    if template["metadata"]["annotations"].as_object().is_some_and(|own| !own.is_empty()) {
        page.annotations("  ", &template["metadata"]["annotations"]);
    }
    let spec = &template["spec"];
    page.field_if(1, "Service Account", word(spec, "/serviceAccountName"));
    if list(spec, "/initContainers").next().is_some() {
        containers(page, "Init Containers", spec, "/initContainers", None, "  ");
    }
    containers(page, "Containers", spec, "/containers", None, "  ");
    super::volume::volumes(page, spec, "  ");
    spreads(page, spec, "  ");
    page.field_if(1, "Priority Class Name", word(spec, "/priorityClassName"));
    page.labels("  ", "Node-Selectors", &spec["nodeSelector"]);
    tolerations(page, spec, "  ");
}

pub(super) fn tolerations(page: &mut Page, spec: &Value, indent: &str) {
    let mut all: Vec<&Value> = list(spec, "/tolerations").collect();
    all.sort_by_key(|own| word(own, "/key"));
    let line = |own: &Value| {
        let (key, value, effect) = (word(own, "/key"), word(own, "/value"), word(own, "/effect"));
        let mut text = key.to_owned();
        if !value.is_empty() {
            text += &format!("={value}");
        }
        if !effect.is_empty() {
            text += &format!(":{effect}");
        }
        if word(own, "/operator") == "Exists" && value.is_empty() {
            text += if text.is_empty() { "op=Exists" } else { " op=Exists" };
        }
        if let Some(seconds) = own["tolerationSeconds"].as_i64() {
            text += &format!(" for {seconds}s");
        }
        text
    };
    page.below(indent, "Tolerations", all.into_iter().map(line).collect());
}

pub(super) fn spreads(page: &mut Page, spec: &Value, indent: &str) {
    let mut all: Vec<&Value> = list(spec, "/topologySpreadConstraints").collect();
    if all.is_empty() {
        return;
    }
    all.sort_by_key(|own| word(own, "/topologyKey"));
    let line = |own: &Value| {
        let what = word(own, "/whenUnsatisfiable");
        let mut text = format!(
            "{}:{what} when max skew {} is exceeded",
            word(own, "/topologyKey"),
            number(own, "/maxSkew")
        );
        if !own["labelSelector"].is_null() {
            text += &format!(" for selector {}", super::selector(&own["labelSelector"]));
        }
        text
    };
    page.below(indent, "Topology Spread Constraints", all.into_iter().map(line).collect());
}

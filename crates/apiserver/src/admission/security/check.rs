//! The rules of both levels (upstream's `pod-security-admission/policy`), in upstream's order and words.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Level;
use crate::cluster::items;

/// A rule: what of a pod it forbids, as a reason with details.
type Check = fn(&Value) -> Option<String>;

/// The rules of the middle level, by upstream's names for them.
const BASELINE: &[Check] = &[
    apparmor,
    added_capabilities,
    host_namespaces,
    host_paths,
    host_ports,
    host_probes,
    privileged,
    proc_mount,
    selinux,
    seccomp_unconfined,
    sysctls,
    windows,
];
/// Those of the strict level: the same, but for those that have a stricter one, and then its own.
const RESTRICTED: &[Check] = &[
    apparmor,
    host_namespaces,
    host_ports,
    host_probes,
    privileged,
    proc_mount,
    selinux,
    sysctls,
    windows,
    escalation,
    capabilities,
    volumes,
    non_root,
    root_user,
    seccomp,
];

/// Capabilities that containers have by default, and may ask for.
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Parameters of the kernel that a pod has for itself.
const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const SELINUX_TYPES: &[&str] =
    &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
/// Volumes that have nothing of the node.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What of a pod a level forbids.
pub(super) fn violations(level: Level, pod: &Value) -> Vec<String> {
    let checks = match level {
        Level::Privileged => &[],
        Level::Baseline => BASELINE,
        Level::Restricted => RESTRICTED,
    };
    checks.iter().filter_map(|check| check(pod)).collect()
}

/// A container, and what is said of its security.
fn containers(pod: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let kinds = ["initContainers", "containers", "ephemeralContainers"];
    let all = kinds.into_iter().flat_map(|kind| items(&pod["spec"][kind]));
    all.map(|container| {
        (container["name"].as_str().unwrap_or_default(), &container["securityContext"])
    })
}

fn named(pod: &Value, is_wrong: impl Fn(&Value) -> bool) -> Vec<&str> {
    containers(pod).filter(|(_, own)| is_wrong(own)).map(|(name, _)| name).collect()
}

/// `container "a"`, `containers "a", "b"`.
fn counted(one: &str, names: &[&str]) -> String {
    let end = if names.len() == 1 { "" } else { "s" };
    format!("{one}{end} {}", quoted(names))
}

fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| format!("{:?}", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `reason (DETAIL; DETAIL)`, if there is any detail.
fn told(reason: &str, details: &[String]) -> Option<String> {
    (!details.is_empty()).then(|| format!("{reason} ({})", details.join("; ")))
}

/// Who says something that is forbidden: the pod, containers, or both.
fn setters(pod: &Value, is_wrong: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut setters = Vec::new();
    if is_wrong(&pod["spec"]["securityContext"]) {
        setters.push("pod".to_owned());
    }
    let own = named(pod, is_wrong);
    if !own.is_empty() {
        setters.push(counted("container", &own));
    }
    setters
}

fn must_not(reason: &str, setters: &[String], what: &str) -> Option<String> {
    (!setters.is_empty())
        .then(|| format!("{reason} ({} must not set {what})", setters.join(" and ")))
}

fn apparmor(pod: &Value) -> Option<String> {
    const BETA: &str = "container.apparmor.security.beta.kubernetes.io/";
    let is_wrong = |own: &Value| own["appArmorProfile"]["type"] == "Unconfined";
    let mut details: Vec<String> = setters(pod, is_wrong)
        .iter()
        .map(|setter| format!("{setter} must not set AppArmor profile type to \"Unconfined\""))
        .collect();
    for (key, value) in pod["metadata"]["annotations"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let is_fine = matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
        if key.starts_with(BETA) && !is_fine {
            details.push(format!("annotation {key}={value:?}"));
        }
    }
    let end = if details.len() == 1 { "" } else { "s" };
    told(&format!("forbidden AppArmor profile{end}"), &details)
}

fn added_capabilities(pod: &Value) -> Option<String> {
    told("non-default capabilities", &added(pod, CAPABILITIES).into_iter().collect::<Vec<_>>())
}

/// That containers ask for other capabilities than these.
fn added(pod: &Value, allowed: &[&str]) -> Option<String> {
    let (mut names, mut wrong) = (Vec::new(), BTreeSet::new());
    for (name, own) in containers(pod) {
        let asked = items(&own["capabilities"]["add"]).iter().filter_map(Value::as_str);
        let others: Vec<&str> = asked.filter(|one| !allowed.contains(one)).collect();
        if !others.is_empty() {
            names.push(name);
            wrong.extend(others);
        }
    }
    let wrong: Vec<&str> = wrong.into_iter().collect();
    (!names.is_empty()).then(|| {
        let who = counted("container", &names);
        format!("{who} must not include {} in securityContext.capabilities.add", quoted(&wrong))
    })
}

fn host_namespaces(pod: &Value) -> Option<String> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"];
    let shared = fields.iter().filter(|field| pod["spec"][**field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    (!shared.is_empty()).then(|| format!("host namespaces ({})", shared.join(", ")))
}

fn host_paths(pod: &Value) -> Option<String> {
    let volumes = items(&pod["spec"]["volumes"]).iter();
    let paths = volumes.filter(|volume| !volume["hostPath"].is_null());
    let names: Vec<&str> = paths.filter_map(|volume| volume["name"].as_str()).collect();
    (!names.is_empty()).then(|| format!("hostPath volumes ({})", counted("volume", &names)))
}

fn host_ports(pod: &Value) -> Option<String> {
    let (mut names, mut ports) = (Vec::new(), BTreeSet::new());
    let kinds = ["initContainers", "containers", "ephemeralContainers"];
    for container in kinds.into_iter().flat_map(|kind| items(&pod["spec"][kind])) {
        let own = items(&container["ports"]).iter().filter_map(|port| port["hostPort"].as_i64());
        let own: Vec<i64> = own.filter(|port| *port != 0).collect();
        if !own.is_empty() {
            names.push(container["name"].as_str().unwrap_or_default());
            ports.extend(own);
        }
    }
    let end = if ports.len() == 1 { "" } else { "s" };
    let shown: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    (!names.is_empty()).then(|| {
        let who = counted("container", &names);
        format!("hostPort{end} ({who} {uses} hostPort{end} {})", shown.join(", "))
    })
}

/// Probes and hooks that ask another host than the pod.
fn host_probes(pod: &Value) -> Option<String> {
    const PLACES: &[&str] = &[
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    let kinds = ["initContainers", "containers", "ephemeralContainers"];
    for container in kinds.into_iter().flat_map(|kind| items(&pod["spec"][kind])) {
        for probe in PLACES.iter().filter_map(|place| container.pointer(place)) {
            let asked =
                ["httpGet", "tcpSocket"].iter().filter_map(|kind| probe[*kind]["host"].as_str());
            for host in asked.filter(|host| !host.is_empty()) {
                names.insert(container["name"].as_str().unwrap_or_default());
                hosts.insert(host);
            }
        }
    }
    let names: Vec<&str> = names.into_iter().collect();
    let hosts: Vec<&str> = hosts.into_iter().collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    (!names.is_empty()).then(|| {
        let (who, what) =
            (counted("container", &names), counted("probe or lifecycle host", &hosts));
        format!("probe or lifecycle host ({who} {uses} {what})")
    })
}

fn privileged(pod: &Value) -> Option<String> {
    let names = named(pod, |own| own["privileged"] == true);
    (!names.is_empty()).then(|| {
        let who = counted("container", &names);
        format!("privileged ({who} must not set securityContext.privileged=true)")
    })
}

fn proc_mount(pod: &Value) -> Option<String> {
    let is_wrong = |own: &Value| own["procMount"].as_str().is_some_and(|kind| kind != "Default");
    let names = named(pod, is_wrong);
    (!names.is_empty()).then(|| {
        let who = counted("container", &names);
        format!("procMount ({who} must not set securityContext.procMount to \"Unmasked\")")
    })
}

fn selinux(pod: &Value) -> Option<String> {
    let wrong_type = |own: &Value| {
        let kind = own["seLinuxOptions"]["type"].as_str().unwrap_or_default();
        (!SELINUX_TYPES.contains(&kind)).then(|| kind.to_owned())
    };
    let is_set = |own: &Value, field: &str| {
        own["seLinuxOptions"][field].as_str().is_some_and(|value| !value.is_empty())
    };
    let is_wrong =
        |own: &Value| wrong_type(own).is_some() || is_set(own, "user") || is_set(own, "role");
    let setters = setters(pod, is_wrong);
    if setters.is_empty() {
        return None;
    }
    let own = &pod["spec"]["securityContext"];
    let all: Vec<&Value> = containers(pod).map(|(_, own)| own).chain([own]).collect();
    let types: BTreeSet<String> = all.iter().filter_map(|own| wrong_type(own)).collect();
    let mut details = Vec::new();
    if !types.is_empty() {
        let end = if types.len() == 1 { "" } else { "s" };
        details.push(format!("type{end} {}", quoted(&types.into_iter().collect::<Vec<_>>())));
    }
    for field in ["user", "role"] {
        if all.iter().any(|own| is_set(own, field)) {
            details.push(format!("{field} may not be set"));
        }
    }
    Some(format!(
        "seLinuxOptions ({} set forbidden securityContext.seLinuxOptions: {})",
        setters.join(" and "),
        details.join("; ")
    ))
}

fn seccomp_unconfined(pod: &Value) -> Option<String> {
    let setters = setters(pod, |own| own["seccompProfile"]["type"] == "Unconfined");
    must_not("seccompProfile", &setters, "securityContext.seccompProfile.type to \"Unconfined\"")
}

fn sysctls(pod: &Value) -> Option<String> {
    let all = items(&pod["spec"]["securityContext"]["sysctls"]).iter();
    let names = all.filter_map(|sysctl| sysctl["name"].as_str());
    let wrong: Vec<&str> = names.filter(|name| !SYSCTLS.contains(name)).collect();
    (!wrong.is_empty()).then(|| format!("forbidden sysctls ({})", wrong.join(", ")))
}

fn windows(pod: &Value) -> Option<String> {
    let setters = setters(pod, |own| own["windowsOptions"]["hostProcess"] == true);
    must_not("hostProcess", &setters, "securityContext.windowsOptions.hostProcess=true")
}

fn is_windows(pod: &Value) -> bool {
    pod["spec"]["os"]["name"] == "windows"
}

fn escalation(pod: &Value) -> Option<String> {
    let names = named(pod, |own| own["allowPrivilegeEscalation"] != false);
    (!names.is_empty() && !is_windows(pod)).then(|| {
        let who = counted("container", &names);
        format!(
            "allowPrivilegeEscalation != false ({who} must set \
             securityContext.allowPrivilegeEscalation=false)"
        )
    })
}

fn capabilities(pod: &Value) -> Option<String> {
    if is_windows(pod) {
        return None;
    }
    let keeps = |own: &Value| !items(&own["capabilities"]["drop"]).iter().any(|one| one == "ALL");
    let names = named(pod, keeps);
    let mut details = Vec::new();
    if !names.is_empty() {
        let who = counted("container", &names);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    details.extend(added(pod, &["NET_BIND_SERVICE"]));
    told("unrestricted capabilities", &details)
}

fn volumes(pod: &Value) -> Option<String> {
    let (mut names, mut types) = (Vec::new(), BTreeSet::new());
    for volume in items(&pod["spec"]["volumes"]) {
        let kinds = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let kinds: Vec<&str> = kinds.filter(|key| *key != "name").collect();
        if !kinds.iter().any(|kind| VOLUMES.contains(kind)) {
            names.push(volume["name"].as_str().unwrap_or_default());
            types.extend(kinds);
        }
    }
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let end = if types.len() == 1 { "" } else { "s" };
    let types: Vec<&str> = types.into_iter().collect();
    (!names.is_empty()).then(|| {
        let who = counted("volume", &names);
        let what = format!("{uses} restricted volume type{end} {}", quoted(&types));
        format!("restricted volume types ({who} {what})")
    })
}

fn non_root(pod: &Value) -> Option<String> {
    const FIELD: &str = "securityContext.runAsNonRoot";
    let of_pod = &pod["spec"]["securityContext"]["runAsNonRoot"];
    let mut details = Vec::new();
    let mut wrong = setters(pod, |own| own["runAsNonRoot"] == false);
    // What all containers say themselves, the pod need not say.
    if containers(pod).all(|(_, own)| own["runAsNonRoot"] == true) {
        wrong.retain(|setter| setter != "pod");
    }
    if !wrong.is_empty() {
        details.push(format!("{} must not set {FIELD}=false", wrong.join(" and ")));
    }
    let silent = named(pod, |own| own["runAsNonRoot"].is_null());
    if !silent.is_empty() && of_pod.is_null() {
        details.push(format!("pod or {} must set {FIELD}=true", counted("container", &silent)));
    }
    told("runAsNonRoot != true", &details)
}

fn root_user(pod: &Value) -> Option<String> {
    must_not("runAsUser=0", &setters(pod, |own| own["runAsUser"] == 0), "runAsUser=0")
}

fn seccomp(pod: &Value) -> Option<String> {
    if is_windows(pod) {
        return None;
    }
    const FIELD: &str = "securityContext.seccompProfile.type";
    let kind = |own: &Value| own["seccompProfile"]["type"].as_str().map(str::to_owned);
    let is_wrong = |own: &Value| {
        kind(own).is_some_and(|kind| !matches!(kind.as_str(), "RuntimeDefault" | "Localhost"))
    };
    let mut details = Vec::new();
    let wrong = setters(pod, is_wrong);
    if !wrong.is_empty() {
        details.push(format!("{} must not set {FIELD} to \"Unconfined\"", wrong.join(" and ")));
    }
    let silent = named(pod, |own| kind(own).is_none());
    if !silent.is_empty() && kind(&pod["spec"]["securityContext"]).is_none() {
        let who = counted("container", &silent);
        details
            .push(format!("pod or {who} must set {FIELD} to \"RuntimeDefault\" or \"Localhost\""));
    }
    told("seccompProfile", &details)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: &Value) -> Value {
        json!({"spec": spec})
    }

    #[test]
    fn an_ordinary_pod_is_not_restricted_enough() {
        let ordinary = pod(&json!({"containers": [{"name": "c"}]}));
        assert_eq!(violations(Level::Baseline, &ordinary), Vec::<String>::new());
        assert_eq!(
            violations(Level::Restricted, &ordinary),
            [
                "allowPrivilegeEscalation != false (container \"c\" must set \
                 securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (container \"c\" must set \
                 securityContext.capabilities.drop=[\"ALL\"])",
                "runAsNonRoot != true (pod or container \"c\" must set \
                 securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or container \"c\" must set \
                 securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ]
        );
        let careful = pod(&json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            }}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }));
        assert_eq!(violations(Level::Restricted, &careful), Vec::<String>::new());
    }

    #[test]
    fn what_reaches_the_node_is_not_baseline() {
        let reaching = pod(&json!({
            "hostNetwork": true, "hostPID": true,
            "securityContext": {"sysctls": [{"name": "kernel.msgmax"}]},
            "initContainers": [{"name": "i", "securityContext": {"privileged": true}}],
            "containers": [{
                "name": "c", "ports": [{"hostPort": 80}],
                "securityContext": {
                    "privileged": true, "procMount": "Unmasked",
                    "capabilities": {"add": ["NET_ADMIN", "CHOWN"]},
                    "seLinuxOptions": {"type": "spc_t", "user": "u"},
                },
            }],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        }));
        assert_eq!(
            violations(Level::Baseline, &reaching),
            [
                "non-default capabilities (container \"c\" must not include \"NET_ADMIN\" in \
                 securityContext.capabilities.add)",
                "host namespaces (hostNetwork=true, hostPID=true)",
                "hostPath volumes (volume \"v\")",
                "hostPort (container \"c\" uses hostPort 80)",
                "privileged (containers \"i\", \"c\" must not set securityContext.privileged=true)",
                "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
                "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \
                 \"spc_t\"; user may not be set)",
                "forbidden sysctls (kernel.msgmax)",
            ]
        );
        let restricted = violations(Level::Restricted, &reaching);
        let volume =
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")";
        assert!(restricted.iter().any(|told| told == volume), "{restricted:?}");
        assert!(violations(Level::Privileged, &reaching).is_empty());
    }
}

//! Nodes and namespaces, described.

use objects::Quantity;
use serde_json::Value;

use super::super::{Outcome, list, word};
use super::page::{Page, scalar, time, truth};
use super::{Subject, since};

const CONDITIONS: &[(&str, &str)] = &[
    ("Type", "/type"),
    ("Status", "/status"),
    ("LastHeartbeatTime", "/lastHeartbeatTime"),
    ("LastTransitionTime", "/lastTransitionTime"),
    ("Reason", "/reason"),
    ("Message", "/message"),
];

pub(super) fn node(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let node = subject.object;
    page.field(0, "Name", super::name(node));
    page.field(0, "Roles", roles(node));
    page.labels_of(node);
    page.field(0, "CreationTimestamp", time(word(node, "/metadata/creationTimestamp")));
    let taint = |own: &Value| {
        let value = match word(own, "/value") {
            "" => String::new(),
            value => format!("={value}"),
        };
        format!("{}{value}:{}", word(own, "/key"), word(own, "/effect"))
    };
    let mut taints: Vec<&Value> = list(node, "/spec/taints").collect();
    taints.sort_by_key(|own| (word(own, "/effect"), word(own, "/key")));
    page.below("", "Taints", taints.into_iter().map(taint).collect());
    page.field(0, "Unschedulable", truth(node, "/spec/unschedulable"));
    lease(subject, page);
    page.conditions(node, CONDITIONS, " ");
    page.line(0, "Addresses:");
    for own in list(node, "/status/addresses") {
        page.field(1, word(own, "/type"), word(own, "/address"));
    }
    for (name, field) in [("Capacity:", "capacity"), ("Allocatable:", "allocatable")] {
        let mut all: Vec<(&String, &Value)> =
            node["status"][field].as_object().into_iter().flatten().collect();
        all.sort_by_key(|(key, _)| *key);
        if !all.is_empty() {
            page.line(0, name);
        }
        all.iter().for_each(|(key, value)| page.field(1, key, value.as_str().unwrap_or_default()));
    }
    system(page, node);
    pods(subject, page)
}

fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str(),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn lease(subject: &Subject<'_>, page: &mut Page) {
    let kind = subject.cluster.kind("leases.coordination.k8s.io");
    let name = super::name(subject.object);
    let lease = kind.and_then(|kind| subject.cluster.get(&kind, "kube-node-lease", name));
    let lease = match lease {
        Ok(lease) => lease,
        Err(trouble) => {
            let why = trouble.message();
            return page.line(0, &format!("Lease:\tFailed to get lease: {why}"));
        }
    };
    page.line(0, "Lease:");
    page.field(1, "HolderIdentity", scalar(&lease, "/spec/holderIdentity", "<unset>"));
    for (name, field) in [("AcquireTime", "/spec/acquireTime"), ("RenewTime", "/spec/renewTime")] {
        let text = match word(&lease, field) {
            "" => "<unset>".to_owned(),
            text => time(text),
        };
        page.field(1, name, text);
    }
}

fn system(page: &mut Page, node: &Value) {
    page.line(0, "System Info:");
    for (name, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        page.field(1, name, node["status"]["nodeInfo"][field].as_str().unwrap_or_default());
    }
    page.field_if(1, "Kube-Proxy Version", word(node, "/status/nodeInfo/kubeProxyVersion"));
    page.field_if(0, "PodCIDR", word(node, "/spec/podCIDR"));
    let ranges: Vec<&str> = list(node, "/spec/podCIDRs").filter_map(Value::as_str).collect();
    page.field_if(0, "PodCIDRs", &ranges.join(","));
    page.field_if(0, "ProviderID", word(node, "/spec/providerID"));
}

/// What a pod asks for of a resource, or may have of it.
fn sum(pod: &Value, list_name: &str, resource: &str) -> Quantity {
    let of = |container: &Value| -> Quantity {
        let text = container["resources"][list_name][resource].as_str().unwrap_or("0");
        text.parse().unwrap_or(Quantity::units(0))
    };
    let total: i64 = list(pod, "/spec/containers").map(|own| of(own).milli_value()).sum();
    let first = list(pod, "/spec/initContainers").map(|own| of(own).milli_value()).max();
    Quantity::milli(total.max(first.unwrap_or(0)))
}

fn pods(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let node = subject.object;
    let pods = subject.cluster.kind("pods")?;
    let fields =
        format!("spec.nodeName={},status.phase!=Succeeded,status.phase!=Failed", super::name(node));
    let pods = subject.cluster.list(&pods, "", &vec![("fieldSelector", fields)])?;
    page.line(0, &format!("Non-terminated Pods:\t({} in total)", pods.len()));
    page.line(
        1,
        "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
    );
    page.line(
        1,
        "---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    );
    let allocatable = |resource: &str| -> i64 {
        let text = node["status"]["allocatable"][resource].as_str().unwrap_or("0");
        text.parse().map_or(0, Quantity::milli_value)
    };
    let share = |amount: Quantity, resource: &str| {
        let all = allocatable(resource);
        let percent =
            if all == 0 { 0 } else { i128::from(amount.milli_value()) * 100 / i128::from(all) };
        format!("{} ({percent}%)", shown(amount, resource))
    };
    for pod in &pods {
        let cells: Vec<String> =
            [("requests", "cpu"), ("limits", "cpu"), ("requests", "memory"), ("limits", "memory")]
                .iter()
                .map(|(list, resource)| share(sum(pod, list, resource), resource))
                .collect();
        let age = since(word(pod, "/metadata/creationTimestamp"));
        page.line(
            1,
            &format!(
                "{}\t{}\t\t{}\t{age}",
                super::namespace(pod),
                super::name(pod),
                cells.join("\t")
            ),
        );
    }
    page.line(0, "Allocated resources:");
    page.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)");
    page.line(1, "Resource\tRequests\tLimits");
    page.line(1, "--------\t--------\t------");
    let mut names = vec!["cpu", "memory", "ephemeral-storage"];
    let others = node["status"]["allocatable"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str());
    let known = ["cpu", "memory", "ephemeral-storage", "pods"];
    names.extend(others.filter(|name| !known.contains(name)));
    for name in names {
        let total = |list: &str| {
            let milli: i64 = pods.iter().map(|pod| sum(pod, list, name).milli_value()).sum();
            Quantity::milli(milli)
        };
        let cell = |list: &str| match known.contains(&name) && !name.starts_with("hugepages")
            || name.starts_with("hugepages")
        {
            true => share(total(list), name),
            false => shown(total(list), name),
        };
        page.line(1, &format!("{name}\t{}\t{}", cell("requests"), cell("limits")));
    }
    Ok(())
}

/// An amount as Kubernetes writes it: of memory in powers of 1024 where it is a whole number of them.
fn shown(amount: Quantity, resource: &str) -> String {
    if resource == "cpu" {
        let milli = amount.milli_value();
        return if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") };
    }
    let mut value = amount.value();
    let mut units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value != 0 && value % 1024 == 0 {
        let Some(next) = units.next() else { break };
        value /= 1024;
        unit = next;
    }
    format!("{value}{unit}")
}

pub(super) fn namespace(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.field(0, "Name", super::name(of));
    page.labels_of(of);
    page.field(0, "Status", word(of, "/status/phase"));
    let columns = [
        ("Type", "/type"),
        ("LastTransitionTime", "/lastTransitionTime"),
        ("Status", "/status"),
        ("Reason", "/reason"),
        ("Message", "/message"),
    ];
    page.conditions(of, &columns, " ");
    quotas(subject, page)?;
    ranges(subject, page)
}

fn inside(subject: &Subject<'_>, kind: &str) -> Outcome<Vec<Value>> {
    let kind = subject.cluster.kind(kind)?;
    subject.cluster.list(&kind, super::name(subject.object), &Vec::new())
}

fn quotas(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let all = inside(subject, "resourcequotas")?;
    page.line(0, "");
    if all.is_empty() {
        page.line(0, "No resource quota.");
        return Ok(());
    }
    page.line(0, "Resource Quotas");
    for quota in &all {
        page.field(1, "Name", super::name(quota));
        limits(page, 1, "---", quota);
    }
    Ok(())
}

/// What of a quota is used; the rule below the heads has not the same length everywhere.
fn limits(page: &mut Page, level: usize, rule: &str, quota: &Value) {
    let scopes: Vec<&str> = list(quota, "/spec/scopes").filter_map(Value::as_str).collect();
    if !scopes.is_empty() {
        page.field(level, "Scopes", scopes.join(", "));
    }
    page.line(level, "Resource\tUsed\tHard");
    page.line(level, &format!("--------\t{rule}\t{rule}"));
    let mut hard: Vec<(&String, &Value)> =
        quota["status"]["hard"].as_object().into_iter().flatten().collect();
    hard.sort_by_key(|(key, _)| *key);
    for (key, value) in hard {
        let used = quota["status"]["used"][key].as_str().unwrap_or("0");
        page.line(level, &format!("{key}\t{used}\t{}", value.as_str().unwrap_or_default()));
    }
}

fn ranges(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let all = inside(subject, "limitranges")?;
    page.line(0, "");
    if all.is_empty() {
        page.line(0, "No LimitRange resource.");
        return Ok(());
    }
    page.line(0, "Resource Limits");
    page.line(1, RANGE);
    page.line(1, RANGE_RULE);
    all.iter().for_each(|range| range_lines(page, 1, range));
    Ok(())
}

const RANGE: &str =
    "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio";
const RANGE_RULE: &str =
    "----\t--------\t---\t---\t---------------\t-------------\t-----------------------";

fn range_lines(page: &mut Page, level: usize, range: &Value) {
    for item in list(range, "/spec/limits") {
        let fields = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
        let objects = fields.iter().filter_map(|field| item[*field].as_object());
        let mut resources: Vec<&String> = objects.flat_map(|own| own.keys()).collect();
        resources.sort();
        resources.dedup();
        for resource in resources {
            let cells: Vec<&str> =
                fields.iter().map(|field| item[*field][resource].as_str().unwrap_or("-")).collect();
            page.line(level, &format!("{}\t{resource}\t{}", word(item, "/type"), cells.join("\t")));
        }
    }
}

pub(super) fn quota(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    page.head(subject.object);
    limits(page, 0, "----", subject.object);
    Ok(())
}

pub(super) fn range(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    page.head(subject.object);
    page.line(0, RANGE);
    page.line(0, RANGE_RULE);
    range_lines(page, 0, subject.object);
    Ok(())
}

pub(super) fn account(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.labels_of(of);
    let secrets = list(of, "/imagePullSecrets").map(|own| word(own, "/name").to_owned());
    page.below("", "Image pull secrets", secrets.collect());
    Ok(())
}

pub(super) fn priority(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.field(0, "Name", super::name(of));
    page.field(0, "Value", scalar(of, "/value", "0"));
    page.field(0, "GlobalDefault", truth(of, "/globalDefault"));
    page.field(0, "PreemptionPolicy", word(of, "/preemptionPolicy"));
    page.field(0, "Description", word(of, "/description"));
    page.annotations("", &of["metadata"]["annotations"]);
    Ok(())
}

//! Pods, described.

use super::super::{Outcome, list, word};
use super::page::{Page, number, time};
use super::{Subject, since, template, volume};

pub(super) fn describe(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let pod = subject.object;
    page.head(pod);
    if let Some(priority) = pod["spec"]["priority"].as_i64() {
        page.field(0, "Priority", priority);
    }
    page.field_if(0, "Priority Class Name", word(pod, "/spec/priorityClassName"));
    page.field_if(0, "Runtime Class Name", word(pod, "/spec/runtimeClassName"));
    page.field_if(0, "Service Account", word(pod, "/spec/serviceAccountName"));
    match word(pod, "/spec/nodeName") {
        "" => page.field(0, "Node", "<none>"),
        node => page.field(0, "Node", format!("{node}/{}", word(pod, "/status/hostIP"))),
    }
    if !pod["status"]["startTime"].is_null() {
        page.field(0, "Start Time", time(word(pod, "/status/startTime")));
    }
    page.labels_of(pod);
    status(subject, page);
    page.controller(pod);
    page.field_if(0, "NominatedNodeName", word(pod, "/status/nominatedNodeName"));
    template::resources(page, &pod["spec"]["resources"], 0);
    containers(subject, page);
    conditions(subject, page);
    volume::volumes(page, &pod["spec"], "");
    page.field_if(0, "QoS Class", word(pod, "/status/qosClass"));
    page.labels("", "Node-Selectors", &pod["spec"]["nodeSelector"]);
    template::tolerations(page, &pod["spec"], "");
    template::spreads(page, &pod["spec"], "");
    Ok(())
}

fn status(subject: &Subject<'_>, page: &mut Page) {
    let pod = subject.object;
    let phase = word(pod, "/status/phase");
    let removed = word(pod, "/metadata/deletionTimestamp");
    if removed.is_empty() || matches!(phase, "Failed" | "Succeeded") {
        page.field(0, "Status", phase);
    } else {
        page.field(0, "Status", format!("Terminating (lasts {})", since(removed)));
        let grace = number(pod, "/metadata/deletionGracePeriodSeconds");
        page.field(0, "Termination Grace Period", format!("{grace}s"));
    }
    page.field_if(0, "Reason", word(pod, "/status/reason"));
    page.field_if(0, "Message", word(pod, "/status/message"));
    let profile = &pod["spec"]["securityContext"]["seccompProfile"];
    page.field_if(0, "SeccompProfile", word(profile, "/type"));
    page.field_if(0, "LocalhostProfile", word(profile, "/localhostProfile"));
    page.field(0, "IP", word(pod, "/status/podIP"));
    let addresses: Vec<_> = list(pod, "/status/podIPs").collect();
    page.line(0, if addresses.is_empty() { "IPs:\t<none>" } else { "IPs:" });
    addresses.iter().for_each(|own| page.field(1, "IP", word(own, "/ip")));
}

fn containers(subject: &Subject<'_>, page: &mut Page) {
    let pod = subject.object;
    for (label, field, status) in [
        ("Init Containers", "/spec/initContainers", "/status/initContainerStatuses"),
        ("Containers", "/spec/containers", "/status/containerStatuses"),
        ("Ephemeral Containers", "/spec/ephemeralContainers", "/status/ephemeralContainerStatuses"),
    ] {
        if label == "Containers" || list(pod, field).next().is_some() {
            template::containers(page, label, pod, field, Some((pod, status)), "");
        }
    }
}

fn conditions(subject: &Subject<'_>, page: &mut Page) {
    let pod = subject.object;
    let gates: Vec<_> = list(pod, "/spec/readinessGates").collect();
    if !gates.is_empty() {
        page.line(0, "Readiness Gates:");
        page.line(1, "Type\tStatus");
        for gate in gates {
            let kind = word(gate, "/conditionType");
            let found = list(pod, "/status/conditions").find(|own| word(own, "/type") == kind);
            let status = found.map_or("<none>", |own| word(own, "/status"));
            page.line(1, &format!("{kind} \t{status} "));
        }
    }
    let all: Vec<_> = list(pod, "/status/conditions").collect();
    if all.is_empty() {
        return;
    }
    page.line(0, "Conditions:");
    page.line(1, "Type\tStatus");
    for own in all {
        page.line(1, &format!("{} \t{} ", word(own, "/type"), word(own, "/status")));
    }
}

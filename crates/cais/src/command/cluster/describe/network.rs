//! Services and ingresses, described.

use serde_json::Value;

use super::super::table::pairs;
use super::super::{Outcome, list, word};
use super::Subject;
use super::page::{Page, number, scalar};

pub(super) fn service(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.labels_of(of);
    let selector = pairs(&of["spec"]["selector"], ",").unwrap_or_else(|| "<none>".to_owned());
    page.field(0, "Selector", selector);
    page.field(0, "Type", word(of, "/spec/type"));
    page.field_if(0, "IP Family Policy", word(of, "/spec/ipFamilyPolicy"));
    page.field(0, "IP Families", words(of, "/spec/ipFamilies", ","));
    page.field(0, "IP", word(of, "/spec/clusterIP"));
    page.field(0, "IPs", words(of, "/spec/clusterIPs", ","));
    let external = words(of, "/spec/externalIPs", ",");
    if external != "<none>" {
        page.field(0, "External IPs", external);
    }
    page.field_if(0, "IP Address", word(of, "/spec/loadBalancerIP"));
    page.field_if(0, "External Name", word(of, "/spec/externalName"));
    let balanced: Vec<String> = list(of, "/status/loadBalancer/ingress")
        .map(|own| match word(own, "/ip") {
            "" => word(own, "/hostname").to_owned(),
            ip => match word(own, "/ipMode") {
                "" => ip.to_owned(),
                mode => format!("{ip} ({mode})"),
            },
        })
        .collect();
    if !balanced.is_empty() {
        page.field(0, "LoadBalancer Ingress", balanced.join(", "));
    }
    ports(subject, page)?;
    page.field(0, "Session Affinity", word(of, "/spec/sessionAffinity"));
    page.field_if(0, "External Traffic Policy", word(of, "/spec/externalTrafficPolicy"));
    page.field_if(0, "Internal Traffic Policy", word(of, "/spec/internalTrafficPolicy"));
    page.field_if(0, "TrafficDistribution", word(of, "/spec/trafficDistribution"));
    if number(of, "/spec/healthCheckNodePort") != 0 {
        page.field(0, "HealthCheck NodePort", number(of, "/spec/healthCheckNodePort"));
    }
    Ok(())
}

fn words(of: &Value, pointer: &str, between: &str) -> String {
    let all: Vec<&str> = list(of, pointer).filter_map(Value::as_str).collect();
    if all.is_empty() { "<none>".to_owned() } else { all.join(between) }
}

fn ports(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    let query = vec![("labelSelector", format!("kubernetes.io/service-name={}", super::name(of)))];
    let slices = subject.list("endpointslices.discovery.k8s.io", &query)?;
    for port in list(of, "/spec/ports") {
        let (name, protocol) = (word(port, "/name"), word(port, "/protocol"));
        let shown = if name.is_empty() { "<unset>" } else { name };
        page.line(0, &format!("Port:\t{shown}\t{}/{protocol}", number(port, "/port")));
        let target = scalar(port, "/targetPort", "0");
        page.line(0, &format!("TargetPort:\t{target}/{protocol}"));
        if number(port, "/nodePort") != 0 {
            page.line(0, &format!("NodePort:\t{shown}\t{}/{protocol}", number(port, "/nodePort")));
        }
        page.field(0, "Endpoints", endpoints(&slices, name));
    }
    Ok(())
}

/// The addresses of those that are ready, at most three.
fn endpoints(slices: &[Value], name: &str) -> String {
    let mut all = Vec::new();
    for slice in slices {
        let port = list(slice, "/ports").find(|port| word(port, "/name") == name);
        let Some(port) = port else { continue };
        for endpoint in list(slice, "/endpoints") {
            if endpoint["conditions"]["ready"].as_bool().unwrap_or(true) {
                all.extend(list(endpoint, "/addresses").filter_map(Value::as_str).map(|address| {
                    match address.contains(':') {
                        true => format!("[{address}]:{}", number(port, "/port")),
                        false => format!("{address}:{}", number(port, "/port")),
                    }
                }));
            }
        }
    }
    let more = all.len().saturating_sub(3);
    all.truncate(3);
    match (all.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => all.join(","),
        (false, more) => format!("{} + {more} more...", all.join(",")),
    }
}

pub(super) fn ingress(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.field(0, "Name", super::name(of));
    page.labels("", "Labels", &of["metadata"]["labels"]);
    page.field(0, "Namespace", super::namespace(of));
    let addresses: Vec<&str> =
        list(of, "/status/loadBalancer/ingress")
            .map(|own| {
                if word(own, "/ip").is_empty() { word(own, "/hostname") } else { word(own, "/ip") }
            })
            .collect();
    page.field(0, "Address", addresses.join(","));
    page.field(0, "Ingress Class", scalar(of, "/spec/ingressClassName", "<none>"));
    let default = &of["spec"]["defaultBackend"];
    page.field(
        0,
        "Default backend",
        match default.is_null() {
            true => "<default>".to_owned(),
            false => backend(subject, default),
        },
    );
    let tls: Vec<&Value> = list(of, "/spec/tls").collect();
    if !tls.is_empty() {
        page.line(0, "TLS:");
        for own in tls {
            let hosts: Vec<&str> = list(own, "/hosts").filter_map(Value::as_str).collect();
            match word(own, "/secretName") {
                "" => page.line(1, &format!("SNI routes {}", hosts.join(","))),
                secret => page.line(1, &format!("{secret} terminates {}", hosts.join(","))),
            }
        }
    }
    page.line(0, "Rules:");
    page.line(1, "Host\tPath\tBackends");
    page.line(1, "----\t----\t--------");
    let mut count = 0;
    for rule in list(of, "/spec/rules").filter(|rule| !rule["http"].is_null()) {
        count += 1;
        let host = word(rule, "/host");
        page.line(1, &format!("{}\t", if host.is_empty() { "*" } else { host }));
        for path in list(rule, "/http/paths") {
            page.line(
                1,
                &format!("  \t{} \t{}", word(path, "/path"), backend(subject, &path["backend"])),
            );
        }
    }
    if count == 0 {
        let default =
            if default.is_null() { "<default>".to_owned() } else { backend(subject, default) };
        page.line(1, &format!("*\t*\t{default}"));
    }
    page.annotations("", &of["metadata"]["annotations"]);
    Ok(())
}

/// `web:80 (10.0.0.1:80)`
fn backend(subject: &Subject<'_>, backend: &Value) -> String {
    let service = &backend["service"];
    if service.is_null() {
        let own = &backend["resource"];
        return format!(
            "APIGroup: {}, Kind: {}, Name: {}",
            word(own, "/apiGroup"),
            word(own, "/kind"),
            word(own, "/name")
        );
    }
    let name = word(service, "/name");
    let port = match word(service, "/port/name") {
        "" => number(service, "/port/number").to_string(),
        name => name.to_owned(),
    };
    format!("{name}:{port} ({})", behind(subject, name, &service["port"]))
}

fn behind(subject: &Subject<'_>, name: &str, port: &Value) -> String {
    let namespace = super::namespace(subject.object);
    let kind = subject.cluster.kind("services");
    let service = match kind.and_then(|kind| subject.cluster.get(&kind, namespace, name)) {
        Ok(service) => service,
        Err(trouble) => return format!("<error: {}>", trouble.message()),
    };
    let is_own = |own: &&Value| match word(port, "/name") {
        "" => own["port"] == port["number"],
        name => word(own, "/name") == name,
    };
    let of_port = list(&service, "/spec/ports").find(is_own).map_or("", |own| word(own, "/name"));
    let query = vec![("labelSelector", format!("kubernetes.io/service-name={name}"))];
    let slices = subject.list("endpointslices.discovery.k8s.io", &query).unwrap_or_default();
    endpoints(&slices, of_port)
}

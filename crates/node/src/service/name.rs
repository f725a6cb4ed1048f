//! The cluster's names (Kubernetes DNS-Based Service Discovery, version 1.1.0); pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use client::Object;
use engine::service::{Answer, Question, Target};
use serde_json::Value;

use super::book::Book;
use crate::field::{items, text, texts};

/// The answer to a question about the cluster whose domain this is; none if others are to be asked.
pub(crate) fn answer(book: &Book, domain: &str, question: &Question) -> Option<Answer> {
    if let Some(address) = question.address() {
        return name_of(book, domain, address).map(Answer::Name);
    }
    let name = question.name.to_ascii_lowercase();
    let inside = match name.strip_suffix(domain)? {
        "" => "",
        inside => inside.strip_suffix('.')?,
    };
    let labels: Vec<&str> = inside.split('.').filter(|label| !label.is_empty()).collect();
    let exists = || Answer::Addresses(Vec::new());
    Some(match labels.as_slice() {
        [] | ["svc" | "pod"] => exists(),
        [space, "svc" | "pod"] if book.has_namespace(space) => exists(),
        [address, _, "pod"] => of_pod(address),
        [own, space, "svc"] => of_service(book, space, own),
        [host, own, space, "svc"] => of_host(book, space, own, host),
        [port, protocol, own, space, "svc"] => {
            of_port(book, domain, (space, own), (port, protocol))
        }
        _ => Answer::NotFound,
    })
}

/// `10-42-0-7`, or `fd00--7`: whether there is such a pod is not asked, as upstream's default has it.
fn of_pod(label: &str) -> Answer {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
    let address = v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from));
    address.map_or(Answer::NotFound, |address| Answer::Addresses(vec![address]))
}

/// A service that is there, and its slices.
fn find(book: &Book, space: &str, own: &str) -> Option<(Object, Vec<Object>)> {
    let (service, slices) = book.service(&(space.to_owned(), own.to_owned()));
    Some((service?, slices))
}

fn of_service(book: &Book, space: &str, own: &str) -> Answer {
    let Some((service, slices)) = find(book, space, own) else { return Answer::NotFound };
    match text(&service, &["spec", "type"]) {
        "ExternalName" => {
            let other = text(&service, &["spec", "externalName"]);
            Answer::Alias(other.trim_end_matches('.').to_owned())
        }
        _ => Answer::Addresses(own_addresses(&service).unwrap_or_else(|| {
            hosts(slices.iter()).into_iter().map(|host| host.address).collect()
        })),
    }
}

fn of_host(book: &Book, space: &str, own: &str, wanted: &str) -> Answer {
    let Some((service, slices)) = find(book, space, own) else { return Answer::NotFound };
    if own_addresses(&service).is_some() {
        return Answer::NotFound;
    }
    let mut all = hosts(slices.iter());
    all.retain(|host| host.name == wanted);
    if all.is_empty() {
        return Answer::NotFound;
    }
    Answer::Addresses(all.into_iter().map(|host| host.address).collect())
}

/// Who provides `_http._tcp`.
fn of_port(
    book: &Book,
    domain: &str,
    (space, own): (&str, &str),
    (port, protocol): (&str, &str),
) -> Answer {
    let found = find(book, space, own);
    let (Some((service, slices)), Some(port), Some(protocol)) =
        (found, port.strip_prefix('_'), protocol.strip_prefix('_'))
    else {
        return Answer::NotFound;
    };
    let is_wanted = |one: &&Value| {
        let own = match text(one, &["protocol"]) {
            "" => "TCP",
            own => own,
        };
        text(one, &["name"]) == port && own.eq_ignore_ascii_case(protocol)
    };
    let number = |ports: &[Value]| {
        let found = ports.iter().find(is_wanted);
        found.and_then(|one| u16::try_from(one["port"].as_u64()?).ok())
    };
    let name = format!("{own}.{space}.svc.{domain}");
    let targets: Vec<Target> = match own_addresses(&service) {
        Some(addresses) => {
            let port = number(items(&service["spec"], "ports"));
            port.map(|port| Target { name, port, addresses }).into_iter().collect()
        }
        None => slices
            .iter()
            .filter_map(|slice| Some((slice, number(items(slice, "ports"))?)))
            .flat_map(|(slice, port)| {
                hosts([slice]).into_iter().map(move |host| (host, port)).collect::<Vec<_>>()
            })
            .map(|(host, port)| Target {
                name: format!("{}.{name}", host.name),
                port,
                addresses: vec![host.address],
            })
            .collect(),
    };
    if targets.is_empty() { Answer::NotFound } else { Answer::Services(targets) }
}

/// The addresses of a service that has its own.
fn own_addresses(service: &Value) -> Option<Vec<IpAddr>> {
    let spec = &service["spec"];
    if matches!(text(spec, &["clusterIP"]), "" | "None") {
        return None;
    }
    let all = texts(spec, "clusterIPs");
    let first = [text(spec, &["clusterIP"]).to_owned()];
    let all = if all.is_empty() { &first[..] } else { &all[..] };
    Some(all.iter().filter_map(|one| one.parse().ok()).collect())
}

/// One that answers for a service without an address.
struct Host {
    name: String,
    address: IpAddr,
}

/// Those that are ready. One without a name of its own is called by its address.
fn hosts<'a>(slices: impl IntoIterator<Item = &'a Object>) -> Vec<Host> {
    let endpoints = slices.into_iter().flat_map(|slice| items(slice, "endpoints"));
    let ready = endpoints.filter(|one| one["conditions"]["ready"] != false);
    let all = ready.flat_map(|one| {
        let own = text(one, &["hostname"]);
        texts(one, "addresses").into_iter().filter_map(move |address| {
            let name = match own {
                "" => address.replace(['.', ':'], "-"),
                own => own.to_owned(),
            };
            Some(Host { name, address: address.parse().ok()? })
        })
    });
    all.collect()
}

/// Who has an address: a service, or one that answers for a service without an address.
fn name_of(book: &Book, domain: &str, address: IpAddr) -> Option<String> {
    book.all().find_map(|((space, own), service, slices)| {
        let name = format!("{own}.{space}.svc.{domain}");
        match own_addresses(service) {
            Some(all) => all.contains(&address).then_some(name),
            None => {
                let mut all = hosts(slices).into_iter();
                let host = all.find(|host| host.address == address)?;
                Some(format!("{}.{name}", host.name))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use client::{Change, Key};
    use serde_json::json;

    use super::*;

    fn put(book: &mut Book, kind: &'static str, name: &str, object: Value) {
        let key = Key::new(kind, "shop", name);
        book.take(&Change { key, before: None, now: Some(Arc::new(object)) });
    }

    fn book() -> Book {
        let mut book = Book::default();
        let ports = json!([{"name": "http", "port": 80}]);
        let web = json!({"spec": {"clusterIP": "10.96.0.7", "ports": ports}});
        put(&mut book, "Service", "web", web);
        put(&mut book, "Service", "db", json!({"spec": {"clusterIP": "None", "ports": ports}}));
        let outside = json!({"spec": {"type": "ExternalName", "externalName": "example.com."}});
        put(&mut book, "Service", "outside", outside);
        let slice = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.42.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.3"]},
                {"addresses": ["10.42.0.4"], "conditions": {"ready": false}},
            ],
        });
        put(&mut book, "EndpointSlice", "db-x", slice);
        book
    }

    /// Asks for a name, with a type of record.
    fn ask(book: &Book, name: &str, kind: u8) -> Option<Answer> {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, kind, 0, 1]);
        answer(book, "cluster.local", &Question::parse(&message).unwrap())
    }

    #[test]
    fn names_of_the_cluster_are_answered_and_others_passed_on() {
        let book = book();
        let check = |name: &str, expected: &[&str]| {
            let expected = expected.iter().map(|one| one.parse().unwrap()).collect();
            let name = format!("{name}.cluster.local");
            assert_eq!(ask(&book, &name, 1), Some(Answer::Addresses(expected)), "{name}");
        };
        check("web.shop.svc", &["10.96.0.7"]);
        check("WEB.Shop.svc", &["10.96.0.7"]);
        check("db.shop.svc", &["10.42.0.2", "10.42.0.3"]);
        check("db-0.db.shop.svc", &["10.42.0.2"]);
        check("10-42-0-3.db.shop.svc", &["10.42.0.3"]);
        check("10-1-2-3.any.pod", &["10.1.2.3"]);
        check("shop.svc", &[]);
        for name in
            ["no.shop.svc", "web.no.svc", "no.svc", "x.web.shop.svc", "db-1.db.shop.svc", "x"]
        {
            let asked = ask(&book, &format!("{name}.cluster.local"), 1);
            assert_eq!(asked, Some(Answer::NotFound), "{name}");
        }
        let alias = ask(&book, "outside.shop.svc.cluster.local", 1);
        assert_eq!(alias, Some(Answer::Alias("example.com".into())));
        for name in ["example.com", "notcluster.local", "web.shop"] {
            assert_eq!(ask(&book, name, 1), None, "{name}");
        }
    }

    #[test]
    fn ports_with_names_lead_to_who_provides_them() {
        let book = book();
        let target = |name: &str, port, address: &str| Target {
            name: format!("{name}.shop.svc.cluster.local"),
            port,
            addresses: vec![address.parse().unwrap()],
        };
        let ask = |name: &str| ask(&book, &format!("{name}.shop.svc.cluster.local"), 33);
        let web = vec![target("web", 80, "10.96.0.7")];
        assert_eq!(ask("_http._tcp.web"), Some(Answer::Services(web)));
        let hosts =
            vec![target("db-0.db", 8080, "10.42.0.2"), target("10-42-0-3.db", 8080, "10.42.0.3")];
        assert_eq!(ask("_http._tcp.db"), Some(Answer::Services(hosts)));
        assert_eq!(ask("_http._udp.web"), Some(Answer::NotFound));
        assert_eq!(ask("http.tcp.web"), Some(Answer::NotFound));
    }

    #[test]
    fn addresses_have_names() {
        let book = book();
        let ask = |name: &str| ask(&book, &format!("{name}.in-addr.arpa"), 12);
        let name = |name: &str| Some(Answer::Name(format!("{name}.shop.svc.cluster.local")));
        assert_eq!(ask("7.0.96.10"), name("web"));
        assert_eq!(ask("2.0.42.10"), name("db-0.db"));
        assert_eq!(ask("3.0.42.10"), name("10-42-0-3.db"));
        assert_eq!(ask("4.0.42.10"), None);
    }
}

//! What a container finds in /etc about names.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;

use crate::container::{Container, Placement};
use crate::error::{Doing, Result};
use crate::settings::{NetworkMode, Settings};

/// Name servers for a host that only has one on its own loopback interface, as in Docker.
const NAME_SERVERS: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n";
/// Where a container on a network that users made finds its monitor's name server.
pub(crate) const OWN_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Writes the files that are mounted over the container's /etc/hosts, hostname and resolv.conf;
/// `links` are addresses and names of other containers.
pub(crate) fn write_files(
    container: &Container,
    places: &[Placement],
    links: &[(Ipv4Addr, String)],
) -> Result<()> {
    let settings = &container.record.settings;
    if !settings.in_pod.is_empty() {
        // It has those of its pod.
        return Ok(());
    }
    let hostname = container.record.config_hostname();
    let host = settings.network == NetworkMode::Host;
    let mut hosts = match fs::read_to_string("/etc/hosts") {
        Ok(hosts) if host => hosts,
        _ => hosts(&hostname, &settings.domainname, places),
    };
    let gateway = places.first().map(|place| place.endpoint.gateway);
    add_hosts(&mut hosts, settings, gateway, links);
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolv = match host && !has_own_resolver(settings) {
        true => resolv,
        false => {
            resolver(&resolv, settings, places.iter().any(|place| place.endpoint.v6.is_some()))
        }
    };
    let hostname = format!("{hostname}\n");
    for (name, text) in [("hosts", hosts), ("hostname", hostname), ("resolv.conf", resolv)] {
        // Nobody reads them while the container is being started, so they need not appear whole.
        let path = container.name_file(name);
        fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn hosts(hostname: &str, domain: &str, places: &[Placement]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for place in places {
        let full = if domain.is_empty() { String::new() } else { format!("{hostname}.{domain} ") };
        // Writing to a string cannot fail.
        for address in place.endpoint.addresses() {
            let _ = writeln!(text, "{address}\t{full}{hostname}");
        }
    }
    text
}

fn add_hosts(
    text: &mut String,
    settings: &Settings,
    gateway: Option<Ipv4Addr>,
    links: &[(Ipv4Addr, String)],
) {
    for (name, address) in &settings.extra_hosts {
        let address = match (address.as_str(), gateway) {
            ("host-gateway", Some(gateway)) => gateway.to_string(),
            ("host-gateway", None) => "127.0.0.1".to_owned(),
            (address, _) => address.to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    for (address, names) in links {
        let _ = writeln!(text, "{address}\t{names}");
    }
}

/// Adds names of others to a running container's /etc/hosts, which it may have changed.
pub(super) fn append_hosts(container: &Container, links: &[(Ipv4Addr, String)]) -> Result<()> {
    let lines: String =
        links.iter().map(|(address, names)| format!("{address}\t{names}\n")).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let path = container.name_file("hosts");
    let file = fs::File::options().append(true).open(&path);
    let added = file.and_then(|mut file| file.write_all(lines.as_bytes()));
    added.doing(|| format!("write {}", path.display()))
}

fn has_own_resolver(settings: &Settings) -> bool {
    let Settings { dns, dns_search, dns_options, .. } = settings;
    [dns, dns_search, dns_options].into_iter().any(|list| !list.is_empty())
}

/// The addresses of name servers in a resolv.conf.
pub(crate) fn name_server(line: &str) -> Option<&str> {
    line.trim().strip_prefix("nameserver").map(str::trim)
}

/// The container's resolver configuration, from the host's and what was asked; `has_v6` says whether
/// the container can reach servers by IPv6.
fn resolver(host: &str, settings: &Settings, has_v6: bool) -> String {
    let named = settings.has_names();
    let keeps = |line: &&str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        match word {
            "nameserver" => !named && settings.dns.is_empty(),
            "search" | "domain" => settings.dns_search.is_empty(),
            "options" => settings.dns_options.is_empty() && !named,
            _ => true,
        }
    };
    let kept: String = host.lines().filter(keeps).flat_map(|line| [line, "\n"]).collect();
    let mut text = match (named, settings.dns.is_empty()) {
        (true, _) => format!("nameserver {OWN_SERVER}\n{kept}"),
        (false, false) => {
            let own = settings.dns.iter().map(|server| format!("nameserver {server}\n"));
            own.collect::<String>() + &kept
        }
        (false, true) => name_servers(&kept, has_v6),
    };
    let search: Vec<&str> =
        settings.dns_search.iter().map(String::as_str).filter(|name| *name != ".").collect();
    if !search.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let mut options = settings.dns_options.clone();
    if named && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".into());
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    if named || has_own_resolver(settings) { in_order(&text) } else { text }
}

/// The lines in Docker's order: domains, servers, options.
fn in_order(text: &str) -> String {
    let rank = |line: &&str| match line.split_whitespace().next() {
        Some("search" | "domain") => 0,
        Some("nameserver") => 1,
        _ => 2,
    };
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(rank);
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// The host's resolver configuration without name servers that only the host can reach: those on
/// its loopback interface, by IPv6 where the container has none, and on a link of the host's.
fn name_servers(host: &str, has_v6: bool) -> String {
    let reachable = |line: &&str| {
        let Some(server) = name_server(line) else { return true };
        let on_host = server.starts_with("127.") || server == "::1" || server.contains('%');
        !on_host && (has_v6 || !server.contains(':'))
    };
    let mut text: String = host.lines().filter(reachable).flat_map(|line| [line, "\n"]).collect();
    if !text.lines().any(|line| line.trim_start().starts_with("nameserver")) {
        text.push_str(NAME_SERVERS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Membership;

    #[test]
    fn name_servers_on_the_hosts_loopback_are_left_out() {
        let text = name_servers("search a.b\nnameserver 127.0.0.53\nnameserver 10.0.0.1\n", false);
        assert_eq!(text, "search a.b\nnameserver 10.0.0.1\n");
        assert_eq!(name_servers("nameserver ::1\n", true), NAME_SERVERS);
        let both = "nameserver 2001:db8::1\nnameserver 10.0.0.1\n";
        assert_eq!(name_servers(both, true), both);
        assert_eq!(name_servers(both, false), "nameserver 10.0.0.1\n");
        assert_eq!(name_servers("nameserver fe80::1%eth0\n", true), NAME_SERVERS);
    }

    #[test]
    fn a_container_knows_its_own_name() {
        assert!(!hosts("web", "", &[]).contains("web"));
    }

    #[test]
    fn what_was_asked_stands_in_the_place_of_the_hosts() {
        let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let host = "nameserver 10.0.0.1\nsearch a.b\noptions edns0\n";
        assert_eq!(resolver(host, &Settings::default(), false), host);
        let asked = Settings {
            dns: own(&["1.1.1.1", "9.9.9.9"]),
            dns_search: own(&["."]),
            dns_options: own(&["timeout:1"]),
            ..Settings::default()
        };
        let expected = "nameserver 1.1.1.1\nnameserver 9.9.9.9\noptions timeout:1\n";
        assert_eq!(resolver(host, &asked, false), expected);
        let named = Settings {
            attachments: vec![Membership { network: "n".into(), ..Membership::default() }],
            network: NetworkMode::Named("n".into()),
            ..asked
        };
        assert_eq!(
            resolver(host, &named, false),
            "nameserver 127.0.0.11\noptions timeout:1 ndots:0\n"
        );
    }
}

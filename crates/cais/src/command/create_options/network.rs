//! Networks, published ports and names, in Docker's grammar.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use docker::grammar::{
    exposed, hardware_address, host, link, link_local, network_mode as mode, range, range_or_zero,
};
use engine::{
    Error, Kind, Membership, NetworkMode, Publication, Result, Settings, parse_protocol,
    validate_alias,
};

/// Which networks a container is on, and how it is reached.
#[derive(Debug, clap::Args)]
pub(crate) struct NetworkOptions {
    /// Connect a container to a network: NAME, host, none, container:NAME,
    /// name=NAME,alias=ALIAS,ip=ADDRESS
    #[arg(long, visible_alias = "net")]
    network: Vec<String>,
    /// Add network-scoped alias for the container
    #[arg(long, visible_alias = "net-alias", value_name = "ALIAS")]
    network_alias: Vec<String>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "[IP:][HOST:]CONTAINER[/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Set DNS options
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "HOST:ADDRESS")]
    add_host: Vec<String>,
    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
}

impl NetworkOptions {
    /// Writes what the options mean into the settings.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<()> {
        (settings.network, settings.attachments) = self.networks()?;
        let ports = self.publish.iter().map(|text| publications(text));
        settings.ports = ports.collect::<Result<Vec<_>>>()?.concat();
        settings.publish_all = self.publish_all;
        let expose = self.expose.iter().map(|text| exposed(text));
        settings.expose = expose.collect::<Result<Vec<_>>>()?.concat();
        settings.dns = self.dns.iter().map(ToString::to_string).collect();
        for text in self.dns_search.iter().chain(&self.dns_option) {
            if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(Error::invalid(format!("{text:?} is not one word of resolv.conf")));
            }
        }
        settings.dns_search.clone_from(&self.dns_search);
        settings.dns_options.clone_from(&self.dns_option);
        settings.extra_hosts =
            self.add_host.iter().map(|text| host(text)).collect::<Result<_>>()?;
        settings.links = self.link.iter().map(|text| link(text)).collect::<Result<_>>()?;
        let asked = !settings.ports.is_empty() || settings.publish_all;
        if asked && matches!(settings.network, NetworkMode::Container(_)) {
            return Err(Error::invalid(
                "conflicting options: port publishing and the container type network mode",
            ));
        }
        if asked && settings.network == NetworkMode::Host {
            let warning = "WARNING: Published ports are discarded when using host network mode\n";
            // Nobody to tell if standard error is closed.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), warning.as_bytes());
        }
        if !settings.links.is_empty() && settings.network == NetworkMode::Host {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links",
            ));
        }
        Ok(())
    }

    fn networks(&self) -> Result<(NetworkMode, Vec<Membership>)> {
        let default = ["bridge".to_owned()];
        let texts = if self.network.is_empty() { &default[..] } else { &self.network[..] };
        let mut all = texts.iter().map(|text| membership(text)).collect::<Result<Vec<_>>>()?;
        let first = all[0].network.clone();
        let mode = mode(&first);
        if all.len() > 1 {
            let own = |known: &Membership| known.network == "bridge" || is_named(&known.network);
            if !all.iter().all(own) {
                return Err(Error::invalid(
                    "conflicting options: cannot attach both user-defined and non-user-defined \
                     network-modes",
                ));
            }
        }
        self.first(&mut all[0], &mode)?;
        let plain =
            all.len() == 1 && all[0] == Membership { network: first, ..Membership::default() };
        match mode {
            NetworkMode::Bridge if plain => Ok((mode, Vec::new())),
            NetworkMode::Bridge | NetworkMode::Named(_) => Ok((mode, all)),
            _ => Ok((mode, Vec::new())),
        }
    }

    /// The options that are about the first network.
    fn first(&self, first: &mut Membership, mode: &NetworkMode) -> Result<()> {
        self.network_alias.iter().try_for_each(|alias| validate_alias(alias))?;
        first.aliases.extend(self.network_alias.iter().cloned());
        first.address = self.ip.or(first.address);
        first.address_v6 = self.ip6.or(first.address_v6);
        if let Some(mac) = &self.mac_address {
            first.mac = Some(hardware_address(mac)?);
        }
        first.link_local.extend(link_local(&self.link_local_ip)?);
        if matches!(mode, NetworkMode::Bridge | NetworkMode::Named(_)) {
            return Ok(());
        }
        let given = first.address.is_some()
            || first.address_v6.is_some()
            || first.mac.is_some()
            || !first.link_local.is_empty()
            || !first.aliases.is_empty();
        match given {
            true => Err(Error::invalid(format!(
                "conflicting options: addresses and aliases need a network of the container's own, \
                 not {}",
                first.network
            ))),
            false => Ok(()),
        }
    }
}

fn is_named(name: &str) -> bool {
    matches!(mode(name), NetworkMode::Named(_))
}

/// `NAME`, or `name=NAME,alias=…,ip=…,mac-address=…`.
fn membership(text: &str) -> Result<Membership> {
    let mut all = Membership::default();
    let name = |name: &str| if name == "default" { "bridge".into() } else { name.to_owned() };
    if !text.contains('=') {
        all.network = name(text);
    } else {
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key {
                "name" => all.network = name(value),
                "alias" => {
                    validate_alias(value)?;
                    all.aliases.push(value.to_owned());
                }
                "ip" => all.address = Some(address(value)?),
                "ip6" => all.address_v6 = Some(address_v6(value)?),
                "mac-address" => all.mac = Some(hardware_address(value)?),
                "link-local-ip" => all.link_local.extend(link_local(&[value.to_owned()])?),
                "driver-opt" | "gw-priority" => {
                    let message = format!("--network {key}= is not supported");
                    return Err(Error::new(Kind::Unsupported, message)
                        .hint("the first network that leads out of the machine is the way out"));
                }
                _ => {
                    return Err(Error::invalid(format!("invalid field key {key}"))
                        .hint("fields are name, alias, ip, ip6, link-local-ip and mac-address"));
                }
            }
        }
    }
    if all.network.is_empty() || all.network == "container:" {
        return Err(Error::invalid(format!("invalid argument \"{text}\" for \"--network\" flag"))
            .hint("use bridge, host, none, container:NAME or the name of a network"));
    }
    Ok(all)
}

pub(in crate::command) fn address(text: &str) -> Result<Ipv4Addr> {
    text.parse().map_err(|_| {
        let error = Error::invalid(format!("invalid IP address: {text}: not an IPv4 address"));
        match text.parse::<Ipv6Addr>() {
            Ok(_) => error.hint("IPv6 addresses are asked for with ip6"),
            Err(_) => error,
        }
    })
}

pub(in crate::command) fn address_v6(text: &str) -> Result<Ipv6Addr> {
    text.parse()
        .map_err(|_| Error::invalid(format!("invalid IP address: {text}: not an IPv6 address")))
}

/// Every port that one `-p` publishes.
fn publications(text: &str) -> Result<Vec<Publication>> {
    let standard = if text.contains('=') { from_fields(text)? } else { text.to_owned() };
    let (ports, protocol) = standard.split_once('/').unwrap_or((&standard, "tcp"));
    let protocol = parse_protocol(protocol)?;
    let (ip, ports) = match ports.strip_prefix('[') {
        None => (None, ports),
        Some(rest) => {
            let bad = || Error::invalid(format!("publish {text}: expected [ADDRESS]:HOST:PORT"));
            let (ip, ports) = rest.split_once("]:").ok_or_else(bad)?;
            (Some(IpAddr::V6(address_v6(ip)?)), ports)
        }
    };
    let (rest, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (ip, host) = match (ip, rest.rsplit_once(':')) {
        (Some(ip), _) => (Some(ip), rest),
        (None, Some((ip, host))) if !ip.is_empty() => (Some(IpAddr::V4(address(ip)?)), host),
        // An address may be followed by a container's port alone, which Docker reads as here.
        (None, Some((_, host))) => (None, host),
        (None, None) => (None, rest),
    };
    let bad = |what: &str, port: &str| {
        Error::invalid(format!("Invalid {what}: {port}"))
            .hint("a port is published as in 8080:80, 127.0.0.1:8080:80 or 53:53/udp")
    };
    let (first, last) = range(container).ok_or_else(|| bad("containerPort", container))?;
    let host = match host {
        "" => None,
        host => Some(range_or_zero(host).ok_or_else(|| bad("hostPort", host))?),
    };
    let count = last - first;
    if let Some((from, to)) = host
        && to - from != count
        && count != 0
    {
        return Err(Error::invalid(format!(
            "Invalid ranges specified for container and host Ports: {container} and {from}-{to}"
        )));
    }
    let one = |port: u16| {
        let host = host.filter(|range| *range != (0, 0)).map(|(from, to)| match count {
            0 => (from, to),
            _ => (from + (port - first), from + (port - first)),
        });
        Publication { protocol, port, address: ip, host }
    };
    Ok((first..=last).map(one).collect())
}

/// `published=8080,target=80,protocol=tcp` in the short form.
fn from_fields(text: &str) -> Result<String> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            _ => {
                return Err(Error::invalid(format!("invalid field {field} of --publish {text}"))
                    .hint("fields are published, target and protocol"));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let one = |p: Publication| {
            let address = p.address.map(|a| a.to_string()).unwrap_or_default();
            let host = p.host.map(|(from, to)| format!("{from}-{to}")).unwrap_or_default();
            format!("{address}:{host}:{}/{}", p.port, p.protocol.name())
        };
        match publications(text) {
            Ok(all) => all.into_iter().map(one).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn ports_are_published_as_docker_reads_them() {
        for (text, expected) in [
            ("80", "::80/tcp"),
            ("8080:80", ":8080-8080:80/tcp"),
            ("8080:80/udp", ":8080-8080:80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080-8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080-8080:80/tcp"),
            ("[::]:8080:80", ":::8080-8080:80/tcp"),
            ("[::1]:8080-8081:80-81", "::1:8080-8080:80/tcp ::1:8081-8081:81/tcp"),
            ("[2001:db8::1]::53/udp", "2001:db8::1::53/udp"),
            ("[::1]:80", "::1::80/tcp"),
            ("0:80", "::80/tcp"),
            ("80-81", "::80/tcp ::81/tcp"),
            ("8080-8081:80-81", ":8080-8080:80/tcp :8081-8081:81/tcp"),
            ("8080-8090:80", ":8080-8090:80/tcp"),
            ("published=8080,target=80,protocol=udp", ":8080-8080:80/udp"),
            ("target=80", "::80/tcp"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for (text, expected) in [
            ("", "Invalid containerPort: "),
            ("0", "Invalid containerPort: 0"),
            ("x:80", "Invalid hostPort: x"),
            ("80:65536", "Invalid containerPort: 65536"),
            ("81-80:80", "Invalid hostPort: 81-80"),
            ("80/icmp", "Invalid proto: icmp"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3: not an IPv4 address"),
            ("[::1]80:80", "publish [::1]80:80: expected [ADDRESS]:HOST:PORT"),
            ("[1.2.3.4]:80:80", "invalid IP address: 1.2.3.4: not an IPv6 address"),
            ("[::1]:1:80:80", "Invalid hostPort: 1:80"),
            (
                "80-82:90-91",
                "Invalid ranges specified for container and host Ports: 90-91 and 80-82",
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn other_options() {
        assert_eq!(exposed("80-81/udp").unwrap(), ["80/udp", "81/udp"]);
        assert!(exposed("80:81").is_err());
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(host("a:1.2.3.4").unwrap(), pair("a", "1.2.3.4"));
        assert_eq!(host("a:::1").unwrap(), pair("a", "::1"));
        assert_eq!(host("a=host-gateway").unwrap(), pair("a", "host-gateway"));
        assert!(host("a").is_err() && host(":1.2.3.4").is_err() && host("a:b").is_err());
        assert_eq!(link("db:database").unwrap(), pair("db", "database"));
        assert_eq!(link("db").unwrap(), pair("db", "db"));
        assert!(link("a:b:c").is_err());
        let all = membership("name=n,alias=x,alias=y,ip=10.0.0.5").unwrap();
        assert_eq!((all.network.as_str(), all.aliases.len()), ("n", 2));
        assert!(membership("name=n,ip6=1.2.3.4").is_err() && membership("container:").is_err());
    }
}

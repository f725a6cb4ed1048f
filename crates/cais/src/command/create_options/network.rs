//! Networks, published ports and names, in Docker's grammar.

use std::net::{IpAddr, Ipv4Addr};

use engine::{
    Error, Kind, MacAddress, Membership, NetworkMode, Protocol, Publication, Result, Settings,
    parse_port, parse_protocol, validate_alias,
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
        if let Some(mac) = &self.mac_address {
            first.mac = Some(hardware_address(mac)?);
        }
        if matches!(mode, NetworkMode::Bridge | NetworkMode::Named(_)) {
            return Ok(());
        }
        let given = first.address.is_some() || first.mac.is_some() || !first.aliases.is_empty();
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

fn mode(name: &str) -> NetworkMode {
    match name {
        "bridge" => NetworkMode::Bridge,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        other => match other.strip_prefix("container:") {
            Some(name) => NetworkMode::Container(name.to_owned()),
            None => NetworkMode::Named(other.to_owned()),
        },
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
                "mac-address" => all.mac = Some(hardware_address(value)?),
                "ip6" | "link-local-ip" | "driver-opt" | "gw-priority" => {
                    let message = format!("--network {key}= is not supported yet");
                    return Err(Error::new(Kind::Unsupported, message));
                }
                _ => {
                    return Err(Error::invalid(format!("invalid field key {key}"))
                        .hint("fields are name, alias, ip and mac-address"));
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
        let v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
        let kind = if v6 { Kind::Unsupported } else { Kind::Invalid };
        let why = if v6 { "IPv6 is not supported yet" } else { "not an IPv4 address" };
        Error::new(kind, format!("invalid IP address: {text}: {why}"))
    })
}

fn hardware_address(text: &str) -> Result<MacAddress> {
    text.parse().map_err(|_| Error::invalid(format!("{text} is not a valid mac address")))
}

/// Every port that one `-p` publishes.
fn publications(text: &str) -> Result<Vec<Publication>> {
    let standard = if text.contains('=') { from_fields(text)? } else { text.to_owned() };
    let (ports, protocol) = standard.split_once('/').unwrap_or((&standard, "tcp"));
    let protocol = parse_protocol(protocol)?;
    if ports.contains('[') {
        let message = format!("publish {text}: IPv6 addresses are not supported yet");
        return Err(Error::new(Kind::Unsupported, message));
    }
    let (rest, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (ip, host) = match rest.rsplit_once(':') {
        Some((ip, host)) => (ip, host),
        // An address may be followed by a container's port alone, which Docker reads as here.
        None => ("", rest),
    };
    let ip = if ip.is_empty() { None } else { Some(address(ip)?) };
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
        Publication { protocol, port, address: ip.filter(|ip| !ip.is_unspecified()), host }
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

fn range(text: &str) -> Option<(u16, u16)> {
    range_or_zero(text).filter(|(first, _)| *first > 0)
}

/// Port 0 of the host is any.
fn range_or_zero(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// `80`, `80/udp`, `8000-8010/tcp`, each port with its protocol.
fn exposed(text: &str) -> Result<Vec<String>> {
    let bad = || {
        Error::invalid(format!("invalid range format for --expose: {text}"))
            .hint("as in 80, 53/udp or 8000-8010")
    };
    if text.contains(':') {
        return Err(Error::invalid(format!("invalid port format for --expose: {text}")));
    }
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol: Protocol = parse_protocol(protocol)?;
    let (first, last) = range(ports).ok_or_else(bad)?;
    let all = (first..=last).map(|port| format!("{port}/{}", protocol.name()));
    all.map(|port| parse_port(&port).map(|_| port)).collect()
}

/// `host:ip` or `host=ip`.
fn host(text: &str) -> Result<(String, String)> {
    let bad = || {
        Error::invalid(format!("bad format for add-host: \"{text}\""))
            .hint("as in db.internal:10.0.0.5")
    };
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    let word = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if !word {
        return Err(bad());
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(Error::invalid(format!("invalid IP address in add-host: \"{address}\"")));
    }
    Ok((name.to_owned(), bare.to_owned()))
}

/// `container` or `container:alias`.
fn link(text: &str) -> Result<(String, String)> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let name = name.trim_start_matches('/');
    let alias = alias.trim_start_matches('/');
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(Error::invalid(format!("bad format for links: {text}")));
    }
    validate_alias(alias)?;
    Ok((name.to_owned(), alias.to_owned()))
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
            ("0.0.0.0:8080:80", ":8080-8080:80/tcp"),
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
            ("[::1]:80:80", "publish [::1]:80:80: IPv6 addresses are not supported yet"),
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
        assert!(membership("name=n,ip6=::1").is_err() && membership("container:").is_err());
    }
}

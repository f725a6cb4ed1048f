//! `cais port`, and how `ps` shows ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use engine::{Container, Error, Kind, Port, Protocol, Result, parse_port, parse_protocol};
use serde_json::Value;

use crate::session::Session;

/// What `port` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container, by name or id
    pub(super) container: String,
    /// Its port, as in 80 or 53/udp; all of them without one
    #[arg(value_name = "PRIVATE_PORT[/PROTOCOL]")]
    pub(super) port: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let container = session.engine()?.find(&args.container)?;
    let mut ports = container.state.ports.clone();
    ports.sort_by_key(|port| (port.to_port, port.protocol, port.address, port.port));
    if let Some(text) = &args.port {
        let (number, protocol) = parse_port(text)?;
        ports.retain(|port| (port.to_port, port.protocol) == (number, protocol));
        if ports.is_empty() {
            let name = format!("{number}/{}", protocol.name());
            let message = format!("no public port '{name}' published for {}", args.container);
            return Err(Error::new(Kind::NotFound, message));
        }
    }
    for Port { address, port, to_port, protocol, .. } in ports {
        let own = match args.port {
            Some(_) => String::new(),
            None => format!("{to_port}/{} -> ", protocol.name()),
        };
        session.say(format!("{own}{}", SocketAddr::new(address, port)))?;
    }
    Ok(0)
}

/// A container's port, the address and port of the host that stand for it, and the protocol.
type Shown = (u16, Option<(IpAddr, u16)>, Protocol);

/// A run of ports: the first and the last.
type Run = (u16, u16);

/// The column of `ps`: neighbours that are published as what they are, or not at all, are shown as
/// a range; every other port by itself, at the end.
pub(super) fn column(container: &Container) -> String {
    if !container.is_running() {
        return String::new();
    }
    let ports = &container.state.ports;
    let mut all: Vec<Shown> = ports
        .iter()
        .map(|port| (port.to_port, Some((port.address, port.port)), port.protocol))
        .collect();
    let published = |(number, protocol): &(u16, Protocol)| {
        ports.iter().any(|port| (port.to_port, port.protocol) == (*number, *protocol))
    };
    let exposed = container.exposed().into_iter().filter(|port| !published(port));
    all.extend(exposed.map(|(port, protocol)| (port, None, protocol)));
    show(all)
}

/// The same column, of ports as the API lists them.
pub(super) fn column_of_json(ports: &Value) -> String {
    let shown = |port: &Value| -> Option<Shown> {
        let number = |key: &str| u16::try_from(port[key].as_u64()?).ok();
        let address = port["IP"].as_str().and_then(|text| text.parse().ok());
        let protocol = parse_protocol(port["Type"].as_str()?).ok()?;
        Some((number("PrivatePort")?, address.zip(number("PublicPort")), protocol))
    };
    show(ports.as_array().into_iter().flatten().filter_map(shown).collect())
}

fn show(mut all: Vec<Shown>) -> String {
    all.sort_unstable();
    let mut open: BTreeMap<(Option<IpAddr>, Protocol), Run> = BTreeMap::new();
    let mut order = Vec::new();
    let (mut runs, mut others) = (Vec::new(), Vec::new());
    for (port, host, protocol) in all {
        let key = match host {
            Some((address, public)) if public != port => {
                let at = SocketAddr::new(address, public);
                others.push(format!("{at}->{port}/{}", protocol.name()));
                continue;
            }
            host => (host.map(|(address, _)| address), protocol),
        };
        match open.get_mut(&key) {
            None => {
                open.insert(key, (port, port));
                order.push(key);
            }
            Some((_, last)) if *last + 1 == port => *last = port,
            Some(run) => {
                runs.push(name(key, *run));
                *run = (port, port);
            }
        }
    }
    runs.extend(order.into_iter().filter_map(|key| open.get(&key).map(|run| name(key, *run))));
    runs.extend(others);
    runs.join(", ")
}

fn name((address, protocol): (Option<IpAddr>, Protocol), (first, last): Run) -> String {
    let run = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match address {
        Some(IpAddr::V4(address)) => format!("{address}:{run}->{run}/{}", protocol.name()),
        Some(IpAddr::V6(address)) => format!("[{address}]:{run}->{run}/{}", protocol.name()),
        None => format!("{run}/{}", protocol.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_a_range() {
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        let any_v6: IpAddr = "::".parse().unwrap();
        let check = |ports: &[Shown], expected: &str| {
            assert_eq!(show(ports.to_vec()), expected);
        };
        check(&[], "");
        check(&[(80, None, Protocol::Tcp)], "80/tcp");
        check(&[(80, Some((any, 8080)), Protocol::Tcp)], "0.0.0.0:8080->80/tcp");
        check(
            &[
                (9, Some((any, 9)), Protocol::Udp),
                (81, Some((any, 81)), Protocol::Tcp),
                (80, Some((any, 80)), Protocol::Tcp),
                (83, Some((any, 83)), Protocol::Tcp),
                (443, None, Protocol::Tcp),
                (22, Some(("127.0.0.1".parse().unwrap(), 2222)), Protocol::Tcp),
            ],
            "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:9->9/udp, 0.0.0.0:83->83/tcp, 443/tcp, 127.0.0.1:2222->22/tcp",
        );
        check(
            &[
                (80, Some((any_v6, 8080)), Protocol::Tcp),
                (80, Some((any, 8080)), Protocol::Tcp),
                (9, Some((any_v6, 9)), Protocol::Tcp),
            ],
            "[::]:9->9/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        );
    }
}

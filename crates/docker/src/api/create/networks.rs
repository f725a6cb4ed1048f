//! The networks that a container is on, and how it is reached.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::{
    Error, Kind, Membership, NetworkMode, Publication, Result, parse_protocol, validate_alias,
};

use crate::api::host_config::{Created, EndpointConfig, PortBinding};
use crate::grammar;

/// Which networks it is on, the one that its mode names first.
pub(super) fn networks(created: &Created) -> Result<(NetworkMode, Vec<Membership>)> {
    let word = created.host_config.network_mode.as_str();
    let first = if created.network_disabled { "none" } else { canonical(word) };
    let mode = grammar::network_mode(first);
    let mut own = Membership { network: first.to_owned(), ..Membership::default() };
    let mut others = Vec::new();
    for (name, endpoint) in &created.networking_config.endpoints_config {
        let asked = membership(canonical(name), endpoint)?;
        if canonical(name) == first { own = asked } else { others.push(asked) }
    }
    if !created.mac_address.is_empty() {
        own.mac = Some(grammar::hardware_address(&created.mac_address)?);
    }
    let plain = Membership { network: first.to_owned(), ..Membership::default() };
    let is_plain = others.is_empty() && own == plain;
    match mode {
        NetworkMode::Bridge if is_plain => Ok((mode, Vec::new())),
        NetworkMode::Bridge | NetworkMode::Named(_) => {
            Ok((mode, [own].into_iter().chain(others).collect()))
        }
        _ if is_plain => Ok((mode, Vec::new())),
        _ => Err(Error::invalid(format!(
            "conflicting options: addresses, aliases and further networks need a network of the \
             container's own, not {first}"
        ))),
    }
}

fn canonical(name: &str) -> &str {
    if matches!(name, "" | "default") { "bridge" } else { name }
}

/// What is asked of a place on a network.
pub(in crate::api) fn membership(network: &str, asked: &EndpointConfig) -> Result<Membership> {
    let refused =
        [("DriverOpts", !asked.driver_opts.is_empty()), ("GwPriority", asked.gw_priority != 0)];
    if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
        let message = format!("{name} of an endpoint is not supported");
        return Err(Error::new(Kind::Unsupported, message));
    }
    asked.aliases.iter().try_for_each(|alias| validate_alias(alias))?;
    let ipam = &asked.ipam_config;
    Ok(Membership {
        network: network.to_owned(),
        aliases: asked.aliases.clone(),
        address: address(&ipam.ipv4_address)?,
        address_v6: address(&ipam.ipv6_address)?,
        mac: match asked.mac_address.as_str() {
            "" => None,
            text => Some(grammar::hardware_address(text)?),
        },
        link_local: grammar::link_local(&ipam.link_local_ips)?,
    })
}

/// The containers that one is linked to there, with the names that it knows them by.
pub(in crate::api) fn links(asked: &EndpointConfig) -> Result<Vec<(String, String)>> {
    asked.links.iter().map(|text| grammar::link(text)).collect()
}

/// The same of all networks, and of the container as a whole: clients say them here or there.
pub(super) fn all_links(created: &Created) -> Result<Vec<(String, String)>> {
    let whole = created.host_config.links.iter().map(|text| grammar::link(text));
    let mut all = whole.collect::<Result<Vec<_>>>()?;
    for endpoint in created.networking_config.endpoints_config.values() {
        all.extend(links(endpoint)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|link| seen.insert(link.clone()));
    Ok(all)
}

fn address<T: std::str::FromStr>(text: &str) -> Result<Option<T>> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| Error::invalid(format!("invalid IP address: {text}"))),
    }
}

/// Ports of one container that can be published: all, of two protocols.
const PUBLICATIONS_MAX: usize = 2 << 16;

/// The ports of the host that stand for its own.
pub(super) fn publications(
    bindings: &BTreeMap<String, Vec<PortBinding>>,
) -> Result<Vec<Publication>> {
    let mut all = Vec::new();
    for (port, bindings) in bindings {
        let (ports, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let bad = || Error::invalid(format!("invalid port specification: \"{port}\""));
        let protocol = parse_protocol(protocol)?;
        let (first, last) = grammar::range(ports).ok_or_else(bad)?;
        let any = [PortBinding::default()];
        let bindings = if bindings.is_empty() { &any[..] } else { bindings };
        for binding in bindings {
            let host = host_ports(binding)?;
            if all.len() + usize::from(last - first) >= PUBLICATIONS_MAX {
                let message = format!("more than {PUBLICATIONS_MAX} published ports");
                return Err(Error::invalid(message));
            }
            for port in first..=last {
                let address = address::<IpAddr>(&binding.host_ip)?;
                all.push(Publication { protocol, port, address, host });
            }
        }
    }
    Ok(all)
}

fn host_ports(binding: &PortBinding) -> Result<Option<(u16, u16)>> {
    let text = binding.host_port.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    let range = grammar::range_or_zero(text)
        .ok_or_else(|| Error::invalid(format!("invalid port specification: \"{text}\"")))?;
    Ok(Some(range).filter(|range| *range != (0, 0)))
}

/// Addresses of name servers.
pub(super) fn servers(texts: Vec<String>) -> Result<Vec<String>> {
    let bad = |text: &String| text.parse::<IpAddr>().is_err();
    match texts.iter().find(|text| bad(text)) {
        None => Ok(texts),
        Some(text) => Err(Error::invalid(format!("invalid IP address: {text}"))),
    }
}

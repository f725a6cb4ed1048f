//! The ports of EXPOSE.

use crate::error::{Error, Result};

/// The ports that a word of EXPOSE stands for, and what is odd about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    /// `80/tcp`, each.
    pub(super) ports: Vec<String>,
    /// Whether its protocol is not in lower case.
    pub(super) has_odd_protocol: bool,
    /// Whether it says an address or a port of the host.
    pub(super) has_host: bool,
}

/// Reads `[[address:]host port:]port[-port][/protocol]`.
pub(super) fn parse(text: &str) -> Result<Ports> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container) = parts.split_at(parts.len() - 1);
    let (range, protocol) = container[0].split_once('/').unwrap_or((container[0], ""));
    let refuse = |why: String| Error::new(format!("invalid port: {text:?}: {why}"));
    if range.is_empty() {
        return Err(refuse("no port specified".to_owned()));
    }
    let lower = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
    if !matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
        return Err(refuse(format!("invalid proto: {protocol}")));
    }
    let (first, last) =
        self::range(range).ok_or_else(|| Error::new(format!("invalid containerPort: {range}")))?;
    if let Some(host_port) = host.last().filter(|port| !port.is_empty()) {
        let found = self::range(host_port);
        let (from, to) =
            found.ok_or_else(|| Error::new(format!("invalid hostPort: {host_port}")))?;
        if to - from != last - first && first != last {
            return Err(Error::new(format!(
                "invalid ranges specified for container and host Ports: {range} and {host_port}"
            )));
        }
    }
    let address = host[..host.len().saturating_sub(1)].join(":");
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(Error::new(format!("invalid IP address: {address}")));
    }
    Ok(Ports {
        ports: (first..=last).map(|port| format!("{port}/{lower}")).collect(),
        has_odd_protocol: protocol != protocol.to_lowercase(),
        has_host: host.iter().any(|part| !part.is_empty()),
    })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        assert_eq!(parse("80").unwrap().ports, ["80/tcp"]);
        assert_eq!(parse("53/UDP").unwrap().ports, ["53/udp"]);
        assert!(parse("53/UDP").unwrap().has_odd_protocol);
        assert_eq!(parse("8000-8002/tcp").unwrap().ports.len(), 3);
        assert!(parse("127.0.0.1:80:80").unwrap().has_host);
        assert!(parse("[::1]:80:80").unwrap().has_host);
        for wrong in ["", "x", "80/x", "99999", "9-8", "1-2:1-3", "x:1:1", "/tcp", "a:80"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

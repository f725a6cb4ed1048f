//! Where a registry's content is: its mirrors and itself.

use std::net::IpAddr;

use crate::{Config, Error};

/// Docker Hub's API is not at the name that references give.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One server that has a registry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `HOST[:PORT]`.
    pub(crate) authority: String,
    /// What precedes repository names: empty, or `PATH/`.
    pub(crate) prefix: String,
    /// The name under which settings and credentials are filed.
    pub(crate) name: String,
    /// Accept any certificate, and credentials over plain HTTP.
    pub(crate) insecure: bool,
    /// The schemes to try, in this order.
    pub(crate) schemes: Vec<Scheme>,
}

impl Endpoint {
    /// All servers for `registry`: mirrors first, the registry itself last.
    pub(crate) fn all(config: &Config, registry: &str) -> Result<Vec<Self>, Error> {
        let settings = config.hosts.get(registry);
        let insecure = settings.is_some_and(|host| host.insecure);
        let mut found = Vec::new();
        for mirror in settings.map(|host| host.mirrors.as_slice()).unwrap_or_default() {
            let mut endpoint = Self::parse(mirror)?;
            let own = config.hosts.get(&endpoint.name);
            endpoint.allow(insecure || own.is_some_and(|host| host.insecure));
            found.push(endpoint);
        }
        let location = settings.and_then(|host| host.location.as_deref());
        let mut origin = Self::parse(location.unwrap_or(match registry {
            HUB => HUB_HOST,
            other => other,
        }))?;
        if location.is_none() {
            registry.clone_into(&mut origin.name);
        }
        origin.allow(insecure);
        found.push(origin);
        Ok(found)
    }

    /// Reads `[http[s]://]HOST[:PORT][/PREFIX]`.
    fn parse(text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::Invalid(format!(
                "invalid registry location `{text}`: expected [http[s]://]HOST[:PORT][/PREFIX]"
            ))
        };
        let (schemes, rest) = match text.split_once("://") {
            Some(("http", rest)) => (vec![Scheme::Http], rest),
            Some(("https", rest)) => (vec![Scheme::Https], rest),
            Some(_) => return Err(bad()),
            None => (Vec::new(), text),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let parsed = authority.parse::<ureq::http::uri::Authority>().map_err(|_| bad())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        if authority.contains('@') || parsed.host().is_empty() || !path.chars().all(plain) {
            return Err(bad());
        }
        Ok(Self {
            authority: authority.to_owned(),
            prefix: if path.is_empty() { String::new() } else { format!("{path}/") },
            name: authority.to_owned(),
            insecure: false,
            schemes,
        })
    }

    /// Settles what may be tried, now that it is known whether insecurity was asked for.
    fn allow(&mut self, insecure: bool) {
        self.insecure = insecure;
        if self.schemes.is_empty() {
            self.schemes.push(Scheme::Https);
            if insecure || is_loopback(&self.authority) {
                self.schemes.push(Scheme::Http);
            }
        }
    }

    /// Whether a secret may go over `scheme`.
    pub(crate) fn keeps_secrets(&self, scheme: Scheme) -> bool {
        scheme == Scheme::Https || self.insecure || is_loopback(&self.authority)
    }
}

/// Whether `authority` is this machine, which Docker trusts with plain HTTP.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<ureq::http::uri::Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostConfig;

    fn show(config: &Config, registry: &str) -> String {
        let all = match Endpoint::all(config, registry) {
            Ok(all) => all,
            Err(error) => return error.to_string(),
        };
        let one = |e: &Endpoint| {
            let schemes: Vec<&str> = e.schemes.iter().map(|s| s.name()).collect();
            let insecure = if e.insecure { "!" } else { "" };
            format!("{}:{}/{} as {}{insecure}", schemes.join("|"), e.authority, e.prefix, e.name)
        };
        all.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_lead_to_servers() {
        let config = Config::default();
        for (registry, expected) in [
            ("docker.io", "https:registry-1.docker.io/ as docker.io"),
            ("ghcr.io", "https:ghcr.io/ as ghcr.io"),
            ("localhost:5000", "https|http:localhost:5000/ as localhost:5000"),
            ("127.0.0.9:1", "https|http:127.0.0.9:1/ as 127.0.0.9:1"),
            ("[::1]:1", "https|http:[::1]:1/ as [::1]:1"),
            ("127.0.0.1.evil.org", "https:127.0.0.1.evil.org/ as 127.0.0.1.evil.org"),
        ] {
            assert_eq!(show(&config, registry), expected);
        }
    }

    #[test]
    fn settings_lead_elsewhere() {
        let mut config = Config::default();
        let hub = HostConfig {
            mirrors: vec!["http://m.lan:5000".into(), "n.lan/hub/".into()],
            ..HostConfig::default()
        };
        config.hosts.insert("docker.io".into(), hub);
        let lan = HostConfig { insecure: true, ..HostConfig::default() };
        config.hosts.insert("n.lan".into(), lan);
        let moved =
            HostConfig { location: Some("https://b.org/c".into()), ..HostConfig::default() };
        config.hosts.insert("a.org".into(), moved);
        assert_eq!(
            show(&config, "docker.io"),
            "http:m.lan:5000/ as m.lan:5000 https|http:n.lan/hub/ as n.lan! \
             https:registry-1.docker.io/ as docker.io"
        );
        assert_eq!(show(&config, "a.org"), "https:b.org/c/ as b.org");
    }

    #[test]
    fn a_location_is_no_place_for_tricks() {
        for text in ["", "ftp://a", "u:p@a", "a/b?c", "a/b#c", "a b", "http://"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}

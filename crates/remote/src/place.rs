//! Where an engine is.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The port of an engine without TLS, and with it.
const PORTS: (u16, u16) = (2375, 2376);

/// Where an engine is, as `DOCKER_HOST` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `unix://PATH`
    Unix(PathBuf),
    /// `tcp://HOST[:PORT]`
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port; Docker's own where none was named.
        port: Option<u16>,
        /// How it is known who the other end is; `None` for a network without encryption.
        tls: Option<Tls>,
    },
    /// `ssh://[USER@]HOST[:PORT][PATH]`
    Ssh {
        /// The user there.
        user: Option<String>,
        /// A name or an address.
        host: String,
        /// The port of ssh.
        port: Option<u16>,
        /// The socket there; the program's own choice where it is empty.
        path: String,
    },
}

/// Files in PEM by which both ends know each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The authority of the engine.
    pub authority: PathBuf,
    /// Our certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Place {
    /// Reads an address; `tls` is for networks.
    ///
    /// # Errors
    /// [`Error::Place`].
    pub fn parse(text: &str, tls: Option<Tls>) -> Result<Self> {
        let bad = |why: &str| Error::Place(format!("unable to parse docker host `{text}`: {why}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("there is no protocol"))?;
        match scheme {
            "unix" if rest.is_empty() => Err(bad("there is no path")),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" | "http" | "https" => {
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                if !path.is_empty() {
                    return Err(bad("a path is not supported"));
                }
                if scheme == "https" && tls.is_none() {
                    return Err(bad("https needs --tlsverify and an authority"));
                }
                let (host, port) = authority_parts(authority).ok_or_else(|| bad("no address"))?;
                Ok(Self::Tcp { host, port, tls })
            }
            "ssh" => {
                let (authority, path) = match rest.find('/') {
                    Some(at) => rest.split_at(at),
                    None => (rest, ""),
                };
                let (user, authority) = match authority.rsplit_once('@') {
                    Some((user, host)) if !user.contains(':') => (Some(user.to_owned()), host),
                    Some(_) => return Err(bad("plain-text password is not supported")),
                    None => (None, authority),
                };
                let (host, port) = authority_parts(authority).ok_or_else(|| bad("no host"))?;
                let is_option = |word: &str| word.starts_with('-');
                if is_option(&host) || user.as_deref().is_some_and(is_option) {
                    return Err(bad("an option of ssh is no name"));
                }
                let path = if path == "/" { String::new() } else { path.to_owned() };
                Ok(Self::Ssh { user, host, port, path })
            }
            other => Err(bad(&format!("protocol {other} is not supported"))),
        }
    }

    /// What requests call the other end.
    pub(crate) fn host_field(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            Self::Unix(_) | Self::Ssh { .. } => "docker",
        }
    }

    /// The port of a network.
    pub(crate) fn port(port: Option<u16>, tls: Option<&Tls>) -> u16 {
        port.unwrap_or(if tls.is_some() { PORTS.1 } else { PORTS.0 })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp { host, port, tls } => {
                let port = Self::port(*port, tls.as_ref());
                match host.contains(':') {
                    true => write!(out, "tcp://[{host}]:{port}"),
                    false => write!(out, "tcp://{host}:{port}"),
                }
            }
            Self::Ssh { user, host, port, path } => {
                out.write_str("ssh://")?;
                user.iter().try_for_each(|user| write!(out, "{user}@"))?;
                out.write_str(host)?;
                port.iter().try_for_each(|port| write!(out, ":{port}"))?;
                out.write_str(path)
            }
        }
    }
}

/// A host, without the brackets of an address of IPv6, and a port.
fn authority_parts(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map(str::parse).transpose().ok()?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_docker_s() {
        let shown = |text: &str| match Place::parse(text, None) {
            Ok(place) => place.to_string(),
            Err(error) => error.to_string(),
        };
        for (text, expected) in [
            ("unix:///run/docker.sock", "unix:///run/docker.sock"),
            ("tcp://here", "tcp://here:2375"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("tcp://here:99/", "tcp://here:99"),
            ("ssh://me@there:22", "ssh://me@there:22"),
            ("ssh://there/run/x.sock", "ssh://there/run/x.sock"),
        ] {
            assert_eq!(shown(text), expected);
        }
        for text in
            ["here", "unix://", "tcp://", "tcp://here/x", "ssh://a:b@c", "ssh://-oX", "npipe://x"]
        {
            assert!(shown(text).starts_with("unable to parse docker host"), "{text}");
        }
    }
}

//! Options of the local driver: what a volume is, if not a directory of ours.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;

use crate::error::{Doing, Error, Kind, Result};

/// The options that there are, and those that each needs.
const OPTIONS: [(&str, &[&str]); 4] =
    [("type", &["device"]), ("device", &["type"]), ("o", &["type", "device"]), ("size", &[])];

/// Refuses options that the driver has not got, or that make no sense alone, with Docker's words.
///
/// # Errors
/// [`Kind::Invalid`].
pub(crate) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in options {
        let Some((_, needed)) = OPTIONS.iter().find(|(known, _)| known == name) else {
            return Err(Error::invalid(format!("invalid option: \"{name}\""))
                .hint("options are type, device, o and size"));
        };
        // As in Docker, an empty one is one that was not given.
        let lacks = needed.iter().find(|needed| options.get(**needed).is_none_or(String::is_empty));
        if let Some(lacks) = lacks.filter(|_| !value.is_empty()) {
            return Err(Error::invalid(format!("missing required option: \"{lacks}\""))
                .hint("as in -o type=none -o device=/srv/data -o o=bind"));
        }
    }
    if options.contains_key("size") && options.contains_key("type") {
        return Err(Error::invalid("a size is for a volume that is a directory of its own")
            .hint("give a tmpfs its size with -o o=size=100m"));
    }
    size(options).map(drop)
}

/// The limit in bytes, if there is one.
pub(crate) fn size(options: &BTreeMap<String, String>) -> Result<Option<u64>> {
    let text = options.get("size").filter(|text| !text.is_empty());
    text.map(|text| parse_size(text)).transpose()
}

/// A size as Docker has it: a number, and perhaps a unit of 1024 bytes or a power of it.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    let bad = || {
        Error::invalid(format!("invalid size: '{text}'"))
            .hint("a positive number with b, k, m or g behind it: 512m, 1g")
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match lower[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(bad()),
    };
    let number: f64 = digits.trim().parse().map_err(|_| bad())?;
    let bytes = number * 1024_f64.powi(power);
    // Beyond it, not every number of bytes is exact, and no disk is as large.
    let is_good = (1.0..9.0e15).contains(&bytes);
    if is_good { Ok(bytes as u64) } else { Err(bad()) }
}

/// What a volume with options is, as a mount of the runtime specification.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) options: Vec<String>,
}

/// What is mounted for a volume with these options; `None` if it is a directory of ours.
///
/// # Errors
/// If the address of a server cannot be found.
pub(crate) fn describe(options: &BTreeMap<String, String>) -> Result<Option<Described>> {
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    if option("type").is_empty() {
        return Ok(None);
    }
    let mut words = Vec::new();
    for word in option("o").split(',').filter(|word| !word.is_empty()) {
        words.push(match word.strip_prefix("addr=") {
            Some(host) if option("type").starts_with("nfs") || option("type") == "cifs" => {
                format!("addr={}", address(host)?)
            }
            _ => word.to_owned(),
        });
    }
    let kind = option("type").to_owned();
    Ok(Some(Described { kind, source: option("device").to_owned(), options: words }))
}

/// The kernel takes addresses, and no names.
fn address(host: &str) -> Result<std::net::IpAddr> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let found = (host, 0).to_socket_addrs().doing(|| format!("find the address of {host}"))?;
    found.map(|found| found.ip()).next().ok_or_else(|| {
        Error::new(Kind::Unavailable, format!("find the address of {host}: there is none"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_need_each_other() {
        let error = |pairs: &[(&str, &str)]| check(&options(pairs)).map_err(|e| e.to_string());
        assert_eq!(error(&[]), Ok(()));
        assert_eq!(error(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]), Ok(()));
        assert_eq!(error(&[("size", "1g")]), Ok(()));
        assert_eq!(error(&[("what", "1")]).unwrap_err(), "invalid option: \"what\"");
        assert_eq!(error(&[("type", "nfs")]).unwrap_err(), "missing required option: \"device\"");
        assert_eq!(error(&[("o", "bind")]).unwrap_err(), "missing required option: \"type\"");
        assert!(error(&[("size", "0")]).is_err());
        assert!(error(&[("size", "1g"), ("type", "tmpfs"), ("device", "tmpfs")]).is_err());
    }

    #[test]
    fn a_volume_is_a_mount() {
        let nfs = [("type", "nfs"), ("device", ":/srv"), ("o", "addr=10.0.0.1,rw,nfsvers=4")];
        let described = describe(&options(&nfs)).unwrap().unwrap();
        assert_eq!((described.kind.as_str(), described.source.as_str()), ("nfs", ":/srv"));
        assert_eq!(described.options, ["addr=10.0.0.1", "rw", "nfsvers=4"]);
        assert_eq!(describe(&options(&[("size", "1g")])).unwrap(), None);
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("1g").unwrap(), 1 << 30);
        assert_eq!(parse_size("1.5MiB").unwrap(), 3 << 19);
        assert_eq!(parse_size("4096").unwrap(), 4096);
        for bad in ["", "g", "-1", "1x", "0", "inf", "nan", "99999999t"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}

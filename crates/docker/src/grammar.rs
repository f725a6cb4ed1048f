//! What users write of containers, in Docker's grammar: on command lines and in the API's texts.

mod mount;
mod network;

use std::net::IpAddr;

use engine::{
    DeviceRule, Error, Kind, MacAddress, NetworkMode, Protocol, Result, Seccomp, Security, Sharing,
    parse_port, parse_protocol, validate_alias,
};

pub use mount::{PROPAGATIONS, bind, distinct, temporary, volume};
pub use network::{Addresses, addresses};

use crate::size::parse_ram;

/// Sizes as in `512m`, `1.5g`, or plain bytes; -1 stays.
pub fn bytes(name: &str, text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let size = parse_ram(text).ok().and_then(|bytes| i64::try_from(bytes).ok());
    size.ok_or_else(|| {
        Error::invalid(format!(
            "invalid argument \"{text}\" for \"--{name}\" flag: invalid size: '{text}'"
        ))
        .hint("a size is a number with b, k, m or g behind it: 512m, 1.5g")
    })
}

/// `--storage-opt`: how much the writable layer may take.
pub fn storage(options: &[String]) -> Result<Option<u64>> {
    let mut size = None;
    for option in options {
        let Some(("size", text)) = option.split_once('=') else {
            let name = option.split('=').next().unwrap_or_default();
            return Err(
                Error::invalid(format!("Unknown option {name}")).hint("the only option is size")
            );
        };
        let given = u64::try_from(bytes("storage-opt", text)?).ok().filter(|bytes| *bytes > 0);
        size = Some(given.ok_or_else(|| {
            Error::invalid(format!("invalid size: '{text}'")).hint("as in size=10g")
        })?);
    }
    Ok(size)
}

/// -1 is the default.
pub fn swappiness(percent: i64) -> Result<Option<u64>> {
    match u64::try_from(percent) {
        Ok(percent) => Ok(Some(percent)),
        Err(_) if percent == -1 => Ok(None),
        Err(_) => Err(Error::invalid(format!("invalid value: {percent}"))
            .hint("--memory-swappiness is from 0 to 100, or -1")),
    }
}

/// An absolute path below the roots of control groups, without a slash at its end; relative ones
/// are below those roots, too.
pub fn cgroup_parent(text: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::invalid(format!("invalid --cgroup-parent \"{text}\": {why}"))
            .hint("as in /limited/web")
    };
    if text.is_empty() {
        return Ok(String::new());
    }
    if text.ends_with(".slice") {
        return Err(bad("slices are systemd's, and Cais makes its groups itself"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    match parts.is_empty() || parts.contains(&"..") || text.contains('\n') {
        true => Err(bad("it is no path below the root of the control groups")),
        false => Ok(format!("/{}", parts.join("/"))),
    }
}

/// `host` or `container:NAME`.
pub fn pid_mode(text: &str) -> Result<Sharing> {
    match text {
        "" | "private" => Ok(Sharing::Private),
        "host" => Ok(Sharing::Host),
        _ => of_container(text)
            .ok_or_else(|| Error::invalid("--pid: invalid PID mode").hint("as in container:web")),
    }
}

/// `private`, `shareable`, `none`, `host` or `container:NAME`.
pub fn ipc_mode(text: &str) -> Result<Sharing> {
    match text {
        "" | "private" => Ok(Sharing::Private),
        "shareable" => Ok(Sharing::Shareable),
        "none" => Ok(Sharing::None),
        "host" => Ok(Sharing::Host),
        _ => of_container(text).ok_or_else(|| {
            Error::invalid(format!("--ipc: invalid IPC mode: {text}"))
                .hint("use one of private, shareable, none, host and container:NAME")
        }),
    }
}

fn of_container(text: &str) -> Option<Sharing> {
    let name = text.strip_prefix("container:").filter(|name| !name.is_empty())?;
    Some(Sharing::Container(name.to_owned()))
}

/// RFC 1123, and short enough for the kernel.
pub fn hostname(text: &str) -> Result<String> {
    if text.len() <= 64 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        return Ok(text.to_owned());
    }
    Err(Error::invalid(format!("invalid hostname: {text}"))
        .hint("at most 64 letters, digits, - and ."))
}

/// `FIRST:COUNT` of the host's ids.
pub fn user_namespace(text: &str) -> Result<Option<(u32, u32)>> {
    if matches!(text, "" | "host") {
        return Ok(None);
    }
    let ids = text.split_once(':').and_then(|(first, count)| {
        let ids = (first.parse::<u32>().ok()?, count.parse::<u32>().ok()?);
        ids.0.checked_add(ids.1).filter(|_| ids.1 > 0).map(|_| ids)
    });
    ids.map(Some).ok_or_else(|| {
        Error::invalid(format!("--userns: invalid USER mode: {text}"))
            .hint("host, or the first id and the count: 100000:65536")
    })
}

/// Which network a word stands for.
pub fn network_mode(name: &str) -> NetworkMode {
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

/// A hardware address.
pub fn hardware_address(text: &str) -> Result<MacAddress> {
    text.parse().map_err(|_| Error::invalid(format!("{text} is not a valid mac address")))
}

/// A port or a range of ports, none of them 0.
pub fn range(text: &str) -> Option<(u16, u16)> {
    range_or_zero(text).filter(|(first, _)| *first > 0)
}

/// Port 0 of the host is any.
pub fn range_or_zero(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// `80`, `80/udp`, `8000-8010/tcp`, each port with its protocol.
pub fn exposed(text: &str) -> Result<Vec<String>> {
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
pub fn host(text: &str) -> Result<(String, String)> {
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
pub fn link(text: &str) -> Result<(String, String)> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let name = name.trim_start_matches('/');
    let alias = alias.trim_start_matches('/');
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(Error::invalid(format!("bad format for links: {text}")));
    }
    validate_alias(alias)?;
    Ok((name.to_owned(), alias.to_owned()))
}

/// Link-local addresses, which the engine knows from others.
pub fn link_local(texts: &[String]) -> Result<Vec<IpAddr>> {
    let bad = |text: &str| Error::invalid(format!("invalid link-local IP address: {text}"));
    texts.iter().map(|text| text.parse().map_err(|_| bad(text))).collect()
}

/// `TYPE MAJOR:MINOR ACCESS`, as in `c 1:3 rwm`.
pub fn device_rule(text: &str) -> Result<DeviceRule> {
    let number = |text: &str| match text {
        "*" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let rule = || {
        let mut words = text.split(' ');
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let sound = words.next().is_none()
            && (1..=3).contains(&access.len())
            && access.bytes().all(|b| b"rwm".contains(&b));
        let kind = kind.chars().next().filter(|_| ["a", "b", "c"].contains(&kind))?;
        let (major, minor) = (number(major)?, number(minor)?);
        sound.then(|| DeviceRule { kind, major, minor, access: access.to_owned() })
    };
    rule().ok_or_else(|| {
        Error::invalid(format!("invalid device cgroup format '{text}'"))
            .hint("as in 'c 1:3 rwm', or 'b 8:* r'")
    })
}

/// Whether a namespace is the host's; `private` names are the default's.
pub fn is_host(name: &str, text: &str, private: &[&str]) -> Result<bool> {
    match text {
        "host" => Ok(true),
        "" => Ok(false),
        other if private.contains(&other) => Ok(false),
        other => {
            Err(Error::invalid(format!("--{name}: invalid {} mode: {other}", name.to_uppercase())))
        }
    }
}

/// One of Docker's security options; `profile` gives the seccomp profile that a word stands for.
///
/// # Errors
/// [`Kind::Unsupported`] and [`Kind::Invalid`].
pub fn security_option(
    option: &str,
    security: &mut Security,
    profile: &dyn Fn(&str) -> Result<String>,
) -> Result<()> {
    let (key, value) =
        option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, "true"));
    match (key, value) {
        ("no-new-privileges", "true" | "false") => security.no_new_privileges = value == "true",
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", "builtin" | "default") => security.seccomp = Seccomp::Default,
        ("seccomp", word) => security.seccomp = Seccomp::Profile(profile(word)?),
        ("systempaths", "unconfined") => security.unmasked = true,
        // There is nothing to switch off where the kernel has no such module.
        ("apparmor", "unconfined") | ("label", "disable") => {}
        ("apparmor" | "label" | "systempaths", _) => {
            return Err(Error::new(
                Kind::Unsupported,
                format!("--security-opt {option} is not supported yet"),
            ));
        }
        _ => {
            let options =
                "seccomp=unconfined, seccomp=FILE, no-new-privileges, systempaths=unconfined";
            return Err(Error::invalid(format!("invalid --security-opt: \"{option}\""))
                .hint(format!("options are {options}")));
        }
    }
    Ok(())
}

/// Reads a sequence of keys: letters, and `ctrl-` with a letter or one of `@[\\]^_`.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn detach_keys(text: &str) -> Result<Vec<u8>> {
    let key = |name: &str| match name.as_bytes() {
        [key] => Some(*key),
        [b'c', b't', b'r', b'l', b'-', key @ (b'a'..=b'z' | b'@' | b'['..=b'_')] => {
            Some(key.to_ascii_uppercase() - b'@')
        }
        _ => None,
    };
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.ok_or_else(|| {
        Error::invalid(format!("invalid detach keys ({text})")).hint("as in ctrl-p,ctrl-q")
    })
}

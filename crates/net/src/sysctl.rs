//! Kernel settings of the calling thread's network namespace, under `/proc/sys/net`.

use std::fs;
use std::io::ErrorKind;

use crate::{Error, Result};

/// Sets `/proc/sys/net/<path>` to `value`, unless that is its value already: a container host may
/// mount `/proc/sys` read-only over settings that are right.
pub(crate) fn set(path: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{path}");
    match fs::read_to_string(&path) {
        Ok(now) if now.trim_end() == value => return Ok(()),
        Ok(_) => {}
        Err(e) => return Err(Error::io(format!("read `{path}`"), e)),
    }
    fs::write(&path, value).map_err(|e| Error::io(format!("write `{value}` to `{path}`"), e))
}

/// Takes IPv6 off an interface: our networks are IPv4, and an interface with a link-local address
/// would listen to router advertisements that any container can send (CVE-2020-13401).
///
/// A kernel without IPv6 has nothing to take off.
pub(crate) fn disable_ipv6(interface: &str) -> Result<()> {
    match set(&format!("ipv6/conf/{interface}/disable_ipv6"), "1") {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

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

/// Takes IPv6 off an interface of a network that is IPv4 alone: an interface with a link-local
/// address would listen to router advertisements that any container can send (CVE-2020-13401).
///
/// A kernel without IPv6 has nothing to take off.
pub(crate) fn disable_ipv6(interface: &str) -> Result<()> {
    match set(&format!("ipv6/conf/{interface}/disable_ipv6"), "1") {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lets an interface have IPv6 addresses, but only those that it is given: what routers advertise
/// could be any container's word (CVE-2020-13401).
pub(crate) fn enable_ipv6(interface: &str) -> Result<()> {
    let set = |name: &str, value| set(&format!("ipv6/conf/{interface}/{name}"), value);
    match set("accept_ra", "0") {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Err(Error::Invalid(String::from(
                "the kernel has no IPv6 (it is not built in, or the kernel's command line says \
                 ipv6.disable=1)",
            )))
        }
        other => other,
    }?;
    // While the kernel asks whether its link-local address is anybody else's, for a second or two,
    // it does not look for neighbours on behalf of those whose packets it forwards
    // (`ndisc_solicit`). Nobody else is there that we do not know.
    set("accept_dad", "0")?;
    set("disable_ipv6", "0")
}

/// Has the kernel pass on IPv6 packets. It stops listening to routers then, on every interface
/// whose `accept_ra` is 1 and not 2 (Documentation/networking/ip-sysctl.rst): a host that learnt
/// its address or default route from one would lose them, so those interfaces get 2.
pub(crate) fn forward_ipv6() -> Result<()> {
    const FORWARDING: &str = "ipv6/conf/all/forwarding";
    if fs::read_to_string(format!("/proc/sys/net/{FORWARDING}")).is_ok_and(|now| now == "1\n") {
        return Ok(());
    }
    let entries = fs::read_dir("/proc/sys/net/ipv6/conf")
        .map_err(|e| Error::io("list the interfaces with IPv6", e))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let path = entry.path().join("accept_ra");
        if name == "all" || !fs::read_to_string(&path).is_ok_and(|now| now == "1\n") {
            continue;
        }
        match fs::write(&path, "2") {
            // An interface that has gone meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            outcome => {
                outcome.map_err(|e| Error::io(format!("write `2` to `{}`", path.display()), e))?;
            }
        }
    }
    set(FORWARDING, "1")
}

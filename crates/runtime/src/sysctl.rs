//! Kernel parameters of the container's own namespaces.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::error::{Doing, Error};
use crate::mount::filesystem::Description;
use crate::namespace::Plan;
use crate::weak::weakened;

/// The parameters that belong to the IPC namespace (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

fn parameters(spec: &Spec) -> Option<&HashMap<String, String>> {
    let parameters = spec.linux().as_ref()?.sysctl().as_ref()?;
    (!parameters.is_empty()).then_some(parameters)
}

/// Refuses a parameter that would change the host.
///
/// # Errors
/// Names the parameter.
pub(crate) fn check(spec: &Spec, plan: &Plan) -> Result<(), Error> {
    for name in parameters(spec).into_iter().flatten().map(|(name, _)| name) {
        let path = path(name);
        if path.as_deref() == Some("kernel/hostname") {
            return Err(Error::Spec(format!(
                "linux.sysctl: `{name}` is not allowed as it conflicts with the OCI `hostname` field"
            )));
        }
        let why = match path.as_deref().and_then(namespace) {
            None => "is not in a separate kernel namespace",
            Some(kind) if plan.is_apart(kind) => continue,
            Some(_) => "is not allowed in the host's namespace",
        };
        let text = format!("linux.sysctl: `{name}` {why}: it is not the container's own to set");
        return Err(Error::Spec(text));
    }
    Ok(())
}

/// The file of a parameter below `/proc/sys`: dots separate, unless a slash comes first
/// (sysctl.d(5)).
fn path(name: &str) -> Option<String> {
    let slashes = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('/'));
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if slashes { name.into() } else { name.chars().map(swap).collect() };
    let safe = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    safe.then_some(path)
}

fn namespace(path: &str) -> Option<LinuxNamespaceType> {
    match path {
        "kernel/domainname" => Some(LinuxNamespaceType::Uts),
        // The limits of a user namespace, to which alone they then apply.
        _ if path.starts_with("user/") => Some(LinuxNamespaceType::User),
        _ if path.starts_with("net/") => Some(LinuxNamespaceType::Network),
        _ if path.starts_with("fs/mqueue/") || IPC.contains(&path) => Some(LinuxNamespaceType::Ipc),
        _ => None,
    }
}

/// A procfs of our own that is attached nowhere, so that nothing the container mounted can be in
/// the way (CVE-2025-52881); none if there is no parameter. Made while the host's procfs is in
/// sight, as [`crate::mount::Sources::make_own`].
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn open(spec: &Spec) -> Result<Option<OwnedFd>, Error> {
    parameters(spec).map(|_| Description::new("proc")?.mount(0)).transpose()
}

/// Writes the parameters.
///
/// # Errors
/// Names the parameter that the kernel refused.
pub(crate) fn write(spec: &Spec, proc: Option<&OwnedFd>) -> Result<(), Error> {
    let (Some(parameters), Some(proc)) = (parameters(spec), proc) else { return Ok(()) };
    parameters.iter().try_for_each(|(name, value)| write_one(proc, name, value))
}

/// Sets parameters of the network and IPC namespaces that this process has made for itself.
///
/// # Errors
/// Names the parameter that is not of them, or that the kernel refused.
pub(crate) fn set_own(
    parameters: &BTreeMap<String, String>,
    network: bool,
    ipc: bool,
) -> Result<(), Error> {
    if parameters.is_empty() {
        return Ok(());
    }
    let proc = Description::new("proc")?.mount(0)?;
    for (name, value) in parameters {
        let own = match path(name).as_deref().and_then(namespace) {
            Some(LinuxNamespaceType::Network) => network,
            Some(LinuxNamespaceType::Ipc) => ipc,
            _ => false,
        };
        if !own {
            return Err(Error::Spec(format!("sysctl `{name}` is not of the pod's own namespaces")));
        }
        write_one(&proc, name, value)?;
    }
    Ok(())
}

fn write_one(proc: &OwnedFd, name: &str, value: &str) -> Result<(), Error> {
    let doing = || format!("set the parameter `{name}` to `{value}`");
    let path = path(name).ok_or_else(|| Error::Spec(format!("`{name}` is no parameter")))?;
    if weakened("sysctl-by-path") {
        return std::fs::write(Path::new("/proc/sys").join(path), value).doing(doing);
    }
    let file = openat2(
        proc,
        PathBuf::from("sys").join(path),
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )
    .doing(doing)?;
    std::fs::File::from(file).write_all(value.as_bytes()).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        let cases = [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/conf/eth0.1/forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
            ("net.ipv4.conf.eth0/1.forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
            ("net..x", None),
            ("net/../kernel/core_pattern", None),
        ];
        for (name, expected) in cases {
            assert_eq!(path(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn only_parameters_of_namespaces_have_one() {
        assert_eq!(namespace("net/core/somaxconn"), Some(LinuxNamespaceType::Network));
        assert_eq!(namespace("kernel/shmmax"), Some(LinuxNamespaceType::Ipc));
        assert_eq!(namespace("fs/mqueue/msg_max"), Some(LinuxNamespaceType::Ipc));
        assert_eq!(namespace("user/max_net_namespaces"), Some(LinuxNamespaceType::User));
        for path in ["kernel/core_pattern", "vm/overcommit_memory", "fs/file-max", "netx/y"] {
            assert_eq!(namespace(path), None, "{path}");
        }
    }
}

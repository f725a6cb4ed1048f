//! Links of the host that a container takes over (runtime-spec, config-linux.md, "Network
//! Devices"). They are the network namespace's afterwards, whose end the kernel cleans up after.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};

use oci::runtime::{LinuxNamespaceType, LinuxNetDevice, Spec};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Doing, Error};
use crate::mount::filesystem::aside;
use crate::namespace::Plan;
use crate::rtnetlink::{Conversation, socket};

/// The longest name of a link, in bytes: `IFNAMSIZ` without its null character.
const NAME_MAX: usize = 15;

/// The devices of the specification in the order of their names: that of JSON has no meaning.
fn devices(spec: &Spec) -> Vec<(&str, &LinuxNetDevice)> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let mut devices: Vec<_> =
        devices.into_iter().flatten().map(|(name, device)| (name.as_str(), device)).collect();
    devices.sort_by_key(|(name, _)| *name);
    devices
}

/// The name that a device gets; it may be a template with `%d`.
fn name_inside<'a>((name, device): (&'a str, &'a LinuxNetDevice)) -> &'a str {
    device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(name)
}

/// Refuses what cannot be moved.
///
/// # Errors
/// Names the device.
pub(crate) fn check(spec: &Spec, plan: &Plan) -> Result<(), Error> {
    let devices = devices(spec);
    if devices.is_empty() {
        return Ok(());
    }
    let network = LinuxNamespaceType::Network;
    if !plan.is_new(network) && plan.joined(network).is_none() {
        let text = "linux.netDevices: unable to move network devices without a NET namespace";
        return Err(Error::Spec(text.into()));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Unsupported("linux.netDevices without privilege".into()));
    }
    for device in devices {
        for name in [device.0, name_inside(device)] {
            if !is_valid(name) {
                return Err(Error::Spec(format!(
                    "linux.netDevices: invalid network device name `{name}`"
                )));
            }
        }
    }
    Ok(())
}

/// As the kernel's `dev_valid_name`.
fn is_valid(name: &str) -> bool {
    let bad = |letter: char| letter == '/' || letter == ':' || letter.is_ascii_whitespace();
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && !name.contains(bad)
}

/// Moves them into `network`, with the addresses that are to be kept, and switches them on.
///
/// # Errors
/// Names the device that failed; those before it are in the namespace.
pub(crate) fn move_all(spec: &Spec, network: &OwnedFd) -> Result<(), Error> {
    let devices = devices(spec);
    if devices.is_empty() {
        return Ok(());
    }
    let mut here = Conversation::new(socket().doing(|| "open a conversation with the kernel")?);
    // A socket stays in the namespace where it was made.
    let there = aside(|| {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(network.as_fd(), kind).doing(|| "join the network namespace")?;
        socket().doing(|| "open a conversation with the kernel")
    })?;
    let mut there = Conversation::new(there);
    devices.into_iter().try_for_each(|device| move_one(device, network, (&mut here, &mut there)))
}

fn move_one(
    device: (&str, &LinuxNetDevice),
    network: &OwnedFd,
    (here, there): (&mut Conversation, &mut Conversation),
) -> Result<(), Error> {
    let (name, inside) = (device.0, name_inside(device));
    let doing = |what: &str| format!("linux.netDevices: {what} the network device `{name}`");
    let links = here.links().doing(|| doing("look for"))?;
    let link = links.get(name).ok_or(Errno::NODEV).doing(|| doing("look for"))?;
    let before = there.links().doing(|| doing("move"))?;
    // The kernel would move it first and find out then.
    if before.contains_key(inside) {
        return Err(Error::Spec(format!(
            "linux.netDevices: the network device `{name}` cannot become `{inside}`, which exists \
             in the container's network namespace"
        )));
    }
    let before: HashSet<u32> = before.values().map(|link| link.index).collect();
    let addresses = here.addresses(link.index).doing(|| doing("read the addresses of"))?;
    here.switch(link.index, false).doing(|| doing("switch off"))?;
    if let Err(error) = here.give(link.index, network.as_fd(), inside) {
        // It stays as it was.
        let _ = here.switch(link.index, link.up);
        return Err(error).doing(|| doing("move"));
    }
    // The index may have been taken there, and the name may have been a template.
    let after = there.links().doing(|| doing("look for"))?;
    let moved = after.values().find(|link| !before.contains(&link.index));
    let moved = moved.ok_or(Errno::NODEV).doing(|| doing("find"))?;
    for address in &addresses {
        there.add_address(moved.index, address).doing(|| doing("restore the addresses of"))?;
    }
    there.switch(moved.index, true).doing(|| doing("switch on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        for name in ["eth0", "eth%d", "a", "0123456789abcde"] {
            assert!(is_valid(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a:1", "a b", "a\tb", "0123456789abcdef"] {
            assert!(!is_valid(name), "{name}");
        }
    }
}

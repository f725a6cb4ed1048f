//! What a specification asks for and does not get, without that being an error.

use std::collections::HashSet;

use oci::runtime::{Capability, LinuxCapabilities, Process, Spec};
use rustix::thread::{CapabilitySet, capabilities};

use crate::credentials::bit;

/// A sentence for each thing in `spec` that is passed over or will not be allowed for ever; the
/// specification wants them logged (config.md, "Linux Process"). Nothing depends on this call.
#[must_use]
pub fn warnings(spec: &Spec) -> Vec<String> {
    let mut warnings = Vec::new();
    for mount in spec.mounts().iter().flatten().filter(|mount| !mount.destination().is_absolute()) {
        warnings.push(format!(
            "mount destination {} is not absolute: it is taken as relative to /",
            mount.destination().display()
        ));
    }
    warnings.extend(spec.process().iter().flat_map(process_warnings));
    warnings
}

/// As [`warnings`], for a process alone.
#[must_use]
pub fn process_warnings(process: &Process) -> Vec<String> {
    let Some(given) = process.capabilities() else { return Vec::new() };
    // Who has no privilege makes a user namespace, whose root has every capability.
    let all = !rustix::process::geteuid().is_root();
    let held = if all { Ok(CapabilitySet::all()) } else { capabilities(None).map(|c| c.permitted) };
    of_capabilities(given, held.unwrap_or(CapabilitySet::empty()))
}

fn of_capabilities(given: &LinuxCapabilities, held: CapabilitySet) -> Vec<String> {
    let names = |set: &Option<HashSet<Capability>>| -> Vec<Capability> {
        let mut names: Vec<_> = set.iter().flatten().copied().collect();
        names.sort_by_key(|name| bit(*name).bits());
        names
    };
    let sets = [
        given.bounding(),
        given.effective(),
        given.inheritable(),
        given.permitted(),
        given.ambient(),
    ];
    let mut missing: Vec<Capability> = sets.into_iter().flat_map(names).collect();
    missing.retain(|name| !held.contains(bit(*name)));
    missing.sort_by_key(|name| bit(*name).bits());
    missing.dedup();
    let mut warnings = Vec::new();
    if !missing.is_empty() {
        let list: Vec<String> = missing.iter().map(|name| spelled(*name)).collect();
        let list = list.join(" ");
        warnings.push(format!("ignoring unknown or unavailable capabilities: [{list}]"));
    }
    let has = |set: &Option<HashSet<Capability>>, name: Capability| {
        set.as_ref().is_some_and(|set| set.contains(&name))
    };
    for name in names(given.ambient()) {
        if !has(given.permitted(), name) || !has(given.inheritable(), name) {
            warnings.push(format!(
                "can't raise ambient capability {}: it is not both permitted and inheritable",
                spelled(name)
            ));
        }
    }
    warnings
}

fn spelled(capability: Capability) -> String {
    format!("CAP_{capability}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_told() {
        let set = |names: &[Capability]| Some(names.iter().copied().collect());
        let mut given = LinuxCapabilities::default();
        let (kill, chown, admin) = (Capability::Kill, Capability::Chown, Capability::SysAdmin);
        given.set_bounding(set(&[kill, admin])).set_effective(None);
        given.set_permitted(set(&[kill, chown])).set_inheritable(set(&[kill]));
        given.set_ambient(set(&[kill, chown]));
        let warnings = of_capabilities(&given, bit(kill) | bit(chown));
        let expected = [
            "ignoring unknown or unavailable capabilities: [CAP_SYS_ADMIN]",
            "can't raise ambient capability CAP_CHOWN: it is not both permitted and inheritable",
        ];
        assert_eq!(warnings, expected);
        assert!(of_capabilities(&given, CapabilitySet::all()).len() == 1);
    }
}

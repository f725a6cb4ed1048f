//! Capabilities: Docker's default set, and what `--cap-add` and `--cap-drop` make of it.

use std::collections::HashSet;
use std::sync::LazyLock;

use oci::runtime::{Capability, LinuxCapabilities};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};

use crate::error::{Error, Result};
use crate::settings::Security;

/// What a container may do by default, as in Docker.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// All, in the kernel's numbering (`linux/capability.h`).
const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The capabilities that a container's processes may have.
pub(crate) fn granted(security: &Security) -> Result<HashSet<Capability>> {
    let add = parse(&security.cap_add)?;
    let drop = parse(&security.cap_drop)?;
    let held = held();
    let all = || ALL.into_iter().filter(|c| held >> number(*c) & 1 == 1);
    if security.privileged {
        return Ok(all().collect());
    }
    if let Names::Some(wanted) = &add
        && let Some(missing) = wanted.iter().find(|c| held >> number(**c) & 1 == 0)
    {
        return Err(Error::new(
            crate::error::Kind::Denied,
            format!("add capability {missing}: this process does not have it"),
        )
        .hint("run Cais with more privileges, or leave the capability out"));
    }
    let mut set: HashSet<Capability> = match (&add, &drop) {
        (Names::All, _) => all().collect(),
        (Names::Some(_), Names::All) => HashSet::new(),
        (Names::Some(_), Names::Some(_)) => {
            DEFAULT.into_iter().filter(|c| held >> number(*c) & 1 == 1).collect()
        }
    };
    if let (Names::Some(drop), Names::All | Names::Some(_)) = (&drop, &add) {
        set.retain(|capability| !drop.contains(capability));
    }
    if let Names::Some(add) = add {
        set.extend(add);
    }
    Ok(set)
}

/// The five sets of a process: nothing is inheritable or ambient (CVE-2022-29162).
pub(crate) fn sets(granted: &HashSet<Capability>) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(granted.clone()));
    sets.set_permitted(Some(granted.clone()));
    sets.set_effective(Some(granted.clone()));
    sets.set_inheritable(Some(HashSet::new()));
    sets.set_ambient(Some(HashSet::new()));
    sets
}

/// What `--cap-add` or `--cap-drop` names.
enum Names {
    All,
    Some(HashSet<Capability>),
}

fn parse(names: &[String]) -> Result<Names> {
    let mut set = HashSet::new();
    for name in names {
        let upper = name.to_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" {
            return Ok(Names::All);
        }
        let capability = ALL.into_iter().find(|c| c.to_string() == bare);
        set.insert(capability.ok_or_else(|| {
            Error::invalid(format!("invalid capability: \"{name}\""))
                .hint("names are those of capabilities(7), with or without CAP_, or ALL")
        })?);
    }
    Ok(Names::Some(set))
}

fn number(capability: Capability) -> usize {
    ALL.iter().position(|known| *known == capability).expect("every capability is in the table")
}

/// This process' own bounding set, as it was first asked for: nobody can give what they do not
/// have.
fn held() -> u64 {
    static HELD: LazyLock<u64> = LazyLock::new(read_held);
    *HELD
}

fn read_held() -> u64 {
    let bits = (0..ALL.len()).map(|number| 1 << number);
    // The kernel refuses to tell of those that it does not know.
    let is_held = |bit: &u64| {
        let capability = CapabilitySet::from_bits_retain(*bit);
        capability_is_in_bounding_set(capability).unwrap_or(false)
    };
    bits.filter(is_held).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expected: usize, has: Option<Capability>) {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let security = Security { cap_add: own(add), cap_drop: own(drop), ..Security::default() };
        let set = granted(&security).unwrap();
        assert_eq!(set.len(), expected, "{add:?} {drop:?}: {set:?}");
        assert!(has.is_none_or(|c| set.contains(&c)), "{add:?} {drop:?}");
    }

    #[test]
    fn defaults_additions_and_drops_are_dockers() {
        check(&[], &[], 14, Some(Capability::NetRaw));
        check(&[], &["ALL"], 0, None);
        check(&["cap_net_admin"], &["ALL"], 1, Some(Capability::NetAdmin));
        check(&["NET_ADMIN"], &["NET_RAW"], 14, Some(Capability::NetAdmin));
        check(&["CHOWN"], &["CHOWN"], 14, Some(Capability::Chown));
    }

    #[test]
    fn an_unknown_capability_is_named() {
        let security = Security { cap_add: vec!["FLY".into()], ..Security::default() };
        assert_eq!(granted(&security).unwrap_err().to_string(), "invalid capability: \"FLY\"");
    }
}

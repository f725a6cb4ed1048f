//! The devices that every container may use.

use oci::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// Type, major, minor and access; `None` is any number. The default devices of config-linux.md and
/// the terminals; and making a node of any device, which does not open it.
const RULES: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 10] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
];

/// The rules that follow those of the specification.
pub(super) fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |&(kind, major, minor, access): &(_, _, _, &str)| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(kind))
            .set_major(major)
            .set_minor(minor)
            .set_access(Some(access.into()));
        rule
    };
    RULES.iter().map(rule).collect()
}

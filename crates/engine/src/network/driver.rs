//! What the drivers of networks are asked for, in Docker's words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use net::{IpvlanFlag, IpvlanMode, MacvlanMode, Stacked, StackedKind};

use crate::error::{Error, Kind, Result};

/// Options of a bridge that mean something here.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// Of every driver.
const MTU: &str = "com.docker.network.driver.mtu";
/// Of macvlan and ipvlan.
const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const IPVLAN_MODE: &str = "ipvlan_mode";
const IPVLAN_FLAG: &str = "ipvlan_flag";
/// Those that say what is so already.
const IMPLIED: &[(&str, &str)] = &[
    ("com.docker.network.bridge.enable_ip_masquerade", "true"),
    ("com.docker.network.bridge.enable_icc", "true"),
    ("com.docker.network.bridge.default_bridge", "false"),
];

/// What a new network's driver is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Driver {
    /// The bridge's name, or the parent interface's.
    pub(super) interface: Option<String>,
    pub(super) mtu: Option<u32>,
    /// For what has no bridge.
    pub(super) kind: Option<StackedKind>,
}

impl Driver {
    /// Reads the options of the driver called `name`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there is no such driver, [`Kind::Unsupported`] for an option that means
    /// nothing here, [`Kind::Invalid`] for a value that is none.
    pub(super) fn parse(name: &str, options: &BTreeMap<String, String>) -> Result<Driver> {
        let (mut macvlan, mut ipvlan) = (MacvlanMode::default(), IpvlanMode::default());
        let mut flag = IpvlanFlag::default();
        let mut driver = Driver::default();
        for (key, value) in options {
            match (name, key.as_str()) {
                (_, MTU) => {
                    let bad = || Error::invalid(format!("invalid {MTU} \"{value}\": not a number"));
                    driver.mtu = Some(value.parse().map_err(|_| bad())?);
                }
                ("bridge", BRIDGE_NAME) => driver.interface = Some(value.clone()),
                ("bridge", HOST_BINDING) => drop(binding(value)?),
                ("bridge", key) if IMPLIED.contains(&(key, value.as_str())) => {}
                ("macvlan" | "ipvlan", PARENT) => driver.interface = Some(parent(value)?),
                ("macvlan", MACVLAN_MODE) => macvlan = mode(key, value, MACVLAN_MODES)?,
                ("ipvlan", IPVLAN_MODE) => ipvlan = mode(key, value, IPVLAN_MODES)?,
                ("ipvlan", IPVLAN_FLAG) => flag = mode(key, value, IPVLAN_FLAGS)?,
                _ => return Err(unknown(name, key, value)),
            }
        }
        driver.kind = match name {
            "bridge" => None,
            "macvlan" => Some(StackedKind::Macvlan(macvlan)),
            "ipvlan" => Some(StackedKind::Ipvlan(ipvlan, flag)),
            "host" | "null" => {
                let message = format!("only one instance of \"{name}\" network is allowed");
                return Err(Error::new(Kind::Denied, message));
            }
            "overlay" => {
                let message = "networks of driver overlay need a cluster, which is not supported";
                return Err(Error::new(Kind::Unsupported, message));
            }
            name => {
                let message = format!("plugin \"{name}\" not found");
                return Err(Error::new(Kind::NotFound, message)
                    .hint("drivers are bridge, macvlan and ipvlan"));
            }
        };
        Ok(driver)
    }

    /// The interface that the network stands on, if it has no bridge: a parent of the host's, or,
    /// where none is given, one of its own by the name `own`.
    pub(super) fn stacked(&self) -> Option<Stacked> {
        self.kind.map(|kind| Stacked { kind, owns_parent: self.interface.is_none() })
    }
}

/// The host's address that ports are published on where none is asked for.
pub(crate) fn default_binding(options: &BTreeMap<String, String>) -> Option<IpAddr> {
    let address = options.get(HOST_BINDING).and_then(|value| binding(value).ok());
    // That is so already.
    address.filter(|address| !address.is_unspecified())
}

fn binding(value: &str) -> Result<IpAddr> {
    let address = value.parse().ok().filter(IpAddr::is_ipv4);
    address.ok_or_else(|| {
        Error::invalid(format!("invalid {HOST_BINDING} \"{value}\": not an IPv4 address"))
    })
}

fn parent(value: &str) -> Result<String> {
    match value {
        "" => Err(Error::invalid("the option parent needs the name of an interface")),
        "lo" => Err(Error::invalid("loopback interface is not a valid parent link")),
        name => Ok(name.to_owned()),
    }
}

/// Modes by their names.
type Modes<T> = &'static [(&'static str, T)];

const MACVLAN_MODES: Modes<MacvlanMode> = &[
    ("", MacvlanMode::Bridge),
    ("bridge", MacvlanMode::Bridge),
    ("private", MacvlanMode::Private),
    ("vepa", MacvlanMode::Vepa),
    ("passthru", MacvlanMode::Passthru),
];
const IPVLAN_MODES: Modes<IpvlanMode> = &[
    ("", IpvlanMode::L2),
    ("l2", IpvlanMode::L2),
    ("l3", IpvlanMode::L3),
    ("l3s", IpvlanMode::L3s),
];
const IPVLAN_FLAGS: Modes<IpvlanFlag> = &[
    ("", IpvlanFlag::Bridge),
    ("bridge", IpvlanFlag::Bridge),
    ("private", IpvlanFlag::Private),
    ("vepa", IpvlanFlag::Vepa),
];

fn mode<T: Copy>(key: &str, value: &str, modes: Modes<T>) -> Result<T> {
    let found = modes.iter().find(|(name, _)| *name == value);
    found.map(|(_, mode)| *mode).ok_or_else(|| {
        let names: Vec<&str> = modes.iter().skip(1).map(|(name, _)| *name).collect();
        Error::invalid(format!("requested {key} '{value}' is not valid"))
            .hint(format!("it is one of {}", names.join(", ")))
    })
}

fn unknown(driver: &str, key: &str, value: &str) -> Error {
    let known = match driver {
        "macvlan" => format!("{PARENT}, {MACVLAN_MODE} and {MTU} are"),
        "ipvlan" => format!("{PARENT}, {IPVLAN_MODE}, {IPVLAN_FLAG} and {MTU} are"),
        _ => format!("{BRIDGE_NAME}, {HOST_BINDING} and {MTU} are"),
    };
    let message = format!("network option {key}={value} is not supported");
    Error::new(Kind::Unsupported, message).hint(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, pairs: &[(&str, &str)]) -> Result<Driver> {
        let own = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Driver::parse(name, &own.collect())
    }

    #[test]
    fn options_are_known_or_refused() {
        let check = |name: &str, pairs: &[(&str, &str)], expected: &str| {
            let shown = match parse(name, pairs) {
                Ok(Driver { interface, mtu, kind }) => {
                    let own = Driver { interface: interface.clone(), mtu, kind };
                    let owns = own.stacked().map(|stacked| stacked.owns_parent);
                    format!("{interface:?} {mtu:?} {kind:?} {owns:?}")
                }
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected, "{name} {pairs:?}");
        };
        check(
            "bridge",
            &[(BRIDGE_NAME, "br0"), (MTU, "1400")],
            "Some(\"br0\") Some(1400) None None",
        );
        check("bridge", IMPLIED, "None None None None");
        check("bridge", &[(HOST_BINDING, "127.0.0.1")], "None None None None");
        let wrong = format!("invalid {HOST_BINDING} \"::1\": not an IPv4 address");
        check("bridge", &[(HOST_BINDING, "::1")], &wrong);
        check("bridge", &[(MTU, "x")], &format!("invalid {MTU} \"x\": not a number"));
        check("bridge", &[(PARENT, "eth0")], "network option parent=eth0 is not supported");
        check("macvlan", &[], "None None Some(Macvlan(Bridge)) Some(true)");
        let options = [(PARENT, "eth0"), (MACVLAN_MODE, "vepa")];
        check("macvlan", &options, "Some(\"eth0\") None Some(Macvlan(Vepa)) Some(false)");
        check("macvlan", &[(MACVLAN_MODE, "odd")], "requested macvlan_mode 'odd' is not valid");
        check("macvlan", &[(PARENT, "lo")], "loopback interface is not a valid parent link");
        let options = [(PARENT, "eth0"), (IPVLAN_MODE, "l3s"), (IPVLAN_FLAG, "private")];
        check("ipvlan", &options, "Some(\"eth0\") None Some(Ipvlan(L3s, Private)) Some(false)");
        check(
            "ipvlan",
            &[(MACVLAN_MODE, "vepa")],
            "network option macvlan_mode=vepa is not supported",
        );
        check("host", &[], "only one instance of \"host\" network is allowed");
        check("odd", &[], "plugin \"odd\" not found");
        let overlay = "networks of driver overlay need a cluster, which is not supported";
        check("overlay", &[], overlay);
    }
}

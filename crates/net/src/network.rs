//! A network, and a container's place in it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::ipam::Pool;
use crate::stacked::{IpvlanMode, Stacked, StackedKind};
use crate::{Address, Error, Prefix, Result, Subnet, Subnet6};

/// The longest interface name in bytes: `IFNAMSIZ` less the terminating NUL (`<net/if.h>`).
pub const INTERFACE_NAME_MAX: usize = 15;

/// The smallest and largest MTU of a network in bytes: RFC 791's minimum, and the most an IPv4
/// header can say.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;
/// The smallest MTU that IPv6 works over (RFC 8200, 5).
const MTU_MIN_V6: u32 = 1280;

/// One bridge network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The name people use: `bridge`.
    pub name: String,
    /// The bridge interface on the host, at most [`INTERFACE_NAME_MAX`] bytes: `cais0`. Of a network
    /// without a bridge, the parent of its containers' interfaces.
    pub bridge: String,
    /// Where its addresses come from.
    pub subnet: Subnet,
    /// The bridge's own address in the subnet, every container's way out.
    pub gateway: Ipv4Addr,
    /// The largest packet in bytes on bridge and veths; the kernel's default (1500) if absent.
    pub mtu: Option<u32>,
    /// The part of the subnet that addresses are chosen from; all of it if absent.
    #[serde(default)]
    pub range: Option<Subnet>,
    /// Whether nothing leads out of it but to this host.
    #[serde(default)]
    pub internal: bool,
    /// Its IPv6 half, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<NetworkV6>,
    /// Addresses that no container gets, by the names that users know them by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reserved: BTreeMap<String, IpAddr>,
    /// Which interfaces its containers have, if there is no bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacked: Option<Stacked>,
}

/// The IPv6 half of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkV6 {
    /// Where its addresses come from.
    pub subnet: Subnet6,
    /// The bridge's own address in the subnet, every container's way out.
    pub gateway: Ipv6Addr,
    /// The part of the subnet that addresses are chosen from; all of it if absent.
    #[serde(default)]
    pub range: Option<Subnet6>,
}

impl Network {
    /// Refuses a network the kernel would refuse, or that could serve no container.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the bridge's name is no interface name, the subnet has no room for a
    /// gateway and a host, the gateway is no host address of it, or the MTU is out of range.
    pub fn validate(&self) -> Result<()> {
        let invalid = |why: String| Err(Error::Invalid(format!("network `{}`: {why}", self.name)));
        if !is_interface_name(&self.bridge) {
            return invalid(format!("`{}` is not an interface name", self.bridge));
        }
        check_pool(&self.pool()).or_else(invalid)?;
        if let Some(pool) = self.pool_v6() {
            check_pool(&pool).or_else(invalid)?;
        }
        for (name, address) in &self.reserved {
            let known = match address {
                IpAddr::V4(address) => self.subnet.contains(*address),
                IpAddr::V6(address) => self.v6.is_some_and(|v6| v6.subnet.contains(*address)),
            };
            if !known {
                return invalid(format!(
                    "auxiliary address {name}={address} is in no subnet of it"
                ));
            }
        }
        match self.mtu {
            Some(mtu) if !MTU_RANGE.contains(&mtu) => {
                invalid(format!("mtu {mtu} is outside {MTU_RANGE:?}"))
            }
            Some(mtu) if self.v6.is_some() && mtu < MTU_MIN_V6 => {
                invalid(format!("mtu {mtu} is too small for IPv6, which needs {MTU_MIN_V6}"))
            }
            _ => Ok(()),
        }
    }
}

impl Network {
    /// Whether its containers have no neighbours: the host routes what leaves their interfaces.
    fn routes_by_host(&self) -> bool {
        let kind = self.stacked.map(|stacked| stacked.kind);
        matches!(kind, Some(StackedKind::Ipvlan(IpvlanMode::L3 | IpvlanMode::L3s, _)))
    }

    /// What its IPv4 addresses are leased from.
    #[must_use]
    pub fn pool(&self) -> Pool<'_, Ipv4Addr> {
        let reserved = self.reserved.values().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        Pool {
            name: &self.name,
            subnet: self.subnet,
            gateway: self.gateway,
            range: self.range,
            reserved: reserved.collect(),
        }
    }

    /// What its IPv6 addresses are leased from, if it has any.
    #[must_use]
    pub fn pool_v6(&self) -> Option<Pool<'_, Ipv6Addr>> {
        let NetworkV6 { subnet, gateway, range } = self.v6?;
        let reserved = self.reserved.values().filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        Some(Pool { name: &self.name, subnet, gateway, range, reserved: reserved.collect() })
    }
}

/// Why no container could be given an address, if that is so.
fn check_pool<A: Address>(pool: &Pool<'_, A>) -> std::result::Result<(), String> {
    let Pool { subnet, gateway, range, .. } = pool;
    if subnet.prefix() > A::BITS - 2 {
        return Err(format!("subnet {subnet} has no room for a host"));
    }
    if !subnet.has_host(*gateway) {
        return Err(format!("{gateway} is no host of {subnet}"));
    }
    let outside = |range: &Prefix<A>| !subnet.covers(*range);
    match range.filter(outside) {
        Some(range) => Err(format!("range {range} is not within subnet {subnet}")),
        None => Ok(()),
    }
}

/// The kernel's rule (`dev_valid_name`), and no `%`, which asks the kernel to choose a number.
pub(crate) fn is_interface_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"/:%".contains(&b);
    (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && name != "."
        && name != ".."
}

/// A container's place in a network: a veth pair, its address and its route out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The container's address.
    pub address: Ipv4Addr,
    /// The length of the subnet's prefix in bits.
    pub prefix: u8,
    /// The bridge's address; unspecified where the way out is the interface itself.
    pub gateway: Ipv4Addr,
    /// Whether the gateway is the container's way out.
    #[serde(default = "yes")]
    pub is_way_out: bool,
    /// The hardware address of the container's end; [`MacAddress::NONE`] if it is its parent's.
    pub mac: MacAddress,
    /// The name of the host's end: `veth` and eleven hexadecimal digits; empty where there is none.
    pub host_interface: String,
    /// The name of the container's end: `eth0`.
    pub interface: String,
    /// Its IPv6 address, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<EndpointV6>,
    /// Link-local addresses that it has, too: nobody leases them, and they lead nowhere but to
    /// neighbours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<IpAddr>,
}

/// The IPv6 half of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointV6 {
    /// The container's address.
    pub address: Ipv6Addr,
    /// The length of the subnet's prefix in bits.
    pub prefix: u8,
    /// The bridge's address; unspecified where the way out is the interface itself.
    pub gateway: Ipv6Addr,
}

impl Endpoint {
    /// The place of container `id` in `network` at `address`, as `eth0`.
    ///
    /// The host's name is a function of `id` and network, so that a veth left behind can be found
    /// again without any record of it.
    pub fn new(network: &Network, address: Ipv4Addr, id: &str) -> Endpoint {
        let digest = fnv1a(&[id, "/", &network.bridge]);
        Endpoint {
            address,
            prefix: network.subnet.prefix(),
            gateway: if network.routes_by_host() { Ipv4Addr::UNSPECIFIED } else { network.gateway },
            is_way_out: !network.internal,
            mac: match network.stacked.map(|stacked| stacked.kind) {
                Some(StackedKind::Ipvlan(..)) => MacAddress::NONE,
                _ => MacAddress::of(address),
            },
            host_interface: match network.stacked {
                None => format!("veth{:011x}", digest >> 20),
                Some(_) => String::new(),
            },
            interface: String::from("eth0"),
            v6: None,
            link_local: Vec::new(),
        }
    }

    /// The same with an IPv6 address of the network's other half; as it is if there is none.
    #[must_use]
    pub fn with_v6(self, network: &Network, address: Ipv6Addr) -> Endpoint {
        let half =
            |v6: NetworkV6| EndpointV6 { address, prefix: v6.subnet.prefix(), gateway: v6.gateway };
        Endpoint { v6: network.v6.map(half), ..self }
    }

    /// Whether it is by way of a bridge, so that the host takes part in what is said.
    #[must_use]
    pub fn is_bridged(&self) -> bool {
        !self.host_interface.is_empty()
    }

    /// All addresses that it has.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [self.address.into()].into_iter().chain(self.v6.map(|v6| v6.address.into()))
    }
}

fn yes() -> bool {
    true
}

/// FNV-1a with 64 bits, whose value is fixed by its definition: names made from it are found again
/// by a later version of this program, which the standard library's hashers do not promise.
fn fnv1a(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// An Ethernet hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// No address.
    pub const NONE: MacAddress = MacAddress([0; 6]);

    /// Docker's address for a container: `02:42` (locally administered) and the four bytes of its
    /// IPv4 address. A container that inherits an address inherits the hardware address with it,
    /// so its neighbours' ARP caches stay true.
    pub const fn of(address: Ipv4Addr) -> MacAddress {
        let [a, b, c, d] = address.octets();
        MacAddress([0x02, 0x42, a, b, c, d])
    }
}

impl std::str::FromStr for MacAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<MacAddress> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        for byte in &mut bytes {
            let part = parts.next().filter(|part| digits(part));
            let value = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            *byte = value.ok_or_else(|| Error::Invalid(format!("`{text}` is no mac address")))?;
        }
        // A group's address is nobody's own (IEEE 802, 8.2).
        match parts.next().is_none() && bytes[0] & 1 == 0 {
            true => Ok(MacAddress(bytes)),
            false => Err(Error::Invalid(format!("`{text}` is no mac address of one interface"))),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(bridge: &str) -> Network {
        Network {
            name: String::from("bridge"),
            bridge: String::from(bridge),
            subnet: "172.17.0.0/16".parse().unwrap(),
            gateway: Ipv4Addr::new(172, 17, 0, 1),
            mtu: None,
            range: None,
            internal: false,
            v6: None,
            reserved: BTreeMap::new(),
            stacked: None,
        }
    }

    #[test]
    fn the_hardware_address_is_dockers() {
        let mac = MacAddress::of(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
    }

    /// A veth made by an earlier version must be found by a later one.
    #[test]
    fn the_hosts_interface_name_never_changes() {
        let endpoint = Endpoint::new(&network("cais0"), Ipv4Addr::new(172, 17, 0, 2), "c0");
        assert_eq!(endpoint.host_interface, "veth04354dbf22c");
        let json = serde_json::to_string(&endpoint).unwrap();
        assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), endpoint);
    }

    #[test]
    fn a_container_has_another_interface_in_every_network() {
        let at = |bridge: &str, id: &str| {
            Endpoint::new(&network(bridge), Ipv4Addr::new(172, 17, 0, 2), id).host_interface
        };
        assert_ne!(at("cais0", "a"), at("cais1", "a"));
        assert_ne!(at("cais0", "a"), at("cais0", "b"));
    }

    proptest! {
        #[test]
        fn any_id_gives_an_interface_name(id in ".*") {
            let endpoint = Endpoint::new(&network("cais0"), Ipv4Addr::LOCALHOST, &id);
            prop_assert!(is_interface_name(&endpoint.host_interface));
            prop_assert_eq!(endpoint.host_interface.len(), INTERFACE_NAME_MAX);
        }
    }
}

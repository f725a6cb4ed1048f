//! An IPv4 subnet.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// An IPv4 subnet in CIDR notation (RFC 4632), its host bits zero: `172.17.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The subnet of `prefix` bits (0 to 32) that `address` lies in. A longer prefix means 32.
    pub const fn containing(address: Ipv4Addr, prefix: u8) -> Subnet {
        let prefix = if prefix > 32 { 32 } else { prefix };
        Subnet { address: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix }
    }

    /// The network address, the first of the subnet.
    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The length of the prefix in bits, 0 to 32.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The last address of the subnet.
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.prefix))
    }

    /// Whether `address` lies in the subnet.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.address.to_bits()
    }

    /// Whether the two share an address.
    pub const fn overlaps(self, other: Subnet) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The addresses a host may have: neither the network address nor the broadcast address, so
    /// none in a /31 or /32.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let (first, last) = (self.address.to_bits(), self.broadcast().to_bits());
        (first.saturating_add(1)..last).map(Ipv4Addr::from_bits)
    }
}

const fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Subnet, Error> {
        let invalid = |why: &str| Error::Invalid(format!("subnet `{text}`: {why}"));
        let (address, prefix) =
            text.split_once('/').ok_or_else(|| invalid("expected ADDRESS/PREFIX"))?;
        let address: Ipv4Addr =
            address.parse().map_err(|_| invalid("the address is not an IPv4 address"))?;
        let digits = prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|p| digits && *p <= 32);
        let prefix = prefix.ok_or_else(|| invalid("the prefix is not a number from 0 to 32"))?;
        let subnet = Subnet::containing(address, prefix);
        if subnet.address != address {
            return Err(invalid(&format!("host bits are set, did you mean {subnet}")));
        }
        Ok(subnet)
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Subnet, Error> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "172.17.0.0/16", "192.168.16.0/20", "1.2.3.4/32"] {
            let subnet: Subnet = text.parse().unwrap();
            assert_eq!(subnet.to_string(), text);
            let json = serde_json::to_string(&subnet).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Subnet>(&json).unwrap(), subnet);
        }
    }

    #[test]
    fn what_is_not_a_subnet() {
        for (text, why) in [
            ("", "expected ADDRESS/PREFIX"),
            ("10.0.0.0", "expected ADDRESS/PREFIX"),
            ("10.0.0/8", "the address is not an IPv4 address"),
            ("fd00::/8", "the address is not an IPv4 address"),
            ("10.0.0.0/33", "the prefix is not a number from 0 to 32"),
            ("10.0.0.0/+8", "the prefix is not a number from 0 to 32"),
            ("10.0.0.0/8/8", "the prefix is not a number from 0 to 32"),
            ("10.0.0.1/8", "host bits are set, did you mean 10.0.0.0/8"),
        ] {
            let error = text.parse::<Subnet>().unwrap_err();
            assert_eq!(error.to_string(), format!("subnet `{text}`: {why}"));
        }
    }

    #[test]
    fn hosts() {
        let check = |text: &str, expected: &[&str]| {
            let subnet: Subnet = text.parse().unwrap();
            let hosts: Vec<String> = subnet.hosts().map(|host| host.to_string()).collect();
            assert_eq!(hosts, expected, "{text}");
        };
        check("10.0.0.4/30", &["10.0.0.5", "10.0.0.6"]);
        check("10.0.0.4/31", &[]);
        check("10.0.0.4/32", &[]);
        check("255.255.255.252/30", &["255.255.255.253", "255.255.255.254"]);
        assert_eq!("172.17.0.0/16".parse::<Subnet>().unwrap().hosts().count(), 65534);
    }

    fn subnet() -> impl Strategy<Value = Subnet> {
        (any::<u32>(), 0..=32_u8)
            .prop_map(|(bits, prefix)| Subnet::containing(Ipv4Addr::from_bits(bits), prefix))
    }

    proptest! {
        #[test]
        fn subnets_overlap_when_their_ranges_do(a in subnet(), b in subnet()) {
            let apart = a.broadcast() < b.address() || b.broadcast() < a.address();
            prop_assert_eq!(a.overlaps(b), !apart);
            prop_assert!(a.contains(a.address()) && a.contains(a.broadcast()));
            prop_assert_eq!(a.to_string().parse::<Subnet>().unwrap(), a);
        }
    }
}

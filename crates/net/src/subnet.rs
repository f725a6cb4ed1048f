//! Subnets of IPv4 and IPv6.

use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// An address of one of the two families, as a number of at most 128 bits.
pub trait Address: Copy + Ord + Hash + Debug + Display + FromStr {
    /// The length of an address in bits.
    const BITS: u8;
    /// `IPv4` or `IPv6`.
    const FAMILY: &'static str;
    /// Whether the last address of a subnet is everybody's (RFC 919); IPv6 has no such address.
    const HAS_BROADCAST: bool;

    /// The address as a number.
    fn bits(self) -> u128;

    /// The address of this number, whose bits above [`Address::BITS`] do not matter.
    fn of_bits(bits: u128) -> Self;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;
    const FAMILY: &'static str = "IPv4";
    const HAS_BROADCAST: bool = true;

    fn bits(self) -> u128 {
        self.to_bits().into()
    }

    fn of_bits(bits: u128) -> Self {
        let [.., a, b, c, d] = bits.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;
    const FAMILY: &'static str = "IPv6";
    const HAS_BROADCAST: bool = false;

    fn bits(self) -> u128 {
        self.to_bits()
    }

    fn of_bits(bits: u128) -> Self {
        Ipv6Addr::from_bits(bits)
    }
}

/// A subnet in CIDR notation (RFC 4632, RFC 4291 2.3), its host bits zero: `172.17.0.0/16`,
/// `fd00::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String", bound = "A: Address")]
pub struct Prefix<A> {
    address: A,
    prefix: u8,
}

/// An IPv4 subnet.
pub type Subnet = Prefix<Ipv4Addr>;
/// An IPv6 subnet.
pub type Subnet6 = Prefix<Ipv6Addr>;

impl<A: Address> Prefix<A> {
    /// The subnet of `prefix` bits that `address` lies in. A prefix longer than an address means
    /// this address alone.
    pub fn containing(address: A, prefix: u8) -> Self {
        let prefix = prefix.min(A::BITS);
        Prefix { address: A::of_bits(address.bits() & !host_mask::<A>(prefix)), prefix }
    }

    /// The network address, the first of the subnet.
    pub fn address(self) -> A {
        self.address
    }

    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The last address of the subnet, which in IPv4 is everybody's.
    pub fn broadcast(self) -> A {
        A::of_bits(self.address.bits() | host_mask::<A>(self.prefix))
    }

    /// Whether `address` lies in the subnet.
    pub fn contains(self, address: A) -> bool {
        address.bits() & !host_mask::<A>(self.prefix) == self.address.bits()
    }

    /// Whether the other lies in this one.
    pub fn covers(self, other: Self) -> bool {
        self.contains(other.address) && self.prefix <= other.prefix
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Whether `address` is in the subnet and a host may have it: it is not the network's own
    /// (in IPv6 that of any router, RFC 4291 2.6.1), nor the broadcast address.
    pub fn has_host(self, address: A) -> bool {
        let is_edge = address == self.address || (A::HAS_BROADCAST && address == self.broadcast());
        self.contains(address) && !is_edge
    }

    /// The addresses a host may have, so none in a /31 or /32 of IPv4.
    pub fn hosts(self) -> impl Iterator<Item = A> {
        let (first, last) = (self.address.bits(), self.broadcast().bits());
        (first..=last).map(A::of_bits).filter(move |address| self.has_host(*address))
    }
}

/// The bits of a host's number in its subnet.
fn host_mask<A: Address>(prefix: u8) -> u128 {
    match u32::from(A::BITS - prefix) {
        128 => u128::MAX,
        bits => (1 << bits) - 1,
    }
}

impl<A: Address> Display for Prefix<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl<A: Address> FromStr for Prefix<A> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::Invalid(format!("subnet `{text}`: {why}"));
        let (address, prefix) =
            text.split_once('/').ok_or_else(|| invalid("expected ADDRESS/PREFIX"))?;
        let address: A = address
            .parse()
            .map_err(|_| invalid(&format!("the address is not an {} address", A::FAMILY)))?;
        let digits = prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|p| digits && *p <= A::BITS);
        let prefix = prefix
            .ok_or_else(|| invalid(&format!("the prefix is not a number from 0 to {}", A::BITS)))?;
        let subnet = Prefix::containing(address, prefix);
        if subnet.address != address {
            return Err(invalid(&format!("host bits are set, did you mean {subnet}")));
        }
        Ok(subnet)
    }
}

impl<A: Address> TryFrom<String> for Prefix<A> {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl<A: Address> From<Prefix<A>> for String {
    fn from(subnet: Prefix<A>) -> String {
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

    #[test]
    fn both_families_are_subnets() {
        let check = |text: &str, first: &str, last: &str, edge: bool| {
            let subnet: Subnet6 = text.parse().unwrap();
            assert_eq!(subnet.to_string(), text);
            let mut hosts = subnet.hosts();
            assert_eq!(hosts.next().unwrap(), first.parse::<Ipv6Addr>().unwrap(), "{text}");
            assert!(subnet.has_host(last.parse().unwrap()), "{text}");
            assert_eq!(subnet.broadcast(), last.parse::<Ipv6Addr>().unwrap(), "{text}");
            assert_eq!(subnet.contains(Ipv6Addr::UNSPECIFIED), edge, "{text}");
        };
        check("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff", false);
        check("fd00::/120", "fd00::1", "fd00::ff", false);
        check("::/0", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true);
        let error = "10.0.0.0/8".parse::<Subnet6>().unwrap_err().to_string();
        assert_eq!(error, "subnet `10.0.0.0/8`: the address is not an IPv6 address");
        let error = "fd00::1/64".parse::<Subnet6>().unwrap_err().to_string();
        assert_eq!(error, "subnet `fd00::1/64`: host bits are set, did you mean fd00::/64");
        let covers = |a: &str, b: &str| a.parse::<Subnet>().unwrap().covers(b.parse().unwrap());
        assert!(covers("10.0.0.0/8", "10.1.0.0/16") && covers("10.0.0.0/8", "10.0.0.0/8"));
        assert!(!covers("10.1.0.0/16", "10.0.0.0/8") && !covers("10.0.0.0/8", "11.0.0.0/8"));
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

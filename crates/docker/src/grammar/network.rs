//! The addresses of networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::{Address, Error, Kind, NetworkOptions, Prefix, Result, Subnet, Subnet6};

/// What is written of a network's addresses, of both families in any order.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// `10.0.0.0/24`.
    pub subnets: Vec<String>,
    /// As `subnets`: the parts that addresses are chosen from.
    pub ranges: Vec<String>,
    /// The bridge's addresses.
    pub gateways: Vec<String>,
    /// `name=address`: what no container gets.
    pub reserved: Vec<String>,
}

/// What is asked of the network's addresses, each given to the half of its family.
///
/// # Errors
/// [`Kind::Invalid`], and [`Kind::Unsupported`] for several of one family.
pub fn addresses(asked: &Addresses) -> Result<NetworkOptions> {
    let (subnet, subnet_v6) = subnets("subnet", &asked.subnets)?;
    let (range, range_v6) = subnets("ip-range", &asked.ranges)?;
    let (gateway, gateway_v6) = gateways(&asked.gateways)?;
    if let Some(subnet) = subnet_v6.filter(|_| !asked.ipv6) {
        return Err(Error::invalid(format!("subnet {subnet} is of IPv6, which is not asked for"))
            .hint("--ipv6 asks for it"));
    }
    let lacks = (range.is_some() || gateway.is_some()) && subnet.is_none();
    let lacks_v6 = (range_v6.is_some() || gateway_v6.is_some()) && subnet_v6.is_none();
    if lacks || lacks_v6 {
        return Err(Error::invalid("every ip-range or gateway must have a corresponding subnet"));
    }
    Ok(NetworkOptions {
        subnet,
        range,
        gateway,
        subnet_v6,
        range_v6,
        gateway_v6,
        reserved: auxiliary(&asked.reserved, subnet, subnet_v6)?,
        ..NetworkOptions::default()
    })
}

fn put<T>(place: &mut Option<T>, name: &str, family: &str, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(
            Kind::Unsupported,
            format!("several --{name} of {family} are not supported"),
        )),
    }
}

fn subnets(name: &str, texts: &[String]) -> Result<(Option<Subnet>, Option<Subnet6>)> {
    let (mut v4, mut v6) = (None, None);
    for text in texts {
        match subnet(text) {
            Some(subnet) => put(&mut v4, name, Ipv4Addr::FAMILY, subnet)?,
            None => {
                let bad = || Error::invalid(format!("invalid CIDR address: {text}"));
                put(&mut v6, name, Ipv6Addr::FAMILY, subnet(text).ok_or_else(bad)?)?;
            }
        }
    }
    Ok((v4, v6))
}

/// Host bits may be set, and mean nothing.
fn subnet<A: Address>(text: &str) -> Option<Prefix<A>> {
    let (address, prefix) = text.split_once('/')?;
    let address: A = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= A::BITS)?;
    Some(Prefix::containing(address, prefix))
}

fn gateways(texts: &[String]) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let (mut v4, mut v6) = (None, None);
    for text in texts {
        match text.parse() {
            Ok(IpAddr::V4(address)) => put(&mut v4, "gateway", Ipv4Addr::FAMILY, address)?,
            Ok(IpAddr::V6(address)) => put(&mut v6, "gateway", Ipv6Addr::FAMILY, address)?,
            Err(_) => return Err(Error::invalid(format!("invalid gateway address: {text}"))),
        }
    }
    Ok((v4, v6))
}

/// `name=address`, as Docker has it in a subnet that was given.
fn auxiliary(
    texts: &[String],
    v4: Option<Subnet>,
    v6: Option<Subnet6>,
) -> Result<BTreeMap<String, IpAddr>> {
    let mut all = BTreeMap::new();
    for text in texts {
        let bad = || Error::invalid(format!("invalid --aux-address {text}"));
        let (name, address) = text.split_once('=').ok_or_else(|| bad().hint("as in a=10.0.0.5"))?;
        let address: IpAddr = address.parse().map_err(|_| bad().hint("as in a=10.0.0.5"))?;
        let known = match address {
            IpAddr::V4(address) => v4.is_some_and(|subnet| subnet.contains(address)),
            IpAddr::V6(address) => v6.is_some_and(|subnet| subnet.contains(address)),
        };
        if !known {
            let message = format!("no matching subnet for aux-address {address}");
            return Err(Error::invalid(message));
        }
        all.insert(name.to_owned(), address);
    }
    Ok(all)
}

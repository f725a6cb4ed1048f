//! What is for whoever runs a cluster to decide.

use std::net::Ipv4Addr;
use std::time::Duration;

/// How controllers decide where several ways are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a node may be silent before it is taken for lost (kube-controller-manager,
    /// `--node-monitor-grace-period`).
    pub silence_max: Duration,
    /// Where nodes that bring none get the addresses of their pods from.
    pub pods: Option<PodRange>,
}

impl Default for Settings {
    /// Upstream's: 40 seconds, and no addresses.
    fn default() -> Self {
        Self { silence_max: Duration::from_secs(40), pods: None }
    }
}

/// The addresses of a cluster's pods, of which each node has a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRange {
    /// The first address.
    pub address: Ipv4Addr,
    /// Bits of it that all addresses have in common.
    pub prefix: u8,
    /// Bits that the addresses of one node have in common.
    pub node_prefix: u8,
    /// A part that a node without one never gets.
    pub reserved: Option<String>,
}

impl PodRange {
    /// The first part that overlaps none of those that are taken, if there is one.
    pub(crate) fn free<'a>(&'a self, taken: impl Iterator<Item = &'a str>) -> Option<String> {
        let taken = taken.chain(self.reserved.as_deref());
        let taken: Vec<(u32, u32)> = taken.filter_map(bounds).collect();
        let (first, last) = (u32::from(self.address), last_of(self.address.into(), self.prefix));
        let mut from = first;
        while from <= last {
            let until = last_of(from, self.node_prefix);
            match taken.iter().filter(|(a, b)| *a <= until && from <= *b).map(|(_, b)| *b).max() {
                None => return Some(format!("{}/{}", Ipv4Addr::from(from), self.node_prefix)),
                // Behind what is in the way, which may be larger.
                Some(behind) => {
                    from = last_of(behind.max(until), self.node_prefix).checked_add(1)?;
                }
            }
        }
        None
    }
}

/// The last address of a network.
fn last_of(address: u32, prefix: u8) -> u32 {
    address | u32::MAX.checked_shr(prefix.into()).unwrap_or_default()
}

/// The first and the last address of a network in writing.
fn bounds(text: &str) -> Option<(u32, u32)> {
    let (address, prefix) = text.split_once('/')?;
    let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    let last = last_of(address, prefix);
    Some((last & !u32::MAX.checked_shr(prefix.into()).unwrap_or_default(), last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_first_part_that_nobody_has() {
        let range = PodRange {
            address: Ipv4Addr::new(10, 42, 0, 0),
            prefix: 22,
            node_prefix: 24,
            reserved: Some("10.42.0.0/24".to_owned()),
        };
        let free = |taken: &[&str]| range.free(taken.iter().copied());
        assert_eq!(free(&[]).as_deref(), Some("10.42.1.0/24"));
        assert_eq!(free(&["10.42.1.0/24", "10.42.3.0/24"]).as_deref(), Some("10.42.2.0/24"));
        assert_eq!(free(&["10.42.1.128/25"]).as_deref(), Some("10.42.2.0/24"));
        assert_eq!(free(&["10.42.0.0/23", "nonsense"]).as_deref(), Some("10.42.2.0/24"));
        assert_eq!(free(&["10.42.0.0/16"]), None);
        assert_eq!(free(&["10.42.1.0/24", "10.42.2.0/23"]), None);
    }
}

//! Address leases, on plain files.
//!
//! A lease is a symbolic link `<dir>/<address>` whose target is the owner's id. One symlink(2)
//! makes name and content at once, so a process killed at any moment leaves a whole lease or none.
//! Each network has a directory of its own, best where it does not survive a reboot, as the
//! containers do not.
//!
//! Changes happen under a lock (flock(2)) of the directory, which the kernel drops with its holder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::{Address, Error, Prefix, Result, Subnet, Subnet6};

/// The longest owner's id in bytes: far above a container's 64, far below a symlink's 4095.
const OWNER_MAX: usize = 255;

/// Docker's default address pools: sixteen-bit prefixes from 172.17 to 172.31, then twenty-bit
/// prefixes of 192.168. Docker ends there, after 31 networks; we go on with 24-bit prefixes of
/// 10.128 to 10.255.
fn pools() -> impl Iterator<Item = Subnet> {
    let wide = (17..=31).map(|n| Subnet::containing(Ipv4Addr::new(172, n, 0, 0), 16));
    let narrow = (0..=15).map(|n| Subnet::containing(Ipv4Addr::new(192, 168, n * 16, 0), 20));
    let more = (128..=255)
        .flat_map(|n| (0..=255).map(move |m| Subnet::containing(Ipv4Addr::new(10, n, m, 0), 24)));
    wide.chain(narrow).chain(more)
}

/// The first of Docker's default address pools that overlaps nothing of `in_use`: the subnets of
/// other networks, of this host ([`in_use`](crate::in_use)), and its name servers' addresses.
///
/// # Errors
/// [`Error::Exhausted`] if all of them do.
pub fn choose_subnet(in_use: &[Subnet]) -> Result<Subnet> {
    let used = Ranges::of(in_use);
    pools().find(|pool| used.is_free(*pool)).ok_or_else(|| {
        Error::Exhausted(String::from("every default address pool overlaps a subnet in use"))
    })
}

/// A subnet of 64 bits for a network that none was given for: one of the 65,536 of a prefix of
/// unique local addresses (RFC 4193) whose global id comes from `seed`, 40 bits that should be
/// this host's own. As Docker does since version 27.
///
/// # Errors
/// [`Error::Exhausted`] if `in_use` overlaps all of them.
pub fn choose_subnet_v6(seed: [u8; 5], in_use: &[Subnet6]) -> Result<Subnet6> {
    let [a, b, c, d, e] = seed;
    let base = u128::from_be_bytes([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let pools = (0..=u16::MAX)
        .map(|n| Subnet6::containing(Ipv6Addr::from_bits(base | u128::from(n) << 64), 64));
    let used = Ranges::of(in_use);
    { pools }.find(|pool| used.is_free(*pool)).ok_or_else(|| {
        let prefix = Subnet6::containing(Ipv6Addr::from_bits(base), 48);
        Error::Exhausted(format!("every IPv6 subnet of {prefix} overlaps one in use"))
    })
}

/// Addresses in use, as ranges that do not touch: a thousand networks are looked through a hundred
/// thousand times.
struct Ranges(BTreeMap<u128, u128>);

impl Ranges {
    fn of<A: Address>(subnets: &[Prefix<A>]) -> Ranges {
        let mut all: Vec<(u128, u128)> =
            subnets.iter().map(|s| (s.address().bits(), s.broadcast().bits())).collect();
        all.sort_unstable();
        let mut ranges = BTreeMap::new();
        let mut open: Option<(u128, u128)> = None;
        for (first, last) in all {
            match &mut open {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => ranges.extend(open.replace((first, last))),
            }
        }
        ranges.extend(open);
        Ranges(ranges)
    }

    fn is_free<A: Address>(&self, subnet: Prefix<A>) -> bool {
        let (first, last) = (subnet.address().bits(), subnet.broadcast().bits());
        // Of the ranges that begin before the subnet's end the last ends last.
        self.0.range(..=last).next_back().is_none_or(|(_, end)| *end < first)
    }
}

/// What addresses are leased from: one family of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool<'a, A> {
    /// The network's name, for messages.
    pub name: &'a str,
    /// All of them.
    pub subnet: Prefix<A>,
    /// The one that is the way out.
    pub gateway: A,
    /// The part that addresses are chosen from; all of it if absent.
    pub range: Option<Prefix<A>>,
    /// Those that no container gets.
    pub reserved: Vec<A>,
}

/// Leases the lowest free address of the network to `owner`, in the directory `dir`, which is made
/// if it does not exist. Never the network's, broadcast or gateway address.
///
/// # Errors
/// [`Error::Exhausted`] if no address is free, [`Error::Invalid`] if `owner` is empty or longer
/// than 255 bytes, [`Error::Io`].
pub fn allocate<A: Address>(dir: &Path, pool: &Pool<'_, A>, owner: &str) -> Result<A>
where
    IpAddr: From<A>,
{
    let leases = Leases::of(dir, owner)?;
    let taken: BTreeSet<IpAddr> = leases.addresses()?.into_iter().collect();
    let Pool { name, subnet, gateway, reserved, .. } = pool;
    let range = pool.range.unwrap_or(*subnet);
    let (first, last) = (range.address().bits(), range.broadcast().bits());
    let free = |address: &A| {
        subnet.has_host(*address)
            && address != gateway
            && !reserved.contains(address)
            && !taken.contains(&IpAddr::from(*address))
    };
    let address = (first..=last).map(A::of_bits).find(free).ok_or_else(|| {
        Error::Exhausted(format!("network `{name}` has no free address in {range}"))
    })?;
    leases.begin(address.into(), owner)?;
    Ok(address)
}

/// Leases this address of the network to `owner`, as [`allocate`] does the lowest; that it is
/// `owner`'s already is well.
///
/// # Errors
/// [`Error::Conflict`] if it is another's, [`Error::Invalid`] if no host of the network can have
/// it; else as of [`allocate`].
pub fn claim<A: Address>(dir: &Path, pool: &Pool<'_, A>, address: A, owner: &str) -> Result<()>
where
    IpAddr: From<A>,
{
    let Pool { name, subnet, gateway, reserved, .. } = pool;
    if !subnet.has_host(address) || address == *gateway {
        return Err(Error::Invalid(format!(
            "no container of network `{name}` can have {address}: its subnet is {subnet}, its \
             gateway {gateway}"
        )));
    }
    if reserved.contains(&address) {
        return Err(Error::Conflict(format!("Address already in use: {address}")));
    }
    let leases = Leases::of(dir, owner)?;
    let address = address.into();
    match leases.owner(address)? {
        None => leases.begin(address, owner),
        Some(known) if known == owner => Ok(()),
        Some(_) => Err(Error::Conflict(format!("Address already in use: {address}"))),
    }
}

/// Whose the address is.
///
/// # Errors
/// [`Error::Io`].
pub fn owner(dir: &Path, address: IpAddr) -> Result<Option<String>> {
    match std::fs::read_link(dir.join(address.to_string())) {
        Ok(owner) => Ok(Some(owner.to_string_lossy().into_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("read the lease of {address}"), e)),
    }
}

/// Ends the lease of `address`, if it is `owner`'s: one that has ended, or passed to another
/// owner, is left as it is.
///
/// # Errors
/// [`Error::Io`].
pub fn release(dir: &Path, address: IpAddr, owner: &str) -> Result<()> {
    let Some(leases) = Leases::lock_existing(dir)? else { return Ok(()) };
    if leases.owner(address)?.as_deref() == Some(owner) {
        leases.end(address)?;
    }
    Ok(())
}

/// Ends the leases whose owner is not alive, and returns their addresses.
///
/// Whoever allocates must count as alive from before the allocation. `is_alive` is called under
/// the directory's lock and must not come back here.
///
/// # Errors
/// [`Error::Io`].
pub fn reclaim(dir: &Path, is_alive: &dyn Fn(&str) -> bool) -> Result<Vec<IpAddr>> {
    let Some(leases) = Leases::lock_existing(dir)? else { return Ok(Vec::new()) };
    let mut ended = Vec::new();
    for address in leases.addresses()? {
        let dead = leases.owner(address)?.is_some_and(|owner| !is_alive(&owner));
        if dead {
            leases.end(address)?;
            ended.push(address);
        }
    }
    ended.sort_unstable();
    Ok(ended)
}

/// A directory of leases, locked while this exists.
struct Leases {
    dir: OwnedFd,
}

impl Leases {
    /// Those in `dir`, which is made, for a change on behalf of `owner`.
    fn of(dir: &Path, owner: &str) -> Result<Leases> {
        if owner.is_empty() || owner.len() > OWNER_MAX || owner.contains('\0') {
            return Err(Error::Invalid(format!("`{owner}` cannot own an address")));
        }
        let doing = |e| Error::io(format!("create {}", dir.display()), e);
        std::fs::create_dir_all(dir).map_err(doing)?;
        Leases::lock(dir)
    }

    fn begin(&self, address: IpAddr, owner: &str) -> Result<()> {
        rustix::fs::symlinkat(owner, &self.dir, address.to_string())
            .map_err(|e| Error::io(format!("lease {address} to `{owner}`"), e))
    }

    fn lock(dir: &Path) -> Result<Leases> {
        Leases::try_lock(dir).map_err(|e| Error::io(format!("lock {}", dir.display()), e))
    }

    fn lock_existing(dir: &Path) -> Result<Option<Leases>> {
        match Leases::try_lock(dir) {
            Ok(leases) => Ok(Some(leases)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io(format!("lock {}", dir.display()), e)),
        }
    }

    fn try_lock(dir: &Path) -> rustix::io::Result<Leases> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&dir, FlockOperation::LockExclusive))?;
        Ok(Leases { dir })
    }

    fn addresses(&self) -> Result<Vec<IpAddr>> {
        let read = || {
            let entries = Dir::read_from(&self.dir)?.collect::<rustix::io::Result<Vec<_>>>()?;
            let names = entries.iter().filter_map(|entry| entry.file_name().to_str().ok());
            Ok(names.filter_map(|name| name.parse().ok()).collect())
        };
        read().map_err(|e: Errno| Error::io("list the leases", e))
    }

    fn owner(&self, address: IpAddr) -> Result<Option<String>> {
        match rustix::fs::readlinkat(&self.dir, address.to_string(), Vec::new()) {
            Ok(owner) => Ok(Some(owner.to_string_lossy().into_owned())),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::io(format!("read the lease of {address}"), e)),
        }
    }

    fn end(&self, address: IpAddr) -> Result<()> {
        rustix::fs::unlinkat(&self.dir, address.to_string(), AtFlags::empty())
            .map_err(|e| Error::io(format!("end the lease of {address}"), e))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subnet() -> impl Strategy<Value = Subnet> {
        // Few enough that they often meet.
        (any::<u8>(), 24..=32_u8)
            .prop_map(|(low, prefix)| Subnet::containing(Ipv4Addr::new(10, 0, 0, low), prefix))
    }

    proptest! {
        #[test]
        fn ranges_are_free_of_what_overlaps_nothing(
            used in proptest::collection::vec(subnet(), 0..12),
            wanted in subnet(),
        ) {
            let free = !used.iter().any(|used| used.overlaps(wanted));
            prop_assert_eq!(Ranges::of(&used).is_free(wanted), free);
        }
    }
}

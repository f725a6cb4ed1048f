//! Firewalls of others on this host: which of their chains may drop what is not ours to let pass.
//!
//! A packet comes through only if *every* base chain at its hook lets it, so an accept of ours
//! overrules nobody's drop. What comes for a published port is forwarded, and meets the chains at
//! the hook `forward`; what comes for a process of the host, those at the hook `input`.

use crate::netlink::{self, Batch, DUMP, Socket};
use crate::nftables::{LIST_ELEMENT, NETFILTER, SUBSYSTEM, header};
use crate::{Error, Result};

const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
/// `NFTA_CHAIN_TABLE` and the others.
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
/// `NFTA_RULE_TABLE` and the others.
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
/// `NFTA_TARGET_NAME`.
const TARGET_NAME: u16 = 1;
/// `NFTA_IMMEDIATE_DATA`, `NFTA_DATA_VERDICT`, `NFTA_VERDICT_CODE`.
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// Where a packet is when a chain sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// On its way to a process of this host.
    Input,
    /// On its way through this host, as to a container.
    Forward,
}

/// A chain that drops, or refuses, whatever no rule of it accepts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall {
    /// Where it stands.
    pub hook: Hook,
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

impl Wall {
    /// Whether packets of IPv4, or else of IPv6, meet it.
    #[must_use]
    pub fn sees(&self, v4: bool) -> bool {
        self.family == "inet" || (self.family == "ip") == v4
    }
}

/// The walls of this host, by their policy or by a last rule that drops or refuses whatever comes to
/// it, as firewalld's do. None of them is ours.
///
/// Rules of iptables' legacy interface are not nftables and not seen.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN; [`Error::Unsupported`] if the kernel lacks nf_tables.
pub fn walls() -> Result<Vec<Wall>> {
    let socket = Socket::open(&NETFILTER)?;
    let chains = socket.dump(|| {
        let mut batch = Batch::default();
        batch.request("list nftables chains", (SUBSYSTEM << 8 | GET_CHAIN, DUMP), |body| {
            header(body, libc::AF_UNSPEC, 0);
        });
        batch
    })?;
    let mut walls = Vec::new();
    for (wall, is_dropping) in chains.iter().filter_map(|chain| base_chain(chain)) {
        if is_dropping || ends_with_refusal(&socket, &wall)? {
            walls.push(wall);
        }
    }
    walls.sort_unstable();
    Ok(walls)
}

/// The chain, if it stands at one of the hooks, and whether its policy is to drop.
fn base_chain(chain: &[u8]) -> Option<(Wall, bool)> {
    let family = match i32::from(*chain.first()?) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        _ => return None,
    };
    let attributes = chain.get(4..)?;
    let at = number(netlink::attribute(attributes, CHAIN_HOOK)?, HOOK_NUMBER)?;
    let hook = match at.cast_signed() {
        libc::NF_INET_LOCAL_IN => Hook::Input,
        libc::NF_INET_FORWARD => Hook::Forward,
        _ => return None,
    };
    let policy = number(attributes, CHAIN_POLICY)?;
    let (table, chain) = (name(attributes, CHAIN_TABLE)?, name(attributes, CHAIN_NAME)?);
    Some((Wall { hook, family, table, chain }, policy == libc::NF_DROP.cast_unsigned()))
}

fn ends_with_refusal(socket: &Socket, wall: &Wall) -> Result<bool> {
    let family = match wall.family {
        "inet" => libc::NFPROTO_INET,
        "ip" => libc::NFPROTO_IPV4,
        _ => libc::NFPROTO_IPV6,
    };
    let rules = socket.dump(|| {
        let mut batch = Batch::default();
        batch.request("list nftables rules", (SUBSYSTEM << 8 | GET_RULE, DUMP), |body| {
            header(body, family, 0);
            body.string(RULE_TABLE, &wall.table).string(RULE_CHAIN, &wall.chain);
        });
        batch
    });
    match rules {
        Ok(rules) => {
            // A kernel may list the rules of other chains, too.
            let own = |rule: &&Vec<u8>| {
                rule.get(4..).is_some_and(|attributes| {
                    name(attributes, RULE_CHAIN).as_ref() == Some(&wall.chain)
                        && name(attributes, RULE_TABLE).as_ref() == Some(&wall.table)
                })
            };
            Ok(rules.iter().rev().find(own).is_some_and(|rule| refuses(rule).unwrap_or(false)))
        }
        // It has gone meanwhile.
        Err(Error::Unsupported { source, .. }) if source.errno == rustix::io::Errno::NOENT => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether the rule has no condition, and drops or rejects.
fn refuses(rule: &[u8]) -> Option<bool> {
    let mut list = netlink::attribute(rule.get(4..)?, RULE_EXPRESSIONS)?;
    while let Some(expression) = netlink::attribute(list, LIST_ELEMENT) {
        match name(expression, EXPRESSION_NAME)?.as_str() {
            "counter" | "log" => {}
            "reject" => return Some(true),
            // A rule of iptables in nftables' clothes.
            "target" => {
                let data = netlink::attribute(expression, EXPRESSION_DATA)?;
                return Some(name(data, TARGET_NAME)? == "REJECT");
            }
            "immediate" => {
                let data = netlink::attribute(expression, EXPRESSION_DATA)?;
                let data = netlink::attribute(data, IMMEDIATE_DATA)?;
                let code = number(netlink::attribute(data, DATA_VERDICT)?, VERDICT_CODE)?;
                return Some(code == libc::NF_DROP.cast_unsigned());
            }
            _ => return Some(false),
        }
        list = netlink::behind(list)?;
    }
    Some(false)
}

/// A number in network order.
fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    let bytes = netlink::attribute(attributes, kind)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn name(attributes: &[u8], kind: u16) -> Option<String> {
    let value = netlink::attribute(attributes, kind)?;
    Some(String::from_utf8_lossy(netlink::text(value)).into_owned())
}

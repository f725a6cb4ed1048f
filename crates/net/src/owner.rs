//! Whose the bridges and tables of this host are: they carry the root that made them, so that they
//! can be told from others', and removed once nobody has it any more.
//!
//! A bridge carries it as its alias (`ip link` shows it), a table as its comment (`nft list` does).

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::link::{self, ROUTE};
use crate::netlink::{self, Batch, DUMP, Socket};
use crate::nftables::{NETFILTER, SUBSYSTEM, header};
use crate::{Result, filter};

/// What an alias or a comment begins with, before the root.
const MARK: &str = "cais root ";
/// The longest alias or comment in bytes (`IFALIASZ`, `NFT_USERDATA_MAXLEN`, less what is around
/// it). A root whose path is longer leaves no mark.
const NOTE_MAX: usize = 250;

const GET_TABLE: u16 = 1;
const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
/// `NFTNL_UDATA_TABLE_COMMENT`.
const COMMENT: u8 = 0;
const IFLA_IFALIAS: u16 = 20;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;

/// Who makes networks: the name of the table of their rules, and the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The nftables table.
    pub table: &'a str,
    /// The path of the root; empty for nobody's.
    pub root: &'a str,
}

impl<'a> From<&'a str> for Owner<'a> {
    fn from(table: &'a str) -> Self {
        Owner { table, root: "" }
    }
}

impl Owner<'_> {
    /// What its bridges and its table carry.
    pub(crate) fn note(&self) -> Option<String> {
        let note = format!("{MARK}{}", self.root);
        let fits = !self.root.is_empty() && note.len() <= NOTE_MAX && !note.contains('\n');
        fits.then_some(note)
    }
}

/// A note as the user data of a table, which `nft` shows as its comment.
pub(crate) fn userdata(note: &str) -> Vec<u8> {
    let len = u8::try_from(note.len() + 1).expect("a note is shorter than its limit");
    let mut data = vec![COMMENT, len];
    data.extend_from_slice(note.as_bytes());
    data.push(0);
    data
}

/// What there is of one root on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Bridges that no container is at.
    pub idle: Vec<String>,
    /// Bridges with containers.
    pub busy: Vec<String>,
    /// Tables.
    pub tables: Vec<String>,
}

/// Everything on this host that carries a root, by root.
///
/// # Errors
/// [`Error::Denied`](crate::Error::Denied) without CAP_NET_ADMIN.
pub fn belongings() -> Result<BTreeMap<String, Belongings>> {
    let mut all: BTreeMap<String, Belongings> = BTreeMap::new();
    for (root, bridge, is_busy) in bridges()? {
        let own = all.entry(root).or_default();
        if is_busy { own.busy.push(bridge) } else { own.idle.push(bridge) }
    }
    for (root, table) in tables()? {
        let own = all.entry(root).or_default();
        if !own.tables.contains(&table) {
            own.tables.push(table);
        }
    }
    Ok(all)
}

/// Removes the idle bridges of a root, and its tables if no bridge is busy.
///
/// # Errors
/// As of [`belongings`].
pub fn remove_belongings(belongings: &Belongings) -> Result<()> {
    let socket = Socket::open(&ROUTE)?;
    belongings.idle.iter().try_for_each(|bridge| link::delete(&socket, bridge))?;
    if !belongings.busy.is_empty() {
        return Ok(());
    }
    belongings.tables.iter().try_for_each(|table| filter::remove_table(table))
}

/// Root, name, and whether there is anything at it.
fn bridges() -> Result<Vec<(String, String, bool)>> {
    let links = Socket::open(&ROUTE)?.dump(|| {
        let mut batch = Batch::default();
        batch.request("list interfaces", (libc::RTM_GETLINK, DUMP), |body| {
            body.raw(&[0; 16]);
        });
        batch
    })?;
    let attribute = |link: &'_ [u8], kind: u16| {
        link.get(16..)
            .and_then(|attributes| netlink::attribute(attributes, kind))
            .map(<[u8]>::to_vec)
    };
    let masters: Vec<u32> = links
        .iter()
        .filter_map(|link| netlink::u32_at(&attribute(link, IFLA_MASTER)?, 0))
        .collect();
    let owned = |link: &Vec<u8>| {
        let alias = attribute(link, IFLA_IFALIAS)?;
        let root = String::from_utf8(netlink::text(&alias).to_vec()).ok()?;
        let root = root.strip_prefix(MARK)?.to_owned();
        let name = attribute(link, IFLA_IFNAME)?;
        let name = String::from_utf8(netlink::text(&name).to_vec()).ok()?;
        Some((root, name, masters.contains(&netlink::u32_at(link, 4)?)))
    };
    Ok(links.iter().filter_map(owned).collect())
}

/// Root and name.
fn tables() -> Result<Vec<(String, String)>> {
    let tables = Socket::open(&NETFILTER)?.dump(|| {
        let mut batch = Batch::default();
        batch.request("list nftables tables", (SUBSYSTEM << 8 | GET_TABLE, DUMP), |body| {
            header(body, libc::AF_UNSPEC, 0);
        });
        batch
    });
    let tables = match tables {
        // A kernel without nftables has no tables.
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let owned = |table: &Vec<u8>| {
        let attributes = table.get(4..)?;
        let data = netlink::attribute(attributes, TABLE_USERDATA)?;
        let [COMMENT, len, rest @ ..] = data else { return None };
        let note = netlink::text(rest.get(..usize::from(*len))?);
        let root = std::str::from_utf8(note).ok()?.strip_prefix(MARK)?.to_owned();
        let name = netlink::text(netlink::attribute(attributes, TABLE_NAME)?);
        Some((root, String::from_utf8_lossy(name).into_owned()))
    };
    Ok(tables.iter().filter_map(owned).collect())
}

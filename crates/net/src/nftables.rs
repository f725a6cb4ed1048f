//! The words of nf_tables (`include/uapi/linux/netfilter/nf_tables.h`): transactions of tables,
//! sets, chains and rules of the families IPv4 and IPv6.

use std::net::IpAddr;

use rustix::io::Errno;

use crate::netlink::{APPEND, Batch, Body, CREATE, Socket, Subsystem};
use crate::{Address, Prefix, Result, owner};

mod rule;

pub(crate) use rule::{Field, Step, Word};

pub(crate) static NETFILTER: Subsystem = Subsystem {
    protocol: libc::NETLINK_NETFILTER as isize,
    unsupported: &[Errno::OPNOTSUPP, Errno::PROTONOSUPPORT, Errno::NOENT],
    hint: "the kernel lacks nftables with NAT: load the modules `nf_tables`, `nft_masq` and `nft_ct` (CONFIG_NF_TABLES_IPV4, CONFIG_NFT_MASQ, CONFIG_NFT_CT)",
};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u16 = 10;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

/// `NFTA_DATA_VALUE`.
const VALUE: u16 = 1;
/// `NFTA_LIST_ELEM`.
pub(crate) const LIST_ELEMENT: u16 = 1;
/// `NFTA_DATA_VERDICT`.
const VERDICT: u16 = 2;
/// `NFT_SET_INTERVAL`: the elements are the borders of ranges.
const SET_INTERVAL: u32 = 4;
/// `NFT_SET_MAP`: each element stands for a value.
const SET_MAP: u32 = 8;
/// `NFT_SET_TIMEOUT` and `NFT_SET_EVAL`: rules add elements, which end by themselves.
const SET_REMEMBERED: u32 = 16 | 32;
/// Elements that rules may add to a set.
const REMEMBERED_MAX: u32 = 1 << 17;
/// `NFT_DATA_VERDICT`: the values of a map are verdicts.
const VERDICTS: u32 = 0xffff_ff00;
/// Elements of one request: the list is an attribute, whose length has sixteen bits.
const REQUEST_ELEMENTS_MAX: usize = 256;
/// `NFT_SET_ELEM_INTERVAL_END`: the first key behind a range.
const ELEMENT_END: u32 = 1;

/// The size of an interface name in a register: `IFNAMSIZ`.
const IFNAME_LEN: usize = 16;

/// The family of a table. One name in both families is one table for us: a transaction may change
/// both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// `NFPROTO_*`.
    fn number(self) -> i32 {
        match self {
            Family::V4 => libc::NFPROTO_IPV4,
            Family::V6 => libc::NFPROTO_IPV6,
        }
    }

    /// The length of an address in bytes.
    fn address_len(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// Where the source address is in the header (RFC 791, 3.1; RFC 8200, 3); the destination
    /// follows it.
    fn source_offset(self) -> u32 {
        match self {
            Family::V4 => 12,
            Family::V6 => 8,
        }
    }

    fn destination_offset(self) -> u32 {
        self.source_offset() + self.address_len()
    }

    /// The number `nft` displays an address by.
    fn address_type(self) -> u32 {
        match self {
            Family::V4 => 7,
            Family::V6 => 8,
        }
    }
}

/// A register: the verdict, or one of sixteen bytes. Two neighbours hold a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    First = 1,
    Second = 2,
}

/// A chain at a hook; its policy is to accept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// `NF_INET_*`.
    pub(crate) hook: u32,
    pub(crate) priority: i32,
    pub(crate) rules: &'static [&'static [Step]],
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    InterfaceName,
    InterfacePair,
    AddressRanges,
    /// Protocol, address and port, each with the address and port that it stands for.
    Published,
    /// Protocol and port, each with the address and port that it stands for.
    PublishedAnywhere,
    /// Protocol, address and port.
    Frontend,
    /// Protocol, address and port, each with a verdict.
    FrontendVerdict,
    /// Protocol, address, port and a number, each with an address and port.
    Numbered,
    /// Protocol, address, port, and another address and port.
    Member,
    /// Protocol, address, port and a client's address, each with an address and port, for a time.
    Remembered,
    /// As [`Key::Frontend`], without the address, and those that follow likewise.
    HostFrontend,
    HostFrontendVerdict,
    HostNumbered,
    HostMember,
    HostRemembered,
}

/// The numbers `nft` displays values by; those of a concatenation are shifted together.
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const NAME: u32 = 41;
const MARK: u32 = 19;

impl Key {
    /// The number `nft` displays the key by, its length in bytes, and the set's flags.
    fn parameters(self, family: Family) -> (u32, u32, u32) {
        let (address, len) = (family.address_type(), family.address_len());
        match self {
            Key::InterfaceName => (NAME, 16, 0),
            Key::InterfacePair => (NAME << 6 | NAME, 32, 0),
            Key::AddressRanges => (address, len, SET_INTERVAL),
            Key::Published => (PROTOCOL << 12 | address << 6 | PORT, 8 + len, SET_MAP),
            Key::PublishedAnywhere => (PROTOCOL << 6 | PORT, 8, SET_MAP),
            Key::Frontend | Key::FrontendVerdict => {
                let flags = if self.is_map() { SET_MAP } else { 0 };
                (PROTOCOL << 12 | address << 6 | PORT, 8 + len, flags)
            }
            Key::Numbered => (PROTOCOL << 18 | address << 12 | PORT << 6 | MARK, 12 + len, SET_MAP),
            Key::Member => {
                let frontend = PROTOCOL << 24 | address << 18 | PORT << 12;
                (frontend | address << 6 | PORT, 12 + 2 * len, 0)
            }
            Key::Remembered => {
                let key = PROTOCOL << 18 | address << 12 | PORT << 6 | address;
                (key, 8 + 2 * len, SET_MAP | SET_REMEMBERED)
            }
            Key::HostFrontend => (PROTOCOL << 6 | PORT, 8, 0),
            Key::HostFrontendVerdict => (PROTOCOL << 6 | PORT, 8, SET_MAP),
            Key::HostNumbered => (PROTOCOL << 12 | PORT << 6 | MARK, 12, SET_MAP),
            Key::HostMember => (PROTOCOL << 18 | PORT << 12 | address << 6 | PORT, 12 + len, 0),
            Key::HostRemembered => {
                let key = PROTOCOL << 12 | PORT << 6 | address;
                (key, 8 + len, SET_MAP | SET_REMEMBERED)
            }
        }
    }

    fn is_map(self) -> bool {
        !matches!(
            self,
            Key::InterfaceName
                | Key::InterfacePair
                | Key::AddressRanges
                | Key::Frontend
                | Key::Member
                | Key::HostFrontend
                | Key::HostMember
        )
    }
}

/// A set of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: Key,
}

/// An element of a set: a key, or the first key behind a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    key: Vec<u8>,
    end: bool,
    value: Option<Vec<u8>>,
    chain: Option<String>,
}

impl Element {
    /// Interface names, each in a register of its own.
    pub(crate) fn names(names: &[&str]) -> Vec<Element> {
        let mut key = Vec::with_capacity(names.len() * IFNAME_LEN);
        for name in names {
            key.extend_from_slice(name.as_bytes());
            key.resize(key.len().next_multiple_of(IFNAME_LEN), 0);
        }
        vec![Element::key(key)]
    }

    /// The addresses of the subnet.
    pub(crate) fn range<A: Address>(subnet: Prefix<A>) -> Vec<Element> {
        let len = usize::from(A::BITS / 8);
        let octets = |bits: u128| bits.to_be_bytes()[16 - len..].to_vec();
        let mut elements = vec![Element::key(octets(subnet.address().bits()))];
        // A range up to the last address of all has no end.
        let behind = subnet.broadcast().bits().checked_add(1);
        if let Some(behind) = behind.filter(|bits| A::of_bits(*bits).bits() == *bits) {
            elements.push(Element { end: true, ..Element::key(octets(behind)) });
        }
        elements
    }

    fn key(key: Vec<u8>) -> Element {
        Element { key, end: false, value: None, chain: None }
    }

    /// A protocol, an address if it matters, and a port: each begins a word of its own.
    pub(crate) fn port(protocol: u8, address: Option<IpAddr>, port: u16) -> Element {
        let [high, low] = port.to_be_bytes();
        let mut key = vec![protocol, 0, 0, 0];
        key.extend(address.into_iter().flat_map(octets));
        key.extend([high, low, 0, 0]);
        Element::key(key)
    }

    /// The same element of a map, standing for an address and a port.
    pub(crate) fn to(mut self, address: IpAddr, port: u16) -> Element {
        let [high, low] = port.to_be_bytes();
        let mut value = octets(address);
        value.extend([high, low, 0, 0]);
        self.value = Some(value);
        self
    }

    /// The same element with a number behind its key, in the machine's order.
    pub(crate) fn numbered(mut self, number: u32) -> Element {
        self.key.extend(number.to_ne_bytes());
        self
    }

    /// The same element with a further address and port behind its key.
    pub(crate) fn with(mut self, address: IpAddr, port: u16) -> Element {
        let [high, low] = port.to_be_bytes();
        self.key.extend(octets(address));
        self.key.extend([high, low, 0, 0]);
        self
    }

    /// The same element of a map, standing for going to a chain.
    pub(crate) fn going_to(mut self, chain: String) -> Element {
        self.chain = Some(chain);
        self
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Changes to one table, made all at once or not at all.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    table: &'a str,
    family: Family,
    batch: Batch,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction on `table`, of IPv4 until [`Transaction::turn_to`] says otherwise.
    pub(crate) fn on(table: &'a str) -> Transaction<'a> {
        let mut batch = Batch::default();
        batch.frame(format!("change nftables table `{table}`"), (BATCH_BEGIN, 0), |body| {
            header(body, libc::AF_UNSPEC, SUBSYSTEM);
        });
        Transaction { table, family: Family::V4, batch }
    }

    /// Goes on with the table's other family.
    pub(crate) fn turn_to(&mut self, family: Family) {
        self.family = family;
    }

    /// Adds the table, unless it exists; one that is new carries the note.
    pub(crate) fn add_table(&mut self, note: Option<&str>) {
        // `NFTA_TABLE_USERDATA`, which kernels before 5.10 pay no heed to.
        self.request("add", "", (NEW_TABLE, CREATE), |body| {
            if let Some(note) = note {
                body.attribute(6, &owner::userdata(note));
            }
        });
    }

    /// Deletes the table with everything in it; that there is none is well.
    pub(crate) fn delete_table(&mut self) {
        self.request("delete", "", (DELETE_TABLE, 0), |_| {});
        self.batch.tolerate(Errno::NOENT);
    }

    /// Adds the set, unless it exists. `id` names it within the transaction.
    pub(crate) fn add_set(&mut self, set: Set, id: u32) {
        let (key_type, key_len, flags) = set.key.parameters(self.family);
        let address = (self.family.address_type(), self.family.address_len());
        let what = format!("set `{}` of ", set.name);
        self.request("add", &what, (NEW_SET, CREATE), |body| {
            body.string(2, set.name).be32(3, flags).be32(4, key_type).be32(5, key_len);
            if matches!(set.key, Key::FrontendVerdict | Key::HostFrontendVerdict) {
                body.be32(6, VERDICTS).be32(10, id);
            } else if set.key.is_map() {
                body.be32(6, address.0 << 6 | PORT).be32(7, address.1 + 4).be32(10, id);
            } else {
                body.be32(10, id).attribute(13, &key_byte_order());
            }
            if matches!(set.key, Key::Remembered | Key::HostRemembered) {
                body.nested(9, |description| {
                    description.be32(1, REMEMBERED_MAX);
                });
            }
        });
    }

    /// Adds elements to a set; those there already stay.
    pub(crate) fn add_elements(&mut self, set: Set, elements: &[Element]) {
        let what = format!("element to set `{}` of ", set.name);
        for some in elements.chunks(REQUEST_ELEMENTS_MAX) {
            self.request("add", &what, (NEW_ELEMENT, CREATE), |body| {
                list_elements(body.string(2, set.name), some);
            });
        }
    }

    /// Deletes elements of a set. One that is not there undoes the transaction (`ENOENT`).
    pub(crate) fn delete_elements(&mut self, set: Set, elements: &[Element]) {
        let what = format!("element from set `{}` of ", set.name);
        for some in elements.chunks(REQUEST_ELEMENTS_MAX) {
            self.request("delete", &what, (DELETE_ELEMENT, 0), |body| {
                list_elements(body.string(2, set.name), some);
            });
        }
    }

    /// Deletes all elements of a set.
    pub(crate) fn flush_set(&mut self, set: Set) {
        let what = format!("set `{}` of ", set.name);
        self.request("flush", &what, (DELETE_ELEMENT, 0), |body| {
            body.string(2, set.name);
        });
    }

    /// As [`Transaction::delete_elements`], except that it is well if they are not there; then
    /// nothing else of the transaction is done either.
    pub(crate) fn forget_elements(&mut self, set: Set, elements: &[Element]) {
        self.delete_elements(set, elements);
        self.batch.tolerate(Errno::NOENT);
    }

    /// Makes the chain hold exactly its rules, creating it if need be.
    pub(crate) fn replace_chain(&mut self, chain: &Chain) {
        let what = format!("chain `{}` of ", chain.name);
        self.request("add", &what, (NEW_CHAIN, CREATE), |body| {
            body.string(3, chain.name);
            body.nested(4, |hook| {
                hook.be32(1, chain.hook).be32(2, chain.priority.cast_unsigned());
            });
            body.be32(5, libc::NF_ACCEPT.cast_unsigned()).string(7, chain.kind);
        });
        self.replace_rules(chain.name, chain.rules);
    }

    /// The same for a chain at no hook, which maps lead to.
    pub(crate) fn replace_plain_chain(&mut self, name: &str, rules: &[&[Step]]) {
        self.request("add", &format!("chain `{name}` of "), (NEW_CHAIN, CREATE), |body| {
            body.string(3, name);
        });
        self.replace_rules(name, rules);
    }

    fn replace_rules(&mut self, name: &str, rules: &[&[Step]]) {
        self.request("flush", &format!("chain `{name}` of "), (DELETE_RULE, 0), |body| {
            body.string(2, name);
        });
        for rule in rules {
            let what = format!("rule to chain `{name}` of ");
            let family = self.family;
            self.request("add", &what, (NEW_RULE, CREATE | APPEND), |body| {
                body.string(2, name).nested(4, |list| {
                    rule.iter().for_each(|step| step.encode(family, list));
                });
            });
        }
    }

    /// Makes the changes.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.batch.frame("end the transaction", (BATCH_END, 0), |body| {
            header(body, libc::AF_UNSPEC, SUBSYSTEM);
        });
        Socket::open(&NETFILTER)?.transact(self.batch).map(drop)
    }

    /// Every object names its table in attribute 1.
    fn request(
        &mut self,
        verb: &str,
        what: &str,
        (kind, flags): (u16, u16),
        body: impl FnOnce(&mut Body<'_>),
    ) {
        let (table, family) = (self.table, self.family.number());
        let doing = format!("{verb} {what}nftables table `{table}`");
        self.batch.request(doing, (SUBSYSTEM << 8 | kind, flags), |message| {
            header(message, family, 0);
            body(message.string(1, table));
        });
    }
}

/// A note to `nft`, which the kernel only keeps: interface names are in the machine's order
/// (`NFTNL_UDATA_SET_KEYBYTEORDER`, `BYTEORDER_HOST_ENDIAN`), as are strings. Without it, `nft`
/// lists a set of them as empty names.
fn key_byte_order() -> [u8; 6] {
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    [0, 4, a, b, c, d]
}

/// A `struct nfgenmsg`: family, version 0, resource id in network order.
pub(crate) fn header(body: &mut Body<'_>, family: i32, resource: u16) {
    let [high, low] = resource.to_be_bytes();
    let family = u8::try_from(family).expect("a protocol family is a small number");
    body.raw(&[family, 0, high, low]);
}

fn list_elements(body: &mut Body<'_>, elements: &[Element]) {
    body.nested(3, |list| {
        for element in elements {
            list.nested(LIST_ELEMENT, |item| {
                item.nested(1, |key| {
                    key.attribute(VALUE, &element.key);
                });
                if let Some(value) = &element.value {
                    item.nested(2, |data| {
                        data.attribute(VALUE, value);
                    });
                }
                if let Some(chain) = &element.chain {
                    item.nested(2, |data| {
                        data.nested(VERDICT, |verdict| {
                            verdict.be32(1, libc::NFT_GOTO.cast_unsigned()).string(2, chain);
                        });
                    });
                }
                if element.end {
                    item.be32(3, ELEMENT_END);
                }
            });
        }
    });
}

//! The words of nf_tables (`include/uapi/linux/netfilter/nf_tables.h`): transactions of tables,
//! sets, chains and rules of the IPv4 family.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::Result;
use crate::netlink::{self, APPEND, Batch, Body, CREATE, DUMP, Socket, Subsystem};

static NETFILTER: Subsystem = Subsystem {
    protocol: libc::NETLINK_NETFILTER as isize,
    unsupported: &[Errno::OPNOTSUPP, Errno::PROTONOSUPPORT, Errno::NOENT],
    hint: "the kernel lacks nftables with NAT: load the modules `nf_tables`, `nft_masq` and `nft_ct` (CONFIG_NF_TABLES_IPV4, CONFIG_NFT_MASQ, CONFIG_NFT_CT)",
};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;

const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

/// `NFTA_DATA_VALUE`.
const VALUE: u16 = 1;
/// `NFTA_LIST_ELEM`.
const LIST_ELEMENT: u16 = 1;
/// `NFT_SET_INTERVAL`: the elements are the borders of ranges.
const SET_INTERVAL: u32 = 4;
/// `NFT_SET_MAP`: each element stands for a value.
const SET_MAP: u32 = 8;
/// `NFT_SET_ELEM_INTERVAL_END`: the first key behind a range.
const ELEMENT_END: u32 = 1;

/// The size of an interface name in a register: `IFNAMSIZ`.
const IFNAME_LEN: usize = 16;

/// A register: the verdict, or one of sixteen bytes. Two neighbours hold a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    First = 1,
    Second = 2,
}

/// The words of four bytes that the first register is made of (`NFT_REG32_00` and on).
const WORD: u32 = 8;

/// The two headers that fields are loaded from: `NFT_PAYLOAD_NETWORK_HEADER`,
/// `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// One step of a rule. A step that does not match ends the rule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Load the name of the interface the packet came in through.
    InputName(Register),
    /// Load the name of the interface the packet goes out through.
    OutputName(Register),
    /// Load the source address into the first register.
    SourceAddress,
    /// Match if the set holds what begins in the first register.
    InSet(&'static str),
    /// Match a packet of a connection that exists, or of one related to it.
    Established,
    /// Match a packet of a connection whose destination was rewritten.
    Redirected,
    /// Match a packet to an address of this host.
    ToHost,
    /// Match a packet to 127.0.0.0/8.
    ToLoopback,
    /// Match a packet from 127.0.0.0/8.
    FromLoopback,
    /// Rewrite the destination to what the map holds for protocol, address and port.
    RedirectAddress(&'static str),
    /// Rewrite the destination to what the map holds for protocol and port.
    RedirectPort(&'static str),
    /// Rewrite the source to the address of the interface the packet goes out through.
    Masquerade,
    /// Let the packet pass this chain.
    Accept,
    /// Drop the packet.
    Drop,
    /// Leave the chain to its policy.
    Return,
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
}

/// The numbers `nft` displays values by; those of a concatenation are shifted together.
const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const NAME: u32 = 41;

impl Key {
    /// The number `nft` displays the key by, its length in bytes, and the set's flags.
    fn parameters(self) -> (u32, u32, u32) {
        match self {
            Key::InterfaceName => (NAME, 16, 0),
            Key::InterfacePair => (NAME << 6 | NAME, 32, 0),
            Key::AddressRanges => (ADDRESS, 4, SET_INTERVAL),
            Key::Published => (PROTOCOL << 12 | ADDRESS << 6 | PORT, 12, SET_MAP),
            Key::PublishedAnywhere => (PROTOCOL << 6 | PORT, 8, SET_MAP),
        }
    }

    fn is_map(self) -> bool {
        self.parameters().2 & SET_MAP != 0
    }
}

/// A set of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: Key,
}

/// An element of a set: a key, or the first key behind a range.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    key: Vec<u8>,
    end: bool,
    value: Option<[u8; 8]>,
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

    /// The addresses from the first to the last.
    pub(crate) fn range(first: Ipv4Addr, last: Ipv4Addr) -> Vec<Element> {
        let mut elements = vec![Element::key(first.octets().to_vec())];
        // A range up to the last address of all has no end.
        if let Some(behind) = last.to_bits().checked_add(1) {
            let key = behind.to_be_bytes().to_vec();
            elements.push(Element { end: true, ..Element::key(key) });
        }
        elements
    }

    fn key(key: Vec<u8>) -> Element {
        Element { key, end: false, value: None }
    }

    /// A protocol, an address if it matters, and a port: each begins a word of its own.
    pub(crate) fn port(protocol: u8, address: Option<Ipv4Addr>, port: u16) -> Element {
        let [high, low] = port.to_be_bytes();
        let mut key = vec![protocol, 0, 0, 0];
        key.extend(address.into_iter().flat_map(|address| address.octets()));
        key.extend([high, low, 0, 0]);
        Element::key(key)
    }

    /// The same element of a map, standing for an address and a port.
    pub(crate) fn to(mut self, address: Ipv4Addr, port: u16) -> Element {
        let [a, b, c, d] = address.octets();
        let [high, low] = port.to_be_bytes();
        self.value = Some([a, b, c, d, high, low, 0, 0]);
        self
    }
}

/// Changes to one table, made all at once or not at all.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    table: &'a str,
    batch: Batch,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction on `table`.
    pub(crate) fn on(table: &'a str) -> Transaction<'a> {
        let mut batch = Batch::default();
        batch.frame(format!("change nftables table `{table}`"), (BATCH_BEGIN, 0), |body| {
            header(body, libc::AF_UNSPEC, SUBSYSTEM);
        });
        Transaction { table, batch }
    }

    /// Adds the table, unless it exists.
    pub(crate) fn add_table(&mut self) {
        self.request("add", "", (NEW_TABLE, CREATE), |_| {});
    }

    /// Deletes the table with everything in it; that there is none is well.
    pub(crate) fn delete_table(&mut self) {
        self.request("delete", "", (DELETE_TABLE, 0), |_| {});
        self.batch.tolerate(Errno::NOENT);
    }

    /// Adds the set, unless it exists. `id` names it within the transaction.
    pub(crate) fn add_set(&mut self, set: Set, id: u32) {
        let (key_type, key_len, flags) = set.key.parameters();
        let what = format!("set `{}` of ", set.name);
        self.request("add", &what, (NEW_SET, CREATE), |body| {
            body.string(2, set.name).be32(3, flags).be32(4, key_type).be32(5, key_len);
            if set.key.is_map() {
                body.be32(6, ADDRESS << 6 | PORT).be32(7, 8).be32(10, id);
            } else {
                body.be32(10, id).attribute(13, &key_byte_order());
            }
        });
    }

    /// Adds elements to a set; those there already stay.
    pub(crate) fn add_elements(&mut self, set: Set, elements: &[Element]) {
        let what = format!("element to set `{}` of ", set.name);
        self.request("add", &what, (NEW_ELEMENT, CREATE), |body| {
            list_elements(body.string(2, set.name), elements);
        });
    }

    /// Deletes elements of a set; that there are none is well.
    pub(crate) fn delete_elements(&mut self, set: Set, elements: &[Element]) {
        let what = format!("element from set `{}` of ", set.name);
        self.request("delete", &what, (DELETE_ELEMENT, 0), |body| {
            list_elements(body.string(2, set.name), elements);
        });
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
        self.request("flush", &what, (DELETE_RULE, 0), |body| {
            body.string(2, chain.name);
        });
        for rule in chain.rules {
            let what = format!("rule to chain `{}` of ", chain.name);
            self.request("add", &what, (NEW_RULE, CREATE | APPEND), |body| {
                body.string(2, chain.name).nested(4, |list| {
                    rule.iter().for_each(|step| step.encode(list));
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
        let table = self.table;
        let doing = format!("{verb} {what}nftables table `{table}`");
        self.batch.request(doing, (SUBSYSTEM << 8 | kind, flags), |message| {
            header(message, libc::AF_INET, 0);
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

/// The chains of any table that stand at the IPv4 `hook` and drop by policy what no rule of theirs
/// accepts, as `family table chain`.
pub(crate) fn dropping_chains(hook: u32) -> Result<Vec<String>> {
    let chains = Socket::open(&NETFILTER)?.dump(|| {
        let mut batch = Batch::default();
        batch.request("list nftables chains", (SUBSYSTEM << 8 | GET_CHAIN, DUMP), |body| {
            header(body, libc::AF_UNSPEC, 0);
        });
        batch
    })?;
    let mut names: Vec<String> =
        chains.iter().filter_map(|chain| name_if_dropping(chain, hook)).collect();
    names.sort_unstable();
    Ok(names)
}

fn name_if_dropping(chain: &[u8], hook: u32) -> Option<String> {
    let family = match i32::from(*chain.first()?) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        _ => return None,
    };
    let attributes = chain.get(4..)?;
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
    let at = number(netlink::attribute(netlink::attribute(attributes, 4)?, 1)?)?;
    let policy = number(netlink::attribute(attributes, 5)?)?;
    let name = |kind| {
        netlink::attribute(attributes, kind)
            .map(|value| String::from_utf8_lossy(netlink::text(value)).into_owned())
    };
    let dropping = at == hook && policy == libc::NF_DROP.cast_unsigned();
    dropping.then(|| Some(format!("{family} {} {}", name(1)?, name(3)?))).flatten()
}

/// A `struct nfgenmsg`: family, version 0, resource id in network order.
fn header(body: &mut Body<'_>, family: i32, resource: u16) {
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
                if element.end {
                    item.be32(3, ELEMENT_END);
                }
            });
        }
    });
}

impl Step {
    /// Appends the step's expressions to a rule.
    fn encode(self, list: &mut Body<'_>) {
        const META_INPUT_NAME: u32 = 6;
        const META_OUTPUT_NAME: u32 = 7;
        match self {
            Step::InputName(register) => load_meta(list, META_INPUT_NAME, register),
            Step::OutputName(register) => load_meta(list, META_OUTPUT_NAME, register),
            Step::SourceAddress => {
                load_field(list, Register::First as u32, (NETWORK_HEADER, SOURCE_OFFSET, 4));
            }
            Step::InSet(name) => expression(list, "lookup", |data| {
                data.string(1, name).be32(2, Register::First as u32);
            }),
            Step::Established => match_connection(list, CONNECTION_STATE, ESTABLISHED | RELATED),
            Step::Redirected => match_connection(list, CONNECTION_STATUS, DESTINATION_NAT),
            Step::ToHost => match_local(list),
            Step::ToLoopback => match_loopback(list, DESTINATION_OFFSET),
            Step::FromLoopback => match_loopback(list, SOURCE_OFFSET),
            Step::RedirectAddress(map) => {
                load_protocol(list);
                load_field(list, WORD + 1, (NETWORK_HEADER, DESTINATION_OFFSET, 4));
                load_field(list, WORD + 2, DESTINATION_PORT);
                redirect(list, map);
            }
            Step::RedirectPort(map) => {
                load_protocol(list);
                load_field(list, WORD + 1, DESTINATION_PORT);
                redirect(list, map);
            }
            Step::Masquerade => expression(list, "masq", |_| {}),
            Step::Accept => verdict(list, libc::NF_ACCEPT),
            Step::Drop => verdict(list, libc::NF_DROP),
            Step::Return => verdict(list, libc::NFT_RETURN),
        }
    }
}

fn expression(list: &mut Body<'_>, name: &str, data: impl FnOnce(&mut Body<'_>)) {
    list.nested(LIST_ELEMENT, |body| {
        body.string(1, name).nested(2, data);
    });
}

fn load_meta(list: &mut Body<'_>, key: u32, register: Register) {
    expression(list, "meta", |data| {
        data.be32(1, register as u32).be32(2, key);
    });
}

/// Where the addresses are in the IPv4 header (RFC 791, 3.1).
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;
/// Header, offset and length of the destination port, the same in TCP, UDP and SCTP (RFC 9293,
/// 3.1; RFC 768; RFC 9260, 3.1).
const DESTINATION_PORT: (u32, u32, u32) = (TRANSPORT_HEADER, 2, 2);

/// `NFT_CT_STATE` and its bits (`NF_CT_STATE_BIT`).
const CONNECTION_STATE: u32 = 0;
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
/// `NFT_CT_STATUS` and `IPS_DST_NAT`.
const CONNECTION_STATUS: u32 = 2;
const DESTINATION_NAT: u32 = 32;

/// Loads a field of a header: the header, an offset and a length in bytes.
fn load_field(list: &mut Body<'_>, register: u32, (header, offset, len): (u32, u32, u32)) {
    expression(list, "payload", |data| {
        data.be32(1, register).be32(2, header).be32(3, offset).be32(4, len);
    });
}

fn load_protocol(list: &mut Body<'_>) {
    const META_PROTOCOL: u32 = 16;
    expression(list, "meta", |data| {
        data.be32(1, Register::First as u32).be32(2, META_PROTOCOL);
    });
}

fn compare(list: &mut Body<'_>, operator: u32, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.be32(1, Register::First as u32).be32(2, operator).nested(3, |body| {
            body.attribute(VALUE, value);
        });
    });
}

/// The first byte of an address is 127.
fn match_loopback(list: &mut Body<'_>, offset: u32) {
    load_field(list, Register::First as u32, (NETWORK_HEADER, offset, 1));
    compare(list, EQUAL, &[127]);
}

/// The destination is an address of this host, of whichever interface.
fn match_local(list: &mut Body<'_>) {
    const ADDRESS_TYPE: u32 = 3;
    const DESTINATION: u32 = 2;
    expression(list, "fib", |data| {
        data.be32(1, Register::First as u32).be32(2, ADDRESS_TYPE).be32(3, DESTINATION);
    });
    compare(list, EQUAL, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
}

/// Looks up what the first register holds, and makes the address and port found the destination.
/// Where nothing is found, the rule ends.
fn redirect(list: &mut Body<'_>, map: &str) {
    const DESTINATION: u32 = 1;
    const INET: u32 = libc::NFPROTO_IPV4.cast_unsigned();
    let register = Register::First as u32;
    expression(list, "lookup", |data| {
        data.string(1, map).be32(2, register).be32(3, register);
    });
    expression(list, "nat", |data| {
        data.be32(1, DESTINATION).be32(2, INET).be32(3, register).be32(5, WORD + 1);
    });
}

/// One of these bits of the connection is set. The register holds them in the machine's order.
fn match_connection(list: &mut Body<'_>, what: u32, bits: u32) {
    let register = Register::First as u32;
    expression(list, "ct", |data| {
        data.be32(1, register).be32(2, what);
    });
    expression(list, "bitwise", |data| {
        data.be32(1, register).be32(2, register).be32(3, 4);
        data.nested(4, |mask| {
            mask.u32(VALUE, bits);
        });
        data.nested(5, |xor| {
            xor.u32(VALUE, 0);
        });
    });
    compare(list, NOT_EQUAL, &0_u32.to_ne_bytes());
}

fn verdict(list: &mut Body<'_>, code: i32) {
    const VERDICT_REGISTER: u32 = 0;
    expression(list, "immediate", |data| {
        data.be32(1, VERDICT_REGISTER).nested(2, |value| {
            value.nested(2, |verdict| {
                verdict.be32(1, code.cast_unsigned());
            });
        });
    });
}

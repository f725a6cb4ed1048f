//! The rules of chains: steps, and the kernel's expressions that they are.

use super::{Family, LIST_ELEMENT, Register, VALUE};
use crate::netlink::Body;

/// The words of four bytes that the first register is made of (`NFT_REG32_00` and on).
const WORD: u32 = 8;

/// The two headers that fields are loaded from: `NFT_PAYLOAD_NETWORK_HEADER`,
/// `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// What a word of a key is loaded from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    Protocol,
    Destination,
    DestinationPort,
    Source,
}

/// A place among the words that registers are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Word {
    /// The first.
    First,
    /// That behind protocol, address and port.
    BehindFrontend,
    /// That behind protocol, address, port and another address.
    BehindClient,
    /// That behind protocol and port.
    BehindPort,
    /// That behind protocol, port and an address.
    BehindPortClient,
}

impl Word {
    fn register(self, family: Family) -> u32 {
        let address = family.address_len() / 4;
        match self {
            Word::First => WORD,
            Word::BehindFrontend => WORD + 2 + address,
            Word::BehindClient => WORD + 2 + 2 * address,
            Word::BehindPort => WORD + 2,
            Word::BehindPortClient => WORD + 2 + address,
        }
    }
}

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
    /// Match a packet to 127.0.0.0/8, or ::1.
    ToLoopback,
    /// Match a packet from 127.0.0.0/8, or ::1.
    FromLoopback,
    /// Rewrite the destination to what the map holds for protocol, address and port.
    RedirectAddress(&'static str),
    /// Rewrite the destination to what the map holds for protocol and port.
    RedirectPort(&'static str),
    /// Load fields, one behind the other.
    Load(Word, &'static [Field]),
    /// Load a random number below this one.
    Random(Word, u32),
    /// Load what the map holds for what begins in the first word.
    Map(&'static str, Word),
    /// Do what the map holds for what begins in the first word.
    Go(&'static str),
    /// Rewrite the destination to the address and port that begin here.
    Redirect(Word),
    /// Have the map hold, for what begins in the first word, what begins here, for so many seconds.
    Remember(&'static str, Word, u32),
    /// Have the map hold nothing for what begins in the first word; it held what begins here.
    Forget(&'static str, Word),
    /// Match the first packet of a conversation.
    New,
    /// Match a packet of TCP.
    Tcp,
    /// Refuse a connection of TCP (RFC 9293, 3.5.2).
    Reset,
    /// Say that nobody listens at the port (RFC 792; RFC 4443, 3.1).
    Unreachable,
    /// Rewrite the source to the address of the interface the packet goes out through.
    Masquerade,
    /// Let the packet pass this chain.
    Accept,
    /// Drop the packet.
    Drop,
    /// Leave the chain to its policy.
    Return,
}

impl Step {
    /// Appends the step's expressions to a rule.
    pub(super) fn encode(self, family: Family, list: &mut Body<'_>) {
        const META_INPUT_NAME: u32 = 6;
        const META_OUTPUT_NAME: u32 = 7;
        match self {
            Step::InputName(register) => load_meta(list, META_INPUT_NAME, register),
            Step::OutputName(register) => load_meta(list, META_OUTPUT_NAME, register),
            Step::SourceAddress => {
                let field = (NETWORK_HEADER, family.source_offset(), family.address_len());
                load_field(list, Register::First as u32, field);
            }
            Step::InSet(name) => expression(list, "lookup", |data| {
                data.string(1, name).be32(2, Register::First as u32);
            }),
            Step::Established => match_connection(list, CONNECTION_STATE, ESTABLISHED | RELATED),
            Step::Redirected => match_connection(list, CONNECTION_STATUS, DESTINATION_NAT),
            Step::ToHost => match_local(list),
            Step::ToLoopback => match_loopback(list, family, family.destination_offset()),
            Step::FromLoopback => match_loopback(list, family, family.source_offset()),
            Step::RedirectAddress(map) => {
                load_protocol(list);
                let len = family.address_len();
                let field = (NETWORK_HEADER, family.destination_offset(), len);
                load_field(list, WORD + 1, field);
                load_field(list, WORD + 1 + len / 4, DESTINATION_PORT);
                redirect(list, family, map);
            }
            Step::RedirectPort(map) => {
                load_protocol(list);
                load_field(list, WORD + 1, DESTINATION_PORT);
                redirect(list, family, map);
            }
            Step::Load(word, fields) => load_fields(list, family, word.register(family), fields),
            Step::Random(word, below) => expression(list, "numgen", |data| {
                const RANDOM: u32 = 1;
                data.be32(1, word.register(family)).be32(2, below).be32(3, RANDOM).be32(4, 0);
            }),
            Step::Map(map, to) => expression(list, "lookup", |data| {
                data.string(1, map).be32(2, WORD).be32(3, to.register(family));
            }),
            Step::Go(map) => expression(list, "lookup", |data| {
                data.string(1, map).be32(2, WORD).be32(3, VERDICT_REGISTER);
            }),
            Step::Redirect(word) => redirect_to(list, family, word.register(family)),
            Step::Remember(map, word, seconds) => {
                remember(list, map, word.register(family), seconds);
            }
            Step::Forget(map, word) => expression(list, "dynset", |data| {
                const DELETE: u32 = 2;
                data.string(1, map).be32(3, DELETE).be32(4, WORD).be32(5, word.register(family));
            }),
            Step::New => match_connection(list, CONNECTION_STATE, NEW),
            Step::Tcp => {
                load_protocol(list);
                compare(list, EQUAL, &[6]);
            }
            Step::Reset => reject(list, 1, 0),
            Step::Unreachable => reject(list, 0, if family == Family::V4 { 3 } else { 4 }),
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

/// Header, offset and length of the destination port, the same in TCP, UDP and SCTP (RFC 9293,
/// 3.1; RFC 768; RFC 9260, 3.1).
const DESTINATION_PORT: (u32, u32, u32) = (TRANSPORT_HEADER, 2, 2);

/// `NFT_CT_STATE` and its bits (`NF_CT_STATE_BIT`).
const CONNECTION_STATE: u32 = 0;
const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;
const NEW: u32 = 8;
/// `NFT_CT_STATUS` and `IPS_DST_NAT`.
const CONNECTION_STATUS: u32 = 2;
const DESTINATION_NAT: u32 = 32;

/// Loads a field of a header: the header, an offset and a length in bytes.
fn load_field(list: &mut Body<'_>, register: u32, (header, offset, len): (u32, u32, u32)) {
    expression(list, "payload", |data| {
        data.be32(1, register).be32(2, header).be32(3, offset).be32(4, len);
    });
}

const META_PROTOCOL: u32 = 16;

fn load_protocol(list: &mut Body<'_>) {
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

/// The first byte of an address is 127, or the whole of it is ::1.
fn match_loopback(list: &mut Body<'_>, family: Family, offset: u32) {
    let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
    let value = match family {
        Family::V4 => &[127][..],
        Family::V6 => &loopback[..],
    };
    let len = u32::try_from(value.len()).expect("an address is a few bytes");
    load_field(list, Register::First as u32, (NETWORK_HEADER, offset, len));
    compare(list, EQUAL, value);
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
fn redirect(list: &mut Body<'_>, family: Family, map: &str) {
    let register = Register::First as u32;
    expression(list, "lookup", |data| {
        data.string(1, map).be32(2, register).be32(3, register);
    });
    redirect_to(list, family, register);
}

/// Makes the address and port in the registers the destination.
fn redirect_to(list: &mut Body<'_>, family: Family, register: u32) {
    const DESTINATION: u32 = 1;
    let first = if register == Register::First as u32 { WORD } else { register };
    let port = first + family.address_len() / 4;
    let family = family.number().cast_unsigned();
    expression(list, "nat", |data| {
        data.be32(1, DESTINATION).be32(2, family).be32(3, register).be32(5, port);
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

/// Loads fields one behind the other; each begins a word of its own.
fn load_fields(list: &mut Body<'_>, family: Family, mut register: u32, fields: &[Field]) {
    let len = family.address_len();
    for field in fields {
        match field {
            Field::Protocol => expression(list, "meta", |data| {
                data.be32(1, register).be32(2, META_PROTOCOL);
            }),
            Field::Destination => {
                let field = (NETWORK_HEADER, family.destination_offset(), len);
                load_field(list, register, field);
            }
            Field::DestinationPort => load_field(list, register, DESTINATION_PORT),
            Field::Source => {
                load_field(list, register, (NETWORK_HEADER, family.source_offset(), len));
            }
        }
        register += match field {
            Field::Destination | Field::Source => len / 4,
            Field::Protocol | Field::DestinationPort => 1,
        };
    }
}

/// Adds an element that ends by itself, or has it last anew.
fn remember(list: &mut Body<'_>, map: &str, value: u32, seconds: u32) {
    const UPDATE: u32 = 1;
    let millis = u64::from(seconds) * 1000;
    expression(list, "dynset", |data| {
        data.string(1, map).be32(3, UPDATE).be32(4, WORD).be32(5, value);
        data.attribute(6, &millis.to_be_bytes());
    });
}

/// Answers with an error: of which protocol (`NFT_REJECT_*`), and which one.
fn reject(list: &mut Body<'_>, kind: u32, code: u8) {
    expression(list, "reject", |data| {
        data.be32(1, kind).attribute(2, &[code]);
    });
}

/// Where a verdict is loaded to.
const VERDICT_REGISTER: u32 = 0;

fn verdict(list: &mut Body<'_>, code: i32) {
    expression(list, "immediate", |data| {
        data.be32(1, VERDICT_REGISTER).nested(2, |value| {
            value.nested(2, |verdict| {
                verdict.be32(1, code.cast_unsigned());
            });
        });
    });
}

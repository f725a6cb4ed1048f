//! What may pass, and under which address: the rules of our networks.
//!
//! One table per state root; its rules are the same for any number of networks, which are elements
//! of its sets. So adding a network changes no rule, and a packet meets the same few rules on a
//! host of one network or thirty.
//!
//! The table has a half for IPv6 once a network has IPv6: the same chains, in the family `ip6`, and
//! changed in the same transactions. The family `inet`, which would be both in one, has every IPv6
//! packet of every host pass chains that are not about it, and a kernel without IPv6 lacks it.

use rustix::io::Errno;

use crate::nftables::{Chain, Element, Family, Field, Key, Register, Set, Step, Transaction, Word};
use crate::{Error, Neighbour, Network, Owner, Result, Subnet, service};

/// The longest name of a table in bytes (`NFT_NAME_MAXLEN` less the NUL).
const TABLE_NAME_MAX: usize = 255;

/// Says which rules the table holds: the name changes whenever the rules do. Its one element is
/// its own name, and only there so that adding it can fail where the set does not exist.
const RULES: Set = Set { name: "rules-3", key: Key::InterfaceName };
/// The bridges of our networks.
const BRIDGES: Set = Set { name: "bridges", key: Key::InterfaceName };
/// Each bridge paired with itself: the way from a network into the same.
const SAME: Set = Set { name: "same-bridge", key: Key::InterfacePair };
/// The bridges of our networks that nothing leads out of.
const INTERNAL: Set = Set { name: "internal", key: Key::InterfaceName };
/// The addresses of our networks that something leads out of.
const SUBNETS: Set = Set { name: "subnets", key: Key::AddressRanges };

/// The bridges of our networks that neighbours begin conversations in.
const OPEN: Set = Set { name: "open", key: Key::InterfaceName };
/// Where neighbours' packets come from: their addresses, and those of their containers.
const NEIGHBOURS: Set = Set { name: "neighbours", key: Key::AddressRanges };
/// The addresses of containers here and at neighbours, who know each other by them.
const CLUSTER: Set = Set { name: "cluster", key: Key::AddressRanges };

const OUTPUT_IN_BRIDGES: [Step; 2] = [Step::OutputName(Register::First), Step::InSet(BRIDGES.name)];

/// Isolation: nobody outside a network begins a conversation with a container in it, neither
/// another network nor a host that routes to the container's address, unless it is a
/// [neighbour](crate::Neighbour).
const FORWARD: Chain = Chain {
    name: "forward",
    kind: "filter",
    hook: libc::NF_INET_FORWARD.cast_unsigned(),
    priority: libc::NF_IP_PRI_FILTER,
    rules: &[
        &[
            Step::InputName(Register::First),
            Step::OutputName(Register::Second),
            Step::InSet(SAME.name),
            Step::Accept,
        ],
        &[Step::InputName(Register::First), Step::InSet(INTERNAL.name), Step::Drop],
        &[OUTPUT_IN_BRIDGES[0], OUTPUT_IN_BRIDGES[1], Step::Established, Step::Accept],
        // A published port; what nobody published is not redirected.
        &[OUTPUT_IN_BRIDGES[0], OUTPUT_IN_BRIDGES[1], Step::Redirected, Step::Accept],
        &[
            Step::OutputName(Register::First),
            Step::InSet(OPEN.name),
            Step::SourceAddress,
            Step::InSet(NEIGHBOURS.name),
            Step::Accept,
        ],
        &[OUTPUT_IN_BRIDGES[0], OUTPUT_IN_BRIDGES[1], Step::Drop],
        &[Step::InputName(Register::First), Step::InSet(BRIDGES.name), Step::Accept],
    ],
};

const DESTINATION: Step = Step::Load(Word::First, &[Field::Destination]);
const IN_CLUSTER: Step = Step::InSet(CLUSTER.name);

/// A container's packets leave the host under the host's address.
const POSTROUTING: Chain = Chain {
    name: "postrouting",
    kind: "nat",
    hook: libc::NF_INET_POST_ROUTING.cast_unsigned(),
    priority: libc::NF_IP_PRI_NAT_SRC,
    rules: &[
        // The host's own 127.0.0.1 means nothing to a container, which could not answer it.
        &[OUTPUT_IN_BRIDGES[0], OUTPUT_IN_BRIDGES[1], Step::FromLoopback, Step::Masquerade],
        // A container that reaches its neighbour by a published port would be answered directly,
        // from an address that it has not asked.
        &[
            OUTPUT_IN_BRIDGES[0],
            OUTPUT_IN_BRIDGES[1],
            Step::Redirected,
            Step::SourceAddress,
            Step::InSet(SUBNETS.name),
            Step::Masquerade,
        ],
        &[OUTPUT_IN_BRIDGES[0], OUTPUT_IN_BRIDGES[1], Step::Return],
        &[Step::SourceAddress, Step::InSet(CLUSTER.name), DESTINATION, IN_CLUSTER, Step::Return],
        // Whoever came to this host is led on to a neighbour's container, which has to answer by us.
        &[Step::Redirected, DESTINATION, IN_CLUSTER, Step::Masquerade],
        &[Step::SourceAddress, Step::InSet(SUBNETS.name), Step::Masquerade],
    ],
};

/// Before connection tracking (`NF_IP_PRI_RAW`).
const PRIORITY_RAW: i32 = -300;

/// What a container sends to 127.0.0.0/8, or from there, is no answer and no question. The kernel
/// drops it, too, except on the bridge of a network with [published ports](crate::port). What comes
/// to or from ::1 it always drops (`ip6_rcv_core`; RFC 4291, 2.5.3).
const GUARD: Chain = Chain {
    name: "guard",
    kind: "filter",
    hook: libc::NF_INET_PRE_ROUTING.cast_unsigned(),
    priority: PRIORITY_RAW,
    rules: &[
        &[
            Step::InputName(Register::First),
            Step::InSet(BRIDGES.name),
            Step::ToLoopback,
            Step::Drop,
        ],
        &[
            Step::InputName(Register::First),
            Step::InSet(BRIDGES.name),
            Step::FromLoopback,
            Step::Drop,
        ],
    ],
};

/// Makes sure that the table holds our rules, and this network among its networks, when most
/// likely it does.
///
/// Adding elements is a matter of microseconds, replacing rules one of milliseconds (the kernel
/// waits until no packet is in the old ones): so the rules are touched only if the elements find
/// no table, or one with the rules of another version.
pub(crate) fn ensure_network(owner: &Owner<'_>, network: &Network) -> Result<()> {
    let table = owner.table;
    refuse_bad_name(table)?;
    let mut change = Transaction::on(table);
    for family in families(network) {
        change.turn_to(family);
        change.add_elements(RULES, &Element::names(&[RULES.name]));
        for (set, elements) in elements(network, family) {
            change.add_elements(set, &elements);
        }
    }
    match change.commit() {
        Err(e) if e.errno() == Some(Errno::NOENT) => add_network(owner, network),
        other => other,
    }
}

/// Makes the table hold our rules, and this network among its networks.
fn add_network(owner: &Owner<'_>, network: &Network) -> Result<()> {
    let table = owner.table;
    refuse_bad_name(table)?;
    let mut change = Transaction::on(table);
    for family in families(network) {
        change.turn_to(family);
        change.add_table(owner.note().as_deref());
        change.add_set(RULES, 1);
        change.add_elements(RULES, &Element::names(&[RULES.name]));
        for (id, set) in (2..).zip([BRIDGES, SAME, INTERNAL, SUBNETS, OPEN, NEIGHBOURS, CLUSTER]) {
            change.add_set(set, id);
        }
        for (set, elements) in elements(network, family) {
            change.add_elements(set, &elements);
        }
        change.replace_chain(&FORWARD);
        change.replace_chain(&POSTROUTING);
        if family == Family::V4 {
            change.replace_chain(&GUARD);
        }
    }
    change.commit()
}

/// Lets neighbours, and nobody else, begin conversations with containers of the network.
pub(crate) fn let_in(owner: &Owner<'_>, network: &Network, all: &[Neighbour]) -> Result<()> {
    ensure_network(owner, network)?;
    let pods = all.iter().map(|one| one.subnet);
    let hosts = all.iter().map(|one| Subnet::containing(one.address, 32));
    let cluster = ranges(pods.clone().chain([network.subnet]));
    let neighbours = ranges(pods.chain(hosts));
    let mut change = Transaction::on(owner.table);
    [OPEN, NEIGHBOURS, CLUSTER].into_iter().for_each(|set| change.flush_set(set));
    change.add_elements(OPEN, &Element::names(&[&network.bridge]));
    change.add_elements(NEIGHBOURS, &neighbours);
    change.add_elements(CLUSTER, &cluster);
    change.commit()
}

/// Subnets as elements, without those that lie within others: a set holds no address twice.
fn ranges(all: impl Iterator<Item = Subnet>) -> Vec<Element> {
    let mut all: Vec<Subnet> = all.collect();
    all.sort_unstable_by_key(|subnet| (subnet.prefix(), subnet.address()));
    let mut kept: Vec<Subnet> = Vec::new();
    for subnet in all {
        if !kept.iter().any(|own| own.covers(subnet)) {
            kept.push(subnet);
        }
    }
    kept.into_iter().flat_map(Element::range).collect()
}

/// The families that have rules for the network: IPv6 only if the network does, so that a host
/// without such networks looks up nothing for its IPv6 packets.
fn families(network: &Network) -> impl Iterator<Item = Family> {
    [Family::V4].into_iter().chain(network.v6.map(|_| Family::V6))
}

/// Takes these networks out of the table.
pub(crate) fn remove_networks(table: &str, networks: &[&Network]) -> Result<()> {
    refuse_bad_name(table)?;
    let mut change = Transaction::on(table);
    for family in [Family::V4, Family::V6] {
        change.turn_to(family);
        for network in networks.iter().filter(|network| families(network).any(|f| f == family)) {
            for (set, elements) in elements(network, family) {
                change.delete_elements(set, &elements);
            }
        }
    }
    match change.commit() {
        // One that is not there, or so many that there is no room to tell.
        Err(e) if matches!(e.errno(), Some(Errno::NOENT | Errno::NOBUFS)) => {
            networks.iter().try_for_each(|network| remove_network(table, network))
        }
        outcome => outcome,
    }
}

/// Takes what there is of this network out of the table. One family of it is in all of the sets or
/// in none, since only whole transactions put it there.
fn remove_network(table: &str, network: &Network) -> Result<()> {
    families(network).try_for_each(|family| {
        let mut change = Transaction::on(table);
        change.turn_to(family);
        for (set, elements) in elements(network, family) {
            change.forget_elements(set, &elements);
        }
        change.commit()
    })
}

/// Removes the nftables table `table` with the rules of every network in it, and that of its
/// [services](crate::service); that there is none is well. For the end of a state root.
///
/// # Errors
/// [`Error::Denied`] without CAP_NET_ADMIN; [`Error::Unsupported`] if the kernel lacks nf_tables.
pub fn remove_table(table: &str) -> Result<()> {
    refuse_bad_name(table)?;
    // Each for itself: one that is not there would undo a transaction.
    [table, &service::table_of(table)].into_iter().try_for_each(|table| {
        [Family::V4, Family::V6].into_iter().try_for_each(|family| {
            let mut change = Transaction::on(table);
            change.turn_to(family);
            change.delete_table();
            change.commit()
        })
    })
}

fn elements(network: &Network, family: Family) -> [(Set, Vec<Element>); 3] {
    let bridge = network.bridge.as_str();
    let way_out = match (network.internal, family, network.v6) {
        (true, ..) => (INTERNAL, Element::names(&[bridge])),
        (false, Family::V6, Some(v6)) => (SUBNETS, Element::range(v6.subnet)),
        (false, ..) => (SUBNETS, Element::range(network.subnet)),
    };
    let same = Element::names(&[bridge, bridge]);
    [(BRIDGES, Element::names(&[bridge])), (SAME, same), way_out]
}

/// `nft` can name a table only by letters, digits and a little punctuation; one that it cannot
/// name, an administrator cannot look at.
pub(crate) fn refuse_bad_name(table: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let named = table.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if named && table.len() <= TABLE_NAME_MAX && table.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::Invalid(format!("`{table}` is not a table name")))
}

//! Services: an address and port that stand for any of several endpoints.
//!
//! What a packet meets is the same for one service or ten thousand: a map leads from protocol,
//! address and port to a chain, and the chain rewrites the destination to one of the endpoints.
//! There is no chain of a service's own, but one for each *number* of endpoints, which picks a number
//! below it and looks the endpoint up. So when endpoints come and go, elements of maps change, and no
//! rule does: that is a matter of microseconds, while the kernel waits for a moment in which no packet
//! is in a rule before it takes that away.
//!
//! A service has a table of its own beside that of the networks. It stays when nobody keeps it up to
//! date, so that conversations go on and begin; whoever comes next puts what is true in the place of
//! what was, all at once.
//!
//! # Addresses of clients
//!
//! Nothing here changes where a packet comes from. A neighbour that comes by a port of the node is
//! seen by its own address. What a container sends to another one on its own bridge is masqueraded by
//! the rules of networks, since the answer would not pass this host's rules; so is what comes back to
//! the one that it came from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;

use crate::filter::refuse_bad_name;
use crate::link::{self, ROUTE};
use crate::netlink::{Batch, Socket};
use crate::nftables::{Chain, Element, Family, Field, Key, Set, Step, Transaction, Word};
use crate::port::{Port, Protocol};
use crate::{Endpoint, Error, Network, Owner, Result, Subnet, address, conntrack, sysctl};

/// Where a service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address; 0.0.0.0 or :: for every address of this host.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What becomes of whoever comes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// Nobody answers, and that is said: by a reset of TCP, or by ICMP.
    Refuse,
    /// Nobody answers here, but maybe elsewhere: nothing is said.
    Drop,
    /// Each new conversation is with one of these, at random.
    Spread {
        /// At least one, of the address's family, and none twice.
        endpoints: Vec<SocketAddr>,
        /// For how many seconds after its last new conversation a client stays with an endpoint.
        sticky_s: Option<u32>,
    },
}

/// What becomes of whoever comes where.
pub type Plan = BTreeMap<Frontend, Backend>;

/// Says which rules the table holds, as `RULES` does of the rules of networks.
const VERSION: Set = Set { name: "services-1", key: Key::InterfaceName };

/// The sets of what is reached at some places.
#[derive(Debug)]
struct Sets {
    services: Set,
    endpoints: Set,
    refused: Set,
    dropped: Set,
    /// The endpoints of services whose clients stay: one that is none any more is not gone back to.
    members: Set,
    clients: Set,
    /// Loads what their keys begin with.
    at: Step,
    /// Where that ends.
    behind: Word,
    /// Where an address behind it ends.
    behind_client: Word,
}

/// Services with an address.
const PLACED: Sets = Sets {
    services: Set { name: "services", key: Key::FrontendVerdict },
    endpoints: Set { name: "endpoints", key: Key::Numbered },
    refused: Set { name: "refused", key: Key::Frontend },
    dropped: Set { name: "dropped", key: Key::Frontend },
    members: Set { name: "members", key: Key::Member },
    clients: Set { name: "clients", key: Key::Remembered },
    at: AT,
    behind: Word::BehindFrontend,
    behind_client: Word::BehindClient,
};

/// Services at every address of this host.
const HOST: Sets = Sets {
    services: Set { name: "host-services", key: Key::HostFrontendVerdict },
    endpoints: Set { name: "host-endpoints", key: Key::HostNumbered },
    refused: Set { name: "host-refused", key: Key::HostFrontend },
    dropped: Set { name: "host-dropped", key: Key::HostFrontend },
    members: Set { name: "host-members", key: Key::HostMember },
    clients: Set { name: "host-clients", key: Key::HostRemembered },
    at: AT_HOST,
    behind: Word::BehindPort,
    behind_client: Word::BehindPortClient,
};

impl Sets {
    fn of(at: &Frontend) -> &'static Self {
        if at.address.is_unspecified() { &HOST } else { &PLACED }
    }

    /// Those that hold what is planned.
    fn planned(&self) -> [Set; 5] {
        [self.services, self.endpoints, self.refused, self.dropped, self.members]
    }
}

const AT: Step =
    Step::Load(Word::First, &[Field::Protocol, Field::Destination, Field::DestinationPort]);
const AT_HOST: Step = Step::Load(Word::First, &[Field::Protocol, Field::DestinationPort]);

/// Just before destinations are rewritten.
const BEFORE_NAT: i32 = libc::NF_IP_PRI_NAT_DST - 10;

const TURN_AWAY: &[&[Step]] = &[
    &[Step::New, AT, Step::InSet(PLACED.refused.name), Step::Tcp, Step::Reset],
    &[Step::New, AT, Step::InSet(PLACED.refused.name), Step::Unreachable],
    &[Step::New, AT, Step::InSet(PLACED.dropped.name), Step::Drop],
    &[Step::New, Step::ToHost, AT_HOST, Step::InSet(HOST.refused.name), Step::Tcp, Step::Reset],
    &[Step::New, Step::ToHost, AT_HOST, Step::InSet(HOST.refused.name), Step::Unreachable],
    &[Step::New, Step::ToHost, AT_HOST, Step::InSet(HOST.dropped.name), Step::Drop],
];

const CHAINS: [Chain; 4] = [
    Chain {
        name: "turn-away",
        kind: "filter",
        hook: libc::NF_INET_PRE_ROUTING.cast_unsigned(),
        priority: BEFORE_NAT,
        rules: TURN_AWAY,
    },
    Chain {
        name: "turn-away-own",
        kind: "filter",
        hook: libc::NF_INET_LOCAL_OUT.cast_unsigned(),
        priority: BEFORE_NAT,
        rules: TURN_AWAY,
    },
    Chain {
        name: "prerouting",
        kind: "nat",
        hook: libc::NF_INET_PRE_ROUTING.cast_unsigned(),
        priority: libc::NF_IP_PRI_NAT_DST,
        rules: &[
            &[AT, Step::Go(PLACED.services.name)],
            &[Step::ToLoopback, Step::Return],
            &[Step::ToHost, AT_HOST, Step::Go(HOST.services.name)],
        ],
    },
    Chain {
        name: "output",
        kind: "nat",
        hook: libc::NF_INET_LOCAL_OUT.cast_unsigned(),
        priority: libc::NF_IP_PRI_NAT_DST,
        rules: &[
            &[AT, Step::Go(PLACED.services.name)],
            &[Step::ToHost, AT_HOST, Step::Go(HOST.services.name)],
        ],
    },
];

/// The sets that hold what is planned.
fn planned() -> impl Iterator<Item = Set> {
    PLACED.planned().into_iter().chain(HOST.planned())
}

/// The table of services beside the one of a root's networks.
pub(crate) fn table_of(table: &str) -> String {
    format!("{table}-services")
}

/// A chain that picks one of some endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pick {
    family: Family,
    is_host: bool,
    count: u32,
    sticky_s: Option<u32>,
}

impl Pick {
    fn name(self) -> String {
        let place = if self.is_host { "host" } else { "address" };
        let sticky = self.sticky_s.map_or_else(String::new, |s| format!("-for-{s}s"));
        format!("{place}-one-of-{}{sticky}", self.count)
    }

    fn make(self, change: &mut Transaction<'_>) {
        change.turn_to(self.family);
        let sets = if self.is_host { &HOST } else { &PLACED };
        let (at, (behind, behind_client)) = (sets.at, (sets.behind, sets.behind_client));
        let random = Step::Random(behind, self.count);
        let Some(seconds) = self.sticky_s else {
            let found = Step::Map(sets.endpoints.name, Word::First);
            let rule = [at, random, found, Step::Redirect(Word::First)];
            return change.replace_plain_chain(&self.name(), &[&rule]);
        };
        let client = Step::Load(behind, &[Field::Source]);
        let stay = Step::Remember(sets.clients.name, behind_client, seconds);
        let go = Step::Redirect(behind_client);
        let again = [
            at,
            client,
            Step::Map(sets.clients.name, behind),
            Step::InSet(sets.members.name),
            client,
            Step::Map(sets.clients.name, behind_client),
            stay,
            go,
        ];
        let found = Step::Map(sets.endpoints.name, behind_client);
        // What is remembered of an endpoint that is gone would be kept, only for longer.
        let forget = Step::Forget(sets.clients.name, behind_client);
        let first = [at, random, found, client, forget, stay, go];
        change.replace_plain_chain(&self.name(), &[&again, &first]);
    }
}

/// What the kernel holds for one frontend.
fn elements(at: &Frontend, backend: &Backend) -> Vec<(Set, Element)> {
    let sets = Sets::of(at);
    let address = Some(at.address).filter(|address| !address.is_unspecified());
    let own = || Element::port(at.protocol.number(), address, at.port);
    let Backend::Spread { endpoints, sticky_s } = backend else {
        let set = if *backend == Backend::Drop { sets.dropped } else { sets.refused };
        return vec![(set, own())];
    };
    let mut all = Vec::with_capacity(endpoints.len() + 1);
    for (number, endpoint) in (0..).zip(endpoints) {
        let to = own().numbered(number).to(endpoint.ip(), endpoint.port());
        all.push((sets.endpoints, to));
        if sticky_s.is_some() {
            all.push((sets.members, own().with(endpoint.ip(), endpoint.port())));
        }
    }
    all.extend(pick(at, backend).map(|pick| (sets.services, own().going_to(pick.name()))));
    all
}

fn pick(at: &Frontend, backend: &Backend) -> Option<Pick> {
    let Backend::Spread { endpoints, sticky_s } = backend else { return None };
    Some(Pick {
        family: Family::of(at.address),
        is_host: at.address.is_unspecified(),
        count: u32::try_from(endpoints.len()).ok()?,
        sticky_s: *sticky_s,
    })
}

/// The services of one root in the kernel, as far as this process has put them there.
#[derive(Debug)]
pub struct Table {
    name: String,
    note: Option<String>,
    /// What it holds; unknown at first.
    known: Option<Plan>,
    picks: BTreeSet<Pick>,
}

impl Table {
    /// The services beside an owner's networks. The kernel is not asked yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the owner's table has no name that `nft` could say.
    pub fn of(owner: &Owner<'_>) -> Result<Self> {
        let name = table_of(owner.table);
        refuse_bad_name(&name)?;
        Ok(Self { name, note: owner.note(), known: None, picks: BTreeSet::new() })
    }

    /// Lets this host itself reach services, whose addresses are those of `range`, over the network
    /// that endpoints are on: from its own address there where nothing else leads, and by 127.0.0.1.
    ///
    /// # Errors
    /// [`Error::Denied`] without CAP_NET_ADMIN; [`Error::Missing`] without the network's bridge;
    /// [`Error::Io`].
    pub fn lead(network: &Network, range: Subnet) -> Result<()> {
        let socket = Socket::open(&ROUTE)?;
        let bridge = link::find(&socket, &network.bridge)?.ok_or_else(|| {
            Error::Missing(format!("the bridge `{}` is not there", network.bridge))
        })?;
        let mut batch = Batch::default();
        address::add_route(&mut batch, bridge.index, range, network.gateway).tolerate(Errno::EXIST);
        socket.transact(batch)?;
        // What makes it harmless is there since the network was made (`filter::GUARD`).
        sysctl::set(&format!("ipv4/conf/{}/route_localnet", network.bridge), "1")
    }

    /// Lets the bridge give a packet back to the container that it came from, which reaches itself as
    /// an endpoint. Only where bridges pass packets through nftables (`bridge-nf-call-iptables`) is it
    /// the bridge that does; elsewhere the host routes them.
    ///
    /// # Errors
    /// [`Error::Denied`] without CAP_NET_ADMIN.
    pub fn reflect(endpoint: &Endpoint) -> Result<()> {
        link::reflect(&Socket::open(&ROUTE)?, &endpoint.host_interface)
    }

    /// Makes these all services there are, in the place of whatever the kernel holds.
    ///
    /// # Errors
    /// [`Error::Denied`] without CAP_NET_ADMIN; [`Error::Unsupported`] if the kernel lacks what the
    /// rules need.
    pub fn replace(&mut self, plan: Plan) -> Result<()> {
        self.known = None;
        self.picks.clear();
        match self.put(&plan, false) {
            // There is no table, or one of another version, or somebody has changed it.
            Err(e) if e.errno().is_some() => self.put(&plan, true)?,
            done => done?,
        }
        self.picks = plan.iter().filter_map(|(at, backend)| pick(at, backend)).collect();
        for at in plan.keys().filter(|at| at.protocol == Protocol::Udp) {
            forget_strangers(at, &plan[at])?;
        }
        self.known = Some(plan);
        Ok(())
    }

    /// Makes what is planned all there is; `anew` with the table itself.
    fn put(&self, plan: &Plan, anew: bool) -> Result<()> {
        let mut change = Transaction::on(&self.name);
        for family in [Family::V4, Family::V6] {
            let is_own = |at: &&Frontend| Family::of(at.address) == family;
            // A host without such services looks up nothing for its IPv6 packets.
            if family == Family::V6 && !plan.keys().any(|at| is_own(&at)) {
                continue;
            }
            change.turn_to(family);
            if anew {
                change.add_table(None);
                change.delete_table();
                change.add_table(self.note.as_deref());
                let clients = [PLACED.clients, HOST.clients, VERSION];
                let sets = planned().chain(clients);
                (1..).zip(sets).for_each(|(id, set)| change.add_set(set, id));
            }
            change.add_elements(VERSION, &Element::names(&[VERSION.name]));
            if !anew {
                planned().for_each(|set| change.flush_set(set));
            }
        }
        let picks = plan.iter().filter_map(|(at, backend)| pick(at, backend));
        picks.collect::<BTreeSet<_>>().into_iter().for_each(|pick| pick.make(&mut change));
        let all = plan.iter().flat_map(|(at, backend)| {
            let family = Family::of(at.address);
            elements(at, backend).into_iter().map(move |(set, element)| (family, set, element))
        });
        list(&mut change, all.collect(), Transaction::add_elements);
        for family in [Family::V4, Family::V6] {
            let has = plan.keys().any(|at| Family::of(at.address) == family);
            if anew && (family == Family::V4 || has) {
                change.turn_to(family);
                CHAINS.iter().for_each(|chain| change.replace_chain(chain));
            }
        }
        change.commit()
    }

    /// Changes some services: each frontend is to have this backend, or none. All at once.
    ///
    /// # Errors
    /// As [`Table::replace`], which is to be called first.
    pub fn change(&mut self, changes: &BTreeMap<Frontend, Option<Backend>>) -> Result<()> {
        let mut plan = self.known.take().unwrap_or_default();
        let before: BTreeMap<Frontend, Backend> =
            changes.keys().filter_map(|at| Some((*at, plan.get(at)?.clone()))).collect();
        for (at, backend) in changes {
            match backend {
                Some(backend) => plan.insert(*at, backend.clone()),
                None => plan.remove(at),
            };
        }
        match self.shift(&before, changes) {
            // Somebody has removed the table, or what was in it.
            Err(e) if matches!(e.errno(), Some(Errno::NOENT | Errno::EXIST | Errno::BUSY)) => {
                return self.replace(plan);
            }
            done => {
                // What could not be done is not known to be so: the next one begins anew.
                done?;
                self.known = Some(plan);
            }
        }
        for (at, backend) in changes.iter().filter(|(at, _)| at.protocol == Protocol::Udp) {
            forget(at, before.get(at), backend.as_ref())?;
        }
        Ok(())
    }

    fn shift(
        &mut self,
        before: &BTreeMap<Frontend, Backend>,
        changes: &BTreeMap<Frontend, Option<Backend>>,
    ) -> Result<()> {
        let mut change = Transaction::on(&self.name);
        let (mut gone, mut come, mut picks) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (at, backend) in changes {
            let family = Family::of(at.address);
            let old = before.get(at).map_or_else(Vec::new, |backend| elements(at, backend));
            let new = backend.as_ref().map_or_else(Vec::new, |backend| elements(at, backend));
            let is_in = |all: &[(Set, Element)], one: &(Set, Element)| all.contains(one);
            let only_old = old.iter().filter(|one| !is_in(&new, one));
            gone.extend(only_old.map(|(set, element)| (family, *set, element.clone())));
            let only_new = new.iter().filter(|one| !is_in(&old, one));
            come.extend(only_new.map(|(set, element)| (family, *set, element.clone())));
            picks.extend(backend.as_ref().and_then(|backend| pick(at, backend)));
        }
        if gone.is_empty() && come.is_empty() {
            return Ok(());
        }
        // Where the family has no table yet, this fails, and everything is put there anew.
        picks.retain(|pick| !self.picks.contains(pick));
        picks.iter().for_each(|pick| pick.make(&mut change));
        list(&mut change, gone, Transaction::delete_elements);
        list(&mut change, come, Transaction::add_elements);
        change.commit()?;
        self.picks.extend(picks);
        Ok(())
    }
}

/// Adds or deletes elements, those of one set together.
fn list<'a>(
    change: &mut Transaction<'a>,
    mut elements: Vec<(Family, Set, Element)>,
    how: impl Fn(&mut Transaction<'a>, Set, &[Element]),
) {
    elements.sort_by_key(|(family, set, _)| (*family, set.name));
    for some in elements.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let all: Vec<Element> = some.iter().map(|(_, _, element)| element.clone()).collect();
        change.turn_to(some[0].0);
        how(change, some[0].1, &all);
    }
}

/// Has conversations over UDP ask the rules again: those with endpoints that are none any more, and
/// with a service that is new, all.
fn forget(at: &Frontend, before: Option<&Backend>, now: Option<&Backend>) -> Result<()> {
    let (old, new) = (endpoints(before), endpoints(now));
    if old.is_empty() && !new.is_empty() {
        return conntrack::forget(&port(at, &new[0]));
    }
    old.iter()
        .filter(|endpoint| !new.contains(endpoint))
        .try_for_each(|endpoint| conntrack::forget_with(&port(at, endpoint)))
}

/// The same for all conversations with others than the endpoints that there are.
fn forget_strangers(at: &Frontend, backend: &Backend) -> Result<()> {
    match endpoints(Some(backend)).first() {
        Some(first) => conntrack::forget_unless(&port(at, first), endpoints(Some(backend))),
        None => Ok(()),
    }
}

fn endpoints(backend: Option<&Backend>) -> &[SocketAddr] {
    match backend {
        Some(Backend::Spread { endpoints, .. }) => endpoints,
        _ => &[],
    }
}

fn port(at: &Frontend, to: &SocketAddr) -> Port {
    let Frontend { protocol, address, port } = *at;
    Port { protocol, address, port, to: to.ip(), to_port: to.port() }
}

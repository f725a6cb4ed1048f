//! Services, reached from everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use net::port::Protocol;
use net::service::{Backend, Frontend, Plan, Table};

use super::host::{
    DEADLINE, Listener, Namespace, Neighbour, TABLE, container, exchange, network, nft, on_host,
};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 7);

fn frontend(protocol: Protocol, address: Ipv4Addr, port: u16) -> Frontend {
    Frontend { protocol, address: address.into(), port }
}

fn tcp(address: Ipv4Addr, port: u16) -> Frontend {
    frontend(Protocol::Tcp, address, port)
}

fn spread(endpoints: &[SocketAddr]) -> Backend {
    Backend::Spread { endpoints: endpoints.to_vec(), sticky_s: None }
}

fn sticky(endpoints: &[SocketAddr]) -> Backend {
    Backend::Spread { endpoints: endpoints.to_vec(), sticky_s: Some(600) }
}

/// The services of a host with a network of containers.
fn table() -> Table {
    net::ensure_bridge(&network(), TABLE).unwrap();
    let table = Table::of(&TABLE.into()).unwrap();
    Table::lead(&network(), "10.96.0.0/12".parse().unwrap()).unwrap();
    table
}

fn set(table: &mut Table, at: Frontend, backend: Option<Backend>) {
    table.change(&BTreeMap::from([(at, backend)])).unwrap();
}

/// Connects from inside; the port that the other end has by its own word.
fn ask(from: &Namespace, at: SocketAddr) -> std::io::Result<u8> {
    use std::io::Read;
    let mut stream = from.run(|| TcpStream::connect_timeout(&at, DEADLINE))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut word = [0];
    stream.read_exact(&mut word)?;
    Ok(word[0])
}

/// Says its number to whoever comes, until the test is over.
fn serve(inside: &Namespace, address: Ipv4Addr, number: u8) -> SocketAddr {
    use std::io::Write;
    let listener = inside.run(|| TcpListener::bind((address, 0)).unwrap());
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(&[number]));
        }
    });
    at
}

#[test]
fn a_service_is_reached_from_everywhere_and_by_whom_is_seen() {
    on_host(|| {
        let host = Namespace::current();
        let neighbour = Neighbour::new();
        let mut table = table();
        let (a, at_a) = container(&network(), 2);
        let (b, _) = container(&network(), 3);
        Table::reflect(&at_a).unwrap();
        let listener: Listener = a.listen(at_a.address);
        let to: SocketAddr = (at_a.address, listener.port()).into();
        let all = [tcp(SERVICE, 80), tcp(ANY, 30_000), tcp(Neighbour::HOST, 80)];
        table.replace(all.into_iter().map(|at| (at, spread(&[to]))).collect()).unwrap();

        // Administrators can look at it.
        assert!(nft("list table ip cais-services").contains("address-one-of-1"));
        let gateway = IpAddr::from(network().gateway);
        assert_eq!(host.converse_by((SERVICE, 80).into(), &listener), gateway);
        assert_eq!(host.converse_by((Ipv4Addr::LOCALHOST, 30_000).into(), &listener), gateway);
        // A container that reaches itself, too.
        for inside in [&a, &b] {
            inside.converse_by((SERVICE, 80).into(), &listener);
            inside.converse_by((Neighbour::HOST, 30_000).into(), &listener);
        }
        for at in [(SERVICE, 80), (Neighbour::HOST, 30_000), (Neighbour::HOST, 80)] {
            let seen = neighbour.namespace.converse_by(at.into(), &listener);
            assert_eq!(seen, IpAddr::from(Neighbour::ADDRESS), "{at:?}");
        }
        net::remove_table(TABLE).unwrap();
        assert_eq!(nft("list tables"), "");
    });
}

#[test]
fn conversations_are_spread_and_follow_endpoints() {
    on_host(|| {
        let host = Namespace::current();
        let mut table = table();
        let all: Vec<_> = (2..5).map(|n| container(&network(), n)).collect();
        let numbered = (0..).zip(&all);
        let to: Vec<SocketAddr> =
            numbered.map(|(number, (space, at))| serve(space, at.address, number)).collect();
        let at = tcp(SERVICE, 80);
        table.replace(Plan::from([(at, Backend::Refuse)])).unwrap();
        let asked = |times: usize| -> BTreeSet<u8> {
            (0..times).map(|_| ask(&host, (SERVICE, 80).into()).unwrap()).collect()
        };
        let refused = || {
            for from in [&host, &all[0].0] {
                let error = ask(from, (SERVICE, 80).into()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            }
        };
        refused();
        set(&mut table, at, Some(spread(&to)));
        // Missing one of three in a hundred is once in 10^17 runs.
        assert_eq!(asked(100), BTreeSet::from([0, 1, 2]));
        set(&mut table, at, Some(spread(&to[1..])));
        assert_eq!(asked(64), BTreeSet::from([1, 2]));

        set(&mut table, tcp(ANY, 30_000), Some(sticky(&to)));
        let by_host: BTreeSet<u8> =
            (0..32).map(|_| ask(&host, (Ipv4Addr::LOCALHOST, 30_000).into()).unwrap()).collect();
        assert_eq!(by_host.len(), 1, "{by_host:?}");
        set(&mut table, at, Some(sticky(&to)));
        let stayed = asked(32);
        assert_eq!(stayed.len(), 1, "{stayed:?}");
        let rest: Vec<SocketAddr> =
            (0..).zip(&to).filter(|(n, _)| !stayed.contains(n)).map(|(_, to)| *to).collect();
        set(&mut table, at, Some(sticky(&rest)));
        let moved = asked(32);
        assert!(moved.len() == 1 && moved != stayed, "{moved:?} after {stayed:?}");
        // Another process goes on where this one is, and finds what was left.
        let mut other = Table::of(&TABLE.into()).unwrap();
        other.replace(Plan::from([(at, sticky(&rest))])).unwrap();
        assert_eq!(asked(32), moved);
        set(&mut other, at, Some(Backend::Refuse));
        refused();
        set(&mut other, at, None);
        assert!(!nft("list set ip cais-services refused").contains("10.96.0.7"));
        // Whoever removes the table does not stop us.
        nft("delete table ip cais-services");
        set(&mut other, at, Some(spread(&to[..1])));
        assert_eq!(asked(1), BTreeSet::from([0]));
    });
}

#[test]
fn a_conversation_over_udp_leaves_an_endpoint_that_is_gone() {
    on_host(|| {
        let host = Namespace::current();
        let mut table = table();
        let at = frontend(Protocol::Udp, SERVICE, 53);
        table.replace(Plan::new()).unwrap();
        let client = UdpSocket::bind((ANY, 0)).unwrap();
        for number in 2..4 {
            let (space, place) = container(&network(), number);
            let server = space.run(|| UdpSocket::bind((place.address, 53)).unwrap());
            set(&mut table, at, Some(spread(&[server.local_addr().unwrap()])));
            client.send_to(b"ahoy", (SERVICE, 53)).unwrap();
            server.set_read_timeout(Some(DEADLINE)).unwrap();
            let (_, from) = server.recv_from(&mut [0; 4]).unwrap();
            assert_eq!(from.ip(), IpAddr::from(network().gateway));
            let _ = exchange(&host, &server, (SERVICE, 53).into());
        }
    });
}

#[test]
fn ten_thousand_services_are_one_transaction() {
    on_host(|| {
        let mut table = table();
        let mut plan = Plan::new();
        let to = |n: u16| SocketAddr::from((Ipv4Addr::new(172, 17, 1, 1), n));
        for number in 0..10_000_u16 {
            let [high, low] = number.to_be_bytes();
            let at = tcp(Ipv4Addr::new(10, 97, high, low), 80);
            plan.insert(at, spread(&[to(1), to(2), to(3)]));
        }
        table.replace(plan).unwrap();
        let last = tcp(Ipv4Addr::new(10, 97, 39, 15), 80);
        set(&mut table, last, Some(spread(&[to(1), to(4)])));
        let found = nft("list map ip cais-services services");
        assert_eq!(found.matches("address-one-of-3").count(), 9_999);
        assert_eq!(found.matches("address-one-of-2").count(), 1);
    });
}

//! Published ports, reached from everywhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use net::Endpoint;
use net::port::{self, Port, Protocol};
use rustix::net::{AddressFamily, SocketType, ipproto};

use super::host::{
    DEADLINE, Listener, Namespace, Neighbour, PATIENCE, TABLE, container, exchange, ip, network,
    nft, on_host, other_network,
};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn published(address: Ipv4Addr, port: u16, to: Ipv4Addr, to_port: u16) -> Port {
    Port { protocol: Protocol::Tcp, address: address.into(), port, to: to.into(), to_port }
}

/// Publishes the listener's port on `address`, as 8080.
fn publish(address: Ipv4Addr, to: &Endpoint, listener: &Listener) -> Port {
    let port = published(address, 8080, to.address, listener.port());
    port::publish(TABLE, &network(), to, &[port]).unwrap();
    port
}

fn at(address: Ipv4Addr) -> SocketAddr {
    (address, 8080).into()
}

#[test]
fn a_port_is_reached_from_everywhere_and_by_whom_is_seen() {
    on_host(|| {
        let host = Namespace::current();
        let neighbour = Neighbour::new();
        for network in [network(), other_network()] {
            net::ensure_bridge(&network, TABLE).unwrap();
        }
        let (a, at_a) = container(&network(), 2);
        let (same, _) = container(&network(), 3);
        let (other, _) = container(&other_network(), 2);
        let listener = a.listen(at_a.address);
        let port = publish(ANY, &at_a, &listener);

        let outside = neighbour.namespace.converse_by(at(Neighbour::HOST), &listener);
        assert_eq!(outside, Neighbour::ADDRESS);
        let gateway = network().gateway;
        assert_eq!(host.converse_by(at(Ipv4Addr::LOCALHOST), &listener), gateway);
        assert_eq!(host.converse_by(at(Neighbour::HOST), &listener), Neighbour::HOST);
        for (n, inside) in [&a, &same, &other].into_iter().enumerate() {
            for by in [Neighbour::HOST, gateway] {
                eprintln!("from {n} by {by}");
                inside.converse_by(at(by), &listener);
            }
        }
        port::unpublish(TABLE, &[port]).unwrap();
        neighbour.namespace.expect_address(at(Neighbour::HOST), false);
        port::unpublish(TABLE, &[port]).unwrap();
    });
}

#[test]
fn a_port_of_one_address_is_not_reached_by_another() {
    on_host(|| {
        let host = Namespace::current();
        let neighbour = Neighbour::new();
        net::ensure_bridge(&network(), TABLE).unwrap();
        let (a, at_a) = container(&network(), 2);
        let listener = a.listen(at_a.address);
        let port = publish(Neighbour::HOST, &at_a, &listener);
        neighbour.namespace.converse_by(at(Neighbour::HOST), &listener);
        host.expect_address(at(Ipv4Addr::LOCALHOST), false);
        port::unpublish(TABLE, &[port]).unwrap();

        publish(Ipv4Addr::LOCALHOST, &at_a, &listener);
        host.converse_by(at(Ipv4Addr::LOCALHOST), &listener);
        neighbour.namespace.expect_address(at(Neighbour::HOST), false);
        // Nor by whoever sends packets to 127.0.0.1 to our hardware address.
        neighbour.namespace.ip("link set lo down");
        neighbour.namespace.ip("route add 127.0.0.1/32 via 192.0.2.1 dev uplink src 192.0.2.2");
        neighbour.namespace.run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/uplink/route_localnet", "1").unwrap();
        });
        neighbour.namespace.expect_address(at(Ipv4Addr::LOCALHOST), false);
    });
}

#[test]
fn a_container_does_not_reach_the_hosts_loopback() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        let (a, at_a) = container(&network(), 2);
        let listener = a.listen(at_a.address);
        publish(ANY, &at_a, &listener);
        let secret = Namespace::current().listen(Ipv4Addr::LOCALHOST);
        a.ip("addr del 127.0.0.1/8 dev lo");
        a.ip("route add 127.0.0.1/32 via 172.17.0.1 dev eth0");
        a.run(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap());
        a.expect(&secret, false);
        // It is the guard that holds it back.
        nft("flush chain ip cais guard");
        a.expect(&secret, true);
    });
}

#[test]
fn datagrams_find_their_way_and_back() {
    on_host(|| {
        let neighbour = Neighbour::new();
        net::ensure_bridge(&network(), TABLE).unwrap();
        let (a, at_a) = container(&network(), 2);
        let server = a.run(|| UdpSocket::bind((at_a.address, 53)).unwrap());
        let to = at_a.address.into();
        let port =
            Port { protocol: Protocol::Udp, address: ANY.into(), port: 8080, to, to_port: 53 };
        port::publish(TABLE, &network(), &at_a, &[port]).unwrap();
        let outside = exchange(&neighbour.namespace, &server, at(Neighbour::HOST));
        assert_eq!(outside, IpAddr::from(Neighbour::ADDRESS));
        let host = Namespace::current();
        let _ = exchange(&host, &server, at(Ipv4Addr::LOCALHOST));
    });
}

/// A client that never pauses: its conversation began when nobody was there, and goes on when
/// another container has the port.
#[test]
fn a_conversation_that_has_begun_goes_to_whoever_has_the_port_now() {
    on_host(|| {
        let neighbour = Neighbour::new().namespace;
        net::ensure_bridge(&network(), TABLE).unwrap();
        let client = neighbour.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7000)).unwrap());
        // Passes through to the same port elsewhere, and is nobody's business.
        let through = neighbour.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap());
        let (outer, _) = container(&network(), 9);
        let asking = outer.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7001)).unwrap());
        let mut word = [0; 4];
        outer.run(|| asking.send_to(b"ahoy", (Neighbour::ADDRESS, 8080))).unwrap();
        through.set_read_timeout(Some(DEADLINE)).unwrap();
        let (_, back) = through.recv_from(&mut word).unwrap();

        neighbour.run(|| client.send_to(b"ahoy", at(Neighbour::HOST))).unwrap();
        for (number, address) in [(2, ANY), (3, Neighbour::HOST), (4, ANY)] {
            let (a, at_a) = container(&network(), number);
            let server = a.run(|| UdpSocket::bind((at_a.address, 53)).unwrap());
            server.set_read_timeout(Some(DEADLINE)).unwrap();
            let (address, to) = (address.into(), at_a.address.into());
            let port = Port { protocol: Protocol::Udp, address, port: 8080, to, to_port: 53 };
            port::publish(TABLE, &network(), &at_a, &[port]).unwrap();
            neighbour.run(|| client.send_to(b"ahoy", at(Neighbour::HOST))).unwrap();
            let (_, from) = server.recv_from(&mut word).unwrap();
            assert_eq!(from.port(), 7000);
            port::unpublish(TABLE, &[port]).unwrap();
            // What is remembered would bring it to the container still.
            neighbour.run(|| client.send_to(b"late", at(Neighbour::HOST))).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(server.recv_from(&mut word).is_err(), "{number} is still asked");
        }
        asking.set_read_timeout(Some(DEADLINE)).unwrap();
        through.send_to(b"yoha", back).unwrap();
        assert_eq!(asking.recv_from(&mut word).unwrap().0, 4);
    });
}

#[test]
fn a_port_passes_to_whoever_has_reserved_it() {
    on_host(|| {
        let host = Namespace::current();
        net::ensure_bridge(&network(), TABLE).unwrap();
        let (a, at_a) = container(&network(), 2);
        let (b, at_b) = container(&network(), 3);
        let (old, new) = (a.listen(at_a.address), b.listen(at_b.address));
        publish(ANY, &at_a, &old);
        publish(ANY, &at_b, &new);
        host.converse_by(at(Ipv4Addr::LOCALHOST), &new);
        nft("flush ruleset");
        net::ensure_bridge(&network(), TABLE).unwrap();
        publish(ANY, &at_b, &new);
        host.converse_by(at(Ipv4Addr::LOCALHOST), &new);
    });
}

#[test]
fn a_reserved_port_is_nobody_elses() {
    on_host(|| {
        ip("addr add 192.0.2.1/32 dev lo");
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (held, free) = port::reserve(protocol, ANY.into(), 0).unwrap();
            assert!(free >= 1024);
            for address in [ANY, Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 1)] {
                let error = port::reserve(protocol, address.into(), free).unwrap_err();
                assert!(error.to_string().contains(&free.to_string()), "{error}");
                let net::Error::Io { source, .. } = error else { panic!("{error}") };
                assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
            }
            drop(held);
            // A child that another test has just forked holds a copy until it executes its program.
            let deadline = Instant::now() + DEADLINE;
            while let Err(error) = port::reserve(protocol, ANY.into(), free) {
                assert!(Instant::now() < deadline, "{error}");
                std::thread::yield_now();
            }
        }
        let listener = Namespace::current().listen(Ipv4Addr::LOCALHOST);
        assert!(port::reserve(Protocol::Tcp, ANY.into(), listener.port()).is_err());
    });
}

#[test]
fn the_rules_are_as_an_administrator_reads_them() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        let to = Ipv4Addr::new(172, 17, 0, 2);
        let ports = [published(ANY, 80, to, 8080), published(Ipv4Addr::LOCALHOST, 81, to, 82)];
        let (_a, at_a) = container(&network(), 2);
        port::publish(TABLE, &network(), &at_a, &ports).unwrap();
        let rules = nft("list table ip cais");
        for line in [
            "type inet_proto . inet_service : ipv4_addr . inet_service",
            "elements = { tcp . 80 : 172.17.0.2 . 8080 }",
            "elements = { tcp . 127.0.0.1 . 81 : 172.17.0.2 . 82 }",
            "iifname @bridges ip daddr 127.0.0.0/8 drop",
            "iifname @bridges ip saddr 127.0.0.0/8 drop",
            "fib daddr type local dnat ip to meta l4proto . ip daddr . th dport map @published",
            "fib daddr type local dnat ip to meta l4proto . th dport map @published-anywhere",
        ] {
            assert!(rules.contains(line), "{line} is not in\n{rules}");
        }
    });
}

/// Where the kernel has SCTP; where not, the error says that it lacks it.
#[test]
fn sctp_is_published_or_said_to_be_missing() {
    on_host(|| {
        let neighbour = Neighbour::new().namespace;
        net::ensure_bridge(&network(), TABLE).unwrap();
        let (a, at_a) = container(&network(), 2);
        let reserved = match port::reserve(Protocol::Sctp, ANY.into(), 8080) {
            Err(error) => {
                let message = error.to_string();
                assert_eq!(message, "publish a port of sctp, which this kernel lacks");
                let net::Error::Io { source, .. } = error else { panic!("{error}") };
                assert_eq!(source.kind(), std::io::ErrorKind::Unsupported);
                return;
            }
            Ok((socket, _)) => socket,
        };
        let socket = || {
            let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
            rustix::net::socket(family, kind, Some(ipproto::SCTP)).unwrap()
        };
        let server = a.run(|| {
            let server = socket();
            rustix::net::bind(&server, &SocketAddr::from((at_a.address, 7000))).unwrap();
            rustix::net::listen(&server, 1).unwrap();
            server
        });
        let (protocol, address, to) = (Protocol::Sctp, ANY.into(), at_a.address.into());
        let port = Port { protocol, address, port: 8080, to, to_port: 7000 };
        port::publish(TABLE, &network(), &at_a, &[port]).unwrap();
        let client = neighbour.run(socket);
        rustix::net::connect(&client, &at(Neighbour::HOST)).unwrap();
        let (_, peer) = rustix::net::acceptfrom(&server).unwrap();
        let peer = SocketAddr::try_from(peer.unwrap()).unwrap();
        assert_eq!(peer.ip(), Neighbour::ADDRESS);
        drop(reserved);
    });
}

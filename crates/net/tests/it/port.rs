//! Published ports, reached from everywhere.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use net::Endpoint;
use net::port::{self, Port, Protocol};

use super::host::{
    Listener, Namespace, Neighbour, TABLE, container, exchange, ip, network, nft, on_host,
    other_network,
};

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn published(address: Ipv4Addr, port: u16, to: Ipv4Addr, to_port: u16) -> Port {
    Port { protocol: Protocol::Tcp, address, port, to, to_port }
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
        assert!(!neighbour.namespace.reaches_address(at(Neighbour::HOST)));
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
        assert!(!host.reaches_address(at(Ipv4Addr::LOCALHOST)));
        port::unpublish(TABLE, &[port]).unwrap();

        publish(Ipv4Addr::LOCALHOST, &at_a, &listener);
        host.converse_by(at(Ipv4Addr::LOCALHOST), &listener);
        assert!(!neighbour.namespace.reaches_address(at(Neighbour::HOST)));
        // Nor by whoever sends packets to 127.0.0.1 to our hardware address.
        neighbour.namespace.ip("link set lo down");
        neighbour.namespace.ip("route add 127.0.0.1/32 via 192.0.2.1 dev uplink src 192.0.2.2");
        neighbour.namespace.run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/uplink/route_localnet", "1").unwrap();
        });
        assert!(!neighbour.namespace.reaches_address(at(Ipv4Addr::LOCALHOST)));
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
        assert!(!a.reaches(&secret));
        // It is the guard that holds it back.
        nft("flush chain ip cais guard");
        assert!(a.reaches(&secret));
    });
}

#[test]
fn datagrams_find_their_way_and_back() {
    on_host(|| {
        let neighbour = Neighbour::new();
        net::ensure_bridge(&network(), TABLE).unwrap();
        let (a, at_a) = container(&network(), 2);
        let server = a.run(|| UdpSocket::bind((at_a.address, 53)).unwrap());
        let to = at_a.address;
        let port = Port { protocol: Protocol::Udp, address: ANY, port: 8080, to, to_port: 53 };
        port::publish(TABLE, &network(), &at_a, &[port]).unwrap();
        let outside = exchange(&neighbour.namespace, &server, at(Neighbour::HOST));
        assert_eq!(outside, Some(Neighbour::ADDRESS.into()));
        let host = Namespace::current();
        assert!(exchange(&host, &server, at(Ipv4Addr::LOCALHOST)).is_some());
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
            let (held, free) = port::reserve(protocol, ANY, 0).unwrap();
            assert!(free >= 1024);
            for address in [ANY, Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 1)] {
                let error = port::reserve(protocol, address, free).unwrap_err();
                assert!(error.to_string().contains(&free.to_string()), "{error}");
                let net::Error::Io { source, .. } = error else { panic!("{error}") };
                assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
            }
            drop(held);
            port::reserve(protocol, ANY, free).unwrap();
        }
        let listener = Namespace::current().listen(Ipv4Addr::LOCALHOST);
        assert!(port::reserve(Protocol::Tcp, ANY, listener.port()).is_err());
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

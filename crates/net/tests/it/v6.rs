//! Networks that have IPv6, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use net::port::{self, Port, Protocol};
use net::{Error, Network, NetworkV6};

use super::host::{
    Namespace, Neighbour, TABLE, container, dual_network, exchange, ip, network, nft, on_host,
    other_network,
};

const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// A second network with IPv6.
fn other_dual() -> Network {
    let subnet = "fd00:18::/64".parse().unwrap();
    let gateway = "fd00:18::1".parse().unwrap();
    Network { v6: Some(NetworkV6 { subnet, gateway, range: None }), ..other_network() }
}

fn v6(endpoint: &net::Endpoint) -> Ipv6Addr {
    endpoint.v6.unwrap().address
}

#[test]
fn a_container_has_an_address_and_a_way_out_in_both_families() {
    on_host(|| {
        let neighbour = Neighbour::new();
        net::ensure_bridge(&dual_network(), TABLE).unwrap();
        let (a, at_a) = container(&dual_network(), 2);
        let (b, at_b) = container(&dual_network(), 3);
        let address = a.ip("-6 -o addr show eth0 scope global");
        assert!(address.contains("inet6 fd00:17::2/64"), "{address}");
        assert!(!address.contains("tentative"), "{address}");
        assert!(a.ip("-6 route show default").starts_with("default via fd00:17::1 dev eth0"));
        assert_eq!(a.converse(&b.listen(v6(&at_b))), IpAddr::from(v6(&at_a)));
        let host = Namespace::current();
        assert_eq!(host.converse(&a.listen(v6(&at_a))), "fd00:17::1".parse::<IpAddr>().unwrap());
        // The world sees the host's address.
        let world = neighbour.namespace.listen(Neighbour::ADDRESS_V6);
        assert_eq!(a.converse(&world), IpAddr::from(Neighbour::HOST_V6));
        let world = neighbour.namespace.listen(Neighbour::ADDRESS);
        assert_eq!(a.converse(&world), IpAddr::from(Neighbour::HOST));
    });
}

#[test]
fn nobody_outside_a_network_begins_a_conversation_with_it() {
    on_host(|| {
        let neighbour = Neighbour::new().namespace;
        net::ensure_bridge(&dual_network(), TABLE).unwrap();
        net::ensure_bridge(&other_dual(), TABLE).unwrap();
        let (target, at_target) = container(&dual_network(), 2);
        let (stranger, at_stranger) = container(&other_dual(), 2);
        let listener = target.listen(v6(&at_target));
        neighbour.expect(&listener, false);
        stranger.expect(&listener, false);
        // Only the rules stand between them.
        net::remove_table(TABLE).unwrap();
        assert_eq!(neighbour.converse(&listener), IpAddr::from(Neighbour::ADDRESS_V6));
        assert_eq!(stranger.converse(&listener), IpAddr::from(v6(&at_stranger)));
    });
}

#[test]
fn nothing_leads_out_of_an_internal_network() {
    on_host(|| {
        let neighbour = Neighbour::new();
        let internal = Network { internal: true, ..dual_network() };
        net::ensure_bridge(&internal, TABLE).unwrap();
        let (a, _) = container(&internal, 2);
        assert_eq!(a.ip("-6 route show default"), "");
        a.ip("-6 route add default via fd00:17::1");
        a.expect(&neighbour.namespace.listen(Neighbour::ADDRESS_V6), false);
        net::remove_bridge(&internal, TABLE).unwrap();
        for set in ["bridges", "internal", "subnets"] {
            assert!(!nft(&format!("list set ip6 cais {set}")).contains("elements"), "{set}");
        }
    });
}

#[test]
fn a_port_is_reached_by_every_address_of_the_host() {
    on_host(|| {
        let host = Namespace::current();
        let neighbour = Neighbour::new();
        net::ensure_bridge(&dual_network(), TABLE).unwrap();
        net::ensure_bridge(&other_dual(), TABLE).unwrap();
        let (a, at_a) = container(&dual_network(), 2);
        let (same, _) = container(&dual_network(), 3);
        let (other, _) = container(&other_dual(), 2);
        let listener = a.listen(v6(&at_a));
        let to = v6(&at_a).into();
        let port = Port {
            protocol: Protocol::Tcp,
            address: ANY,
            port: 8080,
            to,
            to_port: listener.port(),
        };
        port::publish(TABLE, &dual_network(), &at_a, &[port]).unwrap();
        let at = |address: Ipv6Addr| SocketAddr::from((address, 8080));
        let seen = neighbour.namespace.converse_by(at(Neighbour::HOST_V6), &listener);
        assert_eq!(seen, IpAddr::from(Neighbour::ADDRESS_V6));
        for inside in [&host, &a, &same, &other] {
            inside.converse_by(at(Neighbour::HOST_V6), &listener);
        }
        port::unpublish(TABLE, &[port]).unwrap();
        neighbour.namespace.expect_address(at(Neighbour::HOST_V6), false);

        // One address is not another.
        ip("addr add 2001:db8::9/128 dev far nodad");
        let port = Port { address: Neighbour::HOST_V6.into(), ..port };
        port::publish(TABLE, &dual_network(), &at_a, &[port]).unwrap();
        neighbour.namespace.converse_by(at(Neighbour::HOST_V6), &listener);
        neighbour.namespace.expect_address(at("2001:db8::9".parse().unwrap()), false);
        let rules = nft("list table ip6 cais");
        let port = listener.port();
        for line in [
            "type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service",
            &format!("elements = {{ tcp . 2001:db8::1 . 8080 : fd00:17::2 . {port} }}"),
            "dnat ip6 to meta l4proto . ip6 daddr . th dport map @published",
            "oifname @bridges ip6 saddr ::1 masquerade",
            "ip6 saddr @subnets masquerade",
        ] {
            assert!(rules.contains(line), "{line} is not in\n{rules}");
        }
    });
}

#[test]
fn both_families_of_a_port_are_published_at_once() {
    on_host(|| {
        let neighbour = Neighbour::new();
        net::ensure_bridge(&dual_network(), TABLE).unwrap();
        let (a, at_a) = container(&dual_network(), 2);
        let server = a.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).unwrap());
        let one = |address: IpAddr, to: IpAddr| Port {
            protocol: Protocol::Udp,
            address,
            port: 5353,
            to,
            to_port: 53,
        };
        let ports =
            [one(Ipv4Addr::UNSPECIFIED.into(), at_a.address.into()), one(ANY, v6(&at_a).into())];
        port::publish(TABLE, &dual_network(), &at_a, &ports).unwrap();
        let at = |address: IpAddr| SocketAddr::from((address, 5353));
        let client = &neighbour.namespace;
        let _ = exchange(client, &server, at(Neighbour::HOST.into()));
        let seen = exchange(client, &server, at(Neighbour::HOST_V6.into()));
        assert_eq!(seen, IpAddr::from(Neighbour::ADDRESS_V6));
    });
}

#[test]
fn a_port_of_one_family_is_not_that_of_the_other() {
    on_host(|| {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (_v6, free) = port::reserve(protocol, ANY, 0).unwrap();
            let any = Ipv4Addr::UNSPECIFIED.into();
            let (_v4, same) = port::reserve(protocol, any, free).unwrap();
            assert_eq!(same, free);
            assert!(port::reserve(protocol, Ipv6Addr::LOCALHOST.into(), free).is_err());
        }
    });
}

/// The host keeps what it learns from routers, though it is one now; a container's word counts for
/// nothing.
#[test]
fn routers_are_still_listened_to_and_containers_are_not() {
    on_host(|| {
        let _neighbour = Neighbour::new();
        let read = |path: &str| {
            std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{path}")).unwrap()
        };
        assert_eq!(read("far/accept_ra"), "1\n");
        net::ensure_bridge(&network(), TABLE).unwrap();
        assert_eq!(
            (read("cais0/disable_ipv6"), read("all/forwarding")),
            ("1\n".into(), "0\n".into())
        );
        net::ensure_bridge(&dual_network(), TABLE).unwrap();
        assert_eq!(read("all/forwarding"), "1\n");
        assert_eq!(read("far/accept_ra"), "2\n");
        assert_eq!(read("cais0/accept_ra"), "0\n");
        let (a, _) = container(&dual_network(), 2);
        assert_eq!(a.run(|| read("eth0/accept_ra")), "0\n");
    });
}

#[test]
fn the_subnets_of_ipv6_are_in_use() {
    on_host(|| {
        net::ensure_bridge(&dual_network(), TABLE).unwrap();
        ip("-6 route add fd00:99::/48 via fd00:17::2");
        ip("-6 route add default via fd00:17::3");
        let used: Vec<String> = net::in_use_v6().unwrap().iter().map(ToString::to_string).collect();
        for subnet in ["fd00:17::/64", "fd00:99::/48"] {
            assert!(used.iter().any(|used| used == subnet), "{subnet}: {used:?}");
        }
        assert!(!used.contains(&String::from("::/0")), "{used:?}");
    });
}

#[test]
fn a_network_that_ipv6_could_not_work_on_is_refused() {
    let check = |change: fn(&mut Network), why: &str| {
        let mut network = dual_network();
        change(&mut network);
        let error = network.validate().unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert_eq!(error.to_string(), format!("network `bridge`: {why}"));
    };
    check(|n| n.mtu = Some(1000), "mtu 1000 is too small for IPv6, which needs 1280");
    check(
        |n| n.v6.as_mut().unwrap().gateway = "fd00:17::".parse().unwrap(),
        "fd00:17:: is no host of fd00:17::/64",
    );
    check(
        |n| n.v6.as_mut().unwrap().range = Some("fd00::/8".parse().unwrap()),
        "range fd00::/8 is not within subnet fd00:17::/64",
    );
    check(
        |n| n.v6.as_mut().unwrap().subnet = "fd00:17::/127".parse().unwrap(),
        "subnet fd00:17::/127 has no room for a host",
    );
    check(
        |n| n.reserved = [("r".to_owned(), "fd00:18::1".parse().unwrap())].into(),
        "auxiliary address r=fd00:18::1 is in no subnet of it",
    );
}

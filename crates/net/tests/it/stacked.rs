//! Networks without a bridge.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use net::{Endpoint, Error, IpvlanFlag, IpvlanMode, MacvlanMode, Network, Stacked, StackedKind};

use super::host::{Namespace, Neighbour, TABLE, container, endpoint, ip, network, nft, on_host};

const MACVLAN: StackedKind = StackedKind::Macvlan(MacvlanMode::Bridge);

/// A network on the host's way to its [`Neighbour`].
fn on_the_wire(kind: StackedKind) -> Network {
    Network {
        name: String::from("wire"),
        bridge: String::from("far"),
        subnet: "192.0.2.0/24".parse().unwrap(),
        gateway: Neighbour::ADDRESS,
        stacked: Some(Stacked { kind, owns_parent: false }),
        ..network()
    }
}

/// One that leads nowhere.
fn apart() -> Network {
    Network {
        name: String::from("apart"),
        bridge: String::from("dm-0123456789ab"),
        internal: true,
        stacked: Some(Stacked { kind: MACVLAN, owns_parent: true }),
        ..network()
    }
}

#[test]
fn a_container_is_a_neighbour_of_the_hosts_neighbours() {
    on_host(|| {
        let neighbour = Neighbour::new().namespace;
        let network = on_the_wire(MACVLAN);
        net::ensure_bridge(&network, TABLE).unwrap();
        let (a, at_a) = container(&network, 7);
        let (b, at_b) = container(&network, 8);
        assert_eq!(neighbour.converse(&a.listen(at_a.address)), IpAddr::from(Neighbour::ADDRESS));
        let listener = neighbour.listen(Neighbour::ADDRESS);
        assert_eq!(a.converse(&listener), IpAddr::from(at_a.address));
        assert_eq!(a.converse(&b.listen(at_b.address)), IpAddr::from(at_a.address));
        let link = a.ip("-d link show eth0");
        for expected in ["macvlan mode bridge", "02:42:c0:00:02:07"] {
            assert!(link.contains(expected), "{expected}: {link}");
        }
        assert!(a.ip("route show default").starts_with("default via 192.0.2.2 dev eth0"));
        // The kernel keeps the host itself out, and no rule is made.
        Namespace::current().expect(&a.listen(at_a.address), false);
        assert_eq!(nft("list ruleset"), "");
        net::remove_bridge(&network, TABLE).unwrap();
        assert!(ip("-o link").contains("far"));
        net::detach_inside(a.as_fd(), &at_a).unwrap();
        net::detach_inside(a.as_fd(), &at_a).unwrap();
        assert!(!a.ip("-o link").contains("eth0"));
    });
}

#[test]
fn modes_are_the_kernels() {
    on_host(|| {
        let _neighbour = Neighbour::new();
        for (mode, name) in [
            (MacvlanMode::Private, "private"),
            (MacvlanMode::Vepa, "vepa"),
            (MacvlanMode::Bridge, "bridge"),
        ] {
            let network = on_the_wire(StackedKind::Macvlan(mode));
            let (a, _) = container(&network, 7);
            let link = a.ip("-d link show eth0");
            assert!(link.contains(&format!("macvlan mode {name}")), "{link}");
        }
    });
}

/// With the same hardware address, while the kernel is still taking down the former namespace.
#[test]
fn a_restarted_container_takes_its_place_again() {
    on_host(|| {
        let neighbour = Neighbour::new().namespace;
        let network = on_the_wire(MACVLAN);
        for _ in 0..3 {
            let (a, at_a) = container(&network, 7);
            neighbour.converse(&a.listen(at_a.address));
            a.converse(&neighbour.listen(Neighbour::ADDRESS));
        }
    });
}

#[test]
fn a_network_without_a_parent_leads_nowhere_but_to_itself() {
    on_host(|| {
        for _ in 0..2 {
            net::ensure_bridge(&apart(), TABLE).unwrap();
        }
        let (a, at_a) = container(&apart(), 7);
        let (b, _) = container(&apart(), 8);
        assert_eq!(a.ip("route show default"), "");
        b.converse(&a.listen(at_a.address));
        for _ in 0..2 {
            net::remove_bridge(&apart(), TABLE).unwrap();
        }
        assert_eq!(ip("-o link").lines().count(), 1);
    });
}

#[test]
fn a_parent_that_is_not_there_or_down_is_named() {
    on_host(|| {
        let check = |why: &str| {
            let error = net::ensure_bridge(&on_the_wire(MACVLAN), TABLE).unwrap_err();
            assert!(matches!(error, Error::Missing(_)), "{error:?}");
            assert_eq!(
                error.to_string(),
                format!("parent interface `far` of network `wire` {why}")
            );
        };
        check("does not exist on this host");
        ip("link add far type bridge");
        check("is down");
        ip("link add dm-0123456789ab type bridge");
        let error = net::ensure_bridge(&apart(), TABLE).unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    });
}

/// Where the kernel has it; where not, the error says which module is missing.
#[test]
fn ipvlan_is_there_or_said_to_be_missing() {
    on_host(|| {
        let neighbour = Neighbour::new().namespace;
        for (mode, name) in
            [(IpvlanMode::L2, "l2"), (IpvlanMode::L3, "l3"), (IpvlanMode::L3s, "l3s")]
        {
            let network = on_the_wire(StackedKind::Ipvlan(mode, IpvlanFlag::Bridge));
            let at: Endpoint = endpoint(&network, 7);
            assert_eq!(at.gateway == Ipv4Addr::UNSPECIFIED, mode != IpvlanMode::L2);
            let container = Namespace::new();
            match net::attach(&network, container.as_fd(), &at) {
                Err(error) => {
                    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
                    assert!(error.hint().unwrap().contains("ipvlan"), "{error:?}");
                    assert!(error.to_string().contains("create ipvlan interface"), "{error}");
                }
                Ok(()) => {
                    let link = container.ip("-d link show eth0");
                    let words: Vec<&str> = link.split_whitespace().collect();
                    assert!(words.join(" ").contains(&format!("ipvlan mode {name}")), "{link}");
                    if mode == IpvlanMode::L2 {
                        neighbour.converse(&container.listen(at.address));
                    }
                }
            }
        }
    });
}

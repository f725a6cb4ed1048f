//! The host's end: bridge, forwarding, subnets in use.

use std::fs;
use std::sync::Barrier;
use std::thread;

use net::{Error, Network, ipam};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::host::{
    Namespace, TABLE, container, ip, ip_batch, make_settings_read_only, network, nft, on_host,
    other_network,
};

#[test]
fn a_bridge_has_the_gateways_address_and_no_ipv6() {
    on_host(|| {
        // A new namespace starts as the machine's first one is.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        net::ensure_bridge(&other_network(), TABLE).unwrap();
        let address = ip("-o addr show cais1");
        assert!(address.contains("inet 172.18.0.1/16 brd 172.18.255.255"), "{address}");
        let link = ip("-d link show cais1");
        for expected in ["02:42:ac:12:00:01", "bridge forward_delay", "mtu 1400", ",UP"] {
            assert!(link.contains(expected), "{expected}: {link}");
        }
        assert_eq!(setting("ipv4/ip_forward"), "1\n");
        // An address would come only with the first container.
        assert_eq!(setting("ipv6/conf/cais1/disable_ipv6"), "1\n");
    });
}

/// As inside a container that was given the right to make networks, but not settings.
#[test]
fn settings_that_are_right_may_be_read_only() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        make_settings_read_only();
        net::ensure_bridge(&network(), TABLE).unwrap();
    });
    on_host(|| {
        make_settings_read_only();
        let error = net::ensure_bridge(&network(), TABLE).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        let path = "/proc/sys/net/ipv6/conf/cais0/disable_ipv6";
        assert_eq!(error.to_string(), format!("write `1` to `{path}`"));
    });
}

#[test]
fn the_bridge_keeps_its_hardware_address_when_containers_come() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        let _container = container(&network(), 2);
        assert!(ip("link show cais0").contains("02:42:ac:11:00:01"));
    });
}

fn setting(path: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap()
}

/// Many hosts, since it is by chance that two processes meet between a look and an act.
#[test]
fn many_may_ensure_the_same_bridge_at_once() {
    const AT_ONCE: usize = 4;
    for _ in 0..20 {
        on_host(|| {
            let host = Namespace::current();
            let start = Barrier::new(AT_ONCE);
            let ensure = || {
                start.wait();
                net::ensure_bridge(&network(), TABLE)
            };
            thread::scope(|scope| {
                let all: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| host.run(ensure))).collect();
                for one in all {
                    one.join().unwrap().unwrap();
                }
            });
            assert_eq!(ip("-o addr show cais0").lines().count(), 1);
            assert_eq!(nft("list ruleset").matches("@subnets masquerade").count(), 2);
        });
    }
}

#[test]
fn an_interrupted_beginning_is_completed() {
    on_host(|| {
        ip("link add cais0 address 02:42:ac:11:00:01 type bridge");
        net::ensure_bridge(&network(), TABLE).unwrap();
        assert!(ip("-o addr show cais0").contains("172.17.0.1/16"));
        assert!(ip("-o link show cais0").contains(",UP"));
        assert!(nft("list ruleset").contains("masquerade"));
    });
}

#[test]
fn an_interface_that_is_not_ours_is_left_alone() {
    on_host(|| {
        net::ensure_bridge(&other_network(), TABLE).unwrap();
        ip("link add cais0 type veth peer name far");
        let foreign = Network { bridge: String::from("cais1"), ..network() };
        for network in [network(), foreign] {
            for result in [net::ensure_bridge(&network, TABLE), net::remove_bridge(&network, TABLE)]
            {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::Conflict(_)), "{error:?}");
                assert!(error.to_string().contains(&network.bridge), "{error}");
            }
        }
        assert!(ip("-o link").contains("cais0"));
        assert!(!ip("-o addr").contains("172.17.0.1"));
    });
}

#[test]
fn a_removed_network_leaves_nothing_and_may_be_removed_again() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        for _ in 0..2 {
            net::remove_bridge(&network(), TABLE).unwrap();
            net::remove_table(TABLE).unwrap();
        }
        assert_eq!(nft("list ruleset"), "");
        assert_eq!(ip("-o link").lines().count(), 1);
    });
}

#[test]
fn without_the_privilege_the_error_names_it() {
    on_host(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets).unwrap();
        for result in [net::ensure_bridge(&network(), TABLE), net::remove_table(TABLE)] {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Denied { needs: "CAP_NET_ADMIN", .. }), "{error:?}");
        }
    });
}

#[test]
fn names_and_numbers_the_kernel_would_refuse_are_refused_first() {
    let with = |change: fn(&mut Network)| {
        let mut network = network();
        change(&mut network);
        network
    };
    for network in [
        with(|n| n.bridge = String::from("a-name-of-16-byte")),
        with(|n| n.bridge = String::new()),
        with(|n| n.bridge = String::from("../cais0")),
        with(|n| n.bridge = String::from("cais%d")),
        with(|n| n.gateway = "172.18.0.1".parse().unwrap()),
        with(|n| n.gateway = "172.17.0.0".parse().unwrap()),
        with(|n| n.gateway = "172.17.255.255".parse().unwrap()),
        with(|n| n.subnet = "172.17.0.0/31".parse().unwrap()),
        with(|n| n.mtu = Some(67)),
    ] {
        let error = net::ensure_bridge(&network, TABLE).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{network:?}: {error:?}");
    }
    on_host(|| {
        for table in ["", "7up", "a b", "a/b"] {
            let error = net::ensure_bridge(&network(), table).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{table}: {error:?}");
        }
    });
}

#[test]
fn the_subnets_of_addresses_and_routes_are_in_use() {
    on_host(|| {
        assert_eq!(ipam::choose_subnet(&net::in_use().unwrap()).unwrap(), network().subnet);
        net::ensure_bridge(&network(), TABLE).unwrap();
        let in_use = net::in_use().unwrap();
        assert!(in_use.contains(&network().subnet), "{in_use:?}");
        ip("route add 172.18.4.0/24 dev cais0");
        ip("route add 172.19.0.0/16 dev cais0 table 7");
        ip("route add default via 172.17.0.2");
        ip("addr add 10.1.2.3/0 dev lo");
        let chosen = ipam::choose_subnet(&net::in_use().unwrap()).unwrap();
        assert_eq!(chosen, "172.20.0.0/16".parse().unwrap());
    });
}

#[test]
fn a_listing_longer_than_one_datagram_is_read_to_its_end() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        let before = net::in_use().unwrap().len();
        let route = |n: u32| format!("route add 10.{}.{}.0/24 dev cais0\n", n / 256, n % 256);
        ip_batch(&(0..1024).map(route).collect::<String>());
        assert_eq!(net::in_use().unwrap().len(), before + 1024);
    });
}

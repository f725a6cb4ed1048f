//! Very many networks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use net::{Error, Network, Subnet, ipam};

use super::host::{
    Namespace, TABLE, container, dual_network, endpoint, ip, ip_batch, network, nft, on_host,
};

/// To delete a bridge takes the kernel twenty milliseconds, which no test waits for a thousand times.
const MANY: usize = 60;

fn numbered(n: usize, subnet: Subnet) -> Network {
    Network {
        name: format!("n{n}"),
        bridge: format!("br{n}"),
        subnet,
        gateway: Ipv4Addr::from_bits(subnet.address().to_bits() + 1),
        ..network()
    }
}

/// Each has addresses of its own, clear of the host's routes, and all of them go at once.
#[test]
fn many_networks_come_and_go() {
    on_host(|| {
        net::ensure_bridge(&dual_network(), TABLE).unwrap();
        ip("route add 172.20.0.0/14 dev cais0");
        ip("route add 10.130.0.0/16 dev cais0");
        let mut in_use = net::in_use().unwrap();
        let mut networks = Vec::new();
        // As if most of a thousand were there.
        let mut others = in_use.clone();
        for _ in 0..940 {
            others.push(ipam::choose_subnet(&others).unwrap());
        }
        in_use.clone_from(&others);
        for n in 0..MANY {
            let subnet = ipam::choose_subnet(&in_use).unwrap();
            in_use.push(subnet);
            networks.push(numbered(n, subnet));
            net::ensure_bridge(&networks[n], TABLE).unwrap();
        }
        let distinct: BTreeSet<Subnet> = networks.iter().map(|network| network.subnet).collect();
        assert_eq!(distinct.len(), MANY);
        for route in ["172.20.0.0/14", "10.130.0.0/16"] {
            let route: Subnet = route.parse().unwrap();
            assert!(!distinct.iter().any(|subnet| subnet.overlaps(route)), "{route}");
        }
        assert_eq!(nft("list set ip cais bridges").matches("br").count() - 1, MANY);

        let last = &networks[MANY - 1];
        let (a, at_a) = container(last, 2);
        let (b, _) = container(last, 3);
        let (stranger, _) = container(&networks[0], 2);
        let listener = a.listen(at_a.address);
        b.converse(&listener);
        stranger.expect(&listener, false);

        net::remove_bridges(&networks, TABLE).unwrap();
        net::remove_bridges(&networks[..20], TABLE).unwrap();
        let left = ip("-br link show type bridge");
        assert!(left.starts_with("cais0 ") && left.lines().count() == 1, "{left}");
        assert_eq!(nft("list set ip cais bridges").matches("br0").count(), 0);
        assert!(nft("list ruleset").contains("cais0"));
        let (c, at_c) = container(&dual_network(), 2);
        Namespace::current().converse(&c.listen(at_c.address));
    });
}

/// A route that comes later takes its subnet from networks to come.
#[test]
fn a_route_that_is_added_later_is_stayed_clear_of() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        let choose = || ipam::choose_subnet(&net::in_use().unwrap()).unwrap().to_string();
        assert_eq!(choose(), "172.18.0.0/16");
        ip("route add 172.18.9.0/24 dev cais0");
        assert_eq!(choose(), "172.19.0.0/16");
        ip("route add unreachable 172.19.0.0/16");
        ip("addr add 172.20.1.1/32 dev lo");
        assert_eq!(choose(), "172.21.0.0/16");
        ip("route del 172.18.9.0/24");
        assert_eq!(choose(), "172.18.0.0/16");
    });
}

#[test]
fn what_is_removed_at_once_is_ours_or_nothing_is() {
    on_host(|| {
        let own = numbered(1, "10.1.0.0/24".parse().unwrap());
        net::ensure_bridge(&own, TABLE).unwrap();
        ip("link add br2 type bridge");
        let foreign = numbered(2, "10.2.0.0/24".parse().unwrap());
        let error = net::remove_bridges(&[own.clone(), foreign], TABLE).unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
        assert_eq!(ip("-br link show type bridge").lines().count(), 2);
        // Rules that somebody has removed are not in the way of the others.
        let dual = Network { name: "d".into(), bridge: "br3".into(), ..dual_network() };
        net::ensure_bridge(&dual, TABLE).unwrap();
        nft("delete table ip6 cais");
        net::remove_bridges(&[own, dual], TABLE).unwrap();
        assert_eq!(ip("-br link show type bridge").lines().count(), 1);
        assert!(!nft("list ruleset").contains("br3"));
    });
}

/// The kernel's limit is said in words, and nothing is left of the container that was too many.
#[test]
fn a_bridge_that_is_full_says_so() {
    on_host(|| {
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let pair = |n| {
            format!(
                "link add a{n} master cais0 type veth peer name b{n}\nlink set b{n} master cais0\n"
            )
        };
        let pairs: String = (0..511).map(pair).collect();
        ip_batch(&pairs);
        let (a, at_a) = container(&network, 2);
        let b = Namespace::new();
        let at_b = endpoint(&network, 3);
        let error = net::attach(&network, b.as_fd(), &at_b).unwrap_err();
        assert!(matches!(&error, Error::Exhausted(why) if why.contains("1023 ports")), "{error:?}");
        assert!(!ip("-br link").contains(&at_b.host_interface));
        ip("link del a0");
        net::attach(&network, b.as_fd(), &at_b).unwrap();
        b.converse(&a.listen(at_a.address));
    });
}

/// Roots are told apart by what their bridges and tables carry.
#[test]
fn what_belongs_to_a_root_is_found_and_removed() {
    on_host(|| {
        let owner = |table, root| net::Owner { table, root };
        let (a, b) = (numbered(1, "10.1.0.0/24".parse().unwrap()), dual_network());
        let c = numbered(3, "10.3.0.0/24".parse().unwrap());
        net::ensure_bridge(&a, owner("cais-a", "/a")).unwrap();
        net::ensure_bridge(&c, owner("cais-a", "/a")).unwrap();
        net::ensure_bridge(&b, owner("cais-b", "/with space")).unwrap();
        let nobody = numbered(4, "10.4.0.0/24".parse().unwrap());
        net::ensure_bridge(&nobody, TABLE).unwrap();
        assert!(nft("list tables").contains("cais-a"));
        assert!(nft("list table ip cais-a").contains("comment \"cais root /a\""));
        assert!(ip("link show br1").contains("alias cais root /a"));

        let (_container, _) = container(&a, 2);
        let all = net::belongings().unwrap();
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["/a", "/with space"]);
        assert_eq!(all["/a"].busy, names(&["br1"]));
        assert_eq!(all["/a"].idle, names(&["br3"]));
        assert_eq!(all["/a"].tables, names(&["cais-a"]));
        assert_eq!(all["/with space"].tables, names(&["cais-b"]));

        for own in all.values() {
            net::remove_belongings(own).unwrap();
        }
        let left = net::belongings().unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["/a"]);
        assert_eq!(left["/a"].busy, names(&["br1"]));
        assert_eq!(left["/a"].tables, names(&["cais-a"]));
        assert!(!nft("list ruleset").contains("cais-b"));
        assert!(ip("-br link").contains("br4"));
    });
}

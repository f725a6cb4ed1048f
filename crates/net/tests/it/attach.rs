//! Containers' ends.

use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use net::{Endpoint, Error};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::host::{
    Namespace, TABLE, container, dual_network, endpoint, ip, network, nft, on_host, other_network,
};

#[test]
fn containers_of_a_network_converse() {
    on_host(|| {
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (a, at_a) = container(&network, 2);
        let (b, at_b) = container(&network, 3);
        assert_eq!(a.converse(&b.listen(at_b.address)), at_a.address);
        assert_eq!(b.converse(&a.listen(at_a.address)), at_b.address);
        let host = Namespace::current();
        assert_eq!(host.converse(&a.listen(at_a.address)), network.gateway);
        assert_eq!(a.converse(&host.listen(network.gateway)), at_a.address);
    });
}

#[test]
fn a_container_finds_what_docker_would_give_it() {
    on_host(|| {
        let network = other_network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (container, _) = container(&network, 7);
        let link = container.ip("-o link show eth0");
        for expected in ["mtu 1400", "state UP", "02:42:ac:12:00:07"] {
            assert!(link.contains(expected), "{expected}: {link}");
        }
        assert!(container.ip("-o link show lo").contains("LOOPBACK,UP"));
        let address = container.ip("-o addr show eth0");
        assert!(address.contains("inet 172.18.0.7/16 brd 172.18.255.255"), "{address}");
        assert!(!address.contains("inet6"), "{address}");
        let routes = container.ip("route");
        assert_eq!(
            routes.split_whitespace().collect::<Vec<_>>().join(" "),
            "default via 172.18.0.1 dev eth0 \
             172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.7"
        );
    });
}

#[test]
fn a_container_may_have_link_local_addresses_too() {
    on_host(|| {
        let network = dual_network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let with = |number, link_local: &[&str]| {
            let namespace = Namespace::new();
            let link_local = link_local.iter().map(|text| text.parse().unwrap()).collect();
            let endpoint = Endpoint { link_local, ..endpoint(&network, number) };
            net::attach(&network, namespace.as_fd(), &endpoint).unwrap();
            namespace
        };
        let a = with(2, &["169.254.3.4", "fe80::5"]);
        let b = with(3, &["169.254.200.1"]);
        let addresses = a.ip("-o addr show eth0");
        for expected in ["inet 172.17.0.2/16", "inet 169.254.3.4/16", "inet6 fe80::5/64"] {
            assert!(addresses.contains(expected), "{expected}: {addresses}");
        }
        let to: std::net::Ipv4Addr = "169.254.3.4".parse().unwrap();
        assert_eq!(b.converse(&a.listen(to)).to_string(), "169.254.200.1");
    });
}

#[test]
fn the_hosts_end_is_a_port_of_the_bridge() {
    on_host(|| {
        let network = other_network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (_container, endpoint) = container(&network, 2);
        let link = ip(&format!("-o link show {}", endpoint.host_interface));
        for expected in ["master cais1", "mtu 1400", ",UP,"] {
            assert!(link.contains(expected), "{expected}: {link}");
        }
    });
}

#[test]
fn without_a_network_a_container_talks_to_itself() {
    let container = Namespace::new();
    let listener = container.listen(Ipv4Addr::UNSPECIFIED);
    container.expect(&listener, false);
    net::loopback_up(container.as_fd()).unwrap();
    assert_eq!(container.converse(&listener), Ipv4Addr::LOCALHOST);
    net::loopback_up(container.as_fd()).unwrap();
    assert_eq!(container.ip("-o link").lines().count(), 1);
}

#[test]
fn a_visit_to_a_container_ends_at_home() {
    on_host(|| {
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (_container, _) = container(&network, 2);
        net::loopback_up(Namespace::new().as_fd()).unwrap();
        assert!(ip("-o link").contains("cais0"));
    });
}

#[test]
fn a_restarted_container_takes_its_place_again() {
    on_host(|| {
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (_former, at_former) = container(&network, 2);
        let (latter, at_latter) = container(&network, 2);
        assert_eq!(at_former, at_latter);
        let (other, at_other) = container(&network, 3);
        assert_eq!(other.converse(&latter.listen(at_latter.address)), at_other.address);
    });
}

#[test]
fn an_interface_of_that_name_in_the_container_is_an_error() {
    on_host(|| {
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (container, _) = container(&network, 2);
        let second = endpoint(&network, 3);
        let error = net::attach(&network, container.as_fd(), &second).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EXIST));
        assert_eq!(error.to_string(), format!("create veth `{}`", second.host_interface));
    });
}

#[test]
fn detaching_removes_both_ends_and_may_be_repeated() {
    on_host(|| {
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (container, endpoint) = container(&network, 2);
        net::detach(&endpoint).unwrap();
        assert!(!ip("-o link").contains("veth"));
        assert!(!container.ip("-o link").contains("eth0"));
        net::detach(&endpoint).unwrap();
    });
}

#[test]
fn a_network_without_a_bridge_is_an_error() {
    on_host(|| {
        let container = Namespace::new();
        let error = net::attach(&network(), container.as_fd(), &endpoint(&network(), 2));
        let error = error.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NODEV));
        assert_eq!(error.to_string(), "find interface `cais0`");
    });
}

#[test]
fn the_kernels_own_explanation_is_part_of_the_error() {
    on_host(|| {
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let container = Namespace::new();
        let endpoint = Endpoint { gateway: Ipv4Addr::new(10, 9, 9, 9), ..endpoint(&network, 2) };
        let error = net::attach(&network, container.as_fd(), &endpoint).unwrap_err();
        let Error::Kernel { doing, source } = error else { panic!("{error:?}") };
        assert_eq!(doing, "add route default via 10.9.9.9");
        assert_eq!(source.errno, Errno::NETUNREACH);
        assert_eq!(source.message.as_deref(), Some("Nexthop has invalid gateway"));
    });
}

#[test]
fn a_missing_capability_is_named() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        let container = Namespace::new();
        let attach = || net::attach(&network(), container.as_fd(), &endpoint(&network(), 2));
        // Capabilities are the thread's, and the thread ends with the test.
        for (missing, name) in [
            (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
            (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        ] {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(missing);
            set_capabilities(None, sets).unwrap();
            let error = attach().unwrap_err();
            assert!(matches!(error, Error::Denied { needs, .. } if needs == name), "{error:?}");
            assert!(error.to_string().ends_with(name), "{error}");
            assert!(error.hint().is_some());
            sets.effective.insert(missing);
            set_capabilities(None, sets).unwrap();
            net::detach(&endpoint(&network(), 2)).unwrap();
        }
    });
}

/// The namespace belongs to the container's own user namespace, in which the host's root has every
/// capability, but owns nothing.
#[test]
fn a_container_with_its_own_users_is_attached_as_any_other() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        let host = Namespace::current();
        let holder = ["--user", "--map-root-user", "--net", "sh", "-c", "echo ready; cat"];
        let mut holder = Command::new("unshare")
            .args(holder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        holder.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let container = Namespace::of(holder.id());
        // The end of its input is the end of the holder.
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
        let at = endpoint(&network(), 2);
        net::attach(&network(), container.as_fd(), &at).unwrap();
        assert_eq!(host.converse(&container.listen(at.address)), network().gateway);
        assert!(!container.ip("-o addr show eth0").contains("inet6"));
    });
}

/// Between the two the way breaks, and heals: neither has to be told anything.
#[test]
fn after_a_partition_containers_find_each_other_again() {
    on_host(|| {
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (a, at_a) = container(&network, 2);
        let (b, at_b) = container(&network, 3);
        let listener = b.listen(at_b.address);
        a.converse(&listener);
        ip(&format!("link set {} down", at_b.host_interface));
        a.expect(&listener, false);
        assert_eq!(a.converse(&a.listen(at_a.address)), at_a.address);
        ip(&format!("link set {} up", at_b.host_interface));
        a.converse(&listener);
        // Another bridge of the same network, as after somebody has deleted ours.
        ip("link del cais0");
        net::ensure_bridge(&network, TABLE).unwrap();
        for at in [&at_a, &at_b] {
            ip(&format!("link set {} master cais0", at.host_interface));
        }
        a.converse(&listener);
        assert_eq!(Namespace::current().converse(&listener), network.gateway);
    });
}

/// A third of all packets is lost on the way to a published port and back.
#[test]
fn a_lossy_way_loses_nothing_of_a_connection() {
    on_host(|| {
        let neighbour = super::host::Neighbour::new().namespace;
        let network = network();
        net::ensure_bridge(&network, TABLE).unwrap();
        let (a, at_a) = container(&network, 2);
        let listener = a.listen(at_a.address);
        let port = net::port::Port {
            protocol: net::port::Protocol::Tcp,
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 8080,
            to: at_a.address.into(),
            to_port: listener.port(),
        };
        net::port::publish(TABLE, &network, &at_a, &[port]).unwrap();
        nft("add table ip loss");
        nft("add chain ip loss way { type filter hook forward priority 10; }");
        nft("add rule ip loss way numgen random mod 3 0 counter drop");
        let at = (super::host::Neighbour::HOST, 8080).into();
        for _ in 0..4 {
            neighbour.converse_by(at, &listener);
        }
        let counted = nft("list chain ip loss way");
        assert!(!counted.contains("packets 0 "), "nothing was lost: {counted}");
    });
}

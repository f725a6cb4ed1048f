//! What the rules let pass, and what they are.

use std::net::Ipv4Addr;

use super::host::{
    Namespace, Neighbour, TABLE, container, internal_network, ip, network, nft, on_host,
    other_network,
};

/// What `nft list ruleset` says of a host with one network.
const RULES: &str = r#"
table ip cais {
	set rules-3 {
		type ifname
		elements = { "rules-3" }
	}

	set bridges {
		type ifname
		elements = { "cais0" }
	}

	set same-bridge {
		type ifname . ifname
		elements = { "cais0" . "cais0" }
	}

	set internal {
		type ifname
	}

	set subnets {
		type ipv4_addr
		flags interval
		elements = { 172.17.0.0/16 }
	}

	set open {
		type ifname
	}

	set neighbours {
		type ipv4_addr
		flags interval
	}

	set cluster {
		type ipv4_addr
		flags interval
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname . oifname @same-bridge accept
		iifname @internal drop
		oifname @bridges ct state established,related accept
		oifname @bridges ct status dnat accept
		oifname @open ip saddr @neighbours accept
		oifname @bridges drop
		iifname @bridges accept
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname @bridges ip saddr 127.0.0.0/8 masquerade
		oifname @bridges ct status dnat ip saddr @subnets masquerade
		oifname @bridges return
		ip saddr @cluster ip daddr @cluster return
		ct status dnat ip daddr @cluster masquerade
		ip saddr @subnets masquerade
	}

	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname @bridges ip daddr 127.0.0.0/8 drop
		iifname @bridges ip saddr 127.0.0.0/8 drop
	}
}
"#;

#[test]
fn the_rules_are_these_however_often_they_are_made() {
    on_host(|| {
        for _ in 0..3 {
            net::ensure_bridge(&network(), TABLE).unwrap();
            assert_eq!(nft("list ruleset"), RULES.trim_start());
        }
    });
}

#[test]
fn rules_that_were_lost_or_are_of_another_version_are_made_anew() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        nft("flush ruleset");
        net::ensure_bridge(&network(), TABLE).unwrap();
        assert_eq!(nft("list ruleset"), RULES.trim_start());

        nft("flush chain ip cais forward");
        nft("add rule ip cais forward drop");
        nft("delete set ip cais rules-3");
        net::ensure_bridge(&other_network(), TABLE).unwrap();
        assert_eq!(nft("list chain ip cais forward").matches("drop").count(), 2);
        assert!(nft("list ruleset").contains("set rules-3"));
        net::remove_bridge(&network(), TABLE).unwrap();
        assert!(!nft("list ruleset").contains("cais0"));
    });
}

#[test]
fn networks_come_and_go_without_touching_one_another() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        net::ensure_bridge(&other_network(), TABLE).unwrap();
        let bridges = nft("list set ip cais bridges");
        assert!(bridges.contains(r#"{ "cais0","#) || bridges.contains(r#""cais1","#), "{bridges}");
        let subnets = nft("list set ip cais subnets");
        assert!(subnets.contains("172.17.0.0/16"), "{subnets}");
        net::remove_bridge(&other_network(), TABLE).unwrap();
        assert_eq!(nft("list ruleset"), RULES.trim_start());
    });
}

#[test]
fn the_tables_of_two_roots_do_not_know_each_other() {
    on_host(|| {
        net::ensure_bridge(&network(), TABLE).unwrap();
        net::ensure_bridge(&other_network(), "cais-2").unwrap();
        let (a, _) = container(&network(), 2);
        let (b, at_b) = container(&other_network(), 2);
        let listener = b.listen(at_b.address);
        a.expect(&listener, false);
        net::remove_bridge(&other_network(), "cais-2").unwrap();
        net::remove_table("cais-2").unwrap();
        assert_eq!(nft("list ruleset"), RULES.trim_start());
    });
}

#[test]
fn a_container_reaches_the_world_under_the_hosts_address() {
    on_host(|| {
        let neighbour = Neighbour::new();
        let world = neighbour.namespace.listen(Neighbour::ADDRESS);
        net::ensure_bridge(&network(), TABLE).unwrap();
        let (container, _) = container(&network(), 2);
        assert_eq!(container.converse(&world), Neighbour::HOST);
        assert_eq!(Namespace::current().converse(&world), Neighbour::HOST);
    });
}

#[test]
fn nobody_outside_a_network_begins_a_conversation_with_it() {
    on_host(|| {
        let neighbour = Neighbour::new().namespace;
        net::ensure_bridge(&network(), TABLE).unwrap();
        net::ensure_bridge(&other_network(), TABLE).unwrap();
        let (target, at_target) = container(&network(), 2);
        let (stranger, at_stranger) = container(&other_network(), 2);
        let listener = target.listen(at_target.address);
        neighbour.expect(&listener, false);
        stranger.expect(&listener, false);
        // Only the rules stand between them.
        net::remove_table(TABLE).unwrap();
        assert_eq!(neighbour.converse(&listener), Neighbour::ADDRESS);
        assert_eq!(stranger.converse(&listener), at_stranger.address);
    });
}

#[test]
fn the_hosts_own_packets_keep_their_address() {
    on_host(|| {
        let neighbour = Neighbour::new().namespace;
        net::ensure_bridge(&network(), TABLE).unwrap();
        ip("addr add 192.0.2.9/24 dev far");
        neighbour.ip("addr add 198.51.100.1/32 dev lo");
        ip("route add 198.51.100.1/32 via 192.0.2.2 src 192.0.2.9");
        let listener = neighbour.listen(Ipv4Addr::new(198, 51, 100, 1));
        assert_eq!(Namespace::current().converse(&listener), Ipv4Addr::new(192, 0, 2, 9));
    });
}

#[test]
fn nothing_leads_out_of_an_internal_network() {
    on_host(|| {
        let neighbour = Neighbour::new();
        net::ensure_bridge(&network(), TABLE).unwrap();
        net::ensure_bridge(&internal_network(), TABLE).unwrap();
        let (outer, at_outer) = container(&network(), 2);
        let (a, _) = container(&internal_network(), 2);
        let (b, at_b) = container(&internal_network(), 3);
        a.converse(&b.listen(at_b.address));
        assert_eq!(a.ip("route show default"), "");
        a.ip("route add default via 172.18.0.1");
        a.expect(&neighbour.namespace.listen(Neighbour::ADDRESS), false);
        a.expect(&outer.listen(at_outer.address), false);
        net::remove_bridge(&internal_network(), TABLE).unwrap();
        assert_eq!(nft("list ruleset"), RULES.trim_start());
    });
}

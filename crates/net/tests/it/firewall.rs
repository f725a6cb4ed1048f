//! Beside the firewalls of others: what they decide holds, whatever our rules say.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use net::Hook;
use net::port::{self, Port, Protocol};

use super::host::{Namespace, Neighbour, TABLE, container, ip, network, on_host};

/// A host with one of them, and what then is so.
struct Case {
    name: &'static str,
    /// In the words of `nft`.
    rules: &'static str,
    /// Those that are named, as `hook family table chain`.
    walls: &'static [&'static str],
    /// Whether a published port is reached from outside.
    outside: bool,
    /// Whether a container reaches the world.
    world: bool,
}

const CASES: &[Case] = &[
    Case { name: "none", rules: "", walls: &[], outside: true, world: true },
    // `ufw enable`, which drops what is forwarded, too.
    Case {
        name: "ufw",
        rules: "table ip filter {
            chain INPUT { type filter hook input priority 0; policy drop;
                iifname lo accept; ct state established,related accept; }
            chain FORWARD { type filter hook forward priority 0; policy drop;
                ct state established,related accept; }
        }",
        walls: &["input ip filter INPUT", "forward ip filter FORWARD"],
        outside: false,
        world: false,
    },
    // `ufw route allow in on eth0`, and from the bridge.
    Case {
        name: "ufw that routes",
        rules: "table ip filter {
            chain FORWARD { type filter hook forward priority 0; policy drop;
                ct state established,related accept;
                iifname far tcp dport 8000 accept; iifname cais0 accept; }
        }",
        walls: &["forward ip filter FORWARD"],
        outside: true,
        world: true,
    },
    // Published ports are forwarded: who only looks at what is for the host does not see them.
    Case {
        name: "input only",
        rules: "table inet filter {
            chain input { type filter hook input priority 0; policy drop;
                iifname lo accept; ct state established,related accept; }
        }",
        walls: &["input inet filter input"],
        outside: true,
        world: true,
    },
    // As firewalld has it unless `StrictForwardPorts` is on: what others redirect, it lets pass.
    Case {
        name: "firewalld",
        rules: "table inet firewalld {
            chain filter_INPUT { type filter hook input priority 10; policy accept;
                ct state { established, related } accept; ct status dnat accept;
                iifname lo accept; reject with icmpx type admin-prohibited; }
            chain filter_FORWARD { type filter hook forward priority 10; policy accept;
                ct state { established, related } accept; ct status dnat accept;
                iifname lo accept; counter log reject with icmpx type admin-prohibited; }
        }",
        walls: &["input inet firewalld filter_INPUT", "forward inet firewalld filter_FORWARD"],
        outside: true,
        world: false,
    },
    Case {
        name: "strict firewalld",
        rules: "table inet firewalld {
            chain filter_FORWARD { type filter hook forward priority 10; policy accept;
                ct state { established, related } accept; iifname cais0 accept;
                reject with icmpx type admin-prohibited; }
        }",
        walls: &["forward inet firewalld filter_FORWARD"],
        outside: false,
        world: true,
    },
    // Docker's, beside which the administrator has let our bridge in.
    Case {
        name: "docker",
        rules: "table ip filter {
            chain DOCKER-USER { oifname cais0 accept; iifname cais0 accept; return; }
            chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }
        }",
        walls: &["forward ip filter FORWARD"],
        outside: true,
        world: true,
    },
    // One rule about one port, as it was asked for by whoever came.
    Case {
        name: "a rule about the port",
        rules: "table inet mine {
            chain wall { type filter hook forward priority -5; policy accept;
                iifname far meta l4proto tcp ct original proto-dst 8080 drop; }
        }",
        walls: &[],
        outside: false,
        world: true,
    },
    Case {
        name: "of IPv6 alone",
        rules: "table ip6 filter {
            chain FORWARD { type filter hook forward priority 0; policy drop; }
        }",
        walls: &["forward ip6 filter FORWARD"],
        outside: true,
        world: true,
    },
];

fn load(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

fn walls() -> Vec<String> {
    let word = |hook| match hook {
        Hook::Input => "input",
        Hook::Forward => "forward",
    };
    let walls = net::walls().unwrap().into_iter();
    walls.map(|w| format!("{} {} {} {}", word(w.hook), w.family, w.table, w.chain)).collect()
}

#[test]
fn what_others_decide_holds() {
    for case in CASES {
        on_host(|| {
            let neighbour = Neighbour::new().namespace;
            net::ensure_bridge(&network(), TABLE).unwrap();
            let (a, at_a) = container(&network(), 2);
            let server = a.run(|| std::net::TcpListener::bind((at_a.address, 8000)).unwrap());
            let (protocol, address) = (Protocol::Tcp, Ipv4Addr::UNSPECIFIED.into());
            let to = at_a.address.into();
            let port = Port { protocol, address, port: 8080, to, to_port: 8000 };
            port::publish(TABLE, &network(), &at_a, &[port]).unwrap();
            let world = neighbour.listen(Neighbour::ADDRESS);

            load(case.rules);
            let at = |address: Ipv4Addr| SocketAddr::from((address, 8080));
            let name = case.name;
            assert_eq!(walls(), case.walls, "{name}");
            neighbour.expect_address(at(Neighbour::HOST), case.outside);
            a.expect(&world, case.world);
            // The host itself comes through in any case.
            Namespace::current().expect_address(at(Ipv4Addr::LOCALHOST), true);
            drop(server);
        });
    }
}

/// Nobody's table but our own is changed.
#[test]
fn the_tables_of_others_are_as_they_were() {
    on_host(|| {
        for case in CASES.iter().filter(|case| case.name != "docker") {
            load("flush ruleset");
            load(case.rules);
            let before = super::host::nft("list ruleset");
            net::ensure_bridge(&network(), TABLE).unwrap();
            net::remove_bridge(&network(), TABLE).unwrap();
            net::remove_table(TABLE).unwrap();
            assert_eq!(super::host::nft("list ruleset"), before, "{}", case.name);
            assert_eq!(ip("-o link").lines().count(), 1);
        }
    });
}

//! Published ports, networks that users make, and names on them.

use testkit::Sandbox;

/// A container that answers every connection to port 80 with a word.
fn server(sandbox: &Sandbox, name: &str, options: &str) {
    let line = format!(
        "$E run -d --name {name} {options} busybox sh -c \
         'while :; do echo {name} | nc -l -p 80; done' >/dev/null"
    );
    let _ = sandbox.shell(&line).ok();
}

/// Asks a server until it answers: it may not listen yet, or not again.
const ASK: &str = "ask() { end=$(($(date +%s)+120)); \
                   until nc -w 1 \"$@\" </dev/null 2>/dev/null | grep .; do \
                   [ $(date +%s) -lt $end ] || exit 9; done; }; ";

/// The same from the host.
fn ask_from_host(sandbox: &Sandbox, port: u16) -> String {
    let script = format!(
        "end=$(($(date +%s)+120)); \
         until timeout 2 bash -c 'cat </dev/tcp/127.0.0.1/{port}' 2>/dev/null | grep .; do \
         [ $(date +%s) -lt $end ] || exit 9; done"
    );
    sandbox.shell(&script).ok().to_owned()
}

fn ask(sandbox: &Sandbox, container: &str, what: &str) -> String {
    let script = format!("$E exec {container} sh -c '{ASK}ask {what}'");
    sandbox.shell(&script).ok().trim().to_owned()
}

#[test]
fn a_published_port_is_shown_reached_and_given_back() {
    let sandbox = Sandbox::new();
    server(&sandbox, "web", "-p 127.0.0.1:8080:80 -p 8081:80 -p 7000-7001:7000-7001 --expose 90");
    let ports =
        "90/tcp, 0.0.0.0:7000-7001->7000-7001/tcp, 0.0.0.0:8081->80/tcp, 127.0.0.1:8080->80/tcp\n";
    sandbox.cais(["ps", "--format", "{{.Ports}}"]).out(ports);
    sandbox.cais(["port", "web", "7000"]).out("0.0.0.0:7000\n");
    let bindings = "{{(index (index .NetworkSettings.Ports \"7001/tcp\") 0).HostPort}}";
    sandbox.cais(["inspect", "-f", bindings, "web"]).out("7001\n");
    for port in [8080, 8081] {
        assert_eq!(ask_from_host(&sandbox, port), "web");
    }
    let gateway = "$($E inspect -f '{{.NetworkSettings.Gateway}}' web)";
    let inside = format!("$E exec web sh -c '{ASK}ask '{gateway}' 8081'");
    sandbox.shell(&inside).out("web\n");

    let taken = sandbox.cais(["run", "--name", "late", "-p", "8081:80", "busybox", "true"]);
    taken.code(125).says("Bind for 0.0.0.0:8081 failed: port is already allocated");
    taken.says("container web has it");
    let _ = sandbox.cais(["rm", "late"]).ok();

    // Nobody is told when a monitor is killed; whoever comes next finds the port free.
    let kill = "for p in $(grep -ho '\"monitor_pid\":[0-9]*' $CAIS_ROOT/containers/*/state.json | cut -d: -f2); do \
                kill -KILL $p; while grep -q '^State:.[^ZX]' /proc/$p/status 2>/dev/null; do :; done; done";
    let _ = sandbox.shell(kill).ok();
    server(&sandbox, "next", "-p 8081:80");
    assert_eq!(ask_from_host(&sandbox, 8081), "next");
    let _ = sandbox.cais(["rm", "-f", "web", "next"]).ok();
    sandbox.shell("nft list ruleset | grep 'tcp \\.'").out("");
    sandbox.shell("ls $CAIS_RUN/network/ports").out("");
}

#[test]
fn containers_know_each_other_by_name_on_networks_that_users_made() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["network", "create", "--subnet", "10.77.0.0/24", "back"]).ok();
    let _ = sandbox.cais(["network", "create", "apart"]).ok();
    server(&sandbox, "db", "--network back --network-alias database --ip 10.77.0.9");
    server(&sandbox, "stranger", "--network apart");
    let _ = sandbox.shell("$E run -d --name app --network back busybox sleep 1000").ok();
    for name in ["db", "database", "db.back", "10.77.0.9"] {
        assert_eq!(ask(&sandbox, "app", &format!("{name} 80")), "db");
    }
    let unknown = "! $E exec app nslookup stranger 127.0.0.11 >/dev/null 2>&1";
    let _ = sandbox.shell(unknown).ok();
    let _ = sandbox.cais(["rename", "db", "store"]).ok();
    assert_eq!(ask(&sandbox, "app", "store 80"), "db");
    let _ = sandbox.cais(["network", "connect", "--alias", "other", "apart", "app"]).ok();
    assert_eq!(ask(&sandbox, "app", "stranger 80"), "stranger");
    let _ = sandbox.cais(["network", "disconnect", "apart", "app"]).ok();
    let _ = sandbox.shell(unknown).ok();
    let busy = sandbox.cais(["network", "rm", "back"]);
    busy.code(1).says("has active endpoints");
    let _ = sandbox.cais(["rm", "-f", "store", "app", "stranger"]).ok();
    sandbox.cais(["network", "rm", "back"]).out("back\n");
    sandbox.cais(["network", "prune", "-f"]).out("Deleted Networks:\napart\n\n");
    sandbox.cais(["network", "ls", "--format", "{{.Name}}"]).out("bridge\nhost\nnone\n");
}

#[test]
fn links_are_made_and_taken_away() {
    let sandbox = Sandbox::new();
    let script = "set -e; $E network create back >/dev/null; \
        $E run -d --name db --network back busybox sleep 1000 >/dev/null; \
        $E run -d --name web busybox sleep 1000 >/dev/null; \
        $E network connect --link db:store --link-local-ip 169.254.7.8 back web; \
        $E exec web sh -c 'grep -c store /etc/hosts; ip -o -4 addr | grep -c 169.254.7.8/16'; \
        $E inspect -f '{{.HostConfig.Links}}' web; \
        $E restart -t 0 web; $E exec web grep -c store /etc/hosts; \
        $E rm --link web/store; $E restart -t 0 web; $E exec web grep -c store /etc/hosts || $E rm -f db web";
    sandbox
        .shell(script)
        .code(0)
        .out("1\n1\n[/db:/web/store]\nweb\n1\nweb/store\nweb\n0\ndb\nweb\n");
    let _ = sandbox.line("cais create --name web --network back busybox true").ok();
    for (line, code, part) in [
        ("rm --link web/store", 1, "No such link: /web/store"),
        ("rm --link web", 1, "cannot remove the default link name"),
        ("rm --link none/store", 1, "No such container: none"),
        ("run --rm --link-local-ip 10.0.0.1 busybox true", 125, "no link-local address"),
        ("run --rm --link-local-ip fe80::1 busybox true", 125, "has no IPv6"),
        ("run --rm --link-local-ip x busybox true", 125, "invalid link-local IP address"),
        ("run --rm --network none --link-local-ip 169.254.1.1 busybox true", 125, "conflicting"),
        ("network connect --gw-priority 1 back web", 1, "--gw-priority is not supported"),
        ("network connect --driver-opt a=b back web", 1, "--driver-opt is not supported"),
        ("network create --config-only odd", 1, "--config-only of network create"),
        ("network create --ipv4=false odd", 1, "every network has IPv4"),
        ("network create --ipam-opt a=b odd", 1, "has no options"),
    ] {
        sandbox.line(&format!("cais {line}")).code(code).says(part);
    }
    let _ = sandbox.shell("$E rm web; $E network rm back").ok();
}

#[test]
fn a_network_may_have_both_families() {
    let sandbox = Sandbox::new();
    let create = "$E network create --ipv6 --subnet 10.77.0.0/24 --subnet fd00:77::/64 \
                  --ip-range fd00:77::8:0/112 both";
    let _ = sandbox.shell(create).ok();
    let shown = "{{.EnableIPv6}} {{json .IPAM.Config}}";
    sandbox.cais(["network", "inspect", "-f", shown, "both"]).out(
        "true [{\"Subnet\":\"10.77.0.0/24\",\"Gateway\":\"10.77.0.1\"},{\"Subnet\":\
         \"fd00:77::/64\",\"IPRange\":\"fd00:77::8:0/112\",\"Gateway\":\"fd00:77::1\"}]\n",
    );
    server(&sandbox, "db", "--network both --ip6 fd00:77::9 -p 8080:80 -p [::]:8081:80");
    sandbox
        .cais(["ps", "--format", "{{.Ports}}"])
        .out("0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, [::]:8081->80/tcp\n");
    sandbox
        .cais(["port", "db"])
        .out("80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n80/tcp -> [::]:8081\n");
    for address in ["127.0.0.1", "::1"] {
        let word = format!("exec 3<>/dev/tcp/{address}/8080; head -n1 <&3");
        let script = format!(
            "end=$(($(date +%s)+120)); until timeout 2 bash -c '{word}' 2>/dev/null | grep .; do \
             [ $(date +%s) -lt $end ] || exit 9; done"
        );
        sandbox.shell(&script).out("db\n");
    }
    let places = "{{with .NetworkSettings.Networks.both}}{{.GlobalIPv6Address}}/\
                  {{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}} {{.IPAMConfig.IPv6Address}}{{end}}";
    sandbox.cais(["inspect", "-f", places, "db"]).out("fd00:77::9/64 fd00:77::1 fd00:77::9\n");
    let _ = sandbox.shell("$E run -d --name app --network both busybox sleep 1000").ok();
    let hosts = "$E exec app sh -c 'grep $(hostname) /etc/hosts' | cut -f1";
    sandbox.shell(hosts).out("10.77.0.3\nfd00:77::8:0\n");
    for name in ["db", "fd00:77::9", "[fd00:77::1]:8080"] {
        let port = if name.contains('[') { "" } else { " 80" };
        let what = name.trim_start_matches('[').replace("]:", " ");
        assert_eq!(ask(&sandbox, "app", &format!("{what}{port}")), "db", "{name}");
    }
    let lookup = "$E exec app nslookup -type=AAAA db 127.0.0.11 | grep -o 'fd00:77::9'";
    sandbox.shell(lookup).out("fd00:77::9\n");
    let lookup = "$E exec app nslookup fd00:77::9 127.0.0.11 | grep -o 'db.both'";
    sandbox.shell(lookup).out("db.both\n");
    // A network of the default pools has a subnet of unique local addresses.
    let _ = sandbox.cais(["network", "create", "--ipv6", "ula"]).ok();
    let shown = "{{(index .IPAM.Config 1).Subnet}}";
    let _ =
        sandbox.shell(&format!("$E network inspect -f '{shown}' ula | grep -x 'fd.*::/64'")).ok();
    sandbox.cais(["network", "ls", "-f", "name=ula", "--format", "{{.IPv6}}"]).out("true\n");
    let _ = sandbox.cais(["network", "connect", "ula", "app"]).ok();
    let _ =
        sandbox.shell("$E exec app ip -6 addr show eth1 | grep 'inet6 fd.*/64 scope global'").ok();
    let _ = sandbox.cais(["rm", "-f", "db", "app"]).ok();
    let _ = sandbox.cais(["network", "rm", "both", "ula"]).ok();
    sandbox.shell("nft list ruleset").out("");
}

#[test]
fn what_ipv6_cannot_be_is_an_error_that_says_so() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["network", "create", "v4"]).ok();
    for (line, message) in [
        ("network create --subnet fd00::/64 n", "subnet fd00::/64 is of IPv6, which is not asked"),
        ("network create --ipv6 --gateway fd00::1 n", "must have a corresponding subnet"),
        ("network create --ipv6 --subnet fd00::/129 n", "invalid CIDR address: fd00::/129"),
        (
            "network create --ipv6 --subnet fd00::/64 --subnet fd01::/64 n",
            "several --subnet of IPv6",
        ),
        (
            "network create --ipv6 --subnet fd00::/64 --gateway fd01::1 n",
            "fd01::1 is no host of fd00::/64",
        ),
        (
            "network create --aux-address a=10.0.0.1 n",
            "no matching subnet for aux-address 10.0.0.1",
        ),
        ("run --network v4 --ip6 fd00::2 busybox true", "network v4 has no IPv6"),
        ("run --network v4 -p [::1]:80:80 busybox true", "the container has no IPv6 address"),
        ("run --network v4 -p [::1]:80:80/udp busybox true", "publish port 80/udp on [::1]"),
    ] {
        let output = sandbox.shell(&format!("! $E {line} 2>&1")).ok().to_owned();
        assert!(output.contains(message), "{line}: {output}");
    }
    let _ = sandbox.shell("$E rm $($E ps -aq)").ok();
    let _ = sandbox.cais(["network", "rm", "v4"]).ok();
}

/// Networks without a bridge: one that leads nowhere, and one on an interface of the host's.
#[test]
fn containers_stand_on_an_interface_of_the_host() {
    let sandbox = Sandbox::new();
    let _ = sandbox
        .shell("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up")
        .ok();
    let _ = sandbox.shell("ip addr add 10.78.0.1/24 dev up1").ok();
    let _ = sandbox.cais(["network", "create", "-d", "macvlan", "apart"]).ok();
    let create = "$E network create -d macvlan -o parent=up0 --subnet 10.78.0.0/24 \
                  --gateway 10.78.0.1 --aux-address printer=10.78.0.2 wire";
    let _ = sandbox.shell(create).ok();
    let shown = "{{.Driver}} {{.Internal}} {{json .IPAM.Config}} {{json .Options}}";
    sandbox.cais(["network", "inspect", "-f", shown, "wire"]).out(
        "macvlan false [{\"Subnet\":\"10.78.0.0/24\",\"Gateway\":\"10.78.0.1\",\
         \"AuxiliaryAddresses\":{\"printer\":\"10.78.0.2\"}}] {\"parent\":\"up0\"}\n",
    );
    sandbox
        .cais(["network", "ls", "-f", "driver=macvlan", "--format", "{{.Name}} {{.Internal}}"])
        .out("apart true\nwire false\n");
    server(&sandbox, "db", "--network wire --network apart");
    let _ = sandbox.shell("$E run -d --name app --network apart busybox sleep 1000").ok();
    assert_eq!(ask(&sandbox, "app", "db 80"), "db");
    let from_outside = format!("{ASK}ask 10.78.0.3 80");
    sandbox
        .shell(
            &from_outside
                .replace("nc -w 1", "timeout 1 bash -c 'exec 3<>/dev/tcp/$0/$1; head -n1 <&3'"),
        )
        .out("db\n");
    let _ = sandbox.cais(["network", "disconnect", "apart", "app"]).ok();
    sandbox.shell("$E exec app ls /sys/class/net").out("lo\n");
    let _ = sandbox.cais(["network", "connect", "wire", "app"]).ok();
    assert_eq!(ask(&sandbox, "app", "10.78.0.3 80"), "db");
    // Again, with the same hardware address.
    let _ = sandbox.cais(["restart", "-t", "0", "db"]).ok();
    assert_eq!(ask(&sandbox, "app", "10.78.0.3 80"), "db");
    for (line, message) in [
        ("run --network wire -p 80:80 busybox true", "none of the container's networks can have"),
        ("network create -d macvlan -o parent=up0 other", "is already using parent interface up0"),
        (
            "network create -d macvlan -o parent=up9 other",
            "parent interface `up9` of network `other` does",
        ),
        (
            "network create -d ipvlan -o ipvlan_mode=l4 other",
            "requested ipvlan_mode 'l4' is not valid",
        ),
        ("network create -d macvlan -o parent=up1 --subnet 10.78.0.0/16 other", "Pool overlaps"),
        ("network create -d overlay other", "need a cluster, which is not supported"),
    ] {
        let output = sandbox.shell(&format!("! $E {line} 2>&1")).ok().to_owned();
        assert!(output.contains(message), "{line}: {output}");
    }
    let _ = sandbox.shell("$E rm -f $($E ps -aq)").ok();
    let _ = sandbox.cais(["network", "rm", "apart", "wire"]).ok();
    sandbox.shell("ip -br link show type macvlan; ip -br link | grep -c up0").out("2\n");
    let _ = sandbox.shell("ip link del up0").ok();
}

#[test]
fn a_network_says_where_its_ports_are_published() {
    let sandbox = Sandbox::new();
    let option = "com.docker.network.bridge.host_binding_ipv4=127.0.0.1";
    let _ = sandbox.cais(["network", "create", "-o", option, "near"]).ok();
    server(&sandbox, "web", "--network near -p 8080:80 -p 0.0.0.0:8081:80");
    sandbox
        .cais(["ps", "--format", "{{.Ports}}"])
        .out("0.0.0.0:8081->80/tcp, 127.0.0.1:8080->80/tcp\n");
    let _ = sandbox.cais(["rm", "-f", "web"]).ok();
    let _ = sandbox.cais(["network", "rm", "near"]).ok();
}

#[test]
fn every_way_in_is_listed_with_what_stands_in_it() {
    let sandbox = Sandbox::new();
    let shown = "{{.Protocol}} {{.Address}} {{.Container}} {{.Way}} {{.Process}} {{.Firewall}}";
    sandbox.cais(["system", "exposure", "--format", shown]).out("");
    server(&sandbox, "web", "-p 8080:80 -p 8081:81 -p 127.0.0.1:8082:80");
    let listen = "$E run -d --name bare --network host busybox nc -l -p 7000 >/dev/null";
    let _ = sandbox.shell(listen).ok();
    let heard = "end=$(($(date +%s)+120)); until $E system exposure | grep -q ' nc ' && \
                 $E system exposure --format '{{.Way}} {{.Process}}' | grep -q 'host nc'; do \
                 [ $(date +%s) -lt $end ] || exit 9; done";
    let _ = sandbox.shell(heard).ok();
    // The server of `web` is between two connections now and then.
    let stable = |format: &str| {
        format!("$E system exposure -a --format '{format}' | sed 's/nobody listens/nc/'")
    };
    sandbox.shell(&stable("{{.Protocol}} {{.Address}} {{.Container}} {{.Way}}")).out(
        "tcp [::]:7000 bare host\ntcp 0.0.0.0:8080 web published\n\
         tcp 0.0.0.0:8081 web published\ntcp 127.0.0.1:8082 web published\n",
    );
    sandbox
        .shell("$E system exposure --format '{{.Address}} {{.Process}}' | grep 8081")
        .out("0.0.0.0:8081 nobody listens\n");
    let wall = "table inet mine { chain in { type filter hook input priority 0; policy drop; \
                ct state established,related accept; iifname lo accept; }; }";
    let _ = sandbox.shell(&format!("echo '{wall}' | nft -f -")).ok();
    sandbox.shell("$E system exposure -a --format '{{.Address}} {{.Firewall}}'").out(
        "[::]:7000 the host's firewall (table inet mine, chain in) may drop it\n\
         0.0.0.0:8080 not seen by the host's firewall (table inet mine, chain in)\n\
         0.0.0.0:8081 not seen by the host's firewall (table inet mine, chain in)\n\
         127.0.0.1:8082 \n",
    );
    let _ = sandbox.shell("nft delete table inet mine").ok();
    let _ = sandbox
        .shell("$E system exposure --format json | head -n1 | grep -F '\"Address\":\"[::]:7000\"'")
        .ok();
    let _ = sandbox.cais(["rm", "-f", "web", "bare"]).ok();
}

#[test]
fn what_a_root_that_is_gone_left_is_removed_and_nothing_else() {
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    let (gone, there) = (work.join("gone"), work.join("there"));
    for root in [&gone, &there] {
        let create = format!(
            "CAIS_ROOT={} $E network create --subnet 10.{}.0.0/24 n >/dev/null",
            root.display(),
            if root == &gone { 77 } else { 78 }
        );
        let _ = sandbox.shell(&create).ok();
    }
    let _ = sandbox.cais(["network", "create", "own"]).ok();
    let _ = sandbox.shell("$E run -d --network own --name idle busybox sleep 1000").ok();
    sandbox.shell("ip -br link show type bridge | wc -l").out("3\n");
    let _ = sandbox.shell(&format!("rm -r {}", gone.display())).ok();
    let prune = sandbox.cais(["network", "prune", "-f"]).ok().to_owned();
    let said = format!("Deleted of root {}, which is gone: br-", gone.display());
    assert!(prune.starts_with(&said) && prune.lines().count() == 1, "{prune}");
    sandbox.shell("ip -br link show type bridge | wc -l").out("2\n");
    sandbox.cais(["network", "prune", "-f"]).out("");
    let _ = sandbox.shell(&format!("CAIS_ROOT={} $E network rm n", there.display())).ok();
    let _ = sandbox.cais(["rm", "-f", "idle"]).ok();
    let _ = sandbox.cais(["network", "rm", "own"]).ok();
    sandbox.shell("nft list ruleset").out("");
}

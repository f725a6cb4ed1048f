//! Many containers, many networks, and many commands at once.
//!
//! `CAIS_SOAK=20` makes it twenty times as much: two thousand containers and a thousand networks.

use testkit::Sandbox;

/// Of one round, whose commands all run at once.
const CONTAINERS: usize = 100;
const NETWORKS: usize = 50;
/// Ports that a bridge of Linux has.
const BRIDGE_PORTS: usize = 1023;

fn rounds() -> usize {
    std::env::var("CAIS_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// Runs a command for each number of a round, all of them at once.
#[track_caller]
fn at_once(sandbox: &Sandbox, round: usize, count: usize, command: &str) {
    let (first, last) = (round * count, (round + 1) * count - 1);
    let line = format!("seq {first} {last} | xargs -P {count} -I N {command} >/dev/null");
    let _ = sandbox.shell(&line).ok();
}

fn lines(sandbox: &Sandbox, command: &str) -> usize {
    let outcome = sandbox.line(command);
    outcome.ok().lines().filter(|line| !line.is_empty()).count()
}

#[test]
fn many_containers_are_started_looked_at_and_removed_at_once() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    let run = "$E run -d --name soak-N --network none busybox sleep 1000";
    for round in 0..rounds() {
        at_once(&sandbox, round, CONTAINERS, run);
    }
    let all = rounds() * CONTAINERS;
    assert_eq!(lines(&sandbox, "cais ps -q"), all);
    for round in 0..rounds() {
        at_once(&sandbox, round, CONTAINERS, "$E exec soak-N true");
        // Whoever starts, asks and stops the same ones at once is in nobody's way.
        at_once(
            &sandbox,
            round,
            CONTAINERS,
            "sh -c '$E inspect soak-N & $E ps -q & $E kill soak-N & wait'",
        );
        at_once(&sandbox, round, CONTAINERS, "$E start soak-N");
    }
    assert_eq!(lines(&sandbox, "cais ps -q"), all);
    for round in 0..rounds() {
        at_once(&sandbox, round, CONTAINERS, "$E rm -f soak-N");
    }
    assert_eq!(lines(&sandbox, "cais ps -aq"), 0);
}

#[test]
fn many_networks_are_made_at_once_and_apart() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    for round in 0..rounds() {
        at_once(&sandbox, round, NETWORKS, "$E network create soak-N");
    }
    let all = rounds() * NETWORKS;
    let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
    let subnets = sandbox.shell(&format!(
        "$E network ls -q -f name=soak | xargs $E network inspect -f '{format}' | sort -u | wc -l"
    ));
    subnets.out(&format!("{all}\n"));
    let last = format!("soak-{}", all - 1);
    let run =
        ["run", "--rm", "--network", &last, "busybox", "ip", "-o", "-4", "addr", "show", "eth0"];
    assert!(sandbox.cais(run).ok().contains("inet "));
    for round in 0..rounds() {
        at_once(&sandbox, round, NETWORKS, "$E network rm soak-N");
    }
    assert_eq!(lines(&sandbox, "cais network ls -q -f name=soak"), 0);
}

/// Run in a container: asks the first one, whose address is given, who it is.
const ASK: &str = r#"[ "$(printf 'GET /id HTTP/1.0\r\n\r\n' | nc -w 20 $1 80 | tail -n1)" = 0 ]
"#;

/// All that are on one bridge reach each other; one that has no room there is told so,
/// and has it on another network.
#[test]
fn many_containers_are_on_one_network() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "busybox"]).ok();
    std::fs::write(sandbox.work().join("ask"), ASK).expect("the work directory takes files");
    let whole_rounds = rounds().min(BRIDGE_PORTS / CONTAINERS);
    let run = "$E run -d --name soak-N -v $PWD/ask:/ask:ro busybox sh -c 'echo N >/id; exec httpd -f -p 80 -h /'";
    for round in 0..whole_rounds {
        at_once(&sandbox, round, CONTAINERS, run);
    }
    assert_eq!(lines(&sandbox, "cais ps -q"), whole_rounds * CONTAINERS);
    let first = sandbox.cais(["exec", "soak-0", "hostname", "-i"]);
    let ask = format!("$E exec soak-N sh /ask {}", first.ok().trim());
    for round in 0..whole_rounds {
        at_once(&sandbox, round, CONTAINERS, &ask);
    }
    let mut all_rounds = whole_rounds;
    if rounds() > whole_rounds {
        all_rounds += 1;
        fill_the_bridge(&sandbox, whole_rounds * CONTAINERS);
    }
    for round in 0..all_rounds {
        at_once(&sandbox, round, CONTAINERS, "$E rm -f soak-N");
    }
    assert_eq!(lines(&sandbox, "cais ps -aq"), 0);
}

/// Starts containers until the bridge has no port for a further one.
fn fill_the_bridge(sandbox: &Sandbox, there: usize) {
    let start = format!(
        "for n in $(seq {there} {BRIDGE_PORTS}); do \
         $E run -d --name soak-$n busybox sleep 1000 >/dev/null || echo $n; done"
    );
    sandbox
        .shell(&start)
        .out(&format!("{BRIDGE_PORTS}\n"))
        .says("the bridge of network `bridge` is full");
    let elsewhere =
        "$E network create more && $E run --rm --network more busybox true && $E network rm more";
    let _ = sandbox.shell(elsewhere).ok();
}

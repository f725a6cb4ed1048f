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
const ASK: &str = "ask() { i=0; until nc -w 1 \"$@\" </dev/null 2>/dev/null | grep .; do \
                   i=$((i+1)); [ $i -lt 200 ] || exit 9; done; }; ";

/// The same from the host.
fn ask_from_host(sandbox: &Sandbox, port: u16) -> String {
    let script = format!(
        "i=0; until timeout 2 bash -c 'cat </dev/tcp/127.0.0.1/{port}' 2>/dev/null | grep .; do \
         i=$((i+1)); [ $i -lt 200 ] || exit 9; done"
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
    let kill = "kill -KILL $(grep -o '\"monitor_pid\":[0-9]*' $CAIS_ROOT/containers/*/state.json | cut -d: -f2)";
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

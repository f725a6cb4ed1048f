//! Containers whose root is nobody on the host, on images that belong to root.

use testkit::{Outcome, Sandbox};

/// A sandbox with busybox.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "busybox"]).ok();
    sandbox
}

/// Runs a shell script in a container of busybox with a user namespace and these flags.
#[track_caller]
fn run(sandbox: &Sandbox, flags: &str, script: &str) -> Outcome {
    let flags = flags.split_whitespace();
    let words = ["run", "--userns", "100000:65536"].into_iter().chain(flags);
    let words: Vec<&str> = words.chain(["busybox", "sh", "-c", script]).collect();
    sandbox.words(&words)
}

#[test]
fn root_inside_is_another_outside() {
    let sandbox = sandbox();
    let script =
        "id -u; awk '{print $2}' /proc/self/uid_map; touch /x; stat -c %u:%g /x /bin /etc/hosts";
    run(&sandbox, "--rm --network none", script).code(0).out("0\n100000\n0:0\n0:0\n0:0\n");
    let as_user = "id -u; echo again >/dev/stdout; touch /tmp/y && stat -c %u /tmp/y; touch /x";
    run(&sandbox, "--rm --network none -u 1000", as_user)
        .code(1)
        .out("1000\nagain\n1000\n")
        .says("Permission denied");
    run(&sandbox, "--rm --network none", "exit 7").code(7);
}

#[test]
fn its_changes_are_those_of_any_container() {
    let sandbox = sandbox();
    let looked = "cat /etc/* >/dev/null; find / -xdev >/dev/null";
    run(&sandbox, "--name looked", looked).code(0);
    sandbox.cais(["diff", "looked"]).code(0).out("");
    let script = "touch /made; chown 5:6 /home; rm /etc/passwd; chown 0:0 /bin; chmod 755 /bin";
    run(&sandbox, "--name changed", script).code(0);
    sandbox.cais(["diff", "changed"]).code(0).out("C /etc\nD /etc/passwd\nC /home\nA /made\n");
    // It starts again on what it has written.
    sandbox.cais(["start", "-a", "changed"]).code(0).says("passwd");
}

#[test]
fn a_volume_has_the_same_owners_for_all() {
    let sandbox = sandbox();
    let written = "touch /home/root /home/user; chown 1000:1000 /home/user; stat -c %u /home/*";
    run(&sandbox, "--rm -v data:/home", written).code(0).out("0\n1000\n");
    let seen = "run --rm -v data:/v busybox stat -c %u:%g /v/root /v/user";
    sandbox.line(&format!("cais {seen}")).code(0).out("0:0\n1000:1000\n");
    let elsewhere = seen.replace("run", "run --userns 300000:65536");
    sandbox.line(&format!("cais {elsewhere}")).code(0).out("0:0\n1000:1000\n");
    // A directory of the host's is as it is.
    std::fs::create_dir(sandbox.work().join("bound")).expect("the directory is new");
    let bind = format!("--rm -v {}:/b", sandbox.work().join("bound").display());
    run(&sandbox, &bind, "stat -c %u /b; touch /b/x").code(1).out("65534\n");
}

#[test]
fn it_is_entered_and_networked() {
    let sandbox = sandbox();
    run(&sandbox, "-d --name one --hostname box", "touch /ready; sleep 1000").code(0);
    let seen = "hostname; id -u; touch /e; stat -c %u /e; ls /sys/class/net; echo x >/dev/stderr";
    let entered = sandbox.cais(["exec", "one", "sh", "-c", seen]);
    entered.code(0).out("box\n0\n0\neth0\nlo\n").says("x");
    sandbox.cais(["exec", "-u", "7", "one", "id", "-u"]).code(0).out("7\n");
    sandbox.cais(["exec", "one", "sh", "-c", "exit 4"]).code(4);
    let links = "ls /sys/class/net; id -u";
    run(&sandbox, "--rm --network none", links).code(0).out("lo\n0\n");
    run(&sandbox, "--rm --network container:one", "ls /sys/class/net; id -u")
        .code(0)
        .out("eth0\nlo\n0\n");
    run(&sandbox, "--rm --network host", "id -u; test -d /sys/class/net/lo").code(0).out("0\n");
    let _ = sandbox.cais(["rm", "-f", "one"]).ok();
    run(&sandbox, "--rm --pid host", "true").code(125).says("cannot share the host PID namespace");
    let alone = "cais run --rm --userns 5000:100 busybox id -u";
    sandbox.line(alone).code(0).out("0\n");
}

//! Images that one engine made, in the other.

use testkit::{Dockerd, Sandbox};

#[test]
fn each_engine_takes_what_the_other_saved() {
    let sandbox = Sandbox::new();
    let docker = Dockerd::start(&sandbox);
    let make = "$E run --network none --name maker busybox sh -c 'echo x >/x; rm /etc/group; ln /x /y; \
                truncate -s 20M /sparse; echo end >>/sparse' && $E commit maker made:1 >/dev/null && $E rm maker";
    let show = "$E run --rm --network none made:1 sh -c 'cat /y; test -e /etc/group || echo gone; \
                tail -c4 /sparse; stat -c %h /x' && $E rmi -f made:1 >/dev/null";
    let seen = "x\ngone\nend\n2\n";
    let script =
        format!("$E pull -q busybox >/dev/null && {make} && $E save -o c.tar busybox made:1");
    let _ = sandbox.shell(&script).ok();
    let loaded = docker.shell("$E load -qi c.tar");
    for name in ["busybox:latest", "made:1"] {
        assert!(loaded.ok().contains(&format!("Loaded image: {name}")), "{loaded}");
    }
    docker.shell(show).code(0).out(seen);
    let _ = docker.shell(&format!("{make} && $E save -o d.tar made:1")).ok();
    let _ = sandbox.shell("$E rmi made:1 && $E load -qi d.tar").ok();
    sandbox.shell(show).code(0).out(seen);
    sandbox.shell("$E copy -q docker-archive:d.tar store:made:1 >/dev/null").code(0);
    sandbox.shell(show).code(0).out(seen);
}

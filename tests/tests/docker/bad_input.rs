//! Bad input: a clear message, the right exit code, and nothing left (the sandbox sees to that).

use testkit::Sandbox;

#[test]
fn what_does_not_exist_is_named() {
    let sandbox = Sandbox::new();
    for (line, code, part) in [
        ("cais pull no-such-image", 1, "no-such-image"),
        ("cais pull busybox:no-such-tag", 1, "no-such-tag"),
        (
            "cais run --rm busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000 true",
            125,
            "0000",
        ),
        ("cais rmi no-such-image", 1, "no-such-image"),
        ("cais rm no-such-container", 1, "no-such-container"),
        ("cais logs no-such-container", 1, "no-such-container"),
        ("cais stop no-such-container", 1, "no-such-container"),
        ("cais container diff no-such-container", 1, "no-such-container"),
        ("cais inspect no-such-object", 1, "no-such-object"),
    ] {
        sandbox.line(line).code(code).says(part);
    }
}

#[test]
fn malformed_words_are_refused() {
    let sandbox = Sandbox::new();
    for (line, part) in [
        ("cais run --rm upper/CASE true", "lowercase"),
        ("cais run --rm -m lots busybox true", "lots"),
        ("cais run --rm -m 1k busybox true", "6MB"),
        ("cais run --rm --cpus many busybox true", "many"),
        ("cais run --rm -v some/path:/x busybox true", "some/path"),
        ("cais run --rm -v /tmp:relative busybox true", "absolute"),
        ("cais run --rm -w relative busybox true", "relative"),
        ("cais run --rm --name=.odd busybox true", ".odd"),
        ("cais run --rm --cap-add NO_SUCH busybox true", "NO_SUCH"),
        ("cais run --rm --network no-such-network busybox true", "no-such-network"),
        ("cais run --rm --ulimit nofile=x busybox true", "nofile"),
        ("cais run --rm -u no-such-user busybox true", "no-such-user"),
        ("cais run --rm --env-file no-such-file busybox true", "no-such-file"),
        ("cais run --rm --device /dev/no-such-device busybox true", "no-such-device"),
    ] {
        sandbox.line(line).code(125).says(part);
    }
}

#[test]
fn a_name_is_taken_once() {
    let sandbox = Sandbox::new();
    let run = "cais run --name mine --network none busybox true";
    sandbox.line(run).code(0);
    sandbox.line(run).code(125).says("mine").says("already in use");
    sandbox.line("cais rm mine").code(0).out("mine\n");
    sandbox.line(run).code(0);
}

#[test]
fn an_unreachable_registry_is_named() {
    let sandbox = Sandbox::new();
    sandbox.line("cais pull 127.0.0.1:9/some/image").code(1).says("127.0.0.1:9");
    sandbox.line("cais pull registry.invalid/some/image").code(1).says("registry.invalid");
    sandbox
        .line("cais run --rm registry.invalid/some/image true")
        .code(125)
        .says("registry.invalid");
}

#[test]
fn a_running_container_is_not_removed_without_force() {
    let sandbox = Sandbox::new();
    sandbox.line("cais run -d --name busy --network none busybox sleep 1000").code(0);
    sandbox.line("cais rm busy").code(1).says("running");
    sandbox.line("cais rmi busybox").code(1).says("using");
    sandbox.line("cais rm -f busy").code(0).out("busy\n");
}

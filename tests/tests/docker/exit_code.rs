//! Exit codes: the container's own, and Docker's three for what went wrong before it ran.

use rustix::process::Signal;
use testkit::Sandbox;

#[test]
fn the_exit_code_of_the_container_is_passed_through() {
    let sandbox = Sandbox::new();
    for (script, code) in
        [("true", 0), ("false", 1), ("exit 42", 42), ("exit 255", 255), ("kill -KILL $$ & wait", 0)]
    {
        let run = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", script];
        // The first process of a PID namespace is out of reach of its own signals.
        sandbox.cais(run).code(code);
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let sandbox = Sandbox::new();
    for (signal, code) in [("KILL", 137), ("TERM", 143)] {
        let script = format!("kill -{signal} $$");
        // With --init the shell is not the first process and can be killed from inside.
        let run = ["run", "--rm", "--init", "--network", "none", "busybox", "sh", "-c", &script];
        sandbox.cais(run).code(code);
    }
}

#[test]
fn docker_s_three_codes() {
    let sandbox = Sandbox::new();
    let run = |words: &[&str]| {
        let line = [&["cais", "run", "--rm", "--network", "none"], words].concat().join(" ");
        sandbox.line(&line)
    };
    run(&["busybox", "no-such-program"]).code(127).says("no-such-program");
    run(&["busybox", "/no/such/program"]).code(127).says("/no/such/program");
    run(&["busybox", "/etc"]).code(126).says("/etc");
    run(&["busybox", "/etc/passwd"]).code(126).says("permission denied");
    run(&["--no-such-flag", "busybox", "true"]).code(125).says("--no-such-flag");
    run(&["no-such-image", "true"]).code(125).says("no-such-image");
}

#[test]
fn a_signal_to_the_client_reaches_the_container() {
    let sandbox = Sandbox::new();
    let script = "trap 'echo stopped; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let run = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", script];
    let running = sandbox.start(run);
    running.wait_for("ready\n");
    running.signal(Signal::TERM);
    running.finish().code(7).out("ready\nstopped\n");
}

#[test]
fn a_detached_container_keeps_its_exit_code() {
    let sandbox = Sandbox::new();
    let run =
        ["run", "-d", "--name", "seven", "--network", "none", "busybox", "sh", "-c", "exit 7"];
    let id = sandbox.cais(run).ok().to_owned();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    sandbox.cais(["wait", "seven"]).code(0).out("7\n");
    let format = "{{.State.Status}} {{.State.ExitCode}}";
    sandbox.cais(["inspect", "--format", format, &id[..12]]).code(0).out("exited 7\n");
}

#[test]
fn standard_streams_pass_through() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "busybox"]).ok();
    let run =
        ["run", "--rm", "-i", "--network", "none", "busybox", "sh", "-c", "cat; echo oops >&2"];
    let mut running = sandbox.start(run);
    running.write("one\ntwo\n");
    let outcome = running.finish();
    outcome.code(0).out("one\ntwo\n");
    assert_eq!(outcome.stderr, "oops\n");
}

#[test]
fn several_containers_are_stopped_together() {
    let sandbox = Sandbox::new();
    // The first ends only once the second has been asked to.
    let first = "trap 'until test -e /shared/asked; do sleep 0.05; done; exit' TERM; \
        touch /shared/first; while :; do sleep 0.05; done";
    let second = "trap 'touch /shared/asked; exit' TERM; \
        touch /shared/second; while :; do sleep 0.05; done";
    for (name, script) in [("first", first), ("second", second)] {
        let run = ["run", "-d", "--name", name, "-v", "shared:/shared", "--network", "none"];
        let words = [&run[..], &["busybox", "sh", "-c", script]].concat();
        let words: [&str; 12] = words.try_into().expect("a line of twelve words");
        let _ = sandbox.cais(words).ok();
        let ready = format!("until test -e /shared/{name}; do sleep 0.05; done");
        sandbox.cais(["exec", name, "sh", "-c", &ready]).code(0);
    }
    sandbox.line("cais stop -t -1 first second").code(0).out("first\nsecond\n");
}

//! Containers on a terminal.

use testkit::Sandbox;

#[test]
fn the_container_s_terminal_has_the_size_of_the_person_s() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull busybox").ok();
    let run = ["run", "--rm", "-it", "--network", "none", "busybox", "sh"];
    let mut shell = sandbox.start_on_terminal(run, (91, 31));
    shell.write("stty size\n");
    shell.wait_for("31 91");
    shell.resize(101, 41);
    // The new size arrives with a signal, so the shell asks until it is there.
    shell.write("until stty size | grep '41 101'; do :; done\n");
    shell.wait_for("\n41 101");
    shell.write("tty; exit 9\n");
    let outcome = shell.finish();
    outcome.code(9);
    assert!(outcome.stdout.contains("/dev/pts/0"), "{outcome}");
}

#[test]
fn control_c_reaches_the_container_and_not_the_client() {
    let sandbox = Sandbox::new();
    let script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.1; done";
    let _ = sandbox.line("cais pull busybox").ok();
    let run = ["run", "--rm", "-it", "--network", "none", "busybox", "sh", "-c", script];
    let mut running = sandbox.start_on_terminal(run, (80, 24));
    running.wait_for("ready");
    running.write("\x03");
    running.wait_for("caught");
    running.finish().code(4);
}

#[test]
fn a_terminal_is_refused_where_there_is_none() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.line("cais run --rm -it --network none busybox true");
    outcome.says("not a TTY");
    assert_ne!(outcome.code, 0);
}

#[test]
fn who_detached_comes_back() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull busybox").ok();
    let run = ["run", "-it", "--name", "shell", "--network", "none", "busybox", "sh"];
    let mut shell = sandbox.start_on_terminal(run, (80, 24));
    shell.write("echo one-$((1 + 1))\n");
    shell.wait_for("one-2");
    shell.write("\x10\x11");
    shell.finish().code(0);
    let mut shell = sandbox.start_on_terminal(["start", "-ai", "shell"], (80, 24));
    shell.write("echo two-$((1 + 1))\n");
    shell.wait_for("two-2");
    shell.write("\x10\x11");
    shell.finish().code(0);
    let mut shell = sandbox.start_on_terminal(["attach", "shell"], (80, 24));
    shell.write("exit 7\n");
    shell.finish().code(7);
    sandbox.line("cais attach shell").code(1).says("not running");
}

#[test]
fn input_and_signals_reach_a_detached_container_through_attach() {
    let sandbox = Sandbox::new();
    let script = "trap 'echo caught; exit 5' INT; read line; echo got $line; \
        while :; do sleep 0.1; done";
    let run =
        ["run", "-di", "--name", "reader", "--network", "none", "busybox", "sh", "-c", script];
    let _ = sandbox.cais(run).ok();
    let mut attached = sandbox.start(["attach", "reader"]);
    attached.write("this\n");
    attached.wait_for("got this\n");
    attached.signal(rustix::process::Signal::INT);
    attached.finish().code(5).out("got this\ncaught\n");
}

#[test]
fn a_further_command_goes_on_without_who_detached_from_it() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull busybox").ok();
    let _ = sandbox.line("cais run -d --network none --name host busybox sleep 1000").ok();
    let exec = ["exec", "-it", "--detach-keys", "ctrl-x", "host", "sh"];
    let mut shell = sandbox.start_on_terminal(exec, (80, 24));
    shell.write("echo one-$((1 + 1)); until [ -e /go ]; do sleep 0.1; done; echo on >/went\n");
    shell.wait_for("one-2");
    shell.write("\x18");
    shell.finish().code(0);
    let wait = "touch /go; until [ -s /went ]; do sleep 0.1; done; cat /went";
    sandbox.cais(["exec", "host", "sh", "-c", wait]).code(0).out("on\n");
}

#[test]
fn a_detached_command_may_write_and_have_a_terminal() {
    let sandbox = Sandbox::new();
    let _ = sandbox.line("cais pull busybox").ok();
    let _ = sandbox.line("cais run -d --network none --name host busybox sleep 1000").ok();
    let script = "until [ -e /go ]; do sleep 0.1; done; echo out && echo err >&2 && \
        { tty; test $? -lt 2; } >>/went";
    for flags in ["-d", "-dt"] {
        sandbox.cais(["exec", flags, "host", "sh", "-c", script]).code(0).out("");
    }
    // One of them has a terminal, and the other has none.
    let wait = "touch /go; until [ \"$(wc -l </went)\" = 2 ]; do sleep 0.1; done; sort /went";
    let went = sandbox.cais(["exec", "host", "sh", "-c", wait]);
    went.code(0).out("/dev/pts/0\nnot a tty\n");
}

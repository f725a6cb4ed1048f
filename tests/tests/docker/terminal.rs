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

//! Lines of several containers, and `up` in the foreground.

use rustix::process::Signal;
use testkit::Sandbox;

use super::{down, write};

#[test]
fn lines_are_shown_behind_names_until_all_have_ended() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  long-name: {image: busybox, command: echo one}\n  b: {image: busybox, command: sh -c 'echo two; echo oops >&2; exit 3'}\n  quiet: {image: busybox, command: echo nothing, attach: false}\n",
    );
    let up = sandbox.line("cais compose up");
    up.code(0);
    for line in [
        "long-name-1  | one\n",
        "b-1  | two\n",
        "b-1 exited with code 3\n",
        "long-name-1 exited with code 0\n",
    ] {
        assert!(up.stdout.contains(line), "{line:?}: {up}");
    }
    assert!(up.stderr.contains("| oops\n") && !up.stdout.contains("nothing"), "{up}");
    let logs = sandbox.line("cais compose logs");
    assert!(logs.stdout.contains("b-1          | two\n"), "{logs}");
    sandbox.line("cais compose logs --no-log-prefix long-name").out("one\n");
    sandbox.line("cais compose logs -n 0 b").out("");
    sandbox
        .line("cais compose up --no-log-prefix --no-attach b long-name")
        .out("one\nlong-name-1 exited with code 0\n");
    down(&sandbox);
}

#[test]
fn one_that_exits_ends_all_where_that_is_asked_for() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  job: {image: busybox, command: sh -c 'exit 7'}\n  web: {image: busybox, command: sleep 1000, init: true, stop_grace_period: 5s}\n",
    );
    sandbox
        .line("cais compose up --abort-on-container-exit")
        .code(7)
        .says("Aborting on container exit");
    sandbox.line("cais compose ps -q").out("");
    sandbox.line("cais compose up --exit-code-from job").code(7);
    sandbox.line("cais compose up --abort-on-container-failure").code(7);
    down(&sandbox);
}

#[test]
fn a_signal_stops_everything_gracefully() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  web: {image: busybox, command: \"sh -c 'trap \\\"echo bye; exit 0\\\" TERM; echo ready; while :; do sleep 0.05; done'\"}\n",
    );
    let up = sandbox.start(["compose", "up"]);
    up.wait_for("ready");
    up.signal(Signal::INT);
    let up = up.finish();
    up.code(130).says("Gracefully Stopping");
    assert!(up.stdout.contains("| bye\n"), "{up}");
    sandbox.line("cais compose ps -q").out("");
    down(&sandbox);
}

#[test]
fn a_signal_while_one_waits_for_another_stops_what_there_is() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  db:\n    image: busybox\n    command: \"sh -c 'trap \\\"echo bye; exit 0\\\" TERM; echo ready; while :; do sleep 0.05; done'\"\n    healthcheck: {test: test -e /healthy, interval: 1s, retries: 1000}\n  web:\n    image: busybox\n    command: echo never\n    depends_on: {db: {condition: service_healthy}}\n",
    );
    let up = sandbox.start(["compose", "up"]);
    up.wait_for("ready");
    up.signal(Signal::INT);
    let up = up.finish();
    up.code(130).says("Gracefully Stopping");
    assert!(up.stdout.contains("| bye\n"), "{up}");
    assert!(!up.stdout.contains("never"), "{up}");
    sandbox.line("cais compose ps -q").out("");
    down(&sandbox);
}

#[test]
fn lines_are_followed_and_new_containers_too() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  a: {image: busybox, command: sh -c 'echo first; exec sleep 1000', init: true}\n  b: {image: busybox, command: sh -c 'echo second; exec sleep 1000', init: true}\n",
    );
    let _ = sandbox.line("cais compose up -d a").ok();
    let logs = sandbox.start(["compose", "logs", "-f"]);
    logs.wait_for("first");
    let _ = sandbox.line("cais compose up -d b").ok();
    logs.wait_for("second");
    let _ = sandbox.line("cais compose kill").ok();
    logs.finish().code(0);
    down(&sandbox);
}

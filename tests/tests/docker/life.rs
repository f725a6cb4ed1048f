//! A container's life beyond its start and its end: paused, restarted, changed, checked.

use rustix::process::Signal;
use testkit::Sandbox;

/// Runs a detached container without a network.
fn run(sandbox: &Sandbox, name: &str, options: &str, script: &str) {
    let line = format!("$E run -d --network none --name {name} {options} busybox sh -c '{script}'");
    let _ = sandbox.shell(&line).ok();
}

/// Waits until `$E inspect` shows `expected` for a template.
fn wait_for(sandbox: &Sandbox, name: &str, template: &str, expected: &str) {
    let script = format!(
        "i=0; until [ \"$($E inspect -f '{template}' {name})\" = '{expected}' ]; do \
         i=$((i+1)); [ $i -lt 2000 ] || {{ $E inspect {name}; exit 1; }}; done"
    );
    let _ = sandbox.shell(&script).ok();
}

#[test]
fn what_is_paused_stands_still_and_can_be_ended() {
    let sandbox = Sandbox::new();
    run(&sandbox, "frozen", "", "while :; do echo x >>/count; done");
    let count = "wc -c </proc/$($E inspect -f '{{.State.Pid}}' frozen)/root/count";
    let _ = sandbox.shell(&format!("until [ $({count} 2>/dev/null) ]; do :; done")).ok();
    let _ = sandbox.cais(["pause", "frozen"]).ok();
    let counts = sandbox.shell(&format!("{count}; {count}; $E ps >/dev/null; {count}"));
    let counts: Vec<&str> = counts.ok().lines().collect();
    assert!(counts.iter().all(|n| n == &counts[0]), "{counts:?}");
    // A signal does not wait until somebody lets the container go on.
    let _ = sandbox.cais(["stop", "-t", "0", "frozen"]).ok();
    wait_for(&sandbox, "frozen", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    let _ = sandbox.cais(["start", "frozen"]).ok();
    let _ = sandbox.cais(["pause", "frozen"]).ok();
    let _ = sandbox.cais(["kill", "frozen"]).ok();
    wait_for(&sandbox, "frozen", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    let _ = sandbox.cais(["start", "frozen"]).ok();
    let _ = sandbox.cais(["pause", "frozen"]).ok();
    let _ = sandbox.cais(["rm", "-f", "frozen"]).ok();
}

#[test]
fn a_container_is_started_again_until_somebody_stops_it() {
    let sandbox = Sandbox::new();
    run(&sandbox, "again", "--restart always", "echo run; exit 3");
    // Its third pause is 400 ms long: it will be found waiting.
    wait_for(&sandbox, "again", "{{.RestartCount}} {{.State.Status}}", "2 restarting");
    let _ = sandbox.cais(["stop", "again"]).ok();
    sandbox.cais(["wait", "again"]).out("3\n");
    wait_for(&sandbox, "again", "{{.RestartCount}} {{.State.Status}}", "2 exited");
    sandbox.cais(["logs", "again"]).out("run\nrun\nrun\n");
    // It runs, and is killed by us: not by itself.
    run(&sandbox, "killed", "--restart always", "exec sleep 1000");
    let _ = sandbox.cais(["kill", "killed"]).ok();
    wait_for(&sandbox, "killed", "{{.RestartCount}} {{.State.Status}}", "0 exited");
    run(&sandbox, "crashed", "--restart unless-stopped", "exec sleep 1000");
    let _ = sandbox.shell("kill -KILL $($E inspect -f '{{.State.Pid}}' crashed)").ok();
    wait_for(&sandbox, "crashed", "{{.RestartCount}} {{.State.Status}}", "1 running");
    let _ = sandbox.cais(["rm", "-f", "again", "killed", "crashed"]).ok();
}

#[test]
fn a_monitor_that_is_killed_while_it_waits_is_missed() {
    let sandbox = Sandbox::new();
    run(&sandbox, "lost", "--restart always", "exit 3");
    wait_for(&sandbox, "lost", "{{.RestartCount}} {{.State.Status}}", "3 restarting");
    let monitor =
        "grep -o '\"monitor_pid\":[0-9]*' $CAIS_ROOT/containers/*/state.json | cut -d: -f2";
    let _ = sandbox.shell(&format!("kill -KILL $({monitor})")).ok();
    wait_for(&sandbox, "lost", "{{.State.Status}}", "exited");
    let _ = sandbox.cais(["start", "lost"]).ok();
    let _ = sandbox.cais(["rm", "-f", "lost"]).ok();
}

#[test]
fn a_foreground_run_ends_with_the_first_end() {
    let sandbox = Sandbox::new();
    let run = ["run", "--network", "none", "--name", "fore", "--restart", "on-failure:1"];
    let line = format!("$E {} busybox sh -c 'echo out; echo err >&2; exit 4'", run.join(" "));
    sandbox.shell(&line).code(4).out("out\n").says("err");
    wait_for(&sandbox, "fore", "{{.RestartCount}} {{.State.Status}}", "1 exited");
    sandbox.cais(["logs", "fore"]).out("out\nout\n");
}

#[test]
fn signals_reach_a_container_that_will_be_started_again() {
    let sandbox = Sandbox::new();
    let script = "trap 'echo stopped; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let run = [
        "run",
        "--network",
        "none",
        "--name",
        "told",
        "--restart",
        "on-failure",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let running = sandbox.start(run);
    running.wait_for("ready\n");
    running.signal(Signal::TERM);
    running.finish().code(7).out("ready\nstopped\n");
    wait_for(&sandbox, "told", "{{.RestartCount}} {{.State.Status}}", "1 running");
    let _ = sandbox.cais(["rm", "-f", "told"]).ok();
}

#[test]
fn the_sick_are_replaced_where_that_is_asked() {
    let sandbox = Sandbox::new();
    let check = "--health-cmd \"test -e /well\" --health-interval 20ms --health-retries 2";
    // It does not obey, so it is killed after its timeout.
    let options = format!("--restart on-unhealthy --stop-timeout 0 {check}");
    run(&sandbox, "sick", &options, "trap \"\" TERM; while :; do sleep 0.05; done");
    wait_for(&sandbox, "sick", "{{.RestartCount}}", "2");
    let _ = sandbox.shell("until $E exec sick touch /well 2>/dev/null; do :; done").ok();
    wait_for(&sandbox, "sick", "{{.State.Health.Status}}", "healthy");
    let _ = sandbox.cais(["rm", "-f", "sick"]).ok();
}

#[test]
fn a_check_that_hangs_or_cannot_run_is_a_failed_check() {
    let sandbox = Sandbox::new();
    let often = "--health-interval 20ms --health-retries 1 --health-timeout 50ms";
    run(
        &sandbox,
        "hangs",
        &format!("{often} --health-cmd \"echo slow; sleep 1000\""),
        "sleep 1000",
    );
    wait_for(&sandbox, "hangs", "{{.State.Health.Status}}", "unhealthy");
    let last = "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}";
    sandbox
        .cais(["inspect", "-f", last, "hangs"])
        .out("-1 Health check exceeded timeout (50ms): slow\n\n");
    let _ = sandbox.cais(["rm", "-f", "hangs"]).ok();
    run(&sandbox, "output", &format!("{often} --health-cmd \"yes | head -c 9999\""), "sleep 1000");
    wait_for(&sandbox, "output", "{{.State.Health.Status}}", "healthy");
    sandbox
        .cais(["inspect", "-f", "{{len (index .State.Health.Log 0).Output}}", "output"])
        .out("4096\n");
    let _ = sandbox.cais(["rm", "-f", "output"]).ok();
}

#[test]
fn limits_change_while_it_runs_and_stay() {
    let sandbox = Sandbox::new();
    run(&sandbox, "grown", "-m 64m", "exec sleep 1000");
    let limit = "$E exec grown sh -c 'cat /sys/fs/cgroup/memory.max \
                 /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null'";
    sandbox.shell(limit).out("67108864\n");
    let _ = sandbox.cais(["update", "-m", "96m", "--memory-swap", "96m", "grown"]).ok();
    sandbox.shell(limit).out("100663296\n");
    let _ = sandbox.cais(["restart", "-t", "0", "grown"]).ok();
    sandbox.shell(limit).out("100663296\n");
    let _ = sandbox.cais(["update", "--restart", "on-failure:1", "grown"]).ok();
    let _ = sandbox.shell("kill -KILL $($E inspect -f '{{.State.Pid}}' grown)").ok();
    wait_for(&sandbox, "grown", "{{.RestartCount}} {{.State.Status}}", "1 running");
    let _ = sandbox.cais(["rm", "-f", "grown"]).ok();
}

#[test]
fn a_restarted_container_keeps_its_files() {
    let sandbox = Sandbox::new();
    run(&sandbox, "brief", "--rm", "echo x >>/file; cat /file; exec sleep 1000");
    let _ = sandbox.shell("until $E logs brief | grep -q x; do :; done").ok();
    let _ = sandbox.cais(["restart", "-t", "0", "brief"]).ok();
    let _ = sandbox.shell("until [ \"$($E logs brief | wc -l)\" = 3 ]; do :; done").ok();
    let _ = sandbox.cais(["stop", "-t", "0", "brief"]).ok();
    sandbox.cais(["inspect", "brief"]).code(1).says("No such object");
}

#[test]
fn usage_is_shown_in_docker_s_columns() {
    let sandbox = Sandbox::new();
    run(&sandbox, "busy", "-m 64m", "while :; do :; done");
    let shown = sandbox.cais(["stats", "--no-stream"]);
    let lines: Vec<&str> = shown.ok().lines().collect();
    let columns = "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS";
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>().join(" "), columns);
    assert!(lines[1].contains("busy") && lines[1].contains("/ 64MiB"), "{}", lines[1]);
    let cpu = sandbox.cais(["stats", "--no-stream", "--format", "{{.CPUPerc}}", "busy"]);
    let cpu: f64 = cpu.ok().trim().trim_end_matches('%').parse().expect("a number");
    assert!(cpu > 1.0, "{cpu}");
    let _ = sandbox.cais(["rm", "-f", "busy"]).ok();
}

#[test]
fn another_run_root_does_not_end_what_it_does_not_know() {
    let sandbox = Sandbox::new();
    run(&sandbox, "away", "", "exec sleep 1000");
    let elsewhere = "CAIS_RUN=$PWD/elsewhere $E";
    for command in ["ps -a", "inspect away", "exec away true", "system prune -f"] {
        let _ = sandbox.shell(&format!("{elsewhere} {command}")).ok();
    }
    sandbox.shell(&format!("{elsewhere} rm away")).code(1).says("running");
    sandbox
        .shell(&format!("{elsewhere} start away; $E ps --format '{{{{.State}}}}'"))
        .out("away\nrunning\n");
    let _ = sandbox.cais(["rm", "-f", "away"]).ok();
}

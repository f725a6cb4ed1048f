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
        "end=$(($(date +%s)+60)); until [ \"$($E inspect -f '{template}' {name})\" = '{expected}' ]; do \
         [ $(date +%s) -lt $end ] || {{ $E inspect {name}; exit 1; }}; done"
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
    // Its pauses get longer: it will be found waiting.
    let waits = "{{if ge .RestartCount 2}}{{.State.Status}}{{end}}";
    wait_for(&sandbox, "again", waits, "restarting");
    let _ = sandbox.cais(["stop", "again"]).ok();
    sandbox.cais(["wait", "again"]).out("3\n");
    wait_for(&sandbox, "again", "{{.State.Status}}", "exited");
    let restarts = sandbox.cais(["inspect", "-f", "{{.RestartCount}}", "again"]);
    let restarts: usize = restarts.ok().parse().expect("a number");
    sandbox.cais(["logs", "again"]).out(&"run\n".repeat(restarts + 1));
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
    let check = "-v $PWD/health:/health --health-cmd \"test -e /health/well\" \
                 --health-interval 20ms --health-retries 2";
    std::fs::create_dir(sandbox.work().join("health")).unwrap();
    // It does not obey, so it is killed after its timeout.
    let options = format!("--restart on-unhealthy --stop-timeout 0 {check}");
    run(&sandbox, "sick", &options, "trap \"\" TERM; while :; do sleep 0.05; done");
    wait_for(&sandbox, "sick", "{{ge .RestartCount 2}}", "true");
    std::fs::write(sandbox.work().join("health/well"), "").unwrap();
    wait_for(&sandbox, "sick", "{{.State.Health.Status}}", "healthy");
    let _ = sandbox.cais(["rm", "-f", "sick"]).ok();
}

#[test]
fn a_check_that_hangs_or_cannot_run_is_a_failed_check() {
    let sandbox = Sandbox::new();
    let often = "--health-interval 20ms --health-retries 1";
    let hangs = "--health-timeout 5s --health-cmd \"echo slow; sleep 1000\"";
    run(&sandbox, "hangs", &format!("{often} {hangs}"), "sleep 1000");
    wait_for(&sandbox, "hangs", "{{.State.Health.Status}}", "unhealthy");
    let last = "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}";
    sandbox
        .cais(["inspect", "-f", last, "hangs"])
        .out("-1 Health check exceeded timeout (5s): slow\n\n");
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

#[test]
fn who_cannot_hear_a_stop_is_named_before_the_wait() {
    let sandbox = Sandbox::new();
    run(&sandbox, "deaf", "", "while :; do sleep 0.01; done");
    let stopped = sandbox.cais(["stop", "-t", "1", "deaf"]);
    stopped.code(0).out("deaf\n").says(
        "process 1 of container deaf has no handler for SIGTERM, which does nothing then: it is \
         killed after 1 second\nhint: run it with --init",
    );
    // With an init, a handler, or no time, there is nothing to be said.
    run(&sandbox, "heard", "--init", "while :; do sleep 0.01; done");
    assert_eq!(sandbox.cais(["stop", "heard"]).stderr, "");
    run(&sandbox, "handled", "", "trap exit TERM; touch /ready; while :; do sleep 0.01; done");
    let _ = sandbox.shell("until $E exec handled test -e /ready; do :; done").ok();
    assert_eq!(sandbox.cais(["stop", "handled"]).stderr, "");
    let _ = sandbox.cais(["start", "deaf"]).ok();
    assert_eq!(sandbox.cais(["stop", "-t", "0", "deaf"]).stderr, "");
    let _ = sandbox.cais(["rm", "deaf", "heard", "handled"]).ok();
}

#[test]
fn an_honest_proc_tells_the_limits() {
    let sandbox = Sandbox::new();
    let ask = "nproc; cat /sys/devices/system/cpu/online; grep -c ^processor /proc/cpuinfo; \
               grep -c \"^cpu[0-9]\" /proc/stat; grep MemTotal /proc/meminfo; [ $(cut -d. -f1 /proc/uptime) -lt 60 ] && echo young; cut -d\" \" -f1 /proc/loadavg | grep -qx \"[0-9.]*\" && echo load; \
               stat -c \"%a %u %F\" /proc/meminfo; echo x 2>/dev/null >/proc/meminfo || echo refused";
    let flags = "--network none --honest-proc --cpus 0.5 -m 64m";
    let expected =
        "1\n0\n1\n1\nMemTotal:          65536 kB\nyoung\nload\n444 0 regular file\nrefused\n";
    sandbox.shell(&format!("$E run --rm {flags} busybox sh -c '{ask}'")).code(0).out(expected);
    sandbox
        .shell(&format!(
            "$E run --rm {flags} --userns 100000:65536 busybox sh -c 'grep MemTotal /proc/meminfo'"
        ))
        .code(0)
        .out("MemTotal:          65536 kB\n");
    // A limit that is changed shows at once, and an exec sees the same.
    run(&sandbox, "honest", "--honest-proc -m 64m", "exec sleep 1000");
    let look = "$E exec honest grep MemTotal /proc/meminfo";
    sandbox
        .shell(&format!("{look}; $E update -m 32m --memory-swap 32m honest; {look}"))
        .out("MemTotal:          65536 kB\nhonest\nMemTotal:          32768 kB\n");
    // Without limits, it is the machine's; memory is what the container uses.
    sandbox.shell("$E run --rm --network none --honest-proc busybox nproc; nproc").code(0);
    let machine = "a=$($E run --rm --network none --honest-proc busybox sh -c 'nproc; grep MemTotal /proc/meminfo'); \
                   b=$(nproc; grep MemTotal /proc/meminfo); [ \"$(echo $a)\" = \"$(echo $b)\" ] && echo same";
    sandbox.shell(machine).out("same\n");
    let _ = sandbox.shell("$E rm -f honest").ok();
}

#[test]
fn what_ran_out_of_memory_says_who_was_killed() {
    let sandbox = Sandbox::new();
    // The first process stays: only its child is killed.
    let greedy = "tail /dev/zero; echo $?; exit 7";
    run(&sandbox, "greedy", "-m 16m --memory-swap 16m", greedy);
    sandbox.shell("$E wait greedy; $E logs greedy 2>/dev/null").out("7\n137\n");
    let state = "$E inspect -f '{{.State.OOMKilled}} {{.State.OOMKills}} {{(index .State.OOMVictims 0).Name}}' greedy";
    sandbox.shell(state).out("true 1 tail\n");
    let peak = sandbox.shell("$E inspect -f '{{.State.MemoryPeak}}' greedy");
    let peak: u64 = peak.ok().trim().parse().expect("a number of bytes");
    assert!((12 << 20..=17 << 20).contains(&peak), "{peak}");
    sandbox
        .shell("$E ps -a --format '{{.Status}}' | grep -c 'Exited (7) .* ago (out of memory)'")
        .out("1\n");
    sandbox.shell("$E events --since 1h --until 0s --filter event=oom --format '{{.Actor.Attributes.victims}}'").out("tail\n");
    run(&sandbox, "modest", "-m 16m", "true");
    sandbox
        .shell("$E wait modest; $E inspect -f '{{.State.OOMKilled}} {{.State.OOMKills}}' modest")
        .out("0\nfalse 0\n");
    let _ = sandbox.shell("$E rm greedy modest").ok();
}

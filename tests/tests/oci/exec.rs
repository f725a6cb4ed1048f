//! Further processes.

use std::fs;

use serde_json::{Value, json};

use super::Oci;

/// A container that waits.
fn waiting() -> Oci {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |_| ());
    oci.run_detached("a");
    oci
}

#[test]
fn a_process_is_what_the_flags_say() {
    let oci = waiting();
    oci.line("exec a echo hello").code(0).out("hello\n");
    oci.words(&["exec", "a", "sh", "-c", "exit 9"]).code(9);
    oci.line("exec --cwd /tmp a pwd").code(0).out("/tmp\n");
    oci.line("exec -u 5:6 -g 7 a id").code(0).out("uid=5 gid=6 groups=7\n");
    let env = oci.line("exec -e A=b -e C=d a env");
    assert!(env.ok().contains("A=b\n") && env.ok().contains("C=d\n"), "{env}");
    let status =
        ["exec", "--cap", "CAP_NET_ADMIN", "--no-new-privs", "a", "cat", "/proc/self/status"];
    let status = oci.words(&status);
    for line in ["CapEff:\t0000000000001000", "CapBnd:\t0000000000001000", "NoNewPrivs:\t1"] {
        assert!(status.ok().contains(line), "{line} in {status}");
    }
    let process = json!({
        "user": { "uid": 3, "gid": 4 }, "args": ["id"], "env": ["PATH=/bin"], "cwd": "/",
    });
    fs::write(oci.path("process.json"), process.to_string()).unwrap();
    oci.line("exec --process process.json a").code(0).out("uid=3 gid=4\n");
    oci.delete("a");
}

#[test]
fn what_cannot_be_executed_is_worded_as_go_does() {
    let oci = waiting();
    for (line, part) in [
        ("exec a nope", "exec: \\\"nope\\\": executable file not found in $PATH"),
        ("exec a /nope", "exec: \\\"/nope\\\": stat /nope: no such file or directory"),
        ("exec a /etc", "exec: \\\"/etc\\\": permission denied"),
        ("exec a", "exec args cannot be empty"),
        ("exec --cwd etc a true", "Cwd must be an absolute path"),
        ("exec -u root a true", "bad uid"),
        ("exec --cap CAP_NOPE a true", "unknown capability"),
        ("exec --apparmor x a true", "AppArmor"),
        ("exec --process nope.json a", "nope.json"),
        ("exec nobody true", "container does not exist"),
        ("exec --cgroup ../x a true", "bad sub cgroup path"),
        ("exec --cgroup nope:/x a true", "unknown controller nope"),
    ] {
        oci.line(line).code(255).says(part);
    }
    oci.delete("a");
}

#[test]
fn it_can_be_left_alone() {
    let oci = waiting();
    let _ = oci.detached("exec --detach --pid-file pid a sleep 1000").ok();
    let pid: i32 = fs::read_to_string(oci.path("pid")).unwrap().parse().unwrap();
    let pids: Vec<i32> = serde_json::from_str(oci.line("ps --format json a").ok()).unwrap();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&pid), "{pid} in {pids:?}");
    let table = oci.line("ps a");
    assert_eq!(table.ok().lines().count(), 3, "{table}");
    oci.delete("a");
}

#[test]
fn a_paused_container_takes_it_when_asked() {
    let oci = waiting();
    let _ = oci.line("pause a").ok();
    let running = oci.start("exec --ignore-paused a echo late");
    super::wait_until("it is in the container", || {
        let pids: Value = serde_json::from_str(oci.line("ps --format json a").ok()).unwrap();
        pids.as_array().unwrap().len() == 2
    });
    let _ = oci.line("resume a").ok();
    running.finish().code(0).out("late\n");
    oci.delete("a");
}

#[test]
fn its_system_calls_are_those_that_the_container_was_created_with() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["sethostname"], "action": "SCMP_ACT_ERRNO" }],
        });
    });
    oci.run_detached("a");
    // Whoever writes the bundle later changes nothing of that.
    oci.bundle("a", &["sleep", "1000"], |_| ());
    let status = oci.line("exec a cat /proc/self/status");
    assert!(status.ok().contains("Seccomp:\t2"), "{status}");
    oci.delete("a");
}

#[test]
fn descriptors_are_passed_on_and_no_others() {
    let oci = waiting();
    fs::write(oci.path("three"), "third").unwrap();
    let run = |script: &str| oci.sandbox.shell(&format!("{{ {script}; }} 3<three 4<three"));
    let list = "ls /proc/self/fd";
    run("$E oci --root state exec --preserve-fds 1 a cat /proc/self/fd/3").code(0).out("third");
    // One more is that of `ls` itself.
    run(&format!("$E oci --root state exec a {list}")).code(0).out("0\n1\n2\n3\n");
    run(&format!("$E oci --root state exec --preserve-fds 2 a {list}"))
        .code(0)
        .out("0\n1\n2\n3\n4\n5\n");
    run("$E oci --root state exec --preserve-fds 3 a true")
        .code(255)
        .says("unable to stat preserved-fd 2 (of 3)");
    oci.delete("a");
}

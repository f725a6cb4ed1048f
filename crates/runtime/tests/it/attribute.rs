//! How a process is scheduled, limited and placed.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::bundle::{Bundle, Ran};

/// A field of `/proc/self/stat`, counted from 1 as in proc(5).
fn stat_field(stat: &str, number: usize) -> i64 {
    let after = stat.rsplit_once(')').unwrap().1;
    after.split_ascii_whitespace().nth(number - 3).unwrap().parse().unwrap()
}

const NICE: usize = 19;
const REALTIME_PRIORITY: usize = 40;
const POLICY: usize = 41;

#[test]
fn it_is_scheduled_as_asked() {
    let mut bundle = Bundle::script("cat /proc/self/stat");
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 19});
    let stat = bundle.run().ok();
    assert_eq!((stat_field(&stat, POLICY), stat_field(&stat, NICE)), (3, 19));
    bundle.config["process"]["scheduler"] =
        json!({"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    bundle.args(&["/bin/cat", "/proc/self/stat"]);
    let stat = bundle.run().ok();
    assert_eq!((stat_field(&stat, POLICY), stat_field(&stat, REALTIME_PRIORITY)), (1, 7));
    bundle.config["process"]["scheduler"] = json!({
        "policy": "SCHED_DEADLINE", "runtime": 42_000, "deadline": 100_000, "period": 1_000_000,
    });
    assert_eq!(stat_field(&bundle.run().ok(), POLICY), 6);
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 20});
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("scheduler.nice"), "{complaint}");
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_NONE"});
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("process.scheduler"), "{complaint}");
}

#[test]
fn its_input_and_output_have_a_priority() {
    let mut bundle = Bundle::script("ionice");
    std::os::unix::fs::symlink("busybox", bundle.rootfs("bin/ionice")).unwrap();
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    assert_eq!(bundle.run().ok(), "best-effort: prio 6\n");
    bundle.config["process"]["ioPriority"]["priority"] = json!(8);
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("ioPriority"), "{complaint}");
}

#[test]
fn its_memory_has_a_policy() {
    let mut bundle = Bundle::script("echo; cat /proc/self/numa_maps");
    let mut policy_of = |policy: Value| {
        bundle.config["linux"]["memoryPolicy"] = policy;
        bundle.run()
    };
    for (mode, shown) in [("MPOL_INTERLEAVE", "interleave:0"), ("MPOL_BIND", "bind:0")] {
        let output = policy_of(json!({"mode": mode, "nodes": "0"})).ok();
        assert!(output.contains(&format!(" {shown} ")), "{mode}: {output}");
    }
    let wrong = policy_of(json!({"mode": "MPOL_DEFAULT", "nodes": "0-7"})).fails(125);
    assert!(wrong.contains("requires 0 nodes but got 8"), "{wrong}");
    let wrong = policy_of(json!({"mode": "INTERLEAVE", "nodes": "0"})).fails(125);
    assert!(wrong.contains("invalid memory policy mode"), "{wrong}");
}

#[test]
fn a_further_process_has_the_containers_policies() {
    let mut bundle = Bundle::script("uname -m; sleep 1000");
    std::os::unix::fs::symlink("busybox", bundle.rootfs("bin/uname")).unwrap();
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.config["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]});
    bundle.args(&["/bin/sh", "-c", "echo; sleep 1000"]);
    let running = bundle.start();
    let script = "uname -m; cat /proc/self/numa_maps";
    let output = bundle.exec(&running, &["/bin/sh", "-c", script]).ok();
    let machine = output.lines().next().unwrap();
    assert!(!machine.contains("64"), "{machine}");
    assert!(output.contains("prefer=relative:0"), "{output}");
    running.kill().fails(137);
    bundle.config["linux"]["personality"]["flags"] = json!(["SHORT_INODE"]);
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("linux.personality.flags"), "{complaint}");
}

/// Runs a command on the first processor only.
fn on_first(command: &Command) -> Ran {
    let mut other = Command::new("taskset");
    other.args(["-c", "0"]).arg(command.get_program()).args(command.get_args());
    other.output().unwrap().into()
}

fn allowed(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().into()
}

#[test]
fn it_runs_where_the_specification_says_and_not_where_its_caller_does() {
    let own = allowed(&fs::read_to_string("/proc/self/status").unwrap());
    let mut bundle = Bundle::script("cat /proc/self/status; echo; sleep 1000");
    let ran = {
        bundle.args(&["/bin/cat", "/proc/self/status"]);
        on_first(&bundle.command())
    };
    assert_eq!(allowed(&ran.ok()), own);
    bundle.args(&["/bin/sh", "-c", "echo; sleep 1000"]);
    let running = bundle.start();
    let show = ["/bin/cat", "/proc/self/status"];
    let ran = on_first(&bundle.exec_command(&running, &show));
    assert_eq!(allowed(&ran.ok()), own);
    for (affinity, expected) in [
        (json!({"initial": "0"}), "0"),
        (json!({"final": "0"}), "0"),
        (json!({"initial": "0", "final": ""}), "0"),
        (json!({"initial": "0", "final": own.clone()}), own.as_str()),
    ] {
        bundle.config["process"]["execCPUAffinity"] = affinity;
        assert_eq!(allowed(&bundle.exec(&running, &show).ok()), expected);
    }
    for (affinity, field) in
        [(json!({"initial": "x"}), "execCPUAffinity"), (json!({"final": "5000"}), "final")]
    {
        bundle.config["process"]["execCPUAffinity"] = affinity;
        let complaint = bundle.exec(&running, &show).fails(125);
        assert!(complaint.contains(field), "{complaint}");
    }
    running.kill().fails(137);
}

#[test]
fn limits_that_cannot_be_are_refused() {
    let hard: u64 = {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        line.split_ascii_whitespace().nth(4).unwrap().parse().unwrap()
    };
    let limit = |soft: u64, hard: u64| json!({"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard});
    let cases = [
        (json!([limit(9, 10), limit(9, 10)]), "RLIMIT_NOFILE is named twice"),
        (json!([limit(11, 10)]), "is above the hard one"),
        (json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]), "process.rlimits[0]"),
    ];
    for (limits, expected) in cases {
        let mut bundle = Bundle::new();
        bundle.config["process"]["rlimits"] = limits;
        let complaint = bundle.run().fails(125);
        assert!(complaint.contains(expected), "{complaint}");
    }
    // Privileged or not, it is done or said.
    let above = hard + 1;
    for user_namespace in [false, true] {
        let mut bundle = Bundle::script("ulimit -Hn; ulimit -n");
        if user_namespace {
            bundle.map_ids();
        }
        bundle.config["process"]["rlimits"] = json!([limit(above, above)]);
        let ran = bundle.run();
        match ran.code {
            0 => assert_eq!(ran.stdout, format!("{above}\n{above}\n")),
            _ => assert!(ran.fails(125).contains("RLIMIT_NOFILE"), "it must be named"),
        }
    }
}

#[test]
fn a_limit_of_few_descriptors_is_no_obstacle() {
    let mut bundle = Bundle::script("ulimit -n");
    bundle.config["process"]["cwd"] = json!("/tmp/deep/er");
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4}]);
    assert_eq!(bundle.run().ok(), "4\n");
}

#[test]
fn what_is_not_granted_is_told() {
    let mut bundle = Bundle::script("cat /proc/self/status");
    let given = json!(["CAP_KILL", "CAP_UNKNOWN"]);
    bundle.config["process"]["capabilities"] = json!({
        "bounding": given, "permitted": given, "effective": given, "ambient": ["CAP_KILL"],
    });
    let ran = bundle.run();
    assert!(ran.stderr.contains("CAP_UNKNOWN"), "{ran:?}");
    assert!(ran.stderr.contains("can't raise ambient capability CAP_KILL: "), "{ran:?}");
    assert!(ran.ok().contains("CapPrm:\t0000000000000020"));
}

/// Whether the kernel enforces profiles of AppArmor; none that tests name is loaded.
pub(super) fn has_apparmor() -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.trim() == "Y")
}

#[test]
fn sections_and_fields_without_a_meaning_here_are_named() {
    let cases = [
        ("/vm", json!({"kernel": {"path": "/vmlinuz"}}), "`vm`"),
        ("/windows", json!({"layerFolders": ["c"]}), "`windows`"),
        ("/solaris", json!({}), "`solaris`"),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt"),
        ("/linux/mountLabel", json!("a:b:c"), "linux.mountLabel"),
        ("/process/selinuxLabel", json!("a:b:c"), "process.selinuxLabel"),
        ("/process/apparmorProfile", json!("x"), "process.apparmorProfile"),
    ];
    for (pointer, value, expected) in cases {
        let mut bundle = Bundle::new();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(parent).unwrap()[name] = value;
        let complaint = bundle.run().fails(125);
        if pointer == "/process/apparmorProfile" && has_apparmor() {
            assert!(complaint.contains("exec x") && complaint.contains("apparmor"), "{complaint}");
            continue;
        }
        assert!(complaint.contains(expected) && complaint.contains("not supported"), "{complaint}");
    }
}

//! Groups that systemd makes. It runs in the virtual machine; elsewhere each test returns at once.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::bundle::{Bundle, mount};

/// Whether systemd is the first process. In the machine's second part it must be.
fn is_here() -> bool {
    let here = Path::new("/run/systemd/system").is_dir();
    let promised = std::env::var_os("CAIS_TEST_SYSTEMD").is_some();
    assert!(here || !promised, "systemd does not run");
    // What a developer's machine has is left alone.
    promised
}

/// A property of a unit, as systemd knows it.
fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", name, unit]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

/// The group's path and limits, as the container sees them.
const LOOK: &str = "cat /proc/1/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max \
                    /sys/fs/cgroup/cpu.max";

/// A bundle in a unit of this name.
fn bundle(script: &str, name: &str) -> Bundle {
    let mut bundle = Bundle::script(script);
    bundle.remove_mount("/sys");
    bundle.add_mount(mount("none", "/sys", "/sys", "rbind,ro"));
    bundle.add_mount(mount("cgroup", "cgroup", "/sys/fs/cgroup", "ro"));
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.annotate("unit", format!("cais-test.slice:cais:{name}"));
    bundle.config["linux"]["cgroupsPath"] = json!(format!("cais-test.slice:cais:{name}"));
    bundle
}

fn is_gone(unit: &str) {
    assert_eq!(property(unit, "LoadState"), "not-found", "{unit}");
    let group = Path::new("/sys/fs/cgroup/cais.slice/cais-test.slice").join(unit);
    assert!(!group.exists(), "{group:?}");
}

#[test]
fn a_scope_has_the_limits_and_is_gone_with_its_container() {
    if !is_here() {
        return;
    }
    let mut bundle = bundle(&format!("{LOOK}; echo; echo; sleep 1000"), "limits");
    bundle.config["linux"]["resources"] = json!({
        "memory": {"limit": 67_108_864, "swap": 134_217_728, "reservation": 33_554_432},
        "pids": {"limit": 9},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
        "devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "access": "m"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
        ],
        "unified": {"memory.high": "50331648"},
    });
    let mut running = bundle.start();
    let seen: Vec<String> = (0..3).map(|_| running.read_line()).collect();
    assert_eq!(seen, ["67108864", "9", "50000 100000"], "after the line of the start itself");
    let unit = "cais-limits.scope";
    for (name, want) in [
        ("ActiveState", "active"),
        ("Slice", "cais-test.slice"),
        ("Delegate", "yes"),
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemoryHigh", "50331648"),
        ("TasksMax", "9"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("AllowedCPUs", "0"),
        ("DevicePolicy", "strict"),
        ("ControlGroup", "/cais.slice/cais-test.slice/cais-limits.scope"),
    ] {
        assert_eq!(property(unit, name), want, "{name}");
    }
    let devices = property(unit, "DeviceAllow");
    assert!(devices.contains("/dev/char/1:3 rwm") && devices.contains("char-* m"), "{devices}");
    // The placeholder is gone: only what the container runs is there.
    let procs = "/sys/fs/cgroup/cais.slice/cais-test.slice/cais-limits.scope/cgroup.procs";
    let procs = fs::read_to_string(procs).unwrap();
    assert!(procs.lines().any(|pid| pid == running.pid.to_string()), "{procs}");
    assert!(procs.lines().count() <= 2, "{procs}");
    running.kill().fails(137);
    is_gone(unit);
}

#[test]
fn one_process_is_enough() {
    if !is_here() {
        return;
    }
    let mut bundle = bundle("", "one");
    bundle.args(&["/bin/cat", "/proc/self/cgroup", "/sys/fs/cgroup/pids.max"]);
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 1}});
    assert_eq!(bundle.run().ok(), "0::/\n1\n");
    is_gone("cais-one.scope");
}

#[test]
fn a_container_on_disk_is_updated_and_deleted() {
    if !is_here() {
        return;
    }
    let script = "while [ $(cat /sys/fs/cgroup/pids.max) != 7 ]; do :; done; \
                  cat /sys/fs/cgroup/memory.max";
    let mut bundle = bundle(script, "disk");
    let update = bundle.path("update.json");
    // systemd is told first, and then the files are written in their order: pids last.
    fs::write(&update, r#"{"memory": {"limit": 16777216}, "pids": {"limit": 7}}"#).unwrap();
    bundle.annotate("update", &update);
    fs::create_dir(bundle.path("state")).unwrap();
    let output: super::bundle::Ran = bundle.container("disk").output().unwrap().into();
    assert_eq!(output.ok(), "16777216\n");
    is_gone("cais-disk.scope");
}

#[test]
fn a_failed_unit_is_no_obstacle() {
    if !is_here() {
        return;
    }
    let mut bundle = bundle("dd if=/dev/zero of=/dev/null bs=64M count=1", "failed");
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}});
    for _ in 0..2 {
        bundle.run().fails(137);
        is_gone("cais-failed.scope");
    }
    // Whoever does not stop it leaves a unit that has failed.
    let mut scope = Command::new("systemd-run");
    scope.args([
        "--scope",
        "--unit=cais-failed.scope",
        "-p",
        "MemoryMax=16M",
        "-p",
        "MemorySwapMax=0",
    ]);
    assert!(
        !scope
            .args(["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(property("cais-failed.scope", "ActiveState"), "failed");
    bundle.args(&["/bin/true"]);
    bundle.run().ok();
    is_gone("cais-failed.scope");
}

#[test]
fn what_systemd_refuses_is_told_in_its_words() {
    if !is_here() {
        return;
    }
    let mut bundle = bundle("true", "refused");
    let mut scope = Command::new("systemd-run");
    scope.args(["--scope", "--unit=cais-refused.scope", "sleep", "1000"]);
    let mut other = scope.spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while property("cais-refused.scope", "ActiveState") != "active" {
        assert!(std::time::Instant::now() < deadline, "the other unit does not start");
    }
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("start systemd's unit cais-refused.scope"), "{complaint}");
    assert!(complaint.contains("UnitExists"), "{complaint}");
    // The unit of somebody else lives on.
    assert_eq!(property("cais-refused.scope", "ActiveState"), "active");
    assert!(
        Command::new("systemctl").args(["stop", "cais-refused.scope"]).status().unwrap().success()
    );
    other.wait().unwrap();
    bundle.annotate("unit", "no-slice:cais:x");
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("cannot be the name of a slice"), "{complaint}");
}

#[test]
fn a_user_has_a_manager_of_its_own() {
    if !is_here() {
        return;
    }
    const USER: u32 = 1000;
    let start = Command::new("systemctl").args(["start", "user@1000.service"]).status().unwrap();
    let journal = || Command::new("journalctl").args(["-b", "-n", "40"]).output().unwrap().stdout;
    assert!(start.success(), "{}", String::from_utf8_lossy(&journal()));
    let mut bundle = bundle(&LOOK.replace("/sys/fs/cgroup/cpu.max", ""), "own");
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 9}});
    bundle.config["linux"]["cgroupsPath"] = json!(":cais:own");
    bundle.give_to(USER, None);
    let mut command = bundle.as_user(USER, &bundle.container("own"));
    command.env("XDG_RUNTIME_DIR", "/run/user/1000").env("USER", "tester");
    let output: super::bundle::Ran = command.output().unwrap().into();
    assert_eq!(output.ok(), "0::/\n67108864\n9\n");
    let stop = Command::new("systemctl").args(["stop", "user@1000.service"]).status().unwrap();
    assert!(stop.success());
}

//! What the process is: namespaces, user, rights, input and output, exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use serde_json::json;

use super::bundle::Bundle;

const NAMESPACES: [&str; 6] = ["pid", "net", "ipc", "uts", "mnt", "cgroup"];

fn host_namespace(name: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().into()
}

fn status_line(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("{name} in {status}")).trim().into()
}

#[test]
fn namespaces_are_its_own() {
    let script = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done";
    let output = Bundle::script(script).run().ok();
    for (inside, name) in output.lines().zip(NAMESPACES) {
        assert!(inside.starts_with(name));
        assert_ne!(inside, host_namespace(name));
    }
    assert_eq!(output.lines().count(), NAMESPACES.len());
}

#[test]
fn a_namespace_that_is_not_named_is_the_callers() {
    let mut bundle = Bundle::script("readlink /proc/self/ns/net");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    assert_eq!(bundle.run().ok().trim(), host_namespace("net"));
}

#[test]
fn a_namespace_with_a_path_is_joined() {
    let mut one = Bundle::script("echo; sleep 1000");
    let running = one.start();
    let mut two =
        Bundle::script("readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; ls /proc");
    for (namespace, name) in [(0, "pid"), (1, "net"), (2, "ipc")] {
        let path = format!("/proc/{}/ns/{name}", running.pid);
        two.config["linux"]["namespaces"][namespace]["path"] = json!(path);
    }
    let output = two.run().ok();
    for name in ["net", "ipc"] {
        let theirs = fs::read_link(format!("/proc/{}/ns/{name}", running.pid)).unwrap();
        assert!(output.contains(theirs.to_str().unwrap()), "{output}");
    }
    // Process 1 there is the first container's.
    assert!(output.lines().any(|line| line == "1"));
    running.kill().fails(137);
}

#[test]
fn names_are_set() {
    let mut bundle = Bundle::script("hostname; cat /proc/sys/kernel/domainname");
    bundle.config["domainname"] = json!("example");
    assert_eq!(bundle.run().ok(), "box\nexample\n");
}

#[test]
fn rights_are_what_the_specification_says() {
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL"]);
    let mut bundle = Bundle::script("cat /proc/self/status");
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": capabilities, "effective": ["CAP_CHOWN"],
    });
    let status = bundle.run().ok();
    // What root gets of the bounding set when it executes a program, no-new-privileges withholds.
    let expected = [("CapInh", 0), ("CapPrm", 0x21), ("CapEff", 0x21), ("CapBnd", 0x2021)];
    for (name, value) in expected {
        assert_eq!(status_line(&status, name), format!("{value:016x}"), "{name}");
    }
    assert_eq!(status_line(&status, "CapAmb"), format!("{:016x}", 0));
    assert_eq!(status_line(&status, "NoNewPrivs"), "1");
    assert_eq!(status_line(&status, "Seccomp"), "0");
}

#[test]
fn another_user_keeps_only_ambient_capabilities() {
    let mut bundle = Bundle::script("cat /proc/self/status");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6]});
    let all = json!(["CAP_CHOWN", "CAP_KILL"]);
    let ambient = json!(["CAP_KILL"]);
    bundle.config["process"]["capabilities"] = json!({
        "bounding": all, "permitted": all, "effective": all,
        "inheritable": ambient, "ambient": ambient,
    });
    let status = bundle.run().ok();
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_line(&status, name), format!("{:016x}", 1 << 5), "{name}");
    }
    assert_eq!(status_line(&status, "CapBnd"), format!("{:016x}", 0x21));
    assert_eq!(status_line(&status, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(status_line(&status, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(status_line(&status, "Groups"), "5 6");
}

#[test]
fn a_filter_is_installed_with_and_without_no_new_privileges() {
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::script("cat /proc/self/status");
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["process"]["user"] = json!({"uid": 7, "gid": 7});
        bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        let status = bundle.run().ok();
        assert_eq!(status_line(&status, "Seccomp"), "2");
        let expected = if no_new_privileges { "1" } else { "0" };
        assert_eq!(status_line(&status, "NoNewPrivs"), expected);
    }
}

#[test]
fn a_filter_older_than_a_call_of_the_runtimes_is_no_obstacle() {
    for no_new_privileges in [true, false] {
        for init in [false, true] {
            let mut bundle = Bundle::script("ls /proc/$$/fd; echo; sleep 1000");
            bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            bundle.config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{
                    "names": ["close_range", "clone3", "openat2", "pidfd_open", "execveat"],
                    "action": "SCMP_ACT_ERRNO",
                }],
            });
            if init {
                bundle.annotate("init", "");
            }
            let mut running = bundle.start();
            let seen: Vec<String> = (0..2).map(|_| running.read_line()).collect();
            assert_eq!(seen, ["1", "2"]);
            assert_eq!(bundle.exec(&running, &["/bin/ls", "/proc/self/fd"]).ok(), "0\n1\n2\n3\n");
            running.kill().fails(137);
        }
    }
}

#[test]
fn exit_codes_follow_dockers_convention() {
    let bundle = Bundle::new();
    let file = |name: &str, content: &str, mode| {
        fs::write(bundle.rootfs(name), content).unwrap();
        fs::set_permissions(bundle.rootfs(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    file("bin/plain", "text", 0o644);
    file("bin/garbage", "\u{1}\u{2}\u{3}", 0o755);
    file("bin/orphan", "#!/missing/interpreter\n", 0o755);
    let mut bundle = bundle;
    let cases: [(&[&str], i32); 11] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["missing"], 127),
        (&["/missing"], 127),
        (&["/bin/true/missing"], 127),
        (&["orphan"], 127),
        (&["plain"], 126),
        (&["/bin/plain"], 126),
        (&["/bin"], 126),
        (&["garbage"], 126),
        (&[""], 125),
    ];
    for (args, code) in cases {
        for init in [false, true] {
            bundle.args(args);
            bundle.config["annotations"] = json!({});
            if init {
                bundle.annotate("init", "");
            }
            let ran = bundle.run();
            assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        }
    }
}

#[test]
fn a_signal_is_told() {
    let mut bundle = Bundle::script("echo; sleep 1000");
    bundle.start().kill().fails(137);
}

#[test]
fn init_starts_forwards_reaps_and_exits() {
    let mut bundle = Bundle::script("test $$ != 1 && (exit 3)");
    bundle.annotate("init", "");
    bundle.run().fails(3);
    bundle.args(&["/bin/sh", "-c", "kill -9 $$"]);
    bundle.run().fails(137);
    // An orphan is reaped: its entry disappears from procfs.
    let orphan = "sh -c 'true & echo $! >/pid'; p=$(cat /pid); while test -e /proc/$p; do :; done";
    bundle.args(&["/bin/sh", "-c", orphan]);
    bundle.run().ok();
    bundle.args(&["/bin/sh", "-c", "trap 'exit 9' TERM; echo; while :; do sleep 0.01; done"]);
    let running = bundle.start();
    running.signal(Signal::TERM);
    running.wait().fails(9);
}

#[test]
fn only_three_descriptors_are_open() {
    for init in [false, true] {
        let mut bundle = Bundle::script("ls /proc/$$/fd; ls /proc/1/fd; true");
        if init {
            bundle.annotate("init", "");
        }
        assert_eq!(bundle.run_with_leaks().ok(), "0\n1\n2\n0\n1\n2\n");
    }
}

#[test]
fn a_created_container_holds_nothing_of_its_creator() {
    let mut bundle = Bundle::new();
    bundle.annotate("hold", "");
    // Input, output, errors, and the socket on which it waits.
    assert_eq!(bundle.run_with_leaks().ok(), "4\n");
}

#[test]
fn users_are_resolved_inside() {
    let mut bundle = Bundle::script("id -u; id -g; id -G; echo $HOME");
    bundle.annotate("user", "web");
    bundle.annotate("group-add", "big:99");
    assert_eq!(bundle.run().ok(), "33\n34\n34 4 77 99\n/var/www\n");
    bundle.annotate("user", "nobody");
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("unable to find user nobody"), "{complaint}");
}

#[test]
fn home_comes_from_the_environment_first() {
    let mut bundle = Bundle::script("echo $HOME");
    assert_eq!(bundle.run().ok(), "/root\n");
    bundle.config["process"]["env"].as_array_mut().unwrap().push(json!("HOME=/mine"));
    assert_eq!(bundle.run().ok(), "/mine\n");
}

#[test]
fn a_terminal_is_the_containers_own() {
    let script = "tty; stty size; test -t 0 && test -t 2 && stat -c %F /dev/console; \
                  echo x >/dev/tty; echo y >/dev/console";
    for init in [false, true] {
        let mut bundle = Bundle::script(script);
        bundle.annotate("terminal", "40x100");
        if init {
            bundle.annotate("init", "");
        }
        let output = bundle.run().ok();
        let expected = "/dev/pts/0\r\n40 100\r\ncharacter special file\r\nx\r\ny\r\n";
        assert_eq!(output, expected);
    }
}

#[test]
fn limits_and_mask_are_set() {
    let mut bundle = Bundle::script("ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj");
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}]);
    bundle.config["process"]["user"]["umask"] = json!(0o27);
    bundle.config["process"]["oomScoreAdj"] = json!(321);
    assert_eq!(bundle.run().ok(), "99\n100\n0027\n321\n");
}

#[test]
fn pipes_can_be_opened_again_by_the_user() {
    let mut bundle = Bundle::script("echo out >/dev/stdout; echo err >/dev/stderr");
    bundle.annotate("user", "web");
    let ran = bundle.run();
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "out\n", "err\n"));
}

#[test]
fn clocks_are_offset() {
    const DAY: u64 = 86_400;
    let mut bundle = Bundle::script("cat /proc/uptime; readlink /proc/self/ns/time");
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000 * DAY}});
    bundle.run().fails(125);
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    let output = bundle.run().ok();
    let uptime: f64 = output.split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > (1000 * DAY) as f64, "{output}");
    assert!(!output.contains(&host_namespace("time")));
    bundle.map_ids();
    bundle.args(&["/bin/cat", "/proc/self/timens_offsets"]);
    let output = bundle.run().ok();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["monotonic", "0", "0", "boottime", "86400000", "0"]);
}

#[test]
fn parameters_are_written_in_the_containers_namespaces_only() {
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
    let mut bundle =
        Bundle::script("cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni");
    bundle.config["linux"]["sysctl"] =
        json!({"net.ipv4.ip_default_ttl": "77", "kernel.shmmni": "1234"});
    assert_eq!(bundle.run().ok(), "77\n1234\n");
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap(), before);
    for name in ["kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern"] {
        bundle.config["linux"]["sysctl"] = json!({name: "1"});
        bundle.run().fails(125);
    }
}

#[test]
fn nothing_is_left_when_the_callers_work_fails() {
    let mut bundle = Bundle::new();
    bundle.annotate("fail", "");
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("the caller's work failed"), "{complaint}");
}

#[test]
fn the_cause_of_a_failure_is_the_childs() {
    // While the child fails, the parent is busy with its own steps.
    let mut bundle = Bundle::new();
    bundle.config["mounts"][0]["type"] = json!("nonsense");
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("`nonsense`"), "{complaint}");
}

#[test]
fn what_is_not_supported_is_refused() {
    let cases = [
        ("/process/apparmorProfile", json!("docker-default")),
        ("/process/selinuxLabel", json!("system_u:object_r:x")),
        ("/linux/mountLabel", json!("system_u:object_r:x")),
        ("/linux/intelRdt", json!({"closID": "x"})),
    ];
    for (pointer, value) in cases {
        let mut bundle = Bundle::new();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(parent).unwrap()[name] = value;
        let complaint = bundle.run().fails(125);
        let unloaded = super::attribute::has_apparmor() && complaint.contains("apparmor/exec");
        assert!(unloaded || complaint.contains("not supported"), "{complaint}");
    }
}

#[test]
fn the_null_device_of_the_host_is_never_given() {
    // A descriptor of the host's node would let root inside change that node's mode.
    let mut bundle = Bundle::new();
    bundle.args(&["/bin/stat", "-L", "-c", "%d:%i", "/proc/self/fd/0", "/dev/null"]);
    let shown = bundle.run().ok();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{shown}");
}

//! What a container can see and do, told by the probe from inside.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use testkit::Sandbox;

/// Docker's default capabilities, in the kernel's order.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// A sandbox with the image `probe`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_probe();
    sandbox
}

/// What the probe answers in a container run with `flags`.
#[track_caller]
fn ask(sandbox: &Sandbox, flags: &str, question: &str) -> Value {
    let network = if flags.contains("--network") { "" } else { "--network none" };
    let line = format!("cais run --rm {network} {flags} probe /probe {question}");
    let outcome = sandbox.line(&line);
    serde_json::from_str(outcome.ok()).unwrap_or_else(|error| panic!("{error}:\n{outcome}"))
}

/// The first of these limits that the container's control groups have; v1 and v2 name them apart.
fn limit<'a>(cgroups: &'a Value, names: [&str; 2]) -> &'a str {
    let found = names.iter().find_map(|name| cgroups["limits"][name].as_str());
    found.unwrap_or_else(|| panic!("none of {names:?} in {cgroups:#}"))
}

#[test]
fn namespaces_are_its_own() {
    let sandbox = sandbox();
    let outside = sandbox.probe(["namespaces"]);
    let inside = ask(&sandbox, "", "namespaces");
    for kind in ["mnt", "pid", "net", "ipc", "uts"] {
        assert_ne!(inside[kind], outside[kind], "{kind}");
    }
    assert_eq!(inside["user"], outside["user"]);
    let shared = ask(&sandbox, "--network host", "namespaces");
    assert_eq!(shared["net"], outside["net"]);
    assert_ne!(shared["mnt"], outside["mnt"]);
}

#[test]
fn it_is_process_one_and_sees_no_other() {
    let sandbox = sandbox();
    let alone = ask(&sandbox, "", "processes");
    assert_eq!(alone, json!({ "pid": 1, "parent": "0", "seen": [1] }));
    let child = ask(&sandbox, "--init", "processes");
    assert_ne!(child["pid"], 1);
    assert_eq!(child["parent"], "1");
}

#[test]
fn it_has_docker_s_capabilities() {
    let sandbox = sandbox();
    let sets = ask(&sandbox, "", "capabilities");
    for set in ["permitted", "effective", "bounding"] {
        assert_eq!(sets[set], json!(DEFAULT_CAPABILITIES), "{set}");
    }
    assert_eq!((&sets["inheritable"], &sets["ambient"]), (&json!([]), &json!([])));

    let few =
        ask(&sandbox, "--cap-drop ALL --cap-add NET_ADMIN --cap-add CAP_CHOWN", "capabilities");
    assert_eq!(few["effective"], json!(["CHOWN", "NET_ADMIN"]));
    let user = ask(&sandbox, "-u 1000:1000", "capabilities");
    assert_eq!(user["effective"], json!([]));
    assert_eq!(user["bounding"], json!(DEFAULT_CAPABILITIES));
    let all = ask(&sandbox, "--privileged", "capabilities");
    assert!(all["effective"].as_array().is_some_and(|names| names.contains(&json!("SYS_ADMIN"))));
}

#[test]
fn dangerous_calls_are_denied() {
    let sandbox = sandbox();
    let calls = ask(&sandbox, "", "calls");
    for call in [
        "add_key",
        "bpf",
        "clock_settime",
        "delete_module",
        "init_module",
        "io_uring_setup",
        "kexec_load",
        "keyctl",
        "mount",
        "open_by_handle_at",
        "perf_event_open",
        "pivot_root",
        "reboot",
        "setns",
        "socket of vsock",
        "swapon",
        "unshare of user",
        "userfaultfd",
    ] {
        assert_eq!(calls[call], "EPERM", "{call}");
    }
    // Denied so that the C library falls back to clone, whose flags a filter can read.
    assert_eq!(calls["clone3"], "ENOSYS");
    let security = ask(&sandbox, "", "security");
    assert_eq!((&security["seccomp"], &security["no_new_privs"]), (&json!("2"), &json!(false)));

    let flag = "--security-opt no-new-privileges";
    assert_eq!(ask(&sandbox, flag, "security")["no_new_privs"], true);
    let open = "--security-opt seccomp=unconfined";
    assert_eq!(ask(&sandbox, open, "security")["seccomp"], "0");
    assert_eq!(ask(&sandbox, "--privileged", "calls")["mount"], "EFAULT");
}

#[test]
fn what_tells_about_the_host_is_masked() {
    let sandbox = sandbox();
    let masked = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"];
    let opened = ask(&sandbox, "", &format!("open {}", masked.join(" ")));
    for path in masked {
        let bytes = &opened[path]["bytes"];
        assert!(bytes.is_null() || bytes == 0, "{path}: {}", opened[path]);
    }
    let empty = ["/proc/acpi", "/proc/scsi", "/sys/firmware"];
    let opened = ask(&sandbox, "", &format!("open {}", empty.join(" ")));
    for path in empty {
        let entries = &opened[path]["entries"];
        assert!(entries.is_null() || entries == 0, "{path}: {}", opened[path]);
    }
    let fixed = ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"];
    let opened = ask(&sandbox, "", &format!("open {}", fixed.join(" ")));
    for path in fixed {
        assert_ne!(opened[path]["write"], "ok", "{path}");
    }
}

#[test]
fn nothing_of_the_host_is_open() {
    let sandbox = sandbox();
    let descriptors = ask(&sandbox, "", "descriptors");
    let numbers: Vec<&String> = descriptors.as_object().expect("an object").keys().collect();
    assert_eq!(numbers, ["0", "1", "2"], "{descriptors:#}");
    let devices = ask(&sandbox, "", "devices");
    let known = ["full", "null", "random", "tty", "urandom", "zero", "pts/ptmx", "console", "ptmx"];
    for (path, device) in devices.as_object().expect("an object") {
        assert!(known.iter().any(|name| path == &format!("/dev/{name}")), "{path}: {device}");
    }
    for name in ["full", "null", "random", "urandom", "zero"] {
        assert_eq!(devices[format!("/dev/{name}")]["open"], "ok", "{name}");
    }
    let more = ask(&sandbox, "--device /dev/null:/dev/also-null", "devices");
    assert_eq!(more["/dev/also-null"]["number"], "1:3");
}

#[test]
fn limits_reach_the_kernel() {
    let sandbox = sandbox();
    let flags = "-m 64m --cpus 0.5 --cpu-shares 512 --pids-limit 50 --cpuset-cpus 0";
    let cgroups = ask(&sandbox, flags, "cgroups");
    let memory = limit(&cgroups, ["memory/memory.limit_in_bytes", "memory.max"]);
    assert_eq!(memory, "67108864");
    assert_eq!(limit(&cgroups, ["pids/pids.max", "pids.max"]), "50");
    assert_eq!(limit(&cgroups, ["cpuset/cpuset.cpus", "cpuset.cpus"]), "0");
    let quota = limit(&cgroups, ["cpu/cpu.cfs_quota_us", "cpu.max"]);
    assert!(["50000", "50000 100000"].contains(&quota), "{quota}");

    let started = ask(&sandbox, "--pids-limit 10", "start-processes 30");
    assert_eq!(started["end"], "EAGAIN");
    let taken = ask(&sandbox, "-m 64m", "take-memory 16777216");
    assert_eq!(taken["taken"], 16_777_216);
    let too_much =
        "cais run --rm --network none -m 32m --memory-swap 32m probe /probe take-memory 134217728";
    sandbox.line(too_much).code(137);

    let limits = ask(&sandbox, "--ulimit nofile=100:200 --ulimit core=0", "limits");
    assert_eq!(limits["Max open files"], json!(["100", "200"]));
    assert_eq!(limits["Max core file size"], json!(["0", "0"]));
}

/// The hierarchies of version 1 in which a container's first process is in a group of its own, and
/// those in which it is where whoever started it is; the host's names for them.
fn groups(sandbox: &Sandbox, name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let ask = |field: &str| {
        let format = format!("{{{{.{field}}}}}");
        sandbox.cais(["inspect", "-f", &format, name]).ok().trim().to_owned()
    };
    let own = format!("/cais-{}", ask("Id"));
    let text = sandbox.shell(&format!("cat /proc/{}/cgroup", ask("State.Pid")));
    let (mut joined, mut spared) = (BTreeSet::new(), BTreeSet::new());
    for line in text.ok().lines() {
        let (controllers, path) =
            line.split_once(':').and_then(|(_, rest)| rest.split_once(':')).expect("three fields");
        let set = if path.ends_with(&own) { &mut joined } else { &mut spared };
        set.insert(controllers.trim_start_matches("name=").to_owned());
    }
    assert!(joined.remove("") || !spared.remove(""), "it is in version 2's: {text}");
    (joined, spared)
}

#[test]
fn it_sees_no_group_but_its_own() {
    let sandbox = Sandbox::new();
    let start = |name: &str, options: &str| {
        let line = format!("cais run -d --name {name} --network none {options} busybox sleep 1000");
        let _ = sandbox.line(&line).ok();
        groups(&sandbox, name)
    };
    let mounted = |name: &str| -> BTreeSet<String> {
        let list = "mount | grep ' type cgroup ' | cut -d ' ' -f 3";
        let list = sandbox.cais(["exec", name, "sh", "-c", list]);
        list.ok().lines().filter_map(|path| path.rsplit('/').next()).map(str::to_owned).collect()
    };
    let (joined, spared) = start("plain", "");
    assert_eq!(mounted("plain"), joined);
    let counted = ["cpu", "memory", "pids", "devices", "blkio"];
    let is_counted = |name: &String| name.split(',').any(|part| counted.contains(&part));
    assert!(!spared.iter().any(is_counted), "{spared:?}");
    let inside = sandbox.cais(["exec", "plain", "cat", "/proc/self/cgroup"]);
    assert!(inside.ok().lines().all(|line| line.ends_with(":/")), "{inside}");

    // Who could mount the others would find the host's groups there.
    for (name, options) in [
        ("limited", "-m 64m"),
        ("admin", "--cap-add SYS_ADMIN"),
        ("unconfined", "--security-opt seccomp=unconfined"),
        ("privileged", "--privileged"),
    ] {
        let (joined, spared) = start(name, options);
        assert_eq!((spared, mounted(name)), (BTreeSet::new(), joined), "{options}");
    }

    // Who comes to a container and can mount them finds the container's groups there.
    let _ = sandbox.line("cais run -d --name visited --network none busybox sleep 1000").ok();
    let (_, spared) = groups(&sandbox, "visited");
    if let Some(spared) = spared.iter().find(|name| *name != "systemd") {
        let visit =
            |script: &str| sandbox.cais(["exec", "--privileged", "visited", "sh", "-c", script]);
        let found = visit(&format!(
            "mkdir -p /tmp/x && mount -t cgroup -o {spared} none /tmp/x && cat /tmp/x/cgroup.procs"
        ));
        let found: BTreeSet<&str> = found.ok().lines().collect();
        assert!(found.contains("1") && !found.contains("0"), "{found:?}");
        assert_eq!(groups(&sandbox, "visited").1, BTreeSet::new());
        let again = visit("cat /proc/self/cgroup; test ! -e /tmp/x/release_agent");
        assert!(again.ok().lines().all(|line| line.ends_with(":/")), "{again}");
    }

    // A limit makes it join what it was spared, with all its processes.
    let _ = sandbox.cais(["exec", "-d", "plain", "sleep", "1000"]).ok();
    let _ = sandbox.cais(["update", "--cpuset-cpus", "0", "plain"]).ok();
    assert!(!groups(&sandbox, "plain").1.contains("cpuset"));
    let allowed = "grep -h Cpus_allowed_list /proc/[0-9]*/status | sort -u";
    sandbox.cais(["exec", "plain", "sh", "-c", allowed]).out("Cpus_allowed_list:\t0\n");
    for name in ["plain", "limited", "admin", "unconfined", "privileged", "visited"] {
        let _ = sandbox.cais(["rm", "-f", name]).ok();
    }
}

#[test]
fn its_surroundings_are_as_asked_for() {
    let sandbox = sandbox();
    let names = ask(&sandbox, "--hostname quay", "names");
    assert_eq!(names["hostname"], "quay");
    assert_eq!(names["/etc/hostname"], "quay");
    let ids = ask(&sandbox, "-u 1000:2000", "ids");
    assert_eq!((&ids["uid"], &ids["gid"]), (&json!(1000), &json!(2000)));
    assert_eq!(ask(&sandbox, "-w /somewhere/new", "directory"), "/somewhere/new");

    let environment = ask(&sandbox, "--hostname quay -e ONE=1 -e TWO=", "environment");
    assert_eq!(
        environment,
        json!({
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME": "quay", "HOME": "/", "ONE": "1", "TWO": "",
        })
    );
}

#[test]
fn mounts_are_as_asked_for() {
    let sandbox = sandbox();
    let work = sandbox.work();
    std::fs::write(work.join("note"), "here\n").expect("the work directory takes files");
    let flags = format!(
        "--read-only --tmpfs /scratch:size=1m --shm-size 2m -v {0}:/rw -v {0}:/ro:ro",
        work.display()
    );
    let mounts = ask(&sandbox, &flags, "mounts");
    let at = |target: &str| {
        let mut found = mounts.as_array().expect("a list").iter().rev();
        found.find(|m| m["target"] == target).unwrap_or_else(|| panic!("no {target} in {mounts:#}"))
    };
    let has = |mount: &Value, list: &str, word: &str| {
        mount[list].as_array().is_some_and(|words| words.contains(&json!(word)))
    };
    assert!(has(at("/"), "options", "ro"));
    assert!(has(at("/rw"), "options", "rw"));
    assert!(has(at("/ro"), "options", "ro"));
    assert!(has(at("/scratch"), "super", "size=1024k"));
    assert!(has(at("/dev/shm"), "super", "size=2048k"));
    let opened = ask(&sandbox, &flags, "open /ro/note /rw/note /probe");
    assert_eq!(
        (&opened["/rw/note"]["write"], &opened["/rw/note"]["bytes"]),
        (&json!("ok"), &json!(5))
    );
    assert_eq!(opened["/ro/note"]["write"], "EROFS");
    assert_eq!(opened["/probe"]["read"], "ok");
}

#[test]
fn two_roots_do_not_see_each_other() {
    let (one, other) = (Sandbox::new(), Sandbox::new());
    let _ = one.line("cais pull busybox").ok();
    one.line("cais run --name same --network none busybox true").code(0);
    other.line("cais images -q").code(0).out("");
    other.line("cais ps -aq").code(0).out("");
    other.line("cais run --name same --network none busybox true").code(0);
}

#[test]
fn roots_that_start_together_have_networks_apart() {
    let sandbox = Sandbox::new();
    let roots: Vec<String> = (0..4)
        .map(|root| sandbox.work().join(format!("root-{root}")).display().to_string())
        .collect();
    for root in &roots {
        let _ = sandbox.cais(["--root", root, "pull", "busybox"]).ok();
    }
    let start = |root: &String| {
        let command = ["run", "--rm", "busybox", "ip", "-4", "-o", "address", "show", "eth0"];
        let run_root = format!("{root}-run");
        let own = ["--root", root, "--run-root", &run_root];
        let words: [&str; 13] = [&own[..], &command].concat().try_into().expect("thirteen words");
        sandbox.start(words)
    };
    let running: Vec<_> = roots.iter().map(start).collect();
    // As in `2: eth0    inet 172.17.0.2/16 …`.
    let address = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    let addresses: BTreeSet<_> =
        running.into_iter().map(|running| address(running.finish().ok())).collect();
    assert_eq!(addresses.len(), roots.len(), "{addresses:?}");
    for root in &roots {
        let path = Path::new(root).join("network/bridge.json");
        let text = std::fs::read_to_string(path).expect("the root has chosen a bridge");
        let network: Value = serde_json::from_str(&text).expect("it is written in JSON");
        let bridge = network["bridge"].as_str().expect("the bridge has a name");
        sandbox.host(["ip", "link", "delete", bridge]).code(0);
        sandbox.host(["nft", "delete", "table", "ip", bridge]).code(0);
    }
}

#[test]
fn the_names_in_etc_are_read_only_where_everything_is() {
    let sandbox = Sandbox::new();
    let write = "for f in hosts hostname resolv.conf; do echo x >>/etc/$f && echo $f; done";
    let run = |options: &str| {
        let line =
            format!("$E run --rm --network none {options} busybox sh -c '{write}' 2>/dev/null");
        sandbox.shell(&line).stdout
    };
    assert_eq!(run(""), "hosts\nhostname\nresolv.conf\n");
    assert_eq!(run("--read-only"), "");
    // What it writes there is on the disk, as all that it writes, and not in the machine's memory.
    let fill = "$E run -d --name fill --network none busybox sh -c \
                'head -c 1000000 /dev/zero >/etc/hosts; exec sleep 1000' && \
                until [ -n \"$(find $CAIS_ROOT -name hosts -size +900k)\" ]; do :; done; \
                find $CAIS_RUN -size +100k; $E rm -f fill";
    assert_eq!(sandbox.shell(fill).ok().lines().count(), 2);
}

//! Namespaces that are joined by their path, and links that move into one.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::bundle::{Bundle, Ran, mount};

/// A process in namespaces of its own, which ends with this value.
struct Holder(Child);

impl Holder {
    /// `kinds` are options of unshare(1).
    fn new(kinds: &[&str]) -> Holder {
        let mut command = Command::new("unshare");
        command.args(kinds).args(["sh", "-c", "echo; exec cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Holder(child)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.0.id())
    }

    fn name(&self, name: &str) -> String {
        fs::read_link(self.path(name)).unwrap().to_str().unwrap().into()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the configuration join a namespace.
fn join(bundle: &mut Bundle, kind: &str, path: &str) {
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != kind);
    namespaces.push(json!({"type": kind, "path": path}));
}

#[test]
fn every_kind_is_joined_by_its_path() {
    let holder = Holder::new(&["--net", "--ipc", "--uts", "--cgroup", "--time"]);
    let script = "for n in net ipc uts cgroup time; do readlink /proc/self/ns/$n; done";
    let mut bundle = Bundle::script(script);
    let kinds = [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ];
    for (kind, name) in kinds {
        // unshare(1) makes a time namespace for its children only, which sh is not.
        let name = if name == "time" { "time_for_children" } else { name };
        join(&mut bundle, kind, &holder.path(name));
    }
    let output = bundle.run().ok();
    let expected = kinds.map(|(_, name)| match name {
        "time" => holder.name("time_for_children"),
        name => holder.name(name),
    });
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_mount_namespace_is_joined() {
    let holder = Holder::new(&["--mount", "--propagation", "private"]);
    let mut bundle = Bundle::script("readlink /proc/self/ns/mnt; ls /data");
    let data = bundle.directory("data");
    // Only there a file system is mounted on what is bound.
    let status = Command::new("nsenter")
        .arg(format!("--mount={}", holder.path("mnt")))
        .args(["sh", "-c", "mount -t tmpfs tmpfs $0 && touch $0/theirs"])
        .arg(&data)
        .status();
    assert!(status.unwrap().success());
    join(&mut bundle, "mount", &holder.path("mnt"));
    bundle.add_mount(mount("bind", &data, "/data", "rbind"));
    assert_eq!(bundle.run().ok(), format!("{}\ntheirs\n", holder.name("mnt")));
}

#[test]
fn namespaces_of_different_owners_are_joined_together() {
    let mut one = Bundle::script("echo; sleep 1000");
    one.map_ids();
    let running = one.start();
    let holder = Holder::new(&["--net", "--uts"]);
    let mut bundle = Bundle::script("readlink /proc/self/ns/user; readlink /proc/self/ns/net");
    bundle.annotate("map-rootfs", "");
    bundle.remove_mount("/sys");
    let user = format!("/proc/{}/ns/user", running.pid);
    join(&mut bundle, "user", &user);
    join(&mut bundle, "network", &holder.path("net"));
    let theirs = fs::read_link(&user).unwrap();
    assert_eq!(bundle.run().ok(), format!("{}\n{}\n", theirs.display(), holder.name("net")));
    running.kill().fails(137);
}

#[test]
fn what_is_no_such_namespace_is_refused() {
    let mut bundle = Bundle::new();
    for path in ["/proc/self/ns/ipc", "/etc/passwd", "/missing"] {
        join(&mut bundle, "network", path);
        let complaint = bundle.run().fails(125);
        assert!(complaint.contains(path), "{complaint}");
    }
}

/// A bundle without a mount namespace.
fn on_the_host(script: &str) -> Bundle {
    let mut bundle = Bundle::script(script);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    bundle
}

#[test]
fn a_container_on_the_hosts_mounts_leaves_none() {
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let mut bundle = on_the_host("readlink /proc/self/ns/mnt; echo $$; ls /mnt");
    let data = bundle.directory("data");
    fs::write(data.join("mark"), "").unwrap();
    bundle.add_mount(mount("bind", &data, "/mnt", "bind"));
    // Where it fails, it takes its mounts away by itself; the bundle's end looks for what is left.
    bundle.add_mount(mount("tmpfs", "tmpfs", "/x", "nonsense=1"));
    bundle.run().fails(125);
    bundle.remove_mount("/x");
    bundle.annotate("release", "");
    assert_eq!(bundle.run().ok(), format!("{}\n1\nmark\n", own.display()));
    // Further processes have the container's root, not the host's.
    bundle.args(&["/bin/sh", "-c", "echo; sleep 1000"]);
    let running = bundle.start();
    assert_eq!(bundle.exec(&running, &["/bin/ls", "/mnt"]).ok(), "mark\n");
    running.kill().fails(137);
}

#[test]
fn contradictions_are_refused() {
    let without = on_the_host("true");
    let mut masked = Bundle::new();
    masked.config["linux"]["namespaces"] = without.config["linux"]["namespaces"].clone();
    let mut mapped = without;
    mapped.map_ids();
    let mut twice = Bundle::new();
    twice.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "pid"}));
    let mut half = Bundle::new();
    half.map_ids();
    half.config["linux"]["gidMappings"] = json!([]);
    let mut none = Bundle::new();
    none.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let mut both = Bundle::new();
    both.map_ids();
    join(&mut both, "user", "/proc/self/ns/user");
    let cases = [
        (masked, "unable to restrict sys entries"),
        (mapped, "linux.namespaces"),
        (twice, "twice"),
        (half, "linux.gidMappings"),
        (none, "needs id mappings"),
        (both, "need a new user namespace"),
    ];
    for (bundle, expected) in cases {
        let complaint = bundle.run().fails(125);
        assert!(complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn parameters_of_the_callers_own_namespace_are_refused() {
    let mut bundle = Bundle::new();
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77"});
    join(&mut bundle, "network", "/proc/self/ns/net");
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("net.ipv4.ip_default_ttl"), "{complaint}");
    let mut named = Bundle::new();
    named.config["linux"]["sysctl"] = json!({"kernel.hostname": "x"});
    let complaint = named.run().fails(125);
    assert!(complaint.contains("conflicts with the OCI `hostname`"), "{complaint}");
    let mut limits = Bundle::script("cat /proc/sys/user/max_net_namespaces");
    limits.config["linux"]["sysctl"] = json!({"user.max_net_namespaces": "7"});
    limits.run().fails(125);
    limits.map_ids();
    assert_eq!(limits.run().ok(), "7\n");
}

/// Runs a bundle in a network of its own, which a shell script furnishes.
fn run_in_network(bundle: &Bundle, script: &str) -> Ran {
    let driver = bundle.command();
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &format!("{script}; \"$0\" \"$@\"")]);
    command.arg(driver.get_program()).args(driver.get_args());
    command.output().unwrap().into()
}

#[test]
fn the_loopback_link_is_on() {
    let bundle = Bundle::script("cat /sys/class/net/lo/flags");
    assert_eq!(bundle.run().ok(), "0x9\n");
}

#[test]
fn links_move_with_their_addresses() {
    let host = "ip link add cais-d0 type veth peer name cais-d1 && ip link set cais-d0 mtu 1789 && \
                ip address add 10.9.8.7/24 dev cais-d0 && \
                ip address add 10.9.8.9/24 scope link dev cais-d0 && ip link set cais-d0 up";
    for (name, shown) in [
        (json!({}), "cais-d0"),
        (json!({"name": "inside"}), "inside"),
        (json!({"name": "eth%d"}), "eth0"),
    ] {
        for user_namespace in [false, true] {
            let mut bundle = Bundle::script(&format!("ip address show dev {shown}"));
            symlink("busybox", bundle.rootfs("bin/ip")).unwrap();
            if user_namespace {
                bundle.map_ids();
            }
            bundle.config["linux"]["netDevices"] = json!({"cais-d0": name.clone()});
            let output = run_in_network(&bundle, host).ok();
            assert!(output.contains("mtu 1789") && output.contains(",UP"), "{output}");
            assert!(output.contains("10.9.8.7/24"), "{output}");
            assert!(!output.contains("10.9.8.9"), "{output}");
        }
    }
}

#[test]
fn links_that_cannot_move_are_named() {
    let host = "ip link add cais-d0 type veth peer name cais-d1 && ip link set cais-d0 up";
    let mut bundle = Bundle::new();
    let cases = [
        (json!({"missing": {}}), "`missing`"),
        (json!({"cais-d0": {"name": "lo"}}), "`cais-d0`"),
        (json!({"cais-d0": {"name": "a/b"}}), "`a/b`"),
    ];
    for (devices, expected) in cases {
        bundle.config["linux"]["netDevices"] = devices;
        let script = format!("{host} && trap 'cat /sys/class/net/cais-d0/flags' EXIT");
        let driver = bundle.command();
        let mut command = Command::new("unshare");
        // What could not move is as it was: up.
        command.args(["--net", "--mount", "sh", "-c"]);
        command.arg(format!("mount -t sysfs sysfs /sys && {script}; \"$0\" \"$@\"; exit $?"));
        command.arg(driver.get_program()).args(driver.get_args());
        let ran: Ran = command.output().unwrap().into();
        assert!(ran.stdout.contains("0x1003"), "{ran:?}");
        let complaint = ran.fails(125);
        assert!(complaint.contains(expected), "{complaint}");
    }
    bundle.config["linux"]["netDevices"] = json!({"cais-d0": {}});
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    bundle.remove_mount("/sys");
    let complaint = run_in_network(&bundle, host).fails(125);
    assert!(complaint.contains("linux.netDevices"), "{complaint}");
}

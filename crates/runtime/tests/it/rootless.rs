//! Containers of users without privilege.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::bundle::{Bundle, Ran};

const NOBODY: u32 = 65534;
/// The user of the virtual machine, and the further ids that it has there.
const TESTER: u32 = 1000;
const FURTHER: (u32, u32) = (100_000, 65_536);

fn is_machine() -> bool {
    std::env::var_os("CAIS_TEST_MACHINE").is_some()
}

fn ran(mut command: Command) -> Ran {
    command.output().unwrap().into()
}

#[test]
fn without_limits_no_group_is_needed() {
    let mut bundle = Bundle::script("id -u; cat /proc/self/setgroups; ls /dev/null");
    bundle.give_to(NOBODY, None);
    let output = ran(bundle.as_nobody(&bundle.container("a"))).ok();
    assert_eq!(output, "0\ndeny\n/dev/null\n");
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
}

#[test]
fn a_limit_without_a_group_is_an_error_that_says_what_is_missing() {
    let mut bundle = Bundle::script("true");
    bundle.give_to(NOBODY, None);
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 9}});
    let complaint = ran(bundle.as_nobody(&bundle.container("a"))).fails(125);
    assert!(complaint.contains("limits need a control group"), "{complaint}");
    assert!(complaint.contains("ermission denied"), "{complaint}");
    // So is a group that was asked for by name.
    bundle.config["linux"]["resources"] = json!({});
    bundle.config["linux"]["cgroupsPath"] = json!("/cais-test-rootless/a");
    let complaint = ran(bundle.as_nobody(&bundle.container("a"))).fails(125);
    assert!(complaint.contains("cais-test-rootless"), "{complaint}");
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
}

#[test]
fn ids_of_others_are_not_ones_own() {
    let mut bundle = Bundle::script("true");
    // Ids that belong to nobody, not even to `nobody`.
    bundle.give_to(NOBODY, Some((3_000_000_000, 10)));
    let complaint = ran(bundle.as_nobody(&bundle.command())).fails(125);
    assert!(complaint.contains("newuidmap") && complaint.contains("hint"), "{complaint}");
}

#[test]
fn further_ids_come_from_newuidmap() {
    if !is_machine() {
        return;
    }
    let script = "cat /proc/self/uid_map; cat /proc/self/setgroups; chown 33:34 /dev/shm && \
                  stat -c %u:%g /dev/shm";
    let mut bundle = Bundle::script(script);
    std::os::unix::fs::symlink("busybox", bundle.rootfs("bin/chown")).unwrap();
    let all = json!(["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": all, "permitted": all, "effective": all});
    bundle.give_to(TESTER, Some(FURTHER));
    let output = ran(bundle.as_user(TESTER, &bundle.command())).ok();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "1000", "1", "1", "100000", "65536", "allow", "33:34"], "{output}");
}

/// A group of version 2 that belongs to a user, with the groups below it that the user made.
struct Delegated(std::path::PathBuf);

impl Delegated {
    fn new(owner: u32) -> Delegated {
        let path =
            Path::new("/sys/fs/cgroup").join(format!("cais-test-own-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let enabled = "+memory +pids +cpu";
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", enabled).unwrap();
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(path.join(file), Some(owner), Some(owner)).unwrap();
        }
        let own = path.join("own");
        fs::create_dir(&own).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        for file in ["", "cgroup.procs"] {
            chown(own.join(file), Some(owner), Some(owner)).unwrap();
        }
        Delegated(path)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0.join("own"));
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_delegated_group_takes_limits() {
    if !is_machine() {
        return;
    }
    let delegated = Delegated::new(TESTER);
    let mut bundle =
        Bundle::script("cat /proc/self/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max");
    bundle.remove_mount("/sys");
    bundle.add_mount(super::bundle::mount("none", "/sys", "/sys", "rbind,ro"));
    bundle.add_mount(super::bundle::mount("cgroup", "cgroup", "/sys/fs/cgroup", "ro"));
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 9}});
    bundle.give_to(TESTER, None);
    let inner = bundle.as_user(TESTER, &bundle.container("limited"));
    // A shell that joins the group, and becomes the command there.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo $$ >\"$0/own/cgroup.procs\" && exec \"$@\""]).arg(&delegated.0);
    command.arg(inner.get_program()).args(inner.get_args());
    assert_eq!(ran(command).ok(), "0::/\n67108864\n9\n");
    let left: Vec<_> = fs::read_dir(&delegated.0).unwrap().flatten().collect();
    let left = left.iter().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(left, 1, "only the group that was there");
}

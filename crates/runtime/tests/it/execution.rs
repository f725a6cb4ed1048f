//! Further processes in a running container.

use std::fs;

use serde_json::json;

use super::bundle::{Bundle, mount};

#[test]
fn it_joins_everything_and_is_confined_the_same() {
    let capabilities = json!(["CAP_CHOWN"]);
    let mut bundle = Bundle::script("echo; sleep 1000");
    bundle.config["process"]["capabilities"] =
        json!({"bounding": capabilities, "permitted": capabilities, "effective": capabilities});
    let name =
        bundle.path("").file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    bundle.annotate("cgroup", format!("/cais-test-{name}"));
    let running = bundle.start();
    let script = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; \
                  grep -E 'CapEff|NoNewPrivs' /proc/self/status; cat /proc/self/cgroup; hostname; \
                  ls /proc/$$/fd; true";
    let output = bundle.exec(&running, &["/bin/sh", "-c", script]).ok();
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let theirs = fs::read_link(format!("/proc/{}/ns/{name}", running.pid)).unwrap();
        assert!(output.contains(theirs.to_str().unwrap()), "{name}: {output}");
    }
    assert!(output.contains("CapEff:\t0000000000000001\n"), "{output}");
    assert!(output.contains("NoNewPrivs:\t1\n"), "{output}");
    assert!(output.contains(":pids:/\n") || output.contains("0::/\n"), "{output}");
    assert!(!output.contains("cais-test"), "{output}");
    assert!(output.ends_with("box\n0\n1\n2\n"), "{output}");
    running.kill().fails(137);
}

#[test]
fn codes_and_users_are_its_own() {
    let mut bundle = Bundle::script("echo; sleep 1000");
    let running = bundle.start();
    bundle.exec(&running, &["/bin/sh", "-c", "exit 5"]).fails(5);
    bundle.exec(&running, &["missing"]).fails(127);
    bundle.exec(&running, &["/bin"]).fails(126);
    bundle.annotate("user", "web");
    let output = bundle.exec(&running, &["/bin/sh", "-c", "id -u; id -G; echo $HOME"]).ok();
    assert_eq!(output, "33\n34 4\n/var/www\n");
    bundle.config["process"]["cwd"] = json!("/tmp");
    assert!(bundle.exec(&running, &["readlink", "/proc/self/cwd"]).ok().contains("/tmp"));
    for cwd in ["/proc/self/fd/3", "/proc/1/root/proc/self/fd/4", "/missing"] {
        bundle.config["process"]["cwd"] = json!(cwd);
        bundle.exec(&running, &["true"]).fails(125);
    }
    running.kill().fails(137);
}

#[test]
fn it_gets_a_terminal() {
    let mut bundle = Bundle::script("echo; sleep 1000");
    let running = bundle.start();
    bundle.annotate("terminal", "30x90");
    let output = bundle.exec(&running, &["/bin/sh", "-c", "tty; stty size"]).ok();
    assert_eq!(output, "/dev/pts/0\r\n30 90\r\n");
    running.kill().fails(137);
}

#[test]
fn it_enters_a_user_namespace() {
    let mut bundle = Bundle::script("echo; sleep 1000");
    bundle.map_ids();
    let running = bundle.start();
    let output =
        bundle.exec(&running, &["/bin/sh", "-c", "id -u; readlink /proc/self/ns/user"]).ok();
    let theirs = fs::read_link(format!("/proc/{}/ns/user", running.pid)).unwrap();
    assert_eq!(output, format!("0\n{}\n", theirs.display()));
    running.kill().fails(137);
}

#[test]
fn it_works_without_privilege() {
    // `nobody` with a user namespace of its own.
    let mut bundle = Bundle::script("id -u; cat /proc/self/uid_map; echo; sleep 1000");
    bundle.give_to(65534, None);
    let mut running = bundle.start_as_nobody();
    assert_eq!(running.read_line().split_whitespace().collect::<Vec<_>>(), ["0", "65534", "1"]);
    let output = bundle.as_nobody(&bundle.exec_command(&running, &["id", "-u"])).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");
    running.kill().fails(137);
}

#[test]
fn a_dead_container_is_no_place() {
    let mut bundle = Bundle::script("echo; sleep 1000");
    bundle.add_mount(mount("tmpfs", "tmpfs", "/scratch", "mode=1777"));
    let running = bundle.start();
    let mut command = bundle.exec_command(&running, &["true"]);
    running.kill().fails(137);
    assert_eq!(command.output().unwrap().status.code(), Some(125));
}

#[test]
fn it_comes_in_under_any_filter() {
    // What is between the filter and the program: where the filter forbids it, it comes later.
    for (denied, new_privileges) in [("clone", false), ("clone", true), ("setsid", false)] {
        let mut bundle = Bundle::script("echo; sleep 1000");
        let running = bundle.start();
        bundle.config["process"]["noNewPrivileges"] = json!(!new_privileges);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": [denied, "fork", "mkdir"], "action": "SCMP_ACT_KILL_PROCESS"}],
        });
        let shown = bundle.exec(&running, &["cat", "/proc/self/status"]).ok();
        assert!(shown.contains("Seccomp:\t2\n"), "{denied}: {shown}");
        assert_eq!(shown.contains("NoNewPrivs:\t0\n"), new_privileges, "{denied}: {shown}");
        bundle.exec(&running, &["mkdir", "/made"]).fails(128 + 31);
        running.kill().fails(137);
    }
}

#[test]
fn it_leads_a_session_of_the_container() {
    let bundle = Bundle::script("echo; sleep 1000");
    let mut bundle = bundle;
    let running = bundle.start();
    // Process, parent, group and session: as the container numbers them, and nobody's child there.
    let stat = bundle.exec(&running, &["cat", "/proc/self/stat"]).ok();
    let fields: Vec<&str> = stat.split_whitespace().collect();
    assert_eq!(fields[3], "0", "{stat}");
    assert_eq!((fields[4], fields[5]), (fields[0], fields[0]), "{stat}");
    running.kill().fails(137);
}

#[test]
fn it_finds_room_where_there_is_room_for_one() {
    if !std::path::Path::new("/sys/fs/cgroup/pids").is_dir() {
        return;
    }
    let mut bundle = Bundle::script("echo; sleep 1000");
    let name = bundle.path("").file_name().unwrap().to_str().unwrap().replace('.', "");
    bundle.annotate("cgroup", format!("/cais-test-{name}"));
    // The shell and its sleep.
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 2}});
    let running = bundle.start();
    bundle.exec(&running, &["true"]).ok();
    running.kill().fails(137);
}

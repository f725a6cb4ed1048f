//! From creation to deletion, and what is refused on the way.

use std::fs;
use std::os::unix::net::UnixDatagram;

use serde_json::json;

use super::{Oci, wait_until};

#[test]
fn a_container_is_created_then_started_then_deleted() {
    let oci = Oci::new();
    oci.bundle("a", &["sh", "-c", "echo ran > /ran; exec sleep 1000"], |config| {
        config["annotations"] = json!({ "org.example": "yes" });
    });
    let _ = oci.detached("create --bundle a --pid-file pid a").ok();
    let state = oci.state("a");
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], "a");
    assert_eq!(state["ociVersion"], "1.2.0");
    assert_eq!(state["bundle"], json!(oci.path("a")));
    assert_eq!(state["rootfs"], json!(oci.path("rootfs")));
    assert_eq!(state["annotations"], json!({ "org.example": "yes" }));
    assert_eq!(fs::read_to_string(oci.path("pid")).unwrap(), state["pid"].to_string());
    assert!(!oci.path("rootfs/ran").exists(), "nothing runs before it is started");

    let _ = oci.line("start a").ok();
    assert_eq!(oci.status("a"), "running");
    wait_until("the program runs", || oci.path("rootfs/ran").exists());
    assert_eq!(oci.state("a")["pid"], state["pid"]);

    let _ = oci.line("kill a KILL").ok();
    oci.wait_for_status("a", "stopped");
    assert_eq!(oci.state("a")["pid"], 0);
    let _ = oci.line("delete a").ok();
    oci.line("state a").code(1).says("container does not exist");
    assert_eq!(fs::read_dir(oci.path("state")).unwrap().count(), 0);
}

#[test]
fn run_gives_the_output_and_the_code() {
    let oci = Oci::new();
    oci.bundle("a", &["sh", "-c", "echo out; echo err >&2; exit 7"], |_| ());
    oci.line("run --bundle a a").code(7).out("out\n").says("err");
    oci.bundle("a", &["sh", "-c", "kill -9 $$"], |config| {
        // Process 1 of a namespace cannot kill itself.
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    oci.line("run --bundle a a").code(137);
    oci.line("run --bundle a --keep a").code(137);
    assert_eq!(oci.status("a"), "stopped");
    oci.delete("a");
}

#[test]
fn input_and_signals_reach_the_program() {
    let oci = Oci::new();
    oci.bundle("a", &["cat"], |_| ());
    let mut running = oci.start("run --bundle a a");
    running.write("hello\n");
    running.wait_for("hello");
    running.finish().code(0).out("hello\n");
    oci.bundle(
        "a",
        &["sh", "-c", "trap 'echo term; exit 5' TERM; echo ready; while :; do read x; done"],
        |_| (),
    );
    let running = oci.start("run --bundle a a");
    running.wait_for("ready");
    running.signal(rustix::process::Signal::TERM);
    running.wait_for("term");
    running.finish().code(5);
}

#[test]
fn every_other_state_refuses() {
    let oci = Oci::new();
    for id in ["created", "running", "paused", "stopped"] {
        oci.bundle(id, &["sleep", "1000"], |_| ());
        let _ = oci.detached(&format!("create --bundle {id} {id}")).ok();
    }
    for id in ["running", "paused", "stopped"] {
        let _ = oci.line(&format!("start {id}")).ok();
    }
    let _ = oci.line("pause paused").ok();
    let _ = oci.line("kill stopped 9").ok();
    oci.wait_for_status("stopped", "stopped");
    assert_eq!(oci.status("paused"), "paused");

    for (line, part) in [
        ("start running", "cannot start an already running container"),
        ("start paused", "cannot start a container in the paused state"),
        ("start stopped", "cannot start a container that has stopped"),
        ("create --bundle running running", "container with given ID already exists"),
        ("delete running", "cannot delete container running that is not stopped: running"),
        ("delete paused", "cannot delete container paused that is not stopped: paused"),
        ("kill stopped", "container not running"),
        ("kill running NOPE", "unknown signal \\\"NOPE\\\""),
        ("pause stopped", "container not running"),
        ("resume running", "container not paused"),
        ("update --pids-limit 5 stopped", "container not running"),
    ] {
        oci.line(line).code(1).says(part);
    }
    oci.line("exec stopped true").code(255).says("cannot exec in a stopped container");
    oci.line("exec paused true").code(255).says("cannot exec in a paused container");
    let _ = oci.line("kill --all stopped").ok();
    let _ = oci.line("resume paused").ok();
    assert_eq!(oci.status("paused"), "running");
    // One that was never started needs no force.
    let _ = oci.line("delete created").ok();
    ["running", "paused", "stopped"].iter().for_each(|id| oci.delete(id));
    let _ = oci.line("delete --force nothing").ok();
    oci.line("delete nothing").code(1).says("container does not exist");
}

#[test]
fn a_wrong_id_bundle_or_program_leaves_nothing() {
    let oci = Oci::new();
    oci.bundle("a", &["nope"], |_| ());
    oci.bundle("b", &["/nope"], |_| ());
    oci.bundle("c", &["/etc"], |_| ());
    oci.bundle("d", &["true"], |config| config["process"]["cwd"] = "etc".into());
    oci.bundle("e", &["true"], |config| config["ociVersion"] = "2.0.0".into());
    oci.bundle("f", &["true"], |config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/x", "type": "bind", "source": "/nonexistent", "options": ["bind"],
        }));
    });
    for (line, part) in [
        ("create --bundle a a", "exec: \\\"nope\\\": executable file not found in $PATH"),
        ("create --bundle b b", "exec: \\\"/nope\\\": stat /nope: no such file or directory"),
        ("create --bundle c c", "exec: \\\"/etc\\\": permission denied"),
        ("create --bundle d d", "Cwd must be an absolute path"),
        ("create --bundle e e", "ociVersion 2.0.0 is not supported"),
        ("create --bundle f f", "no such file or directory"),
        ("create --bundle a ../a", "invalid container ID format"),
        ("create --bundle a .", "invalid container ID format"),
        ("create --bundle nowhere a", "no such file or directory"),
        ("create --bundle rootfs a", "JSON specification file config.json not found"),
        ("create --bundle a --pid-file /nonexistent/pid a", "create failed"),
    ] {
        oci.line(line).code(1).says(part);
    }
    let left = fs::read_dir(oci.path("state")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn what_waits_to_be_started_ends_when_asked() {
    let oci = Oci::new();
    oci.bundle("a", &["cat", "/proc/self/status"], |_| ());
    for signal in ["HUP", "INT", "QUIT", "TERM", "KILL"] {
        let _ = oci.detached("create --bundle a a").ok();
        let _ = oci.line(&format!("kill a {signal}")).ok();
        oci.wait_for_status("a", "stopped");
        let _ = oci.line("delete a").ok();
    }
    // The program itself has no signal blocked.
    let status = oci.line("run --bundle a a");
    assert!(status.ok().contains("SigBlk:\t0000000000000000"), "{status}");
}

#[test]
fn of_two_at_once_one_succeeds() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |_| ());
    for (verb, part) in [
        ("create --bundle a", "container with given ID already exists"),
        ("start", "cannot start an already running container"),
        ("delete --force", ""),
    ] {
        let line = format!("{verb} a");
        let all: Vec<_> = (0..4).map(|at| oci.start_to(&line, &format!("out{at}"))).collect();
        let codes: Vec<i32> = all.into_iter().map(|one| one.finish().code).collect();
        let good = codes.iter().filter(|code| **code == 0).count();
        assert_eq!(good, if part.is_empty() { codes.len() } else { 1 }, "{line}: {codes:?}");
        for (at, _) in codes.iter().enumerate().filter(|(_, code)| **code != 0) {
            let said = fs::read_to_string(oci.path(&format!("out{at}"))).unwrap();
            assert!(said.contains(part), "{line}: {said}");
        }
    }
}

#[test]
fn limits_are_updated_and_usage_is_shown() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 100 } });
    });
    oci.run_detached("a");
    let limits = || {
        let text = oci.line("events --stats a");
        let event: serde_json::Value = serde_json::from_str(text.ok()).unwrap();
        assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("a")));
        let data = &event["data"];
        (data["pids"]["limit"].clone(), data["memory"]["usage"]["limit"].clone())
    };
    assert_eq!(limits().0, 100);
    let _ = oci.line("update --pids-limit 50 --memory 64m a").ok();
    assert_eq!(limits(), (json!(50), json!(64 << 20)));
    fs::write(oci.path("r.json"), r#"{"pids":{"limit":40}}"#).unwrap();
    let _ = oci.line("update --resources r.json a").ok();
    assert_eq!(limits(), (json!(40), json!(64 << 20)));
    oci.line("update --memory lots a").code(1).says("invalid value for memory");
    oci.delete("a");
}

#[test]
fn a_supervisor_learns_that_the_program_is_ready() {
    let oci = Oci::new();
    oci.bundle("a", &["sh", "-c", "echo $NOTIFY_SOCKET > /where; exec sleep 1000"], |_| ());
    let supervisor = UnixDatagram::bind(oci.path("supervisor")).unwrap();
    let run = oci.sandbox.start_script(
        "NOTIFY_SOCKET=$PWD/supervisor exec $E oci --root state run -d -b a a </dev/null >out 2>&1",
    );
    wait_until("the program runs", || oci.path("rootfs/where").exists());
    let container = UnixDatagram::unbound().unwrap();
    let socket = oci.path("state/a/notify/notify.sock");
    let _ = container.send_to(b"STATUS=none of its business\n", &socket).unwrap();
    let _ = container.send_to(b"STATUS=x\nREADY=1\n", &socket).unwrap();
    let receive = || {
        let mut bytes = [0; 64];
        let length = supervisor.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert_eq!(receive(), "READY=1\n");
    assert_eq!(receive(), format!("MAINPID={}\n", oci.state("a")["pid"]));
    assert_eq!(receive(), "BARRIER=1");
    run.finish().code(0);
    let where_to = fs::read_to_string(oci.path("rootfs/where")).unwrap();
    assert_eq!(where_to, "/run/notify/notify.sock\n");
    oci.delete("a");
}

#[test]
fn what_is_in_the_cgroup_of_another_container_is_neither_joined_nor_ended() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |_| ());
    oci.run_detached("a");
    oci.bundle("b", &["true"], |config| {
        config["linux"]["cgroupsPath"] = oci.cgroup("a").into();
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    oci.line("create --bundle b b").code(1).says("container's cgroup is not empty");
    assert_eq!(oci.status("a"), "running");

    // What a creator leaves that is killed before it has looked.
    let record = fs::read(oci.path("state/a/state.json")).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    (record["id"], record["pid"], record["ownPidNamespace"]) = (json!("b"), json!(0), json!(false));
    fs::create_dir(oci.path("state/b")).unwrap();
    fs::write(oci.path("state/b/state.json"), record.to_string()).unwrap();
    let _ = oci.line("delete --force b").ok();
    assert!(!oci.path("state/b").exists());
    assert_eq!(oci.status("a"), "running");
    oci.delete("a");
}

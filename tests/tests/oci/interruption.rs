//! Whatever is killed, whenever: `delete --force` leaves nothing.

use rustix::process::Signal;
use serde_json::json;

use super::Oci;

/// What appears in the container's directory, in this order, while it is created.
const STEPS: [&str; 6] = ["", "state.json", "config.json", "start.new", "start", "state.json.new"];

#[test]
fn a_creation_can_be_killed_at_any_step() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |_| ());
    for step in STEPS {
        let mut create = oci.start_detached("create --bundle a a");
        let path = oci.path("state/a").join(step);
        super::wait_until(step, || path.exists() || create.ended());
        create.signal(Signal::KILL);
        let _ = create.finish();
        oci.delete("a");
    }
}

#[test]
fn a_run_and_its_deletion_can_be_killed_at_any_step() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |_| ());
    for step in ["start.new", "start"] {
        let mut run = oci.start_detached("run --detach --bundle a a");
        let path = oci.path("state/a").join(step);
        super::wait_until(step, || path.exists() || run.ended());
        run.signal(Signal::KILL);
        let _ = run.finish();
        oci.delete("a");
    }
    for gone in ["config.json", "state.json", ""] {
        oci.run_detached("a");
        let mut delete = oci.start("delete --force a");
        let path = oci.path("state/a").join(gone);
        super::wait_until(gone, || !path.exists() || delete.ended());
        delete.signal(Signal::KILL);
        let _ = delete.finish();
        oci.delete("a");
    }
}

/// A hook that kills who called it, at a moment that nothing else can hit so surely.
#[test]
fn whoever_calls_a_hook_can_be_killed_by_it() {
    let oci = Oci::new();
    let kill = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"] }]);
    // Of the others, the caller is the first process of a namespace, which no process in it can kill.
    for kind in ["prestart", "createRuntime", "poststart"] {
        oci.bundle("a", &["sleep", "1000"], |config| config["hooks"][kind] = kill.clone());
        let outcome = oci.detached("run --detach --bundle a a");
        assert_ne!(outcome.code, 0, "{kind}: {outcome}");
        oci.delete("a");
    }
    oci.bundle("a", &["sleep", "1000"], |config| config["hooks"]["poststop"] = kill.clone());
    oci.run_detached("a");
    assert_ne!(oci.line("delete --force a").code, 0);
    oci.delete("a");
}

#[test]
fn an_exec_can_be_killed_and_its_container_deleted() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |_| ());
    oci.run_detached("a");
    let exec = oci.start_detached("exec a sh -c 'echo > /ready; exec sleep 1000'");
    super::wait_until("it runs", || oci.path("rootfs/ready").exists());
    exec.signal(Signal::KILL);
    let _ = exec.finish();
    assert_eq!(oci.status("a"), "running");
    oci.delete("a");
}

/// A container without a process namespace of its own leaves processes when its first one ends.
#[test]
fn orphans_end_with_their_container() {
    let oci = Oci::new();
    oci.bundle("a", &["sh", "-c", "sleep 1000 & sleep 1001 & exit 0"], |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    oci.run_detached("a");
    oci.wait_for_status("a", "stopped");
    let _ = oci.line("delete a").ok();
    let group = oci.cgroup("a");
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|h| h.path());
    for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
        assert!(!hierarchy.join(group.trim_start_matches('/')).exists(), "{hierarchy:?}");
    }
}

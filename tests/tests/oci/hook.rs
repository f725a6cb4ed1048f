//! The six kinds of hooks.

use std::fs;

use serde_json::{Value, json};

use super::Oci;

/// What a hook of this kind reports: its name, the state, its mount namespace, what it sees of the
/// root file system, its environment.
const REPORT: &str = r#"#!/bin/sh
state=$(cat)
echo "{\"name\":\"$1\",\"state\":$state,\"ns\":\"$(readlink /proc/self/ns/mnt)\",\
\"proc\":$(ls ROOTFS/proc | wc -l),\"a\":\"$A\"}" >> REPORTS
"#;

fn hook(oci: &Oci, kind: &str) -> Value {
    json!([{
        "path": oci.path("hook.sh"),
        "args": ["hook.sh", kind],
        "env": [format!("A={kind}"), "PATH=/usr/bin:/bin"],
    }])
}

fn reports(oci: &Oci) -> Vec<Value> {
    let text = fs::read_to_string(oci.path("reports")).expect("hooks were called");
    text.lines().map(|line| serde_json::from_str(line).expect("a report is JSON")).collect()
}

#[test]
fn hooks_are_called_when_and_where_the_specification_says() {
    let oci = Oci::new();
    let path = |name: &str| oci.path(name).display().to_string();
    let script = REPORT.replace("ROOTFS", &path("rootfs")).replace("REPORTS", &path("reports"));
    testkit::write_script(oci.path("hook.sh"), &script);
    let host = ["prestart", "createRuntime", "poststart", "poststop"];
    oci.bundle("a", &["sleep", "1000"], |config| {
        for kind in host.iter().chain(&["createContainer"]) {
            config["hooks"][kind] = hook(&oci, kind);
        }
        config["hooks"]["startContainer"] =
            json!([{ "path": "/bin/busybox", "args": ["sh", "-c", "cat > /started; env > /env"] }]);
        config["annotations"] = json!({ "k": "v" });
    });
    let _ = oci.detached("create --bundle a a").ok();
    let pid = oci.state("a")["pid"].clone();
    assert_eq!(reports(&oci).len(), 3);
    assert!(!oci.path("rootfs/started").exists());
    let _ = oci.line("start a").ok();
    let started: Value =
        serde_json::from_slice(&fs::read(oci.path("rootfs/started")).unwrap()).unwrap();
    assert_eq!((&started["status"], &started["pid"]), (&json!("created"), &json!(1)));
    let env = fs::read_to_string(oci.path("rootfs/env")).unwrap();
    assert!(env.contains("PATH=/bin\n"), "it has the program's environment: {env}");
    oci.delete("a");

    let reports = reports(&oci);
    let names: Vec<&Value> = reports.iter().map(|report| &report["name"]).collect();
    assert_eq!(names, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    let statuses: Vec<&Value> = reports.iter().map(|report| &report["state"]["status"]).collect();
    assert_eq!(statuses, ["creating", "creating", "creating", "running", "stopped"]);
    for report in &reports {
        let state = &report["state"];
        assert_eq!(report["a"], report["name"]);
        assert_eq!((&state["id"], &state["ociVersion"]), (&json!("a"), &json!("1.2.0")));
        assert_eq!(state["bundle"], json!(oci.path("a")));
        assert_eq!(state["annotations"], json!({ "k": "v" }));
    }
    for at in [0, 1, 3] {
        assert_eq!(reports[at]["state"]["pid"], pid);
    }
    // It sees the container's mounts where the bundle has its root file system, and the host.
    assert_ne!(reports[2]["ns"], reports[0]["ns"]);
    assert_eq!(reports[3]["ns"], reports[0]["ns"]);
    assert_ne!(reports[2]["proc"], 0);
    assert_eq!(reports[0]["proc"], 0);
}

#[test]
fn a_hook_that_fails_ends_the_container_and_says_why() {
    let oci = Oci::new();
    let fails = json!([
        { "path": "/bin/true" },
        { "path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"] },
    ]);
    for kind in ["prestart", "createRuntime", "createContainer"] {
        oci.bundle("a", &["true"], |config| config["hooks"][kind] = fails.clone());
        oci.line("create --bundle a a")
            .code(1)
            .says(&format!("error running {kind} hook #1: exit status 3, stdout: , stderr: why"));
    }
    for kind in ["startContainer", "poststart"] {
        oci.bundle("a", &["sleep", "1000"], |config| config["hooks"][kind] = fails.clone());
        let _ = oci.detached("create --bundle a a").ok();
        oci.line("start a").code(1).says(&format!("error running {kind} hook #1: exit status 3"));
        oci.wait_for_status("a", "stopped");
        let _ = oci.line("delete a").ok();
    }
    // What follows a container's end cannot keep it from being deleted.
    oci.bundle("a", &["true"], |config| config["hooks"]["poststop"] = fails.clone());
    oci.line("run --bundle a a").code(0).says("error running poststop hook #1");
    assert_eq!(fs::read_dir(oci.path("state")).unwrap().count(), 0);
}

#[test]
fn a_hook_that_takes_too_long_is_ended() {
    let oci = Oci::new();
    oci.bundle("a", &["true"], |config| {
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }]);
    });
    oci.line("run --bundle a a").code(1).says("hook ran past specified timeout of 1s");
}

#[test]
fn a_hook_may_ask_about_its_container() {
    let oci = Oci::new();
    let binary = oci.sandbox.shell("echo $E");
    let ask = format!("{} oci --root {} state a", binary.ok().trim(), oci.path("state").display());
    oci.bundle("a", &["true"], |config| {
        for (kind, status) in [("createRuntime", "creating"), ("poststart", "id")] {
            let script = format!("{ask} | grep -q {status}");
            config["hooks"][kind] =
                json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
        }
    });
    let _ = oci.line("run --bundle a a").ok();
}

#[test]
fn a_create_container_hook_is_called_in_the_root_file_system() {
    let oci = Oci::new();
    oci.bundle("a", &["cat", "/bound"], |config| {
        let script = "echo bound > made; touch bound; mount --bind made bound";
        config["hooks"]["createContainer"] = json!([{
            "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"],
        }]);
    });
    oci.line("run --bundle a a").code(0).out("bound\n");
}

#[test]
fn a_signal_that_ended_a_hook_is_named() {
    let oci = Oci::new();
    oci.bundle("a", &["true"], |config| {
        config["hooks"]["createRuntime"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "kill -SYS $$"] }]);
    });
    oci.line("create --bundle a a")
        .code(1)
        .says("error running createRuntime hook #0: signal: bad system call");
}

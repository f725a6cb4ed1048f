//! What callers parse: logs, lists, features, specifications, help.

use std::fs;

use serde_json::{Value, json};

use super::Oci;

#[test]
fn an_error_reaches_the_log_and_standard_error() {
    let oci = Oci::new();
    let outcome = oci.words(&["--log", "log.json", "--log-format", "json", "state", "nobody"]);
    outcome.code(1);
    assert_eq!(outcome.stderr, "container does not exist\n");
    let line: Value = serde_json::from_slice(&fs::read(oci.path("log.json")).unwrap()).unwrap();
    assert_eq!(
        (&line["level"], &line["msg"]),
        (&json!("error"), &json!("container does not exist"))
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    let outcome = oci.words(&["state", "nobody"]);
    assert!(outcome.stderr.contains("level=error msg=\"container does not exist\""), "{outcome}");
    oci.words(&["--log-format", "xml", "list"]).code(1).says("invalid log-format");
}

#[test]
fn containers_are_listed() {
    let oci = Oci::new();
    oci.sandbox.words(&["oci", "--root", "nowhere", "list"]).code(1).says("no such file");
    oci.bundle("a", &["sleep", "1000"], |_| ());
    let _ = oci.detached("create --bundle a a").ok();
    let pid = oci.state("a")["pid"].to_string();
    oci.line("list --quiet").code(0).out("a\n");
    let listed: Value = serde_json::from_str(oci.line("list --format json").ok()).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["status"]), (&json!("a"), &json!("created")));
    assert_eq!(listed[0]["owner"], "root");
    let table = oci.line("list");
    let lines: Vec<Vec<&str>> =
        table.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(lines[1][..3], ["a", &pid, "created"]);
    oci.line("list --format xml").code(1).says("invalid format option");
    oci.delete("a");
    oci.line("list --format json").code(0).out("null\n");
}

#[test]
fn a_specification_is_made_that_runs() {
    let oci = Oci::new();
    fs::create_dir(oci.path("made")).unwrap();
    let _ = oci.line("spec --bundle made").ok();
    oci.line("spec --bundle made").code(1).says("File config.json exists. Remove it first");
    let path = oci.path("made/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    config["process"]["args"] = json!(["echo", "made"]);
    config["process"]["terminal"] = false.into();
    config["root"]["path"] = json!(oci.path("rootfs"));
    config["linux"]["cgroupsPath"] = oci.cgroup("made").into();
    fs::write(&path, config.to_string()).unwrap();
    oci.line("run --bundle made made").code(0).out("made\n");
    fs::create_dir(oci.path("rootless")).unwrap();
    let _ = oci.line("spec --rootless --bundle rootless").ok();
    let config: Value =
        serde_json::from_slice(&fs::read(oci.path("rootless/config.json")).unwrap()).unwrap();
    assert_eq!(config["linux"]["uidMappings"][0]["containerID"], 0);
    assert_eq!(config["linux"]["resources"], Value::Null);
}

#[test]
fn features_help_and_versions_are_shown() {
    let oci = Oci::new();
    let features: Value = serde_json::from_str(oci.line("features").ok()).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["hooks"].as_array().unwrap().contains(&json!("createContainer")));
    let named = oci
        .sandbox
        .shell("ln -s $E cais-runc && ./cais-runc --version && ./cais-runc create --help");
    let mut lines = named.ok().lines();
    assert!(lines.next().unwrap().starts_with("cais-runc version "), "{named}");
    assert!(lines.next().unwrap().starts_with("commit: "), "{named}");
    assert!(lines.next().unwrap().starts_with("spec: 1."), "{named}");
    assert_eq!(lines.next(), Some("NAME:"));
    assert_eq!(lines.next(), Some("   cais-runc create - create a container"));
    oci.line("nope").code(3).says("No help topic for 'nope'");
    oci.line("create").code(1).says("\\\"create\\\" requires exactly 1 argument(s)");
    oci.line("create --nope a").code(1).says("flag provided but not defined: -nope");
    oci.sandbox.words(&["oci", "--root", "/", "list"]).code(1).says("should not be set to /");
}

#[test]
fn a_debug_log_shows_how_far_a_process_came() {
    let oci = Oci::new();
    oci.bundle("a", &["sleep", "1000"], |config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [] });
    });
    let debug = |line: &str| {
        let _ = oci.detached(&format!("--debug --log log {line}")).ok();
        let log = fs::read_to_string(oci.path("log")).unwrap();
        fs::remove_file(oci.path("log")).unwrap();
        assert!(log.lines().all(|line| line.contains("level=debug")), "{log}");
        log
    };
    let log = debug("create --bundle a a");
    for part in ["nsexec container setup", "seccomp filter flags: 0", "child process in init()"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let _ = oci.line("start a").ok();
    fs::write(
        oci.path("process.json"),
        r#"{"args":["true"],"cwd":"/","user":{"uid":0,"gid":0},"execCPUAffinity":{"initial":"0"}}"#,
    )
    .unwrap();
    let log = debug("exec --process process.json a");
    for part in ["nsexec: affinity: 0x1", "setns_init: about to exec"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    oci.delete("a");
}

#[test]
fn an_interpreter_that_is_missing_is_named_by_its_script() {
    use std::os::unix::fs::PermissionsExt as _;
    let oci = Oci::new();
    let script = oci.path("rootfs/run.sh");
    std::fs::write(&script, "#!/nothing foo\nsh\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    oci.bundle("a", &["/run.sh"], |_| ());
    let outcome = oci.line("run --bundle a a");
    outcome.code(255);
    assert_eq!(outcome.stderr, "exec /run.sh: no such file or directory\n");
    // Whoever starts it looks into the log.
    let _ = oci.detached("create --bundle a a").ok();
    oci.line("start a").code(1).says("msg=\"exec /run.sh: no such file or directory\"");
    oci.delete("a");
    oci.bundle("b", &["sleep", "1000"], |_| ());
    oci.run_detached("b");
    oci.line("exec b /run.sh").code(255).says("exec /run.sh: no such file or directory");
    oci.line("exec b /missing").code(255).says("stat /missing: no such file or directory");
    oci.delete("b");
}

#[test]
fn the_log_tells_how_the_program_is_sealed() {
    let oci = Oci::new();
    oci.bundle("a", &["true"], |_| ());
    oci.line("--debug run --bundle a a").code(0).says("runc exeseal: using /proc/self/exe clone");
}

//! The probe, asked on this machine, where the answers are known.

use std::process::{Command, Output};

use serde_json::Value;

fn probe(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_probe")).args(words).output().expect("the probe starts")
}

fn ask(words: &[&str]) -> Value {
    let output = probe(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("the probe answers in JSON")
}

#[test]
fn it_sees_this_machine() {
    let all = ask(&["all"]);
    for answer in all.as_object().unwrap() {
        assert!(!answer.1.is_null(), "{answer:?}");
    }
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(own.to_str().unwrap(), format!("net:[{}]", all["namespaces"]["net"]));
    assert_eq!(all["security"]["no_new_privs"], false);
    assert_eq!(all["devices"]["/dev/null"]["number"], "1:3");
    assert_eq!(all["devices"]["/dev/null"]["open"], "ok");
    assert_eq!(all["terminal"]["terminals"], serde_json::json!([false, false, false]));
    assert!(all["network"]["devices"].as_array().unwrap().contains(&"lo".into()));
    let mounts = all["mounts"].as_array().unwrap();
    assert!(mounts.iter().any(|m| m["target"] == "/proc" && m["type"] == "proc"), "{mounts:?}");
    assert_eq!(all["limits"]["Max open files"].as_array().unwrap().len(), 2);
}

#[test]
fn an_allowed_call_fails_otherwise_than_a_denied_one() {
    let calls = ask(&["calls"]);
    assert_eq!(calls["mount"], "EFAULT");
    assert_eq!(calls["setns"], "EBADF");
    assert_eq!(calls["clone3"], "EINVAL");
}

#[test]
fn it_opens_what_it_is_told() {
    let answer = ask(&["open", "/proc/version", "/no/such"]);
    assert_eq!(answer["/proc/version"]["read"], "ok");
    assert!(answer["/proc/version"]["bytes"].as_u64().unwrap() > 10);
    assert_eq!(answer["/no/such"]["read"], "ENOENT");
}

#[test]
fn it_acts() {
    assert_eq!(probe(&["exit", "42"]).status.code(), Some(42));
    assert_eq!(ask(&["take-memory", "1048576"])["taken"], 1_048_576);
    assert_eq!(ask(&["start-processes", "3"]), serde_json::json!({ "started": 3, "end": "ok" }));
    assert_eq!(probe(&["nonsense"]).status.code(), Some(2));
}

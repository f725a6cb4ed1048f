use std::path::Path;

use serde_json::{Value, json};

use super::{Audit, Rotation};
use crate::asking::{ask, cluster, request};
use crate::{Answer, Cluster, User};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const LARGE: Rotation = Rotation { bytes_max: 1 << 20, backups_max: 1 };

fn told(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn audited(path: &Path, policy: Option<&Value>) -> Cluster {
    cluster().audited(Audit::open(path, policy, LARGE).unwrap())
}

#[test]
fn without_a_policy_it_is_told_who_did_what() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let cluster = audited(&path, None);
    let secret = json!({"metadata": {"name": "s"}, "data": {"a": "aGlkZGVu"}});
    ask(&cluster, &User::administrator(), "POST", SECRETS, &secret);
    ask(&cluster, &User::known("jane", &[]), "GET", &format!("{SECRETS}/s"), &Value::Null);
    let told = told(&path);
    assert_eq!(told.len(), 2, "{told:?}");
    let [made, got] = &told[..] else { unreachable!("there are two") };
    assert_eq!(made["stage"], "ResponseComplete");
    assert_eq!((&made["verb"], &made["level"]), (&json!("create"), &json!("Metadata")));
    assert_eq!(
        (&made["responseStatus"]["code"], &made["requestObject"]),
        (&json!(201), &Value::Null)
    );
    assert_eq!(made["requestURI"], SECRETS);
    assert_eq!(got["responseStatus"]["reason"], "Forbidden");
    assert_eq!(got["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(
        got["objectRef"],
        json!({"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"})
    );
    assert!(!std::fs::read_to_string(&path).unwrap().contains("aGlkZGVu"));
}

#[test]
fn the_first_rule_about_a_request_decides() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*"]},
            {"level": "None", "users": ["jane"]},
            {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
            {"level": "RequestResponse", "namespaces": ["default"], "omitManagedFields": true},
            {"level": "Request", "userGroups": ["team"], "omitStages": ["ResponseStarted"]},
        ],
    });
    let cluster = audited(&path, Some(&policy));
    let (admin, team) = (User::administrator(), User::known("joe", &["team"]));
    let map = json!({"metadata": {"name": "m"}});
    ask(&cluster, &admin, "GET", "/healthz", &Value::Null);
    ask(&cluster, &User::known("jane", &[]), "GET", SECRETS, &Value::Null);
    ask(&cluster, &admin, "GET", SECRETS, &Value::Null);
    ask(&cluster, &admin, "POST", "/api/v1/namespaces/default/configmaps", &map);
    ask(&cluster, &admin, "POST", "/api/v1/namespaces", &map);
    ask(&cluster, &team, "POST", "/api/v1/namespaces", &map);
    let told = told(&path);
    let levels: Vec<&str> = told.iter().map(|event| event["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["Metadata", "RequestResponse", "Request"]);
    assert_eq!(told[1]["requestObject"]["metadata"]["name"], "m");
    let answered = &told[1]["responseObject"]["metadata"];
    assert!(answered["uid"].is_string() && answered["managedFields"].is_null(), "{answered}");
    assert_eq!(
        (&told[2]["requestObject"]["metadata"]["name"], &told[2]["responseObject"]),
        (&json!("m"), &Value::Null)
    );
}

#[test]
fn a_watch_is_told_when_it_begins_and_when_it_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let cluster = audited(&path, None);
    let asked = request(&User::administrator(), "GET", &format!("{SECRETS}?watch=1"), &Value::Null);
    let answer = cluster.answer(&asked);
    let stages =
        || -> Vec<Value> { told(&path).iter().map(|event| event["stage"].clone()).collect() };
    assert!(matches!(answer, Answer::Watch(_)));
    assert_eq!(stages(), ["ResponseStarted"]);
    drop(answer);
    assert_eq!(stages(), ["ResponseStarted", "ResponseComplete"]);
}

#[test]
fn files_are_bounded_and_policies_checked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let rotation = Rotation { bytes_max: 2000, backups_max: 2 };
    let cluster = cluster().audited(Audit::open(&path, None, rotation).unwrap());
    for _ in 0..40 {
        ask(&cluster, &User::administrator(), "GET", SECRETS, &Value::Null);
    }
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .inspect(|entry| assert!(entry.metadata().unwrap().len() <= 2000))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    let policy =
        |rules: Value| json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules});
    for wrong in [
        json!({}),
        policy(json!([])),
        policy(json!([{"level": "Everything"}])),
        policy(json!([{"level": "None", "omitStages": ["x"]}])),
    ] {
        assert!(Audit::open(&path, Some(&wrong), LARGE).is_err(), "{wrong}");
    }
    assert!(Audit::open(directory.path(), None, LARGE).is_err());
}

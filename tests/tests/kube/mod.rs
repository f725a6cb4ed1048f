//! The Kubernetes API of a whole server, asked with curl, and in the files beside this with the real
//! clients.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod access;
mod chart;
mod custom;
mod declare;
mod forward;
mod hosts;
mod kinds;
mod library;
mod metrics;
mod older;
mod pod;
mod proxy;
mod service;
mod show;
mod storage;
mod verbs;
mod workload;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::{Outcome, Running, Sandbox};

/// A server, and how it is asked.
struct Cluster<'a> {
    sandbox: &'a Sandbox,
    running: Running,
    address: String,
    token: String,
}

impl<'a> Cluster<'a> {
    fn start(sandbox: &'a Sandbox) -> Self {
        Self::start_with(sandbox, "--disable-agent")
    }

    fn start_with(sandbox: &'a Sandbox, options: &str) -> Self {
        Self::start_at(sandbox, &format!("--listen 127.0.0.1:0 {options}"))
    }

    fn start_at(sandbox: &'a Sandbox, options: &str) -> Self {
        let running = sandbox.start_script(&format!(
            "exec $E server --data-dir cluster --kubeconfig kubeconfig {options}",
        ));
        running.wait_for("Use it with");
        let config = std::fs::read_to_string(sandbox.work().join("kubeconfig")).unwrap();
        let word = |after: &str| {
            let rest = config.split_once(after).unwrap().1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        Self { sandbox, running, address: word("server: "), token: word("token: ") }
    }

    /// Asks, with a body if there is one: the status, and the document.
    fn ask(&self, method: &str, path: &str, media_type: &str, body: &Value) -> (u16, Value) {
        let data = if body.is_null() { String::new() } else { body.to_string() };
        let file: PathBuf = self.sandbox.work().join("body");
        std::fs::write(&file, data).unwrap();
        let script = format!(
            "curl -s --cacert cluster/ca.crt -X {method} -H 'Authorization: Bearer {}' \
             -H 'Content-Type: {media_type}' -w '\n%{{http_code}}' --data-binary @body '{}{path}'",
            self.token, self.address
        );
        let outcome = self.sandbox.shell(&script);
        let (document, status) = outcome.ok().rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(document).unwrap_or_default())
    }

    /// Runs a script of the shell in which `kubectl`, the newer one, and `helm` talk to the server.
    #[track_caller]
    fn shell(&self, script: &str) -> Outcome {
        self.sandbox.shell(&format!("{}\n{script}", clients(&testkit::kubectl())))
    }

    /// The same with an older kubectl.
    #[track_caller]
    fn older_shell(&self, script: &str) -> Outcome {
        self.sandbox.shell(&format!("{}\n{script}", clients(&testkit::older_kubectl())))
    }

    /// Writes a file that scripts find in their directory.
    fn file(&self, name: &str, text: &str) {
        let path = self.sandbox.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "application/json", &Value::Null)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, "application/json", body)
    }
}

/// `wait_until COMMAND` tries a command until it succeeds; `none KIND` succeeds if there is nothing of
/// a kind.
const UNTIL: &str = r#"
wait_until() {
    last=$(($(date +%s)+120))
    until "$@"; do
        [ "$(date +%s)" -lt $last ] || { echo "never: $*"; kubectl get all,pvc,pv,events; exit 9; }
        sleep 0.1
    done
}
none() { [ -z "$(kubectl get "$@" -o name)" ]; }
"#;

/// What a script needs to run the clients, and to end with the first that fails.
fn clients(kubectl: &Path) -> String {
    format!(
        "set -e; export KUBECONFIG=$PWD/kubeconfig; kubectl() {{ {} \"$@\"; }}; helm() {{ {} \"$@\"; }}\n{UNTIL}",
        kubectl.display(),
        testkit::helm().display()
    )
}

/// A line of a table has these words, in this order, with whatever between.
#[track_caller]
fn has_line(outcome: &Outcome, words: &[&str]) {
    let is = |line: &str| {
        let mut found = line.split_whitespace();
        words.iter().all(|word| found.any(|other| other == *word))
    };
    assert!(outcome.stdout.lines().any(is), "no line {words:?}:\n{outcome}");
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let map = json!({"metadata": {"name": "one"}, "data": {"a": "b"}});
    let (status, made) = cluster.post(MAPS, &map);
    assert_eq!(status, 201, "{made}");
    let uid = made["metadata"]["uid"].clone();
    let watching = sandbox.start_script(&format!(
        "exec curl -sN --cacert cluster/ca.crt -H 'Authorization: Bearer {}' '{}{MAPS}?watch=1&resourceVersion={}'",
        cluster.token,
        cluster.address,
        made["metadata"]["resourceVersion"].as_str().unwrap()
    ));
    let patch = json!({"data": {"a": "c"}});
    let (status, _) =
        cluster.ask("PATCH", &format!("{MAPS}/one"), "application/merge-patch+json", &patch);
    assert_eq!(status, 200);
    watching.wait_for("\"type\":\"MODIFIED\"");
    cluster.running.signal(rustix::process::Signal::KILL);
    drop(cluster);
    drop(watching);
    let cluster = Cluster::start(&sandbox);
    let (status, found) = cluster.get(&format!("{MAPS}/one"));
    assert_eq!((status, &found["data"]["a"], &found["metadata"]["uid"]), (200, &json!("c"), &uid));
    let (status, gone) =
        cluster.ask("DELETE", &format!("{MAPS}/one"), "application/json", &Value::Null);
    assert_eq!((status, &gone["status"]), (200, &json!("Success")));
    assert_eq!(cluster.get(&format!("{MAPS}/one")).0, 404);
}

#[test]
fn a_deployment_is_completed_applied_scaled_and_shown() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
    });
    let config = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    });
    let apply = |manager: &str, config: &Value, more: &str| {
        let path = format!("{path}/web?fieldManager={manager}{more}");
        cluster.ask("PATCH", &path, "application/apply-patch+yaml", config)
    };
    let (status, made) = apply("one", &config, "");
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["spec"]["strategy"]["type"], "RollingUpdate");
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"],
        "IfNotPresent"
    );
    let mut other = config.clone();
    other["spec"]["replicas"] = 3.into();
    let (status, conflict) = apply("two", &other, "");
    assert_eq!((status, &conflict["reason"]), (409, &json!("Conflict")), "{conflict}");
    assert_eq!(apply("two", &other, "&force=true").0, 200);
    let scale = json!({"spec": {"replicas": 5}});
    let merge = "application/merge-patch+json";
    let (status, scaled) = cluster.ask("PATCH", &format!("{path}/web/scale"), merge, &scale);
    assert_eq!((status, &scaled["spec"]["replicas"]), (200, &json!(5)));
    let (_, found) = cluster.get(&format!("{path}/web"));
    assert_eq!(found["metadata"]["generation"], 3);
    let table = format!(
        "curl -s --cacert cluster/ca.crt -H 'Authorization: Bearer {}' \
         -H 'Accept: application/json;as=Table;v=v1;g=meta.k8s.io' '{}{path}'",
        cluster.token, cluster.address
    );
    let table: Value = serde_json::from_str(sandbox.shell(&table).ok()).unwrap();
    let cells = &table["rows"][0]["cells"];
    assert_eq!((&cells[0], &cells[1]), (&json!("web"), &json!("0/5")));
}

#[test]
fn who_does_not_know_the_token_is_not_let_in() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let ask = |token: &str, path: &str| {
        let script = format!(
            "curl -s -o answer -w '%{{http_code}}' --cacert cluster/ca.crt \
             -H 'Authorization: Bearer {token}' '{}{path}'",
            cluster.address
        );
        sandbox.shell(&script).ok().to_owned()
    };
    assert_eq!(ask("nonsense", MAPS), "401");
    assert_eq!(ask("nonsense", "/readyz"), "401");
    assert_eq!(
        ask(&cluster.token, "/api/v1/namespaces/default/configmaps/..%2f..%2fsecrets"),
        "404"
    );
    assert_eq!(ask(&cluster.token, MAPS), "200");
    let (status, failure) = cluster.post(MAPS, &json!({"metadata": {"name": "A"}}));
    assert_eq!((status, &failure["reason"]), (422, &json!("Invalid")));
    let (status, failure) = cluster.post(MAPS, &json!(["no object"]));
    assert_eq!((status, &failure["reason"]), (400, &json!("BadRequest")));
}

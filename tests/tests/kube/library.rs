//! The libraries with which programs talk to Kubernetes: each has a session in its own language, in
//! `clients/`, which is asserted there. Rust's kube is not among them: it would bring an asynchronous
//! runtime into the workspace.

use serde_json::json;
use testkit::Sandbox;

use super::Cluster;

impl Cluster<'_> {
    /// Runs a program of Python that may use its library.
    #[track_caller]
    fn python(&self, text: &str) -> String {
        self.file("session.py", text);
        let library = testkit::python_library();
        let script = format!("PYTHONPATH={} exec python3 session.py", library.display());
        self.sandbox.shell(&script).ok().to_owned()
    }

    /// Runs a program of JavaScript that may use its library.
    #[track_caller]
    fn node(&self, text: &str) -> String {
        self.file("session.mjs", text);
        let library = testkit::node_library();
        let script = format!("ln -sfn {} node_modules; exec node session.mjs", library.display());
        self.sandbox.shell(&script).ok().to_owned()
    }

    /// A pod that has said `up` and waits.
    fn waiting_pod(&self) {
        let waits = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let pod = json!({"metadata": {"name": "web"}, "spec": {"nodeName": "n", "containers": [
            {"name": "c", "image": "busybox", "imagePullPolicy": "Never",
             "command": ["sh", "-c", waits]},
        ]}});
        let (status, made) = self.post("/api/v1/namespaces/default/pods", &pod);
        assert_eq!(status, 201, "{made}");
    }
}

#[test]
fn programs_in_python_make_watch_apply_and_elect() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let said = cluster.python(include_str!("clients/objects.py"));
    let parts: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("python: ")).collect();
    let all =
        ["maps", "watches", "deployments", "applied", "customs", "informed", "elected", "reviewed"];
    assert_eq!(parts, all, "{said}");
}

#[test]
fn programs_in_javascript_make_watch_and_apply() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let said = cluster.node(include_str!("clients/objects.mjs"));
    let parts: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("node: ")).collect();
    assert_eq!(parts, ["maps", "deployments", "watched", "informed"], "{said}");
}

#[test]
fn programs_reach_into_pods() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    cluster.waiting_pod();
    assert_eq!(cluster.python(include_str!("clients/pods.py")), "python: pods");
    assert_eq!(cluster.node(include_str!("clients/pods.mjs")), "node: pods");
    cluster.stop();
}

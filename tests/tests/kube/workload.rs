//! Workloads: what controllers, the scheduler and the node make of them together, seen with kubectl.

use serde_json::json;
use testkit::{Outcome, Sandbox};

use super::{Cluster, has_line};

/// Waits until the node has nothing of any pod: one that has ended is removed from the API first.
pub(super) const GONE: &str = r#"
end=$(($(date +%s)+120))
until [ -z "$(ls cluster/pods)" ]; do [ "$(date +%s)" -lt $end ] || exit 9; done
"#;

/// A template of pods that end at once when they are asked to.
fn template(app: &str) -> serde_json::Value {
    let command = "trap 'exit 0' TERM; echo up $GREETING; while :; do sleep 0.05; done";
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{
        "name": "c", "image": "busybox", "imagePullPolicy": "Never", "command": ["sh", "-c", command]}]}})
}

fn workload(kind: &str, name: &str, spec: serde_json::Value) -> String {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": name}});
    spec["template"] = template(name);
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
        .to_string()
}

#[track_caller]
fn prints(outcome: &Outcome, text: &str) {
    assert!(outcome.stdout.contains(text), "{text:?} is not told:\n{outcome}");
}

#[test]
fn a_deployment_is_rolled_out_and_back_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    cluster.file("web.json", &workload("Deployment", "web", json!({"replicas": 3})));
    let outcome = cluster.shell(
        r#"
        kubectl apply -f web.json
        kubectl rollout status deploy/web --timeout=120s
        kubectl get deploy web
        kubectl set env deploy/web GREETING=again
        kubectl rollout status deploy/web --timeout=120s
        kubectl logs deploy/web
        kubectl rollout undo deploy/web
        kubectl rollout status deploy/web --timeout=120s
        kubectl rollout history deploy/web
        kubectl get rs -o custom-columns=WANTED:.spec.replicas --no-headers | sort
        kubectl exec deploy/web -- hostname
        "#,
    );
    has_line(outcome.code(0), &["web", "3/3", "3", "3"]);
    has_line(&outcome, &["up", "again"]);
    has_line(&outcome, &["3", "<none>"]);
    prints(&outcome, "deployment.apps/web rolled back");
    let outcome = cluster.shell(
        &("kubectl delete deploy/web
        kubectl wait --for=delete pod -l app=web --timeout=120s
        kubectl get pods,rs --ignore-not-found"
            .to_owned()
            + GONE),
    );
    assert!(!outcome.code(0).stdout.contains("pod/"), "{outcome}");
    cluster.stop();
}

#[test]
fn sets_jobs_and_daemons_run_and_what_fits_nowhere_says_why() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    let set = workload("StatefulSet", "db", json!({"replicas": 2, "serviceName": "db"}));
    cluster.file("set.json", &set);
    cluster.file("daemon.json", &workload("DaemonSet", "agent", json!({})));
    let mut once = template("once");
    once["spec"]["restartPolicy"] = json!("Never");
    once["spec"]["containers"][0]["command"] = json!(["echo", "done"]);
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"},
        "spec": {"completions": 2, "parallelism": 2, "template": once}});
    cluster.file("job.json", &job.to_string());
    let mut huge = template("huge");
    huge["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1000"}});
    let huge = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "huge"}, "spec": huge["spec"]});
    cluster.file("huge.json", &huge.to_string());
    let outcome = cluster.shell(
        &(r#"
        kubectl apply -f set.json -f daemon.json -f job.json -f huge.json
        kubectl rollout status sts/db --timeout=120s
        kubectl rollout status ds/agent --timeout=120s
        kubectl wait --for=condition=complete job/once --timeout=120s
        kubectl logs job/once --all-pods=true
        kubectl get pods
        kubectl wait --for=condition=PodScheduled=False pod/huge --timeout=120s
        kubectl get pod huge -o jsonpath='{.status.conditions[?(@.type=="PodScheduled")].message}'; echo
        kubectl delete sts,ds,job,pod --all --wait=false
        kubectl wait --for=delete pod --all --timeout=120s
        "#
        .to_owned()
            + GONE),
    );
    prints(outcome.code(0), "job.batch/once condition met");
    has_line(&outcome, &["db-0", "1/1", "Running"]);
    has_line(&outcome, &["db-1", "1/1", "Running"]);
    prints(&outcome, "0/1 nodes are available: 1 Insufficient cpu.");
    cluster.stop();
}

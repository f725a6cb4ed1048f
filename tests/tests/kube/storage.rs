//! Claims that nobody made a volume for.

use serde_json::{Value, json};
use testkit::Sandbox;

use super::{Cluster, has_line};

fn claim(modes: &[&str], size: &str) -> Value {
    json!({"accessModes": modes, "resources": {"requests": {"storage": size}}})
}

fn set() -> String {
    let command =
        "trap 'exit 0' TERM; echo $(date +%s%N) >> /data/starts; while :; do sleep 0.05; done";
    let template = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{
        "name": "c", "image": "busybox", "imagePullPolicy": "Never", "command": ["sh", "-c", command],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
        "serviceName": "db", "replicas": 2, "selector": {"matchLabels": {"app": "db"}},
        "template": template, "volumeClaimTemplates": [
            {"metadata": {"name": "data"}, "spec": claim(&["ReadWriteOnce"], "16Mi")}],
    }})
    .to_string()
}

#[test]
fn a_claim_gets_a_directory_that_outlives_its_pods() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    cluster.file("set.json", &set());
    let shared = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"}, "spec": claim(&["ReadWriteMany"], "16Mi")});
    let user = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"}, "spec": {
        "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "Never"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "shared"}}]}});
    cluster.file("shared.yaml", &format!("{shared}\n---\n{user}\n"));
    let outcome = cluster.shell(
        r#"
        kubectl get storageclass
        kubectl apply -f set.json
        kubectl rollout status sts/db --timeout=120s
        kubectl get pvc
        kubectl exec db-0 -- cp /data/starts /data/before
        kubectl delete pod db-0
        kubectl wait --for=create pod/db-0 --timeout=120s
        kubectl wait --for=condition=Ready pod/db-0 --timeout=120s
        kubectl exec db-0 -- sh -c 'wc -l < /data/starts; cmp /data/before /data/starts || echo more'
        ls cluster/local | wc -l
        kubectl apply -f shared.yaml
        is_refused() { kubectl get events | grep -q 'access mode ReadWriteMany is not supported'; }
        wait_until is_refused
        kubectl delete -f shared.yaml
        kubectl delete sts/db
        wait_until none pods
        kubectl delete pvc --all
        wait_until none pv
        ls cluster/local | wc -l
        "#,
    );
    has_line(
        outcome.code(0),
        &["local-path", "(default)", "cais/local-path", "Delete", "WaitForFirstConsumer"],
    );
    has_line(&outcome, &["data-db-0", "Bound", "16Mi", "RWO", "local-path"]);
    has_line(&outcome, &["data-db-1", "Bound"]);
    let counts: Vec<&str> = outcome.stdout.lines().filter(|line| line.len() == 1).collect();
    assert_eq!(counts, ["2", "2", "0"], "{outcome}");
    has_line(&outcome, &["more"]);
    cluster.gone();
    cluster.stop();
}

//! What pods and nodes use: shown, and scaled by.

use serde_json::{Value, json};
use testkit::Sandbox;

use super::{Cluster, has_line};

/// Runs a processor hot for as long as there is a file.
const BURN: &str =
    "trap 'exit 0' TERM; while :; do if [ -e /tmp/load ]; then :; else sleep 0.5; fi; done";

fn burner() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "burn"}, "spec": {
        "selector": {"matchLabels": {"app": "burn"}},
        "template": {"metadata": {"labels": {"app": "burn"}}, "spec": {"containers": [{
            "name": "c", "image": "busybox", "imagePullPolicy": "Never", "command": ["sh", "-c", BURN],
            "resources": {"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "300m"}},
        }]}},
    }})
}

fn autoscaler() -> Value {
    let quick = json!({"stabilizationWindowSeconds": 0,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]});
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "burn"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "burn"},
        "minReplicas": 1, "maxReplicas": 3,
        "behavior": {"scaleDown": quick, "scaleUp": quick},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}}],
    }})
}

#[test]
fn usage_is_shown_and_scales_up_and_down() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    cluster.file("burn.json", &burner().to_string());
    cluster.file("hpa.json", &autoscaler().to_string());
    let outcome = cluster.shell(
        r#"
        kubectl apply -f burn.json
        kubectl rollout status deploy/burn --timeout=120s
        pod=$(kubectl get pods -o name)
        kubectl top pod
        kubectl top pod -l app=burn --containers
        kubectl top pod -l app=other 2>&1
        kubectl top node
        kubectl get podmetrics
        kubectl get --raw /api/v1/nodes/n/proxy/stats/summary | grep -o '"nodeName":"n"'
        kubectl get --raw /api/v1/nodes/n/proxy/metrics/resource | grep container_cpu
        kubectl auth can-i list pods.metrics.k8s.io --as=system:serviceaccount:default:default || true
        kubectl apply -f hpa.json
        kubectl exec $pod -- touch /tmp/load
        kubectl wait --for=jsonpath='{.status.desiredReplicas}'=3 hpa/burn --timeout=120s
        kubectl wait --for=jsonpath='{.status.readyReplicas}'=3 deploy/burn --timeout=120s
        kubectl get hpa burn
        for one in $(kubectl get pods -o name); do kubectl exec $one -- rm -f /tmp/load || true; done
        kubectl wait --for=jsonpath='{.status.desiredReplicas}'=1 hpa/burn --timeout=120s
        kubectl wait --for=jsonpath='{.spec.replicas}'=1 deploy/burn --timeout=120s
        kubectl delete hpa,deploy --all
        wait_until none pods
        "#,
    );
    has_line(outcome.code(0), &["NAME", "CPU(cores)", "MEMORY(bytes)"]);
    has_line(&outcome, &["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]);
    has_line(&outcome, &["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]);
    has_line(&outcome, &["NAME", "CPU", "MEMORY", "WINDOW"]);
    has_line(&outcome, &["\"nodeName\":\"n\""]);
    assert!(
        outcome.stdout.contains("container_cpu_usage_seconds_total{container=\"c\""),
        "{outcome}"
    );
    has_line(&outcome, &["burn", "Deployment/burn", "1", "3"]);
    cluster.gone();
    cluster.stop();
}

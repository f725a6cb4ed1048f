//! Ports of pods, on this side: by WebSockets, and by SPDY as older clients speak it.

use serde_json::json;
use testkit::Sandbox;

use super::{Cluster, has_line};

/// `forward WHAT` forwards a free port to 80 of something: its number is in `$port`.
const FORWARD: &str = r#"
forward() {
    : > told
    kubectl port-forward "$@" > told 2>&1 &
    forwarder=$!
    end=$(($(date +%s)+120))
    until grep -q '127.0.0.1:' told; do
        [ "$(date +%s)" -lt $end ] && kill -0 $forwarder || { cat told; exit 9; }
        sleep 0.05
    done
    port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' told | head -1)
}
# Who could not reach the port has ended by itself.
unforward() { kill $forwarder 2>killed || true; wait $forwarder || true; }
"#;

fn objects() -> String {
    let command = "mkdir /www; echo hello > /www/index.html; \
        head -c 3000000 /dev/zero > /www/much; exec httpd -f -p 80 -h /www";
    let labels = json!({"app": "web"});
    let template = json!({"metadata": {"labels": labels}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "Never",
            "command": ["sh", "-c", command],
            "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1}}],
    }});
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": labels}, "template": template}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": labels, "ports": [{"port": 8080, "targetPort": 80}]}});
    format!("{web}\n---\n{service}\n")
}

#[test]
fn ports_of_pods_are_forwarded() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    cluster.file("web.yaml", &objects());
    let script = r#"
        kubectl apply -f web.yaml
        kubectl rollout status deploy/web --timeout=120s
        forward deploy/web :80
        curl -sS http://127.0.0.1:$port/
        curl -sS http://127.0.0.1:$port/much | wc -c
        for n in 1 2 3 4 5; do curl -sS -o many$n http://127.0.0.1:$port/much & all="$all $!"; done
        wait $all
        cat many* | wc -c
        unforward
        forward svc/web :8080
        curl -sS http://127.0.0.1:$port/
        unforward
        forward $(kubectl get pods -o name) :81
        curl -sS http://127.0.0.1:$port/ || echo nobody
        unforward
        cat told
        "#;
    let outcome = cluster.shell(&format!("{FORWARD}{script}"));
    let hellos = outcome.code(0).stdout.lines().filter(|line| *line == "hello").count();
    assert_eq!(hellos, 2, "{outcome}");
    has_line(&outcome, &["3000000"]);
    has_line(&outcome, &["15000000"]);
    has_line(&outcome, &["nobody"]);
    assert!(outcome.stdout.contains("error forwarding port 81 to pod web-"), "{outcome}");
    let script = r#"
        forward deploy/web :80
        curl -sS http://127.0.0.1:$port/
        unforward
        kubectl exec deploy/web -- echo executed
        printf 'given\n' | kubectl exec -i deploy/web -- cat
        kubectl exec deploy/web -- sh -c 'echo bad >&2; exit 7' || echo code $?
        head -c 500000 /dev/zero | kubectl exec -i deploy/web -- wc -c
        kubectl exec deploy/web -- head -c 500000 /dev/zero | wc -c
        kubectl delete -f web.yaml
        wait_until none pods
        "#;
    // What makes it speak as those before 1.31.
    let spdy =
        "export KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false KUBECTL_PORT_FORWARD_WEBSOCKETS=false";
    let outcome = cluster.older_shell(&format!("{spdy}{FORWARD}{script}"));
    for line in ["hello", "executed", "given"] {
        has_line(outcome.code(0), &[line]);
    }
    has_line(&outcome, &["code", "7"]);
    let lengths = outcome.stdout.lines().filter(|line| *line == "500000").count();
    assert_eq!(lengths, 2, "{outcome}");
    cluster.gone();
    cluster.stop();
}

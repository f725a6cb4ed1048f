//! What is passed on to pods and services through the server.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::Sandbox;

use super::Cluster;

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(120);

#[test]
fn pods_and_services_are_asked_through_the_server() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    let serve = "mkdir /www; echo hello > /www/a; exec httpd -f -p 8080 -h /www";
    let pod = json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{
            "name": "c", "image": "busybox", "imagePullPolicy": "Never",
            "command": ["sh", "-c", serve], "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/a", "port": 8080}, "periodSeconds": 1},
        }]},
    });
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]},
    });
    for (kind, body) in [("pods", &pod), ("services", &service)] {
        let (status, made) = cluster.post(&format!("/api/v1/namespaces/default/{kind}"), body);
        assert_eq!(status, 201, "{made}");
    }
    let ask = |path: &str| {
        let script = format!(
            "curl -s -L --max-time 120 --cacert cluster/ca.crt -H 'Authorization: Bearer {}' \
             -w ' %{{http_code}}' '{}/api/v1/namespaces/default/{path}'",
            cluster.token, cluster.address
        );
        sandbox.shell(&script).ok().to_owned()
    };
    let begun = Instant::now();
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
                  ?labelSelector=kubernetes.io/service-name%3Dweb";
    let is_served = || cluster.get(slices).1["items"].to_string().contains("\"ready\":true");
    while !is_served() {
        assert!(begun.elapsed() < LONGEST, "nobody serves: {}", cluster.get(slices).1);
    }
    for path in [
        "pods/web/proxy/a",
        "pods/web:http/proxy/a",
        "pods/http:web:8080/proxy/a",
        "services/web/proxy/a",
        "services/web:web/proxy/a",
        "services/web:80/proxy//a?b=c",
    ] {
        assert_eq!(ask(path), "hello\n 200", "{path}");
    }
    assert!(ask("pods/web/proxy/none").ends_with(" 404"));
    let refused = ask("pods/web:1/proxy/");
    assert!(refused.contains("error trying to reach service: dial tcp"), "{refused}");
    assert!(refused.ends_with(" 503"), "{refused}");
    let none = ask("services/web:81/proxy/");
    assert!(none.contains("no service port \\\"81\\\" found for service \\\"web\\\""), "{none}");
    assert!(ask("services/none/proxy/").ends_with(" 404"));
    let outcome =
        cluster.shell("kubectl get --raw /api/v1/namespaces/default/services/web/proxy/a");
    outcome.out("hello\n");
    cluster.stop();
}

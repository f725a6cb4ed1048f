//! Kinds in their other versions, the removed ones, too, and bodies in YAML.

use serde_json::json;
use testkit::Sandbox;

use super::{Cluster, has_line};

#[test]
fn manifests_of_removed_versions_are_taken_with_a_warning() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file(
        "old.yaml",
        "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: old}\n\
         spec: {rules: [{host: a.b, http: {paths: [{path: /, backend: {serviceName: s, servicePort: 80}}]}}]}\n\
         ---\napiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: old}\n\
         spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x}]}}}\n\
         ---\napiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: old}\n\
         spec: {schedule: '* * * * *', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, \
         containers: [{name: c, image: x}]}}}}}\n",
    );
    let outcome = cluster.shell("kubectl apply -f old.yaml");
    outcome.says(
        "Warning: extensions/v1beta1 Ingress is deprecated in v1.14+, unavailable in v1.22+; use \
         networking.k8s.io/v1 Ingress",
    );
    has_line(&outcome, &["deployment.apps/old", "created"]);
    let script = "kubectl apply -f old.yaml; kubectl get ingress old -o \
        jsonpath='{.apiVersion} {.spec.rules[0].http.paths[0].backend.service.name}'; \
        kubectl get deploy old -o jsonpath=' {.apiVersion} {.spec.selector.matchLabels.a}'; \
        kubectl get cronjob old -o jsonpath=' {.apiVersion}'";
    let outcome = cluster.shell(script);
    assert!(outcome.ok().contains("unchanged"), "{outcome}");
    assert!(outcome.stdout.ends_with("networking.k8s.io/v1 s apps/v1 b batch/v1"), "{outcome}");
    let tables = cluster
        .shell("kubectl get ingresses.v1beta1.extensions; kubectl get deploy,ingress -o name");
    has_line(&tables, &["old", "<none>", "a.b", "80"]);
    assert!(
        tables.ok().ends_with("deployment.apps/old\ningress.networking.k8s.io/old"),
        "{tables}"
    );
}

#[test]
fn autoscalers_and_events_are_the_same_in_each_version() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let script = "kubectl create deployment d --image=x >/dev/null
        kubectl autoscale deployment d --max=3 --cpu=50% >/dev/null
        kubectl get horizontalpodautoscalers.v1.autoscaling d -o jsonpath='{.spec.targetCPUUtilizationPercentage}'
        kubectl get horizontalpodautoscalers.v2.autoscaling d -o jsonpath=' {.spec.metrics[0].resource.target.averageUtilization}'
        kubectl patch horizontalpodautoscalers.v1.autoscaling d --type merge -p '{\"spec\":{\"targetCPUUtilizationPercentage\":70}}' >/dev/null
        kubectl get horizontalpodautoscalers.v2.autoscaling d -o jsonpath=' {.spec.metrics[0].resource.target.averageUtilization}'";
    cluster.shell(script).out("50 50 70");
    let event = json!({
        "metadata": {"name": "e", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "c", "reportingInstance": "i", "action": "A", "reason": "R",
        "type": "Normal", "note": "seen", "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    assert_eq!(cluster.post(path, &event).0, 201);
    let (_, core) = cluster.get("/api/v1/namespaces/default/events/e");
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("seen"), &json!("p")));
    let (_, list) =
        cluster.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=p");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn bodies_may_be_yaml_and_openapi_has_two_versions() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file("map.yaml", "# what it is\nmetadata:\n  name: m\ndata: {a: 'yes'}\n");
    cluster.file(
        "apply.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: n\ndata: &d\n  a: |\n    two\n    lines\n",
    );
    let ask = |more: &str, path: &str| {
        let script = format!(
            "curl -s --cacert cluster/ca.crt -H 'Authorization: Bearer {}' {more} '{}{path}'",
            cluster.token, cluster.address
        );
        sandbox.shell(&script).ok().to_owned()
    };
    let maps = "/api/v1/namespaces/default/configmaps";
    let made = ask("-H 'Content-Type: application/yaml' --data-binary @map.yaml", maps);
    assert!(made.contains(r#""data":{"a":"yes"}"#), "{made}");
    let patch =
        "-X PATCH -H 'Content-Type: application/apply-patch+yaml' --data-binary @apply.yaml";
    let made = ask(patch, &format!("{maps}/n?fieldManager=me"));
    assert!(made.contains(r#""data":{"a":"two\nlines\n"}"#), "{made}");
    let older: serde_json::Value = serde_json::from_str(&ask("", "/openapi/v2")).unwrap();
    assert_eq!(older["swagger"], "2.0");
    assert!(older["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    let binary =
        "-H 'Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf' -o binary";
    ask(binary, "/openapi/v2");
    let binary = std::fs::read(sandbox.work().join("binary")).unwrap();
    assert!(binary.starts_with(b"\x0a\x032.0"), "{:x?}", &binary[..20]);
}

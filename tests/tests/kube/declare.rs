//! Objects that people make and change with kubectl.

use testkit::Sandbox;

use super::{Cluster, has_line};

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app}}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers: [{name: c, image: "nginx:1", ports: [{containerPort: 80}]}]
"#;

#[test]
fn what_is_applied_is_made_and_changed() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file("d.yaml", DEPLOYMENT);
    cluster.shell("kubectl apply -f d.yaml").out("deployment.apps/app created\n");
    cluster.shell("kubectl apply -f d.yaml").out("deployment.apps/app unchanged\n");
    cluster.file("d.yaml", &DEPLOYMENT.replace("replicas: 1", "replicas: 3"));
    let diff = cluster.shell("kubectl diff -f d.yaml");
    diff.code(1);
    assert!(diff.stdout.contains("-  replicas: 1\n+  replicas: 3"), "{diff}");
    assert!(diff.stdout.contains("-  generation: 1\n+  generation: 2"), "{diff}");
    cluster.shell("kubectl apply -f d.yaml").out("deployment.apps/app configured\n");
    cluster.shell("kubectl diff -f d.yaml").out("");
    let last = cluster.shell("kubectl apply view-last-applied deploy app -o json");
    assert!(last.ok().contains("\"replicas\": 3"), "{last}");
}

#[test]
fn fields_that_are_applied_to_the_server_have_owners() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file("d.yaml", DEPLOYMENT);
    cluster.file("other.yaml", &DEPLOYMENT.replace("replicas: 1", "replicas: 2"));
    let script = "kubectl apply --server-side -f d.yaml";
    cluster.shell(script).out("deployment.apps/app serverside-applied\n");
    let conflict = cluster.shell("kubectl apply --server-side --field-manager=o -f other.yaml");
    conflict.code(1).says("conflict with \"kubectl\": .spec.replicas");
    let forced = "kubectl apply --server-side --force-conflicts --field-manager=o -f other.yaml";
    let _ = cluster.shell(forced).ok();
    let owners = "kubectl get deploy app --show-managed-fields \
                  -o jsonpath='{range .metadata.managedFields[*]}{.manager}{\"\\n\"}{end}' \
                  | grep -v kube-controller-manager | xargs";
    cluster.shell(owners).out("kubectl o\n");
    // Who has applied from the client goes on at the server, and the other way round.
    cluster.file("b.yaml", &DEPLOYMENT.replace("name: app,", "name: b,"));
    let script = "kubectl apply -f b.yaml; kubectl apply --server-side -f b.yaml; \
                  kubectl apply -f b.yaml";
    let said = "deployment.apps/b created\ndeployment.apps/b serverside-applied\n\
                deployment.apps/b configured\n";
    let outcome = cluster.shell(script);
    assert!(outcome.ok() == said || outcome.stdout.ends_with("unchanged\n"), "{outcome}");
}

#[test]
fn every_kind_of_patch_changes_an_object() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file("d.yaml", DEPLOYMENT);
    let replicas = "kubectl get deploy app -o jsonpath='{.spec.replicas}'";
    let _ = cluster.shell("kubectl apply -f d.yaml").ok();
    for (change, expected) in [
        (r#"kubectl patch deploy app -p '{"spec":{"replicas":2}}'"#, "2"),
        (r#"kubectl patch deploy app --type merge -p '{"spec":{"replicas":3}}'"#, "3"),
        (
            r#"kubectl patch deploy app --type json -p '[{"op":"replace","path":"/spec/replicas","value":4}]'"#,
            "4",
        ),
        (
            r#"kubectl patch deploy app --subresource=scale --type merge -p '{"spec":{"replicas":5}}'"#,
            "5",
        ),
        ("kubectl scale deploy app --replicas=6", "6"),
        ("kubectl scale deploy app --current-replicas=6 --replicas=7", "7"),
        ("KUBE_EDITOR=\"sed -i 's/replicas: 7/replicas: 8/'\" kubectl edit deploy app", "8"),
        (
            "kubectl get deploy app -o yaml | sed 's/replicas: 8/replicas: 9/' | kubectl replace -f -",
            "9",
        ),
    ] {
        let outcome = cluster.shell(&format!("{change} >/dev/null; {replicas}"));
        assert_eq!(outcome.ok(), expected, "{change}:\n{outcome}");
    }
    let containers = "kubectl patch deploy app -p \
        '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"d\",\"image\":\"x\"}]}}}}' >/dev/null; \
        kubectl get deploy app -o jsonpath='{.spec.template.spec.containers[*].name}'";
    let outcome = cluster.shell(containers);
    let mut names: Vec<&str> = outcome.ok().split(' ').collect();
    names.sort_unstable();
    assert_eq!(names, ["c", "d"], "a strategic merge patch merges containers by their names");
    cluster.shell("kubectl scale deploy app --current-replicas=1 --replicas=2").code(1);
}

#[test]
fn commands_that_set_one_thing_set_it() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file("d.yaml", DEPLOYMENT);
    let script = "kubectl apply -f d.yaml
        kubectl label deploy app x=y; kubectl annotate deploy app note=z
        kubectl set image deploy app c=nginx:2; kubectl set env deploy app A=B
        kubectl set resources deploy app --limits=cpu=1
        kubectl set serviceaccount deploy app sa
        kubectl rollout pause deploy app; kubectl rollout resume deploy app
        kubectl rollout restart deploy app
        kubectl autoscale deploy app --min=1 --max=3
        kubectl expose deploy app --port=80 --target-port=8080
        kubectl set selector service app b=c";
    let _ = cluster.shell(script).ok();
    let shown = cluster.shell("kubectl get deploy app -o json");
    let shown: serde_json::Value = serde_json::from_str(shown.ok()).unwrap();
    let template = &shown["spec"]["template"];
    let container = &template["spec"]["containers"][0];
    assert_eq!(container["image"], "nginx:2");
    assert_eq!(container["env"][0]["value"], "B");
    assert_eq!(container["resources"]["limits"]["cpu"], "1");
    assert_eq!(template["spec"]["serviceAccountName"], "sa");
    let restarted = &template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
    assert!(restarted.is_string(), "{shown:#}");
    assert_eq!(shown["metadata"]["labels"]["x"], "y");
    assert_eq!(shown["metadata"]["annotations"]["note"], "z");
    assert!(shown["spec"]["paused"].is_null());
    let service =
        "kubectl get svc app -o jsonpath='{.spec.selector.b} {.spec.ports[0].targetPort}'";
    cluster.shell(service).out("c 8080");
    let hpa = "kubectl get hpa app -o jsonpath='{.spec.minReplicas} {.spec.maxReplicas}'";
    cluster.shell(hpa).out("1 3");
    let remove =
        "kubectl label deploy app x-; kubectl get deploy app -o jsonpath='{.metadata.labels}'";
    let outcome = cluster.shell(remove);
    assert!(outcome.ok().ends_with(r#"{"app":"app"}"#), "{outcome}");
    cluster.shell("kubectl label deploy app app=other").code(1).says("overwrite");
}

#[test]
fn what_is_misspelt_is_named_with_what_was_meant() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file("d.yaml", &DEPLOYMENT.replace("replicas:", "replica:"));
    cluster
        .shell("kubectl apply -f d.yaml")
        .code(1)
        .says("unknown field \"spec.replica\" (did you mean \"replicas\"?)");
    let warned = cluster.shell("kubectl create --validate=warn -f d.yaml");
    warned.says("Warning: unknown field \"spec.replica\"");
    let _ = warned.ok();
    cluster.file("e.yaml", &DEPLOYMENT.replace("name: app,", "name: App_1,"));
    cluster.shell("kubectl apply -f e.yaml").code(1).says("is invalid: metadata.name");
    let dry = "kubectl create configmap dry --dry-run=server -o name";
    cluster.shell(dry).out("configmap/dry\n");
    cluster.shell("kubectl get configmap dry").code(1).says("NotFound");
}

#[test]
fn what_is_deleted_takes_others_with_it_or_not() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let make = |owner: &str| {
        let script = format!(
            "kubectl create configmap {owner} >/dev/null
             uid=$(kubectl get configmap {owner} -o jsonpath='{{.metadata.uid}}')
             kubectl create configmap of-{owner} --dry-run=client -o json | sed \
               's/\"metadata\": {{/&\"ownerReferences\":[{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"name\":\"{owner}\",\"uid\":\"'$uid'\"}}],/' \
               | kubectl apply -f - >/dev/null"
        );
        let _ = cluster.shell(&script).ok();
    };
    for (owner, how) in [("a", "background"), ("b", "foreground")] {
        make(owner);
        let script = format!(
            "kubectl delete configmap {owner} --cascade={how}
             kubectl wait --for=delete configmap/of-{owner} --timeout=60s"
        );
        let _ = cluster.shell(&script).ok();
        cluster.shell(&format!("kubectl get configmap of-{owner}")).code(1);
    }
    make("c");
    let script = "kubectl delete configmap c --cascade=orphan >/dev/null; \
                  kubectl get configmap of-c -o jsonpath='{.metadata.ownerReferences}'";
    cluster.shell(script).out("");
    // A namespace goes with everything in it.
    let script = "kubectl create ns gone >/dev/null; kubectl -n gone create configmap x >/dev/null
                  kubectl delete ns gone >/dev/null; kubectl create ns gone >/dev/null
                  kubectl -n gone get configmap -o name";
    cluster.shell(script).out("configmap/kube-root-ca.crt\n");
    let script = "kubectl label configmap of-c x=y >/dev/null; kubectl delete configmap -l x=y -o name; \
                  kubectl create configmap p >/dev/null; kubectl delete configmap --all -o name";
    let outcome = cluster.shell(script);
    assert!(outcome.ok().starts_with("configmap/of-c\n") && outcome.stdout.contains("configmap/p"));
}

#[test]
fn kustomizations_are_applied_and_pruned() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let kustomization = "namePrefix: pre-\nlabels: [{pairs: {k: v}}]\nresources: [d.yaml]\n\
                         configMapGenerator: [{name: gen, literals: [a=b]}]\n";
    cluster.file("over/kustomization.yaml", kustomization);
    cluster.file("over/d.yaml", DEPLOYMENT);
    let outcome = cluster.shell("kubectl apply -k over; kubectl get -k over -o name");
    has_line(&outcome, &["deployment.apps/pre-app", "created"]);
    has_line(&outcome, &["deployment.apps/pre-app"]);
    cluster.file("over/kustomization.yaml", &kustomization.replace("a=b", "a=c"));
    let _ = cluster
        .shell("kubectl apply -k over --prune -l k=v --prune-allowlist=core/v1/ConfigMap")
        .ok();
    let count = cluster.shell("kubectl get configmap -l k=v -o name | wc -l");
    count.out("1\n");
    let _ = cluster.shell("kubectl delete -k over").ok();
    cluster.shell("kubectl get deploy -o name").out("");
}

#[test]
fn an_older_kubectl_does_the_same() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    cluster.file("d.yaml", DEPLOYMENT);
    let script = "kubectl apply -f d.yaml; kubectl apply --server-side --force-conflicts -f d.yaml
        kubectl create configmap c --from-literal=a=b; kubectl get deploy; kubectl describe deploy app
        kubectl explain deploy.spec.strategy; kubectl set image deploy app c=x; kubectl delete -f d.yaml";
    let outcome = cluster.older_shell(script);
    has_line(&outcome, &["app", "0/1", "0"]);
    assert!(outcome.ok().contains("StrategyType:"), "{outcome}");
}

//! What kubectl shows: objects in every form, kinds, fields.

use testkit::Sandbox;

use super::{Cluster, has_line};

#[test]
fn objects_are_shown_in_every_form() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let make = "kubectl create configmap one --from-literal=a=b; kubectl create configmap two
                kubectl label configmap two x=y";
    let _ = cluster.shell(make).ok();
    for (form, expected) in [
        ("configmap -o name", "configmap/one\nconfigmap/two\n"),
        ("configmap one -o jsonpath='{.data.a}'", "b"),
        ("cm -o custom-columns=N:.metadata.name", "N\none\ntwo\n"),
        ("cm one -o go-template='{{.metadata.name}}'", "one"),
        ("cm -l x=y -o name", "configmap/two\n"),
        ("cm -l 'x notin (y)' -o name", "configmap/one\n"),
        ("cm --field-selector metadata.name=one -o name", "configmap/one\n"),
        ("cm -o name --chunk-size=1", "configmap/one\nconfigmap/two\n"),
        ("cm/one cm/two -o name", "configmap/one\nconfigmap/two\n"),
        ("cm -A -o name --sort-by=.metadata.name", "configmap/one\nconfigmap/two\n"),
    ] {
        // Every namespace has the cluster's certificate, which is not what is looked at here.
        let outcome = cluster.shell(&format!("kubectl get {form} | grep -v kube-root-ca.crt"));
        assert_eq!(outcome.ok(), expected.trim_end(), "{form}");
    }
    let outcome =
        cluster.shell("kubectl get cm --show-labels; kubectl get cm -L x; kubectl get cm -A");
    has_line(&outcome, &["two", "0", "x=y"]);
    has_line(&outcome, &["two", "0", "y"]);
    has_line(&outcome, &["default", "one", "1"]);
    let yaml = cluster.shell("kubectl get cm one -o yaml");
    assert!(yaml.ok().starts_with("apiVersion: v1\ndata:\n  a: b\nkind: ConfigMap\n"), "{yaml}");
    let list = cluster.shell("kubectl get cm -o json");
    let list: serde_json::Value = serde_json::from_str(list.ok()).unwrap();
    assert_eq!((list["kind"].as_str(), list["items"][2]["data"].is_null()), (Some("List"), true));
    cluster.shell("kubectl get cm three").code(1).says("configmaps \"three\" not found");
    cluster.shell("kubectl get nonsense").code(1).says("doesn't have a resource type \"nonsense\"");
    let watch = format!(
        "export KUBECONFIG=$PWD/kubeconfig; exec {} get cm -w -o name",
        testkit::kubectl().display()
    );
    let watching = sandbox.start_script(&watch);
    watching.wait_for("configmap/two\n");
    let _ = cluster.shell("kubectl create configmap three").ok();
    watching.wait_for("configmap/three\n");
}

#[test]
fn kinds_and_fields_are_explained() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let outcome = cluster.shell("kubectl api-resources; kubectl api-versions; kubectl version");
    has_line(&outcome, &["deployments", "deploy", "apps/v1", "true", "Deployment"]);
    has_line(&outcome, &["namespaces", "ns", "v1", "false", "Namespace"]);
    has_line(&outcome, &["customresourcedefinitions", "crd,crds", "apiextensions.k8s.io/v1"]);
    has_line(&outcome, &["batch/v1"]);
    has_line(&outcome, &["Server", "Version:"]);
    let verbs = "kubectl api-resources --api-group=authorization.k8s.io -o wide --no-headers";
    has_line(&cluster.shell(verbs), &["selfsubjectaccessreviews", "create"]);
    let outcome =
        cluster.shell("kubectl explain deploy.spec.replicas; kubectl explain pod --recursive");
    has_line(&outcome, &["FIELD:", "replicas", "<integer>"]);
    has_line(&outcome, &["terminationGracePeriodSeconds", "<integer>"]);
    let older =
        "kubectl explain hpa.spec.targetCPUUtilizationPercentage --api-version=autoscaling/v1";
    has_line(&cluster.shell(older), &["VERSION:", "v1"]);
    cluster.shell("kubectl explain pod.nonsense").code(1).says("does not exist");
}

#[test]
fn everything_can_be_described() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::start(&sandbox);
    let script = "kubectl create deployment d --image=nginx; kubectl expose deploy d --port=80
        kubectl create cronjob cj --image=b --schedule='* * * * *'; kubectl create job j --image=b
        kubectl create ingress in --rule=foo.com/bar=d:80; kubectl create secret generic s --from-literal=a=b
        kubectl create quota q --hard=pods=20; kubectl create role r --verb=get --resource=pods
        kubectl create pdb p --selector=a=b --max-unavailable=1; kubectl create sa sa
        kubectl autoscale deploy d --max=3; kubectl run pod --image=b
        kubectl create priorityclass pc --value=1";
    let _ = cluster.shell(script).ok();
    let all = "kubectl describe deploy,svc,cj,job,ing,secret,quota,role,pdb,sa,hpa,pod,pc,ns,cm";
    let outcome = cluster.shell(all);
    let _ = outcome.ok();
    has_line(&outcome, &["StrategyType:", "RollingUpdate"]);
    has_line(&outcome, &["Schedule:", "*"]);
    has_line(&outcome, &["a:", "1", "bytes"]);
    has_line(&outcome, &["Max", "unavailable:", "1"]);
    let whole =
        cluster.shell("kubectl auth whoami; kubectl cluster-info; kubectl get --raw /healthz");
    assert!(whole.ok().ends_with("ok"), "{whole}");
}
